"""Label maps: a dataset's classes merged, renamed or left out, stored with the classifier that was trained on them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from cytolora.core.arguments import AnyPath, as_path
from cytolora.core.text import matching, normal
from cytolora.data.manifest import Manifest
from cytolora.data.readers.tables import read_rows
from cytolora.data.similar_names import with_label_findings
from cytolora.errors import ConfigError, unknown_name


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelMap:
    """From a dataset's classes to one's own."""

    targets: Mapping[str, str]
    """By the dataset's class as the table writes it; a class that maps to the empty string is left out."""
    classes: tuple[str, ...]
    """The new classes, in the column ``order``, else as the table first names them."""
    is_ordered: bool
    """Whether the table says that the classes have an order, from low to high."""


def read_label_map(path: AnyPath) -> LabelMap:
    """Reads a table with the columns from, to, and where the new classes have an order, order (a number).

    Raises:
        ConfigError: If a class is mapped twice, or an order is missing, no number or not the same for one class.
    """
    path = as_path(path)
    targets: dict[str, str] = {}
    ranks: dict[str, str] = {}
    for line, row in read_rows(path, ("from", "to"), keep_blanks=True):
        source, target, rank = row["from"], normal(row["to"]), row.get("order", "").strip()
        if source in targets:
            raise ConfigError(f"{path}, line {line}: class {source!r} is mapped twice; keep one of the lines.")
        targets[source] = target
        if target and ranks.setdefault(target, rank) != rank:
            raise ConfigError(f"{path}, line {line}: class {target!r} has the orders {ranks[target]} and {rank}.")
    if not ranks:
        raise ConfigError(f"{path} leaves every class out; give at least two classes in the column 'to'.")
    is_ordered = any(ranks.values())
    classes = sorted(ranks, key=lambda label: _number(path, label, ranks[label])) if is_ordered else list(ranks)
    return LabelMap(targets=targets, classes=tuple(classes), is_ordered=is_ordered)


def apply_label_map(manifest: Manifest, labels: LabelMap | AnyPath) -> Manifest:
    """Returns the manifest with mapped labels; images of classes that map to nothing are left out.

    Raises:
        ConfigError: If the map names a class that the dataset does not have, or leaves one of its classes unsaid.
    """
    if not isinstance(labels, LabelMap):
        labels = read_label_map(labels)
    targets: dict[str, str] = {}
    for written, target in labels.targets.items():
        label = matching(written, manifest.classes)
        if label is None:
            raise unknown_name(f"class of {manifest.name}", normal(written), manifest.classes)
        if label in targets:
            raise ConfigError(f"The label map maps {manifest.name}'s class {label!r} twice; keep one of the lines.")
        targets[label] = target
    unsaid = [label for label in manifest.classes if label not in targets]
    if unsaid:
        raise ConfigError(
            f"The label map says nothing of {manifest.name}'s class {unsaid[0]!r}. Add a line for it; "
            "leave the column 'to' empty to leave its images out."
        )
    samples = tuple(
        replace(sample, label=targets[sample.label]) for sample in manifest.samples if targets[sample.label]
    )
    return with_label_findings(replace(manifest, classes=labels.classes, samples=samples, tree={}))


def _number(path: Path, label: str, rank: str) -> float:
    try:
        return float(rank)
    except ValueError:
        raise ConfigError(f"{path}: the order of class {label!r} is a number, got {rank!r}.") from None
