"""Image sources for prediction: files, folders, globs and zip files as one stream."""

import glob
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from cytolora.config.reading import STANDARD, Decoding
from cytolora.core.arguments import AnyPath, OneOrMany, as_paths
from cytolora.data.imaging.decode import Pixels, decode
from cytolora.data.readers.layout import is_image
from cytolora.errors import DataError

_MAX_BYTES = 2**28
"""Of one unpacked image in a zip file; 89 million pixels of 8-bit RGB, the most that is read, are about as many."""
_WILD = ("*", "?", "[")


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

    def pixels(self, decoding: Decoding = STANDARD) -> Pixels:
        """Decodes the image by the rules of a bundle.

        Raises:
            DataError: If that is not possible, for whatever reason.
        """
        if not self.file.is_file():
            raise DataError(f"Cannot read {self.name}: it is no file.")  # reading a pipe may never end
        if self.member is None or self.packed is None:
            return decode(self.file, self.name, decoding=decoding)
        try:
            entry = self.packed.getinfo(self.member)
            if entry.file_size > _MAX_BYTES:
                raise DataError(f"Cannot read {self.name}: it unpacks to {entry.file_size:,} bytes.")
            content = self.packed.read(entry)
        except DataError:
            raise
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError, KeyError) as error:
            raise DataError(f"Cannot read {self.name}: {str(error) or type(error).__name__}.") from error
        return decode(BytesIO(content), self.name, decoding=decoding)


def find_images(paths: OneOrMany[AnyPath]) -> Iterator[Source]:
    """Yields the images of one path or many: files, folders (at any depth), globs and zip files, in that order.

    A zip file that is damaged is one source that cannot be read; nothing is unpacked to disk.

    Raises:
        DataError: If a path is not there, or there is no image in it; before the first image of the call is given.
    """
    named = as_paths(paths)
    for path in named:
        _check(path)
    return (source for path in named for source in _images_at(path))


def _check(path: str | Path) -> None:
    if Path(path).exists():
        if Path(path).is_dir() and next(_images_at(path), None) is None:
            raise DataError(f"There is no image in {path}; expected PNG, JPEG, BMP, TIFF or WebP.")
    elif not _is_wild(path):
        raise DataError(f"{path} does not exist; expected images, a folder of them, a glob or a zip file.")
    elif next(_images_at(path), None) is None:
        raise DataError(f"Nothing fits {path}; put quotes around a pattern, and check the folder before it.")


def _images_at(path: str | Path) -> Iterator[Source]:
    place = Path(path)
    if place.is_dir():
        files = (found for found in _walk(place) if is_image(found))
        yield from (Source(name=as_text(file), file=file) for file in files)
    elif place.exists():
        is_packed = place.suffix.lower() == ".zip" and place.is_file()
        yield from _members(place) if is_packed else [Source(name=as_text(place), file=place)]
    elif _is_wild(path):
        for found in sorted(glob.glob(str(path), recursive=True)):  # noqa: PTH207  (patterns may be absolute)
            yield from _images_at(found)


def _walk(folder: Path) -> Iterator[Path]:
    """Yields the files below a folder sorted by name, one folder in memory at a time; links to folders are left."""
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            if not path.is_symlink() and not path.name.startswith("."):
                yield from _walk(path)
        else:
            yield path


def _members(archive: Path) -> Iterator[Source]:
    try:
        packed = zipfile.ZipFile(archive)  # closed with the last of its sources: they are read after they are listed
        names = [entry.filename for entry in packed.infolist() if not entry.is_dir()]
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        yield Source(name=as_text(archive), file=archive)  # decoding it raises the error
        return
    for name in sorted(set(names)):
        if is_image(Path(name)) and "__MACOSX" not in name:
            yield Source(name=f"{as_text(archive)}/{as_text(name)}", file=archive, member=name, packed=packed)


def _is_wild(path: str | Path) -> bool:
    return any(sign in str(path) for sign in _WILD)


def as_text(path: str | Path) -> str:
    """Replaces what is not UTF-8: a file name may hold any byte, a table may not."""
    return str(path).encode(errors="replace").decode()
