"""Labels of whole images in files of other programs: where they are found, and how they become a manifest."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cytolora.config.reading import AS_IT_STANDS, ReadOptions
from cytolora.core.delimited import Row
from cytolora.core.named_files import is_file
from cytolora.core.strict_json import read_json
from cytolora.core.text import is_utf8
from cytolora.data.manifest import Manifest
from cytolora.data.readers.csv import manifest_of_rows
from cytolora.data.readers.exports import WAY_OUT, files_of_export
from cytolora.data.readers.paths import leaves_folder, slashed
from cytolora.data.readers.spec import DatasetSpec
from cytolora.errors import DataError

MAX_BYTES = 2**28
"""Of a file of labels; as JSON it takes many times as much memory."""
_FOLDERS_OF_LABELS = re.compile(r"annotations?|anns?|labels?", re.IGNORECASE)
"""Folders beside those of the images."""
_FOLDERS_OF_IMAGES = ("", "images/", "data/", "img/", "train/", "val/", "test/")
"""Where programs keep the images that they name without a folder."""


class NoLabelsError(Exception):
    """A file that holds no labels of whole images; the text says what it holds instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelled:
    """One image with its label, as a file of another program writes them."""

    number: int
    """Of its entry, from 1."""
    path: str
    label: str
    fields: Mapping[str, str] = field(default_factory=dict)
    """What else the file says of it, by name: ``subset``, ``group``, metadata, and columns that nothing reads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelFile:
    """A kind of file that labels images."""

    name: str
    title: str
    description: str
    find: Callable[[Sequence[Path]], Path | None]
    """Returns the first file of the kind."""
    find_named: Callable[[Sequence[Path]], Path | None] | None = None
    """The same where somebody named the format, and less is needed to tell it from others; None: ``find``."""
    read: Callable[[Path], Iterable[Labelled]]
    """Raises ``NoLabelsError``, or ValueError where it is damaged; images without a label are left out."""
    companions: tuple[str, ...]
    is_spread: bool = False
    """Whether a folder holds several such files, which ``read`` then looks for in it."""

    def spec(self) -> DatasetSpec:
        """Returns the reader of the kind, of data of one's own."""
        return DatasetSpec(
            name=self.name,
            title=self.title,
            read=self.manifest,
            read_with=self.manifest,
            looks_like=lambda path: self.evidence(path) is not None,
            description=self.description,
            companions=self.companions,
            sources=lambda path: filter(None, [self.evidence(path, is_named=True)]),
            group_rule="from its field group, where it has one",
            generic=True,
        )

    def evidence(self, path: Path, *, is_named: bool = False) -> Path | None:
        """Returns the file of the kind that a path is, or holds at most two folders down; None where there is none."""
        find = (self.find_named or self.find) if is_named else self.find
        if path.is_dir():
            return find(files_of_export(path))
        return find([path]) if path.is_file() else None

    def manifest(self, path: Path, reading: ReadOptions = AS_IT_STANDS) -> Manifest:
        """Reads the labels, and finds the images.

        Raises:
            DataError: If the file is damaged, labels no whole images, or names images that are not there.
        """
        file = self.evidence(path, is_named=True) or (path if path.is_file() else None)
        if self.is_spread and path.is_dir():
            file = path
        if file is None:
            raise DataError(f"{path} holds no file of {self.name}; expected {self.description}")
        try:
            labelled = list(self.read(file))
            if not labelled:
                raise NoLabelsError("no image in it has a label")
            _check_texts(labelled)
        except NoLabelsError as why:
            where = f" {file.relative_to(path).as_posix()}:" if file != path else ""
            raise DataError(f"{path} holds{where} {self.title}, which is not read: {why}. {WAY_OUT}.") from why
        except (ValueError, RecursionError) as error:
            raise DataError(f"{file} cannot be read as {self.title}: {error}. Export it again.") from error
        except OSError as error:
            raise DataError(f"Cannot read {file}: {error.strerror or error}.") from error
        root = file if file.is_dir() else folder_of_images(file)
        return manifest_of_rows(
            file, _rows(file, root, labelled), reading, root=root, name=root.resolve().name, unit="entry"
        )


def folder_of_images(file: Path) -> Path:
    """Returns the folder that a file of labels belongs to: its own, or the one above ``annotations`` or ``labels``."""
    return file.parent.parent if _FOLDERS_OF_LABELS.fullmatch(file.parent.name) else file.parent


def read_json_file(file: Path) -> Any:
    """Reads JSON of bounded size, depth and numbers.

    Raises:
        ValueError: If it is none.
    """
    if file.stat().st_size > MAX_BYTES:
        raise ValueError(f"it has more than {MAX_BYTES:,} bytes")
    return read_json(file.read_bytes())


def listed(value: Any, what: str) -> list[dict[str, Any]]:
    """Returns a list of objects, as a file must hold one.

    Raises:
        ValueError: If the value is something else.
    """
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise ValueError(f"{what} is no list of objects")
    return value


def scalars(values: Mapping[str, Any], without: Iterable[str]) -> dict[str, str]:
    """Returns the texts and numbers of an object by name, but those that the format itself defines."""
    own = set(without)
    return {
        str(name): str(value)
        for name, value in values.items()
        if name not in own and isinstance(value, str | int | float) and not isinstance(value, bool)
    }


def covers(box: Sequence[Any], width: Any, height: Any) -> bool:
    """Whether a box (x, y, width, height) holds a whole image, to a pixel or a percent of its edges."""
    numbers = [*box, width, height]
    if len(box) != 4 or not all(isinstance(one, int | float) for one in numbers) or min(width, height) <= 0:
        return False
    left, top, wide, high = box
    slack_x, slack_y = max(1.0, width / 100), max(1.0, height / 100)
    return left <= slack_x and top <= slack_y and left + wide >= width - slack_x and top + high >= height - slack_y


def only(labels: Iterable[str], image: str) -> str:
    """Returns the one label of an image; empty where it has none.

    Raises:
        NoLabelsError: If it has several.
    """
    different = sorted(set(labels))
    if len(different) > 1:
        raise NoLabelsError(f"image {image!r} has several labels, {', '.join(different)}")
    return next(iter(different), "")


def _check_texts(labelled: Iterable[Labelled]) -> None:
    """Raises a ValueError for a text that JSON can write and no file or table can hold: half of a character."""
    for one in labelled:
        text = next((text for text in (one.path, one.label, *one.fields.values()) if not is_utf8(text)), None)
        if text is not None:
            raise ValueError(f"entry {one.number} holds {text!r}, which is no text in UTF-8")


def _rows(file: Path, root: Path, labelled: Sequence[Labelled]) -> list[Row]:
    names = sorted({name for one in labelled for name in one.fields} - {"path", "label"})
    bases = _bases(file, root)
    return [
        (
            one.number,
            {
                "path": _found(root, bases, one.path),
                "label": one.label,
                **{name: one.fields.get(name, "") for name in names},
            },
        )
        for one in labelled
    ]


def _bases(file: Path, root: Path) -> list[str]:
    own = "" if root in (file, file.parent) else f"{file.parent.relative_to(root).as_posix()}/"
    return list(dict.fromkeys([own, *_FOLDERS_OF_IMAGES]))


def _found(root: Path, bases: Iterable[str], written: str) -> str:
    """Returns the path of an image as seen from the folder: as written where it is in none that programs keep."""
    if "://" in written or leaves_folder(written):
        return written  # refused with the number of its entry
    path = slashed(written)
    return next((f"{base}{path}" for base in bases if is_file(root / f"{base}{path}")), path)
