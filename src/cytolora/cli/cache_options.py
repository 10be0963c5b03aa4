"""Options of the cache: its folder, and the bytes that it may take."""

import errno
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from cytolora.cli.targets import shared
from cytolora.core.cache_folder import default_cache, set_limit
from cytolora.data.targets import IMAGES, STORE
from cytolora.errors import ConfigError

VARIABLE = "CYTOLORA_CACHE_LIMIT"
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(k|M|G|T|P)?(i)?(B|bytes?)?", re.IGNORECASE)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
_NONE = "none"
_READ_ONLY = {errno.EROFS, errno.EACCES, errno.EPERM}


@Parameter(name="*", group="Cache")
@dataclass(frozen=True, kw_only=True)
class LimitOptions:
    """Bound of what is kept to be read again."""

    cache_limit: str | None = None
    """Bytes that the cache may take (20GB, or none): beyond it the least recently used goes first. Stays with the
    folder; CYTOLORA_CACHE_LIMIT says the same, and 50GB is the limit where nobody has said one."""

    def apply(self, folder: Path) -> Path:
        """Gives a cache folder the limit that was asked for, if any, and returns the folder."""
        apply_limit(folder, self.cache_limit)
        return folder


@Parameter(name="*", group="Cache")
@dataclass(frozen=True, kw_only=True)
class CacheOptions(LimitOptions):
    """Folder and bound of what is kept to be read again."""

    cache: Annotated[Path | None, shared(STORE, IMAGES, option="--cache")] = None
    """Folder of decoded images, features and trained adapters; the user's cache folder by default. `RUNS/.cache`
    shares those of runs. May be deleted at any time."""

    def folder(self) -> Path:
        """Returns the folder, with the limit that was asked for."""
        return self.apply(self.cache or default_cache())


DEFAULT = CacheOptions()
NO_LIMIT_GIVEN = LimitOptions()


def apply_limit(folder: Path, text: str | None) -> None:
    """Keeps a limit with a cache folder where one was given as an option or in the environment.

    That of the environment, which is meant for all folders, is left out where one may only be read.

    Raises:
        ConfigError: If the text is no size, or the folder of the option cannot be written to.
    """
    option = "--cache-limit"
    if text is None:
        option, text = VARIABLE, os.environ.get(VARIABLE) or None
    if text is None:
        return
    try:
        set_limit(folder, parse_size(text, option))
    except OSError as error:
        if option == VARIABLE and error.errno in _READ_ONLY:
            return
        raise ConfigError(
            f"Cannot keep the limit of {folder}: {error.strerror or error}. Leave {option} out, or name a --cache that "
            "may be written to."
        ) from error


def parse_size(text: str, option: str) -> int | None:
    """Reads a size in bytes; None for ``none``.

    Raises:
        ConfigError: If it is no size; ``option`` names it.
    """
    if text.strip().lower() == _NONE:
        return None
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ConfigError(f"{option} expects a size such as 20GB, 500MB or none, got {text!r}.")
    number, prefix, is_binary, _ = match.groups()
    return int(float(number) * (1024 if is_binary else 1000) ** _POWERS[(prefix or "").lower()])
