"""Dataset download without an account: whole files, each checked by size and hash."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pooch
import requests

from cytolora.core.strict_json import read_json
from cytolora.data.readers.spec import ZenodoRecord
from cytolora.errors import DataError, unknown_name

ZENODO = "https://zenodo.org"

_SECONDS = 60
"""Without an answer, or between two pieces of one."""
_CHUNK = 1 << 20
_MAX_RECORD_BYTES = 16 << 20
"""Of the answer that lists the files of a record."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteFile:
    """One file of a record."""

    name: str
    md5: str
    num_bytes: int | None
    """None where only the checksum is published."""


def remote_files(record: ZenodoRecord, names: Sequence[str] = (), *, mirror: str = ZENODO) -> list[RemoteFile]:
    """Lists the files to fetch; where no checksums are published elsewhere, those of the record itself are taken.

    Args:
        names: Of some files; none takes the record's preferred ones, else all.

    Raises:
        ConfigError: If the record has no file of that name.
        DataError: If the record cannot be read.
    """
    known = [RemoteFile(name=name, md5=md5, num_bytes=None) for name, md5 in record.md5.items()]
    files = {file.name: file for file in known or _record(record, mirror)}
    for name in names:
        if name not in files:
            raise unknown_name(f"file of Zenodo record {record.record}", name, files)
    return [files[name] for name in (names or record.preferred or files)]


def fetch(
    record: ZenodoRecord,
    file: RemoteFile,
    folder: Path,
    *,
    mirror: str = ZENODO,
    on_bytes: Callable[[int, int], None] = lambda done, total: None,
) -> Path:
    """Fetches one file, unless it is there and whole; it appears under its name only after its checksum was right.

    Args:
        on_bytes: Told how many bytes of how many are there, for a progress bar.

    Raises:
        DataError: If the connection fails, the content is not the published one, or the disk is full.
    """
    url = f"{mirror.rstrip('/')}/records/{record.record}/files/{quote(file.name)}?download=1"
    pooch.get_logger().setLevel("ERROR")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if file.num_bytes and not (folder / file.name).exists() and shutil.disk_usage(folder).free < file.num_bytes:
            raise DataError(
                f"{file.name} has {file.num_bytes:,} bytes, more than are free in {folder}; free some space."
            )
        bar: Any = _Bar(on_bytes, file)
        downloader: Any = pooch.HTTPDownloader(progressbar=bar, chunk_size=_CHUNK, timeout=_SECONDS)
        pooch.retrieve(url, known_hash=f"md5:{file.md5}", fname=file.name, path=folder, downloader=downloader)
    except requests.RequestException as error:
        raise DataError(f"Cannot fetch {url}: {_reason(error)}. Files that are whole are kept; try again.") from error
    except ValueError as error:  # pooch's word for a wrong checksum
        raise DataError(
            f"{url} is not the published file: its MD5 is not {file.md5}. Nothing was kept; try again."
        ) from error
    except OSError as error:
        raise DataError(f"Cannot write {file.name} into {folder}: {error.strerror or error}.") from error
    return folder / file.name


class _Bar:
    """What pooch takes for a progress bar."""

    def __init__(self, on_bytes: Callable[[int, int], None], file: RemoteFile) -> None:
        self.total = 0
        self._file, self._received = file, 0
        self._on_bytes = on_bytes
        self._done = 0

    def update(self, num_bytes: int) -> None:
        """Counts a piece; pooch calls the last one as long as the others.

        Raises:
            DataError: If more has come than the file has.
        """
        self._received += num_bytes
        if self._file.num_bytes and self._received > self._file.num_bytes + _CHUNK:
            raise DataError(
                f"{self._file.name} has {self._file.num_bytes:,} bytes, and the server sends more. Nothing was kept."
            )
        self._done = min(self._done + num_bytes, self.total)
        self._on_bytes(self._done, self.total)

    def reset(self) -> None:
        """Begins again."""
        self._done = 0

    def close(self) -> None:
        """Ends."""


def _record(record: ZenodoRecord, mirror: str) -> list[RemoteFile]:
    """Asks Zenodo's interface for the files of a record."""
    url = f"{mirror.rstrip('/')}/api/records/{record.record}"
    try:
        with requests.get(url, timeout=_SECONDS, stream=True) as answer:
            answer.raise_for_status()
            content = b""
            for piece in answer.iter_content(_CHUNK):
                content += piece
                if len(content) > _MAX_RECORD_BYTES:
                    raise ValueError(f"it has more than {_MAX_RECORD_BYTES:,} bytes")
        return [_remote_file(url, entry) for entry in read_json(content)["files"]]
    except requests.RequestException as error:
        raise DataError(f"Cannot read {url}: {_reason(error)}. Is there a network? Try again later.") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{url} did not answer with a record of Zenodo; try again later.") from error


def _remote_file(url: str, entry: dict[str, Any]) -> RemoteFile:
    name, (kind, _, digest) = entry["key"], entry["checksum"].partition(":")
    if not name or Path(name).name != name or "\\" in name:
        raise DataError(f"{url} names a file {name!r}, which is no plain file name; nothing was fetched.")
    if kind != "md5" or len(digest) != 32:
        raise DataError(f"{url} gives no MD5 of {name}, but {entry['checksum']!r}; fetch it from the page by hand.")
    return RemoteFile(name=name, md5=digest, num_bytes=int(entry.get("size") or 0) or None)


def _reason(error: requests.RequestException) -> str:
    if error.response is not None:
        return f"the server answered {error.response.status_code} {error.response.reason}"
    return type(error).__name__
