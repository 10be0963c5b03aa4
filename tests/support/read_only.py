"""A folder on a disk that is mounted to be read: permissions would not bind the user that tests may run as."""

import errno
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Refuses everything that would change something at or below ``folder``."""
    root = os.path.realpath(folder)

    def is_held(path: Any) -> bool:
        return isinstance(path, str | os.PathLike) and f"{os.path.realpath(path)}{os.sep}".startswith(root + os.sep)

    def refusing(call: Callable[..., Any], changes: Callable[..., bool]) -> Callable[..., Any]:
        def guarded(*arguments: Any, **options: Any) -> Any:
            if any(map(is_held, arguments[:2])) and changes(*arguments, **options):
                raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(arguments[0]))
            return call(*arguments, **options)

        return guarded

    def writes(_path: Any, flags: int, *_: Any, **__: Any) -> bool:
        return bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))

    def opens_to_write(_file: Any, mode: str = "r", *_: Any, **__: Any) -> bool:
        return bool(set("wax+") & set(mode))

    access = os.access
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "open", refusing(os.open, writes))
        for module in (io, __import__("builtins")):
            patch.setattr(module, "open", refusing(io.open, opens_to_write))
        for name in ("rename", "replace", "unlink", "remove", "rmdir", "mkdir", "utime", "chmod"):
            patch.setattr(os, name, refusing(getattr(os, name), _always))
        patch.setattr(os, "access", lambda path, mode: not (mode & os.W_OK and is_held(path)) and access(path, mode))
        yield


def _always(*_: Any, **__: Any) -> bool:
    return True
