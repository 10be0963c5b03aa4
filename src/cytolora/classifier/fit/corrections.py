"""Label corrections from a table, as the review page saves it, and labels of added cells."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from cytolora.classifier.fit.added import Added
from cytolora.data.manifest import Manifest
from cytolora.data.readers.csv import read_rows
from cytolora.errors import ConfigError, DataError, unknown_name

_NOTHING = Added()


@dataclass(frozen=True, kw_only=True)
class Labels:
    """What a table says, by the paths of the manifest."""

    own: Mapping[str, str]
    """Of the dataset's images."""
    added: Mapping[str, str]


def correct(manifest: Manifest, table: Path, source: Path | None = None) -> tuple[Manifest, int]:
    """Puts labels of a table in the place of the manifest's; returns how many changed. See ``read_labels``."""
    return relabelled(manifest, read_labels(table, manifest, source).own)


def relabelled(manifest: Manifest, labels: Mapping[str, str]) -> tuple[Manifest, int]:
    """Puts labels by path in the place of the manifest's; returns how many changed."""
    samples = tuple(replace(sample, label=labels.get(sample.path, sample.label)) for sample in manifest.samples)
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
    by_path = {sample.path: sample.path for sample in manifest.samples}
    by_file = {str((manifest.root / path).resolve()): path for path in by_path}
    own, new = dict[str, str](), dict[str, str]()
    for line, row in read_rows(table, ("path", "label")):
        name, where = row["path"].replace("\\", "/"), f"{table}, line {line}"
        path = by_path.get(name) or by_file.get(str(Path(name).resolve())) or _zipped(name, source, by_path)
        theirs = added.find(name)
        files = [*([] if path is None else [manifest.root / path]), *(added.files[one] for one in theirs)]
        if len(files) > 1:
            raise DataError(f"{where}: {row['path']} may be {' or '.join(map(str, files))}; write which one is meant.")
        if not files:
            raise DataError(f"{where}: {row['path']} is no image of {_places(manifest, added)}. {_advice(name)}")
        labels, key = (new, theirs[0]) if path is None else (own, path)
        if key in labels:
            raise DataError(f"{where}: {row['path']} is listed twice; keep one of the lines.")
        if row["label"] not in manifest.classes:
            raise _no_class(where, row["label"], manifest, is_added=path is None)
        labels[key] = row["label"]
    if added.folders and not new:
        raise DataError(
            f"{table} labels no image of {added.names}; expected some, as the review page of predict writes them. "
            "Label some, or leave --add out."
        )
    return Labels(own=own, added=new)


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


def _zipped(name: str, source: Path | None, by_path: Mapping[str, str]) -> str | None:
    """Finds ``archive.zip/cells/hsil/a.png``, as predictions name it; the dataset may begin at an inner folder."""
    if source is None or source.is_dir() or not Path(name).resolve().is_relative_to(source.resolve()):
        return None
    parts = Path(name).resolve().relative_to(source.resolve()).parts
    return next((found for start in range(len(parts)) if (found := by_path.get("/".join(parts[start:])))), None)
