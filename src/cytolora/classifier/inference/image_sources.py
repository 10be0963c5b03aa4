"""Image sources for prediction: files, folders, globs, zip files, other files of images and URLs as one stream."""

import glob
import zipfile
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from cytolora.config.reading import STANDARD, Decoding
from cytolora.core.arguments import AnyPath, OneOrMany, as_places, is_url
from cytolora.core.findings import Finding
from cytolora.core.litter import is_litter
from cytolora.core.zip_members import MAX_RATIO, is_bomb, read_member
from cytolora.data.exchange.formats import container_of
from cytolora.data.formats import TEXT_SUFFIXES, UNREAD_SUFFIXES, is_image, suffix_of, why_unread
from cytolora.data.imaging.decode import Decoded, Pixels, decode_image
from cytolora.data.imaging.pixels import CANNOT_READ, DecodeError, unreadable
from cytolora.data.imaging.room import one_image, take_room
from cytolora.data.left_out import findings_of, other_files
from cytolora.data.remote import RemoteFile, found_at, walk_url
from cytolora.data.walk import Found, is_unpacked, walk, walk_zip
from cytolora.errors import DataError

_MAX_BYTES = 2**28
"""Of one unpacked image in a zip file; 89 million pixels of 8-bit RGB, the most that is read, are about as many."""
_WILD = ("*", "?", "[")
UNREAD_FORMAT, BROKEN_LINK = "F201", "F206"
"""Codes of images that are no row of a dataset, and here a row with an error."""
DAMAGED = (zipfile.BadZipFile, OSError, ValueError, NotImplementedError)
"""Errors of opening a zip file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One image, decoded on demand; it may be unreadable."""

    name: str
    """Its name in tables: the path, valid UTF-8; inside a zip file ``archive.zip/inside.png``."""
    file: Path
    member: str | None = None
    """Name inside the zip file."""
    packed: zipfile.ZipFile | None = None
    """The zip file, opened once for all its images; safe to read from several threads."""
    is_unread: bool = False
    """Whether the walk of its folder took it for an image of a format that is not read, by its content."""
    remote: RemoteFile | None = None
    """The file behind a URL, image or zip file; ``file`` is no file then."""

    def pixels(self, decoding: Decoding = STANDARD) -> Pixels:
        """Returns the pixels of ``decoded``."""
        return self.decoded(decoding).pixels

    def decoded(self, decoding: Decoding = STANDARD) -> Decoded:
        """Decodes the image by the rules of a bundle.

        Raises:
            DecodeError: If that is not possible, for whatever reason; its ``code`` is that of the finding.
        """
        self._check()
        if self.remote is None and self.packed is None:
            try:
                with self.file.open("rb") as file:  # once: a path is opened to be recognised, and again to be decoded
                    return decode_image(file, self.name, decoding=decoding)
            except OSError as error:  # of opening it: decoding raises DecodeErrors alone
                raise unreadable(self.name, error.strerror or "it cannot be opened") from error
        with one_image():
            return decode_image(BytesIO(self._content()), self.name, decoding=decoding)

    def content(self) -> bytes:
        """Reads the bytes of the image file.

        Raises:
            DecodeError: If that is not possible, or it is no image by its name.
        """
        self._check()
        return self._content()

    @property
    def identity(self) -> list[Any]:
        """What another content differs in, without reading it: size with time of change, checksum or tag."""
        if self.packed is not None and self.member is not None:
            entry = self.packed.getinfo(self.member)
            return [entry.file_size, entry.CRC]
        if self.remote is not None:
            return [self.remote.num_bytes, self.remote.version]
        try:
            stat = self.file.stat()
        except OSError:  # a broken link: a row with an error
            return []
        return [stat.st_size, stat.st_mtime_ns]

    def _check(self) -> None:
        if self.remote is None and not self.file.is_file():
            code = BROKEN_LINK if self.file.is_symlink() and not self.file.exists() else CANNOT_READ
            raise DecodeError(f"Cannot read {self.name}: it is no file.", code)  # reading a pipe may never end
        if self.is_unread or suffix_of(self.member or self.file.name) in UNREAD_SUFFIXES:
            raise DecodeError(f"Cannot read {self.name}: {why_unread(self.member or self.file.name)}.", UNREAD_FORMAT)

    def _content(self) -> bytes:
        if self.packed is not None and self.member is not None:
            return self._unpacked(self.packed, self.member)
        try:
            if self.remote is None:
                return self.file.read_bytes()
            take_room(min(self.remote.num_bytes or 0, _MAX_BYTES))
            return self.remote.read(_MAX_BYTES)
        except OSError as error:
            raise unreadable(self.name, error.strerror or "it cannot be opened") from error

    def _unpacked(self, packed: zipfile.ZipFile, member: str) -> bytes:
        try:
            entry = packed.getinfo(member)
            if is_bomb(entry):
                raise ValueError(f"it unpacks to {entry.file_size:,} bytes, more than {MAX_RATIO} times its size")
            take_room(min(entry.file_size, _MAX_BYTES))
            return read_member(packed, entry, max_bytes=_MAX_BYTES)
        except (OSError, ValueError, KeyError) as error:
            raise DecodeError(f"Cannot read {self.name}: {str(error) or type(error).__name__}.") from error


def find_images(paths: OneOrMany[AnyPath]) -> Iterator[Source]:
    """Yields the images of one path or many: files, folders (at any depth), globs, zip files and URLs, in that order.

    Tar shards, Parquet, ``.npz`` and HDF5 with images are unpacked once, into a folder beside them.

    Images of formats that are not read, and links that lead nowhere, are sources that cannot be read; what else is
    left out of folders and zip files, ``left_out`` names. A zip file that is damaged is one source that cannot be
    read; nothing of it is unpacked to disk.

    Raises:
        DataError: If a path is not there, is a table or a file of labels, or there is no image in it; before the first
            image of the call is given.
    """
    named = as_places(paths)
    for path in named:
        _check(path)
    return (source for path in named for source in _images_at(path))


def left_out(paths: OneOrMany[AnyPath], read: Collection[Path] = ()) -> list[Finding]:
    """Counts and names the files of folders and zip files that are left out; an image with an error is a row.

    Args:
        read: Files besides images that were read.
    """
    found: list[Finding] = []
    for path in as_places(paths):
        root, files = _walked(path)
        left = [one for one in files if not _is_row(one) and one.path not in read]
        found += [*findings_of(left, root), *other_files(left, root)]
    return found


def _walked(path: str | Path) -> tuple[Path, Iterator[Found]]:
    """Returns what the names of the files at a path are relative to, and these."""
    if isinstance(path, str) and is_url(path):
        return Path(), _walk_remote_archive(path) if _is_zip_name(path) else found_at(path)
    place = Path(path)
    return (place, walk(place)) if place.is_dir() else (Path(), _walk_archive(place))


def _check(path: str | Path) -> None:
    if isinstance(path, str) and is_url(path):
        if next(_images_at(path), None) is None:
            raise DataError(f"There is no image at {path}; expected PNG, JPEG, BMP, TIFF or WebP.")
    elif Path(path).exists():
        if Path(path).is_dir() and next(_images_at(path), None) is None:
            raise DataError(f"There is no image in {path}; expected PNG, JPEG, BMP, TIFF or WebP.")
        if Path(path).is_file() and suffix_of(Path(path).name) in TEXT_SUFFIXES:
            raise DataError(
                f"{path} is a table or a file of labels, not an image. Name the images or their folder; "
                "`cytolora check` and `cytolora evaluate` read labels."
            )
    elif not _is_wild(path):
        raise DataError(f"{path} does not exist; expected images, a folder of them, a glob or a zip file.")
    elif next(_images_at(path), None) is None:
        raise DataError(f"Nothing fits {path}; put quotes around a pattern, and check the folder before it.")


def _images_at(path: str | Path) -> Iterator[Source]:
    if isinstance(path, str) and is_url(path):
        yield from _images_at_url(path)
        return
    place = Path(path)
    if place.is_dir():
        yield from (
            Source(name=as_text(one.path), file=one.path, is_unread=one.kind == "unread")
            for one in walk(place)
            if _is_row(one)
        )
    elif _is_zip(place):
        yield from _members(place)
    elif (container := container_of(place)) is not None:
        yield from _images_at(container.images(place))
    elif place.exists():
        yield Source(name=as_text(place), file=place)
    elif _is_wild(path):
        for found in sorted(glob.glob(str(path), recursive=True)):  # noqa: PTH207  (patterns may be absolute)
            if not is_litter(found) and not is_unpacked(Path(found)):
                yield from _images_at(found)


def _is_row(found: Found) -> bool:
    """Whether a file is an image, one that cannot be read included."""
    return found.kind in ("image", "unread") or (found.kind == "broken link" and is_image(found.path))


def _images_at_url(url: str) -> Iterator[Source]:
    for remote, kind in walk_url(url):
        if _is_zip_name(url):  # named, or of a pattern; in a folder it is passed over, as on a disk
            yield from _members(Path(remote.url), remote)
        elif kind in ("image", "unread"):
            name = Path(PurePosixPath(remote.url).name)
            yield Source(name=as_text(remote.url), file=name, is_unread=kind == "unread", remote=remote)


def _is_zip_name(path: str | Path) -> bool:
    return str(path).lower().endswith(".zip")


def _is_zip(path: Path) -> bool:
    return _is_zip_name(path) and path.is_file()


def _walk_archive(path: Path) -> Iterator[Found]:
    """Walks a zip file; of a damaged one, or another file, there is nothing to walk."""
    if _is_zip(path):
        with suppress(*DAMAGED), zipfile.ZipFile(path) as packed:
            yield from walk_zip(packed)


def _walk_remote_archive(url: str) -> Iterator[Found]:
    with suppress(*DAMAGED):
        for remote, _ in walk_url(url):
            with remote.open() as file, zipfile.ZipFile(file) as packed:
                yield from walk_zip(packed)


def open_archive(file: Path, remote: RemoteFile | None = None) -> zipfile.ZipFile:
    """Opens a zip file on a disk or behind a URL.

    Raises:
        OSError, BadZipFile, …: If it cannot be read.
    """
    opened: Path | BinaryIO = file if remote is None else remote.open()
    return zipfile.ZipFile(opened)


def _members(archive: Path, remote: RemoteFile | None = None) -> Iterator[Source]:
    named = as_text(archive if remote is None else remote.url)
    try:
        packed = open_archive(archive, remote)  # closed with the last of its sources: they are read after the listing
        found = [(one.path.as_posix(), one.kind == "unread") for one in walk_zip(packed) if _is_row(one)]
    except DAMAGED:
        yield Source(name=named, file=archive, remote=remote)  # decoding it raises the error
        return
    for name, is_unread in found:
        as_named = f"{named}/{as_text(name)}"
        yield Source(name=as_named, file=archive, member=name, packed=packed, is_unread=is_unread, remote=remote)


def _is_wild(path: str | Path) -> bool:
    return any(sign in str(path) for sign in _WILD)


def as_text(path: str | Path) -> str:
    """Replaces what is not UTF-8: a file name may hold any byte, a table may not."""
    return str(path).encode(errors="replace").decode()
