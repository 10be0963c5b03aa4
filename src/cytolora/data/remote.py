"""Files behind URLs (``s3://``, ``gs://``, ``file://``, ``memory://``) through fsspec, loaded when one is named."""

import errno
import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from io import RawIOBase
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, TypeVar

from cytolora.data.formats import is_image, is_passed_over
from cytolora.data.masks import is_mask_folder, may_hold_masks
from cytolora.data.walk import Found, Kind, kinds_of
from cytolora.errors import ConfigError, CytoloraError, DataError, EngineError, missing_package

Result = TypeVar("Result")

_WILD = ("*", "?", "[")
_SIGNED = re.compile(
    r"[?&](x-amz-|x-goog-|awsaccesskeyid|googleaccessid|access|signature|sig|token|key|secret|password)[^=&]*=",
    re.IGNORECASE,
)
"""Parameters that hold a key or a signature."""
_NUM_TRIED = 6
"""Images of a folder that is called like one of masks, that are opened."""
_VERSIONS = ("ETag", "etag", "md5Hash", "crc32c", "mtime", "LastModified", "updated", "created")
"""Members of an entry of a listing of which another content has another one; the first that is there counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scheme:
    driver: str = ""
    """Package that fsspec loads for it; empty where it needs none."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Of the driver: bounds on the time until a bucket counts as unreachable."""


_SCHEMES = {
    "file": _Scheme(),
    "memory": _Scheme(),
    "s3": _Scheme(driver="s3fs", options={"config_kwargs": {"connect_timeout": 10, "retries": {"max_attempts": 2}}}),
    "gs": _Scheme(driver="gcsfs", options={"requests_timeout": 30}),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteFile:
    """One file behind a URL, as a listing told of it."""

    url: str
    num_bytes: int | None = None
    """None where the listing did not tell."""
    version: str = ""
    """Tag or time of change: another content has another one."""
    fs: Any = field(default=None, repr=False, compare=False)
    """The file system that listed it; opened anew by the URL if None."""

    def read(self, max_bytes: int) -> bytes:
        """Reads the whole file.

        Raises:
            OSError: If it is gone, may not be read, or is larger.
            EngineError: If its bucket cannot be reached: that is no fault of the file.
        """
        if (self.num_bytes or 0) > max_bytes:
            raise OSError(errno.EFBIG, f"{self.num_bytes:,} bytes, more than {max_bytes:,}")
        with self.open() as file:
            content = file.read(max_bytes + 1)
        if len(content) > max_bytes:
            raise OSError(errno.EFBIG, f"more than {max_bytes:,} bytes")
        return content

    def open(self) -> BinaryIO:
        """Opens it for reading, anywhere in it; raises as ``read`` does, then and whenever it is read."""
        fs: Any = self.fs or file_system(self.url)
        opened: Any = _Watched(self.url, _of_file(self.url, lambda: fs.open(fs._strip_protocol(self.url), "rb")))
        return opened


class _Watched(RawIOBase):
    """An open file whose errors are told apart: those of the file, and those of the way to it."""

    def __init__(self, url: str, file: Any) -> None:
        self._url, self._file = url, file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        return _of_file(self._url, lambda: self._file.read(size))

    def readinto(self, buffer: Any) -> int:
        content = self.read(len(buffer))
        buffer[: len(content)] = content
        return len(content)

    def seek(self, offset: int, whence: int = 0) -> int:
        return _of_file(self._url, lambda: self._file.seek(offset, whence))

    def tell(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        self._file.close()
        super().close()


def _of_file(url: str, work: Callable[[], Result]) -> Result:
    """Returns what ``work`` returns; its errors are those of ``RemoteFile.read``."""
    try:
        return work()
    except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
        raise OSError(error.errno or errno.EIO, error.strerror or _line(error)) from error
    except Exception as error:  # drivers raise classes of their own
        raise EngineError(
            f"{url} cannot be reached any more: {_line(error)}. What was finished is kept; the same command goes on "
            "from there."
        ) from error


def check_url(url: str) -> None:
    """Refuses keys and signatures in a URL, which would be printed, and kept with the name of every image.

    Raises:
        ConfigError: If there are any; it does not repeat them.
    """
    scheme, _, rest = url.partition("://")
    bucket = rest.partition("/")[0]  # a key may hold a slash: then all that stands here is its beginning
    has_key = ":" in bucket and not bucket.startswith("arn:") and scheme.lower() != "file"
    if "@" in bucket or has_key or _SIGNED.search(rest):
        raise ConfigError(
            f"A URL of {scheme}:// holds a key or a signature, which would be kept with the name of every image. Leave "
            "it out: the driver finds credentials by itself (AWS_PROFILE, GOOGLE_APPLICATION_CREDENTIALS)."
        )


def file_system(url: str) -> Any:
    """Returns fsspec's file system of a URL.

    Raises:
        ConfigError: If nothing reads such URLs, its driver is not installed, or it holds a key.
    """
    check_url(url)
    name = url.partition("://")[0].lower()
    scheme = _SCHEMES.get(name)
    if scheme is None:
        known = ", ".join(f"{one}://" for one in _SCHEMES)
        raise ConfigError(f"{url}: URLs of {name}:// are not read; expected one of {known}, or a path.")
    logging.getLogger(scheme.driver or "fsspec").setLevel(logging.CRITICAL)  # gcsfs writes its stack traces there
    try:
        import fsspec

        return fsspec.filesystem(name, use_listings_cache=False, skip_instance_cache=True, **scheme.options)
    except ImportError as error:
        needs, driver = f"Reading {name}:// needs", scheme.driver or "fsspec"
        raise missing_package(needs, driver, extra="cloud", error=_not_there(error)) from error
    except Exception as error:  # of credentials that the driver looks for at once
        raise _unreachable(url, error) from error


def normal_url(url: str) -> str:
    """Returns a URL as the names of what lies below it begin.

    Raises:
        ConfigError: If nothing reads such URLs.
    """
    fs = file_system(url)
    return fs.unstrip_protocol(fs._strip_protocol(url))


def walk_url(url: str) -> Iterator[tuple[RemoteFile, Kind]]:
    """Yields the files below a URL, or those that fit a pattern, sorted by name, one folder in memory at a time.

    Litter is passed over, masks and images are told apart as on a disk (``data/walk.py``).

    Raises:
        ConfigError: If nothing reads such URLs.
        DataError: If there is nothing, or it cannot be reached.
    """
    fs = file_system(url)
    with _reaching(url):
        path = fs._strip_protocol(url)
        if any(sign in path for sign in _WILD):
            entries = sorted(fs.glob(path, detail=True).values(), key=_name)
        elif fs.isdir(path):
            entries = [{"name": path, "type": "directory"}]
        else:
            entries = [fs.info(path)]
        for entry in entries:
            if entry["type"] == "directory":
                yield from _below(fs, _name(entry))
            else:
                yield from _kinds(fs, [entry])


def found_at(url: str) -> Iterator[Found]:
    """Yields the files below a URL by their names, for what counts those left out."""
    yield from (Found(path=Path(file.url), kind=kind) for file, kind in walk_url(url))


def _below(fs: Any, folder: str) -> Iterator[tuple[RemoteFile, Kind]]:
    entries = sorted(fs.ls(folder, detail=True), key=_name)
    entries = [one for one in entries if _name(one) != folder.rstrip("/") and not is_passed_over(_last(one))]
    files = [one for one in entries if one["type"] != "directory"]
    if may_hold_masks(PurePosixPath(folder).name) and _are_masks(fs, files):
        for file, kind in _kinds(fs, files):
            yield file, "mask" if kind == "image" else kind
        return
    kinds = iter(_kinds(fs, files))
    for entry in entries:
        if entry["type"] == "directory":
            yield from _below(fs, _name(entry))
        else:
            yield next(kinds)


def _are_masks(fs: Any, files: Sequence[Mapping[str, Any]]) -> bool:
    images = [_last(one) for one in files if is_image(PurePosixPath(_last(one)))]
    return is_mask_folder(images[:_NUM_TRIED], partial(_open_among, fs, files))


def _kinds(fs: Any, files: Sequence[Mapping[str, Any]]) -> list[tuple[RemoteFile, Kind]]:
    kinds = kinds_of([_last(one) for one in files], partial(_open_among, fs, files))
    return [(_file(fs, one), kinds[_last(one)]) for one in files]


def _open_among(fs: Any, files: Sequence[Mapping[str, Any]], name: str) -> BinaryIO:
    return _file(fs, next(one for one in files if _last(one) == name)).open()


def _file(fs: Any, entry: Mapping[str, Any]) -> RemoteFile:
    version = next((str(entry[name]) for name in _VERSIONS if entry.get(name) is not None), "")
    return RemoteFile(url=fs.unstrip_protocol(_name(entry)), num_bytes=entry.get("size"), version=version, fs=fs)


def _name(entry: Mapping[str, Any]) -> str:
    return str(entry["name"]).rstrip("/")


def _last(entry: Mapping[str, Any]) -> str:
    return PurePosixPath(_name(entry)).name


@contextmanager
def _reaching(url: str) -> Iterator[None]:
    """Turns what drivers raise, each classes of its own, into one line."""
    try:
        yield
    except (CytoloraError, GeneratorExit):
        raise
    except FileNotFoundError as error:
        raise DataError(
            f"{url} does not exist; expected a folder, a file or a pattern of images. Check its spelling."
        ) from error
    except Exception as error:
        raise _unreachable(url, error) from error


def _unreachable(url: str, error: Exception) -> DataError:
    return DataError(
        f"{url} cannot be reached: {_line(error)}. Check its name, the network and your credentials for it."
    )


def _line(error: Exception) -> str:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(reason.split()).rstrip(".") or type(error).__name__


def _not_there(error: ImportError) -> ImportError:
    """fsspec words the lack of a driver as a plain ImportError, with the ModuleNotFoundError as its cause."""
    return error.__cause__ if isinstance(error.__cause__, ImportError) else error
