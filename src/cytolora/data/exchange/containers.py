"""Images inside one file, with their labels: unpacked once into a folder beside it, and read from there."""

import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from cytolora.config.reading import AS_IT_STANDS, ReadOptions
from cytolora.core.delimited import Row, csv_line
from cytolora.core.files import canonical_json, sha256_text
from cytolora.core.findings import Finding, finding
from cytolora.core.text import counted, is_utf8, normal
from cytolora.core.zip_members import MAX_RATIO, unpacks_too_far
from cytolora.data.manifest import Manifest
from cytolora.data.readers.csv import TABLE, manifest_of_rows
from cytolora.data.readers.exports import files_of_export
from cytolora.data.readers.paths import leaves_folder
from cytolora.data.readers.spec import DatasetSpec
from cytolora.data.readers.subset_folders import subset_named
from cytolora.data.readers.tables import read_rows
from cytolora.data.readers.unpacked import unpack_once
from cytolora.data.signatures import SIGNATURE_BYTES, signature
from cytolora.data.walk import UNPACKED_FOLDER, UNPACKED_MARKER
from cytolora.errors import DataError

_MAX_IMAGES = 1_000_000
MAX_IMAGE_BYTES = 2**28
"""Of one image as it is stored."""
_MAX_NAME, _MAX_PATH = 255, 1024
"""Bytes of a name, and of a path inside the file."""
_FAULT = "fault_of_label"
"""Column of the table; nothing that a file says is called so."""
_SUFFIXES = {"PNG": ".png", "JPEG": ".jpg", "BMP": ".bmp", "TIFF": ".tif", "WebP": ".webp"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Unpacked:
    """One image of a container."""

    path: str
    """In the folder, with suffix."""
    content: bytes
    """Of its file."""
    label: str = ""
    """Empty where it has none."""
    fields: Mapping[str, str] = field(default_factory=dict)
    """What else is said of it, by name: ``subset``, ``group``, metadata, and columns that nothing reads."""
    fault: str = ""
    """Why what stands for its label is none, ``has several labels``: whoever reads labels refuses it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """A kind of file that holds images."""

    name: str
    title: str
    description: str
    is_one: Callable[[Path], bool]
    """Whether a file is of the kind, by its beginning; never raises."""
    in_folders: Callable[[Path], bool] | None = None
    """The same where only the folder of the file was named; None: ``is_one``."""
    beside: Callable[[Path], Path] | None = None
    """Returns where a file may be that says how to read one."""
    unpack: Callable[[Path], Iterable[Unpacked]]
    """Yields the images of a file; raises DataError, or ValueError where it is damaged."""
    why_no_labels: Callable[[Path], str] = lambda _: ""
    """Says why a file as a whole has no labels, in words after its name; empty where it may have some."""
    is_sharded: bool = False
    """Whether several files are one dataset."""
    companions: tuple[str, ...]

    def spec(self) -> DatasetSpec:
        """Returns the reader of the kind, of data of one's own."""
        return DatasetSpec(
            name=self.name,
            title=self.title,
            read=self.manifest,
            read_with=self.manifest,
            looks_like=lambda path: bool(self.sources(path)),
            description=self.description,
            companions=(*self.companions, f"*{UNPACKED_FOLDER}/{TABLE}", f"*{UNPACKED_FOLDER}/{UNPACKED_MARKER}"),
            sources=self.sources,
            group_rule="from its field group, where it has one",
            generic=True,
        )

    def sources(self, path: Path) -> list[Path]:
        """Lists the files of the kind that a path is, or that a folder holds."""
        if path.is_dir():
            return [file for file in files_of_export(path) if (self.in_folders or self.is_one)(file)]
        return [path] if path.is_file() and self.is_one(path) else []

    def manifest(self, path: Path, reading: ReadOptions = AS_IT_STANDS) -> Manifest:
        """Unpacks the images unless they are, and reads the table of them; images without a label are left out.

        Raises:
            DataError: If a file is damaged, would unpack to very much more than its size, has several labels an image,
                or none at all.
        """
        for source in self.sources(path):
            if why := self.why_no_labels(source):
                raise DataError(f"{source} {why}.")
        table = self.images(path) / TABLE
        rows, without = _labelled(path, read_rows(table, ("path", "label")))
        if not rows:
            raise DataError(
                f"{path}: none of its {counted(len(without), 'image')} has a label; expected {self.description}"
            )
        name = path.resolve().name.partition(".")[0]
        manifest = manifest_of_rows(table, rows, reading, root=table.parent, name=name)
        return replace(manifest, findings=(*manifest.findings, *_left_out(path, without)))

    def images(self, path: Path) -> Path:
        """Returns the folder of the images, after they were unpacked into it.

        Raises:
            DataError: As ``manifest``.
        """
        sources = self.sources(path)
        if not sources:
            raise DataError(f"{path} is not {self.title}; expected {self.description}")
        if len(sources) > 1 and not self.is_sharded:
            names = ", ".join(file.name for file in sources)
            raise DataError(f"{path} holds several files of {self.title} ({names}); point at one of them.")
        root = path if path.is_dir() else path.parent
        target = root / f"{path.resolve().name}{UNPACKED_FOLDER}"
        key = sha256_text(canonical_json([self.name, *(self._stated(file, root) for file in sources)]))
        unpack_once(target, key, lambda folder: self._write(sources, root, folder))
        return target

    def _stated(self, file: Path, root: Path) -> list[str | int]:
        """Returns what changes when a file, or the one beside it, is written, without reading gigabytes."""
        beside = self.beside(file) if self.beside else file
        files = dict.fromkeys([file, beside] if beside.is_file() else [file])
        about = [(one, one.stat()) for one in files]
        return [text for one, at in about for text in (one.relative_to(root).as_posix(), at.st_size, at.st_mtime_ns)]

    def _write(self, sources: Sequence[Path], root: Path, folder: Path) -> None:
        """Writes images and table into an empty folder."""
        rows: list[tuple[str, str, Mapping[str, str]]] = []
        for source in sources:
            inside = source.relative_to(root).with_suffix("").as_posix() if self.is_sharded else ""
            subset = _subset_of(source, root) if self.is_sharded else None
            for one in self._checked(source):
                path = f"{inside}/{one.path}" if inside else one.path
                file = folder / path
                try:
                    file.parent.mkdir(parents=True, exist_ok=True)
                    with file.open("xb") as opened:
                        opened.write(one.content)
                except (FileExistsError, NotADirectoryError):
                    raise DataError(f"{source} holds {one.path} twice; nothing was unpacked.") from None
                fields = {**({"subset": subset} if subset else {}), **one.fields}
                rows.append((path, one.label, {**fields, _FAULT: one.fault} if one.fault else fields))
        if not rows:
            raise DataError(f"{sources[0]} holds no images; expected {self.description}")
        columns = sorted({name for _, _, fields in rows for name in fields} - {"path", "label", ""})
        lines = [csv_line(["path", "label", *columns])]
        lines += [csv_line([path, label, *(fields.get(name, "") for name in columns)]) for path, label, fields in rows]
        (folder / TABLE).write_text("".join(lines), encoding="utf-8", newline="")

    def _checked(self, source: Path) -> Iterator[Unpacked]:
        """Yields the images of a file while they are few enough, and no bomb."""
        size, total = source.stat().st_size, 0
        try:
            for number, one in enumerate(self.unpack(source)):
                total += len(one.content)
                if number >= _MAX_IMAGES or unpacks_too_far(total, size):
                    raise DataError(
                        f"{source} would unpack to more than {MAX_RATIO} times its size, or {_MAX_IMAGES:,} images; "
                        "refused."
                    )
                why = _why_unfit(one)
                if why:
                    raise DataError(f"{source}: {one.path[:200]!r} {why}; nothing was unpacked.")
                yield one
        except OSError as error:
            raise DataError(f"Cannot read {source}: {error.strerror or error}. Is it damaged?") from error
        except (ValueError, EOFError) as error:
            raise DataError(f"{source} is damaged ({error}); make it again, or download it again.") from error


def _labelled(path: Path, rows: Iterable[Row]) -> tuple[list[Row], list[str]]:
    """Returns the rows with a label, and the images without one.

    Raises:
        DataError: If what stands for the label of an image is none.
    """
    labelled, without = list[Row](), list[str]()
    for number, row in rows:
        about = dict(row)
        if fault := about.pop(_FAULT, ""):
            raise DataError(f"{path}: {row['path']!r} {fault}, expected one.")
        if normal(row["label"]):
            labelled.append((number, about))
        else:
            without.append(row["path"])
    return labelled, without


def _left_out(path: Path, images: Sequence[str]) -> list[Finding]:
    if not images:
        return []
    text = f"{path}: {counted(len(images), 'image')} without a label {'is' if len(images) == 1 else 'are'} left out."
    return [finding("F204", text, count=len(images), examples=images)]


def _why_unfit(one: Unpacked) -> str:
    """Says why an image is not unpacked; empty where nothing is wrong with its name, its size and its texts."""
    parts = one.path.split("/")
    texts = (one.path, one.label, *one.fields, *one.fields.values())
    if not all(map(is_utf8, texts)):
        return "is not UTF-8 in its name, or in what is said of it"
    if leaves_folder(one.path):
        return "leaves the folder"
    if "\\" in one.path or any(unicodedata.category(sign) == "Cc" for sign in one.path):
        return "has a backslash or a control character in its name"
    if len(one.path.encode()) > _MAX_PATH or any(len(part.encode()) > _MAX_NAME for part in parts):
        return "has a longer name than files have"
    if len(one.content) > MAX_IMAGE_BYTES:
        return f"has {len(one.content):,} bytes, more than any image here"
    return ""


def _subset_of(source: Path, root: Path) -> str | None:
    """Returns the subset that a shard is called after (``train-00000``), or its folder."""
    words = [source.name.partition("-")[0].partition("_")[0].partition(".")[0]]
    words += [source.parent.name] if source.parent != root else []
    return next((subset for word in words if (subset := subset_named(word))), None)


def image_suffix(content: bytes) -> str:
    """Returns the suffix of an image by its first bytes; of what is none, that of PNG: reading it says so."""
    return _SUFFIXES.get(signature(content[:SIGNATURE_BYTES]), ".png")
