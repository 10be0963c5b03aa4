"""Label corrections from a table, as the review page saves it, and labels of added cells."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from cytolora.classifier.fit.added import Added
from cytolora.core.findings import Finding
from cytolora.core.text import matching
from cytolora.data.manifest import Manifest
from cytolora.data.readers.paths import PathIndex, slashed
from cytolora.data.readers.selection import chosen_cells
from cytolora.data.readers.tables import read_rows
from cytolora.errors import ConfigError, DataError, unknown_name

_NOTHING = Added()


@dataclass(frozen=True, kw_only=True)
class Labels:
    """What a table says, by the paths of the manifest."""

    own: Mapping[str, str]
    """Of the dataset's images."""
    added: Mapping[str, str]
    findings: tuple[Finding, ...] = ()
    """Of the table."""


def correct(manifest: Manifest, table: Path, source: Path | None = None) -> tuple[Manifest, int]:
    """Puts labels of a table in the place of the manifest's; returns how many changed. See ``read_labels``."""
    return relabelled(manifest, read_labels(table, manifest, source).own)


def relabelled(manifest: Manifest, labels: Mapping[str, str]) -> tuple[Manifest, int]:
    """Puts labels by path in the place of the manifest's; returns how many changed."""
    samples = tuple(
        replace(one, label=labels[one.path], shares=()) if one.path in labels else one for one in manifest.samples
    )
    changed = sum(new.label != old.label for new, old in zip(samples, manifest.samples, strict=True))
    return replace(manifest, samples=samples), changed


def read_labels(table: Path, manifest: Manifest, source: Path | None = None, added: Added = _NOTHING) -> Labels:
    """Reads the columns path and label.

    Paths are those of the dataset or of an added folder, or point at the same files from the current folder, or into
    the zip file that was read.

    Args:
        source: Folder, table or zip file that the manifest was read from.

    Raises:
        DataError: If the table names an image that is nowhere, that may be two, or that was named before.
        ConfigError: If a label is none of the classes.
    """
    images = _Images(manifest, source)
    own, new = dict[str, str](), dict[str, str]()
    rows = read_rows(table, ("path", "label"))
    for line, row in rows:
        name, where = slashed(row["path"]), f"{table}, line {line}"
        path, theirs = images.find(name), added.find(name)
        if path is None and not theirs:
            path, theirs = images.find_alike(where, name), added.find_alike(where, name)
        files = [*([] if path is None else [manifest.root / path]), *(added.files[one] for one in theirs)]
        if len(files) > 1:
            raise DataError(f"{where}: {row['path']} may be {' or '.join(map(str, files))}; write which one is meant.")
        if not files:
            raise DataError(f"{where}: {row['path']} is no image of {_places(manifest, added)}. {_advice(name)}")
        labels, key = (new, theirs[0]) if path is None else (own, path)
        if key in labels:
            raise DataError(f"{where}: {row['path']} is listed twice; keep one of the lines.")
        label = matching(row["label"], manifest.classes)
        if label is None:
            raise _no_class(where, row["label"], manifest, is_added=path is None)
        labels[key] = label
    if added.folders and not new:
        raise DataError(
            f"{table} labels no image of {added.names}; expected some, as the review page of predict writes them. "
            "Label some, or leave --add out."
        )
    cells = [row for _, row in rows]
    divided_anew = not any(sample.subset for sample in manifest.samples)
    findings = chosen_cells(table.name, cells, [None] * len(cells), labels_alone=True) if divided_anew else ()
    return Labels(own=own, added=new, findings=findings)


def _no_class(where: str, label: str, manifest: Manifest, *, is_added: bool) -> ConfigError:
    if not is_added:
        return unknown_name(f"class in {where},", label, manifest.classes)
    return ConfigError(
        f"{where}: {label!r} is no class of {manifest.name}, which has {', '.join(manifest.classes)}. Added cells are "
        f"only trained on, so a new class would be tested on no image: put cells of it into {manifest.name} itself."
    )


def _places(manifest: Manifest, added: Added) -> str:
    return f"{manifest.name} ({manifest.root})" + (f", nor of {added.names}" if added.folders else "")


def _advice(name: str) -> str:
    """Says what to do with an image that is elsewhere; names its folder where it is there."""
    here = [place for place in reversed(Path(name).parents) if place != Path() and place.exists()]
    folder = "FOLDER" if not here else here[-1] if Path(name).is_absolute() else here[0]
    return f"For a new cell, name the folder or zip file it is in: --add {folder}."


class _Images:
    """The dataset's images by the names that a table may give them."""

    def __init__(self, manifest: Manifest, source: Path | None) -> None:
        self._paths = {sample.path for sample in manifest.samples}
        self._by_file = {str((manifest.root / path).resolve()): path for path in self._paths}
        self._source = source

    def find(self, name: str) -> str | None:
        """Returns the path in the dataset of a path in it, of a file from here, or of one in the zip file."""
        if name in self._paths:
            return name
        return self._by_file.get(str(Path(name).resolve())) or self._zipped(name)

    def find_alike(self, where: str, name: str) -> str | None:
        """The same where case, Unicode form or blanks are others."""
        file = PathIndex(self._by_file).find(where, str(Path(name).resolve()))
        return PathIndex(self._paths).find(where, name) or (file and self._by_file[file])

    def _zipped(self, name: str) -> str | None:
        """Finds ``archive.zip/cells/hsil/a.png``, as predictions name it; the dataset may begin at an inner folder."""
        source, here = self._source, Path(name).resolve()
        if source is None or source.is_dir() or not here.is_relative_to(source.resolve()):
            return None
        parts = here.relative_to(source.resolve()).parts
        inner = ("/".join(parts[start:]) for start in range(len(parts)))
        return next((path for path in inner if path in self._paths), None)
