"""The walk of a folder or zip file: every file once, and what is done with it; the same for every command."""

import errno
import os
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cached_property, partial
from io import BytesIO
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Literal

from cytolora.core.zip_members import read_member
from cytolora.data.formats import IMAGE_SUFFIXES, is_image, is_image_name, is_passed_over, is_unread_name, suffix_of
from cytolora.data.masks import Open, decoded, is_mask_folder, masks_among, may_hold_masks, slide_pictures_among
from cytolora.data.signatures import content_of
from cytolora.errors import DataError

Kind = Literal["image", "unread", "mask", "slide picture", "link", "broken link", "other"]
"""unread: an image, by its name or its content, that is not read; link: in a circle, or to what is walked anyway;
broken link: leads nowhere; other: no image. Litter and hidden files have no kind: they are passed over."""

UNPACKED_FOLDER = ".images"
"""Behind the name of a file: the folder beside it that its images are unpacked into."""
UNPACKED_MARKER = "unpacked.json"
"""In a folder that was unpacked: from what."""
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


def is_unpacked(folder: Path) -> bool:
    """Whether a folder holds what was unpacked from a file beside it, which is no data of its own."""
    return folder.name.endswith(UNPACKED_FOLDER) and os.path.isfile(folder / UNPACKED_MARKER)  # noqa: PTH113


def walk(folder: Path) -> Iterator[Found]:
    """Yields the files below a folder, sorted by name, one folder in memory at a time; litter is passed over.

    Every file is walked once, however many links lead to it. Links to files and folders elsewhere are followed; one
    that leads in a circle, or to what is walked without it, is yielded as a link.
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
    kinds |= {name: "unread" for name, kind in kinds.items() if kind == "other" and content_at(name, open_)}
    kinds |= dict.fromkeys(masks_among(listed, open_), "mask")
    kinds |= dict.fromkeys(slide_pictures_among(listed, partial(_size, open_)), "slide picture")
    return kinds


def kind_of(name: str) -> Kind:
    """Tells the kind of a file by its name alone."""
    return "image" if suffix_of(name) in IMAGE_SUFFIXES else "unread" if is_unread_name(name) else "other"


def content_at(name: str, open_: Open) -> str:
    """Returns the image format that the content of a file tells; empty if none, or if it cannot be read."""
    try:
        with open_(name) as file:
            return content_of(file)
    except OSError:
        return ""


def files_in(folder: Path) -> dict[Path, Kind]:
    """Tells the kinds of the files of one folder, sorted by name, sub-folders left out."""
    return dict(_listed(folder).kinds)


def plain_files_in(folder: Path) -> list[Path]:
    """Lists the files of one folder that can be opened, sorted by name, without a look at what they are."""
    return _listed(folder).plain


def entered_in(folder: Path) -> list[Path]:
    """Lists the sub-folders, sorted by name: litter left out, masks and links not."""
    return [path for path, is_folder, _ in _listed(folder).entries if is_folder]


def folders_in(folder: Path) -> list[Path]:
    """Lists the sub-folders that may hold data, sorted by name: litter, masks and links in a circle left out."""
    links = _Links(folder)
    folders = ((path, is_link) for path, is_folder, is_link in _listed(folder).entries if is_folder)
    return [path for path, is_link in folders if not (is_link and links.is_circle(path)) and not holds_masks(path)]


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

    def was_walked(self, path: Path) -> bool:
        """Whether a file or folder that stands in a folder elsewhere was walked through another link."""
        if len(self._roots) == 2 and not self._files:
            return False
        real = os.path.realpath(path)
        return real in self._files or real in self._roots[1:]

    def is_circle(self, link: Path) -> bool:
        """Whether a link to a folder leads to a folder above it."""
        return _is_below(os.path.realpath(link.parent), os.path.realpath(link))

    def is_repeated(self, link: Path, *, is_folder: bool) -> bool:
        """Whether what a link leads to is walked without it; if not, it is walked from now on."""
        real = os.path.realpath(link)
        if any(_is_below(real, root) and not is_passed_over(_within(real, root)) for root in self._roots):
            return is_folder or is_image(Path(real))
        if is_folder:
            if _is_below(self._roots[0], real):
                return True  # a folder above
            self._roots.append(real)
            return False
        is_known = real in self._files
        self._files.add(real)
        return is_known


class _Listing:
    """What a folder holds but litter and hidden files, sorted by name."""

    def __init__(self, folder: Path) -> None:
        try:
            with os.scandir(folder) as entries:
                found = sorted((one.name, _is_folder(one), one.is_symlink()) for one in entries)
        except OSError as error:
            raise DataError(f"Cannot read the folder {folder}: {error.strerror or error}.") from error
        entries = [(folder / name, *kind) for name, *kind in found if not is_passed_over(name)]
        self.entries = [one for one in entries if not is_unpacked(one[0])]
        """Each with whether it is a folder, and whether it is a link."""

    @cached_property
    def kinds(self) -> dict[Path, Kind]:
        """Of the files."""
        files = {path.name: path for path, is_folder, _ in self.entries if not is_folder}
        kinds = kinds_of(files, lambda name: files[name].open("rb"))
        return {path: kinds[name] for name, path in files.items()}

    @cached_property
    def plain(self) -> list[Path]:
        """The files that can be opened without waiting: no pipes, no broken links."""
        return [path for path, is_folder, _ in self.entries if not is_folder and os.path.isfile(path)]  # noqa: PTH113


_LISTED: ContextVar[dict[Path, tuple[int, _Listing]] | None] = ContextVar("listed", default=None)
"""With the time of the folder's last change: readers may unpack images into it."""


@contextmanager
def listed_once() -> Iterator[None]:
    """Lists every folder once, and opens what must be looked into once, however often it is walked inside."""
    token = _LISTED.set({})
    try:
        yield
    finally:
        _LISTED.reset(token)


def _listed(folder: Path) -> _Listing:
    listed = _LISTED.get()
    if listed is None:
        return _Listing(folder)
    changed = _changed(folder)
    if folder not in listed or listed[folder][0] != changed:
        listed[folder] = changed, _Listing(folder)
    return listed[folder][1]


def _changed(folder: Path) -> int:
    try:
        return folder.stat().st_mtime_ns
    except OSError:
        return 0


def _below(folder: Path, links: _Links, *, is_elsewhere: bool = False) -> Iterator[Found]:
    listing = _listed(folder)
    for path, is_folder, is_link in listing.entries:
        if is_link and not path.exists():
            yield Found(path=path, kind="broken link")
        elif is_link and links.is_repeated(path, is_folder=is_folder):
            yield Found(path=path, kind="link")
        elif is_elsewhere and not is_link and links.was_walked(path):
            continue
        elif not is_folder:
            yield Found(path=path, kind=listing.kinds[path])
        elif holds_masks(path):
            yield from (Found(path=file, kind="mask") for file in sorted(_files_below(path)) if is_image(file))
        else:
            yield from _below(path, links, is_elsewhere=is_elsewhere or is_link)


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


def _size(open_: Open, name: str) -> tuple[int, int] | None:
    pixels = decoded(name, open_)
    return None if pixels is None else (pixels.shape[1], pixels.shape[0])
