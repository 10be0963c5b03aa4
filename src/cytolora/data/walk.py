"""The walk of a folder or zip file: every file once, and what is done with it; the same for every command."""

import errno
import os
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Literal

from cytolora.core.zip_members import read_member
from cytolora.data.formats import (
    IMAGE_SUFFIXES,
    SIGNATURE_BYTES,
    UNREAD_SUFFIXES,
    is_image,
    is_image_name,
    is_passed_over,
    signature,
    suffix_of,
)
from cytolora.data.masks import Open, decoded, is_mask_folder, masks_among, may_hold_masks, slide_pictures_among
from cytolora.errors import DataError

Kind = Literal["image", "unread", "mask", "slide picture", "link", "broken link", "other"]
"""unread: an image of a format that is not read; link: leads in a circle, or to a file that is walked anyway;
broken link: leads nowhere; other: no image. Litter and hidden files have no kind: they are passed over."""

_NUM_TRIED = 6
"""Images of a folder that is called like one of masks, that are opened."""
_MAX_BYTES = 2**28
"""Of one file in a zip file that is looked into."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One file of a walk."""

    path: Path
    """Of a zip file its name inside."""
    kind: Kind


def walk(folder: Path) -> Iterator[Found]:
    """Yields the files below a folder, sorted by name, one folder in memory at a time; litter is passed over.

    Links to files and folders elsewhere are followed, each once. One that leads in a circle, or to what stands below
    the folder itself, is yielded as a link.
    """
    yield from _below(folder, _Links(folder))


def walk_zip(packed: zipfile.ZipFile) -> Iterator[Found]:
    """Yields the files of a zip file, sorted by name, by the same rules."""
    by_folder: dict[PurePosixPath, dict[str, str]] = {}
    for member in sorted({entry.filename for entry in packed.infolist() if not entry.is_dir()}):
        inside = PurePosixPath(member.replace("\\", "/"))
        if inside.name and not is_passed_over(inside.as_posix()):
            by_folder.setdefault(inside.parent, {})[inside.name] = member
    read = partial(_member, packed)
    of_masks = {level for folder in by_folder for level in (folder, *folder.parents) if may_hold_masks(level.name)}
    for level in list(of_masks):
        below = (one for folder in by_folder if folder.is_relative_to(level) for one in by_folder[folder].values())
        images = sorted(one for one in below if is_image(PurePosixPath(one)))
        if not is_mask_folder(images[:_NUM_TRIED], read):
            of_masks.remove(level)
    kinds: dict[str, Kind] = {}
    for folder, members in by_folder.items():
        if of_masks.isdisjoint((folder, *folder.parents)):
            found = kinds_of(members, lambda name, members=members: read(members[name]))
            kinds |= {members[name]: kind for name, kind in found.items()}
        else:
            kinds |= {one: "mask" for one in members.values() if is_image(PurePosixPath(one))}
    yield from (Found(path=Path(name), kind=kinds[name]) for name in sorted(kinds))


def kinds_of(names: Iterable[str], open_: Open) -> dict[str, Kind]:
    """Tells the kinds of the files of one folder by their names and, where a name is not enough, by their contents."""
    listed = list(names)
    kinds: dict[str, Kind] = {name: kind_of(name) for name in listed}
    for name in listed:
        if not suffix_of(name) and signature(_head(name, open_)):
            kinds[name] = "unread"
    kinds |= dict.fromkeys(masks_among(listed, open_), "mask")
    kinds |= dict.fromkeys(slide_pictures_among(listed, partial(_size, open_)), "slide picture")
    return kinds


def kind_of(name: str) -> Kind:
    """Tells the kind of a file by its name alone."""
    suffix = suffix_of(name)
    return "image" if suffix in IMAGE_SUFFIXES else "unread" if suffix in UNREAD_SUFFIXES else "other"


def files_in(folder: Path) -> dict[Path, Kind]:
    """Tells the kinds of the files of one folder, sorted by name, sub-folders left out."""
    files = [path.name for path, is_folder in _entries(folder) if not is_folder]
    kinds = kinds_of(files, lambda name: (folder / name).open("rb"))
    return {folder / name: kinds[name] for name in files}


def folders_in(folder: Path) -> list[Path]:
    """Lists the sub-folders that may hold data, sorted by name: litter, masks and links in a circle left out."""
    links = _Links(folder)
    try:
        with os.scandir(folder) as entries:  # quick among many files
            found = [(one.name, one.is_symlink()) for one in entries if _is_folder(one)]
    except OSError as error:
        raise _cannot_list(folder, error) from error
    named = [(folder / name, is_link) for name, is_link in sorted(found) if not is_passed_over(name)]
    return [path for path, is_link in named if not (is_link and links.is_circle(path)) and not holds_masks(path)]


def holds_masks(folder: Path) -> bool:
    """Whether a folder holds masks, by its name and the first images in it."""
    if not may_hold_masks(folder.name):
        return False
    tried = islice(sorted(path for path in _files_below(folder) if is_image(path)), _NUM_TRIED)
    return is_mask_folder([str(path) for path in tried], lambda name: Path(name).open("rb"))


def has_images_in(folder: Path) -> bool:
    """Whether there is an image in the folder itself, by its name."""
    with os.scandir(folder) as entries:
        return any(is_image_name(one.name) for one in entries)


def has_images(folder: Path) -> bool:
    """Whether there is an image at any depth."""
    return any(is_image_name(path.name) for path in _files_below(folder))


class _Links:
    """Where links have led to: no file is walked twice."""

    def __init__(self, folder: Path) -> None:
        self._roots = [os.path.realpath(folder)]
        self._files: set[str] = set()

    def is_circle(self, link: Path) -> bool:
        """Whether a link to a folder leads to a folder above it."""
        return _is_below(os.path.realpath(link.parent), os.path.realpath(link))

    def is_repeated(self, link: Path, *, is_folder: bool) -> bool:
        """Whether what a link leads to is walked without it; if not, it is walked from now on."""
        real = os.path.realpath(link)
        if any(_is_below(real, root) and not is_passed_over(_within(real, root)) for root in self._roots):
            return is_folder or is_image(Path(real))
        if is_folder:
            if any(_is_below(root, real) for root in self._roots):
                return True  # a folder above
            self._roots.append(real)
            return False
        is_known = real in self._files
        self._files.add(real)
        return is_known


def _below(folder: Path, links: _Links) -> Iterator[Found]:
    entries = _entries(folder)
    names = [path.name for path, is_folder in entries if not is_folder]
    kinds = kinds_of(names, lambda name: (folder / name).open("rb"))
    for path, is_folder in entries:
        is_link = path.is_symlink()
        if is_link and not path.exists():
            yield Found(path=path, kind="broken link")
        elif is_link and links.is_repeated(path, is_folder=is_folder):
            yield Found(path=path, kind="link")
        elif not is_folder:
            yield Found(path=path, kind=kinds[path.name])
        elif holds_masks(path):
            yield from (Found(path=file, kind="mask") for file in sorted(_files_below(path)) if is_image(file))
        else:
            yield from _below(path, links)


def _entries(folder: Path) -> list[tuple[Path, bool]]:
    """Lists what a folder holds but litter and hidden files, sorted by name, each with whether it is a folder."""
    try:
        with os.scandir(folder) as entries:
            found = sorted((one.name, _is_folder(one)) for one in entries if not is_passed_over(one.name))
    except OSError as error:
        raise _cannot_list(folder, error) from error
    return [(folder / name, is_folder) for name, is_folder in found]


def _cannot_list(folder: Path, error: OSError) -> DataError:
    return DataError(f"Cannot read the folder {folder}: {error.strerror or error}.")


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def _files_below(folder: Path) -> Iterator[Path]:
    """Yields files quickly, by names alone; links to folders are not followed."""
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not is_passed_over(name))
        yield from (Path(parent) / name for name in files if not is_passed_over(name))


def _is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def _within(path: str, folder: str) -> str:
    return os.path.relpath(path, folder) if path != folder else "it"


def _member(packed: zipfile.ZipFile, name: str) -> BinaryIO:
    try:
        return BytesIO(read_member(packed, packed.getinfo(name), max_bytes=_MAX_BYTES))
    except ValueError as error:
        raise OSError(errno.EIO, str(error)) from error


def _head(name: str, open_: Open) -> bytes:
    try:
        with open_(name) as file:
            return file.read(SIGNATURE_BYTES)
    except OSError:
        return b""


def _size(open_: Open, name: str) -> tuple[int, int] | None:
    pixels = decoded(name, open_)
    return None if pixels is None else (pixels.shape[1], pixels.shape[0])
