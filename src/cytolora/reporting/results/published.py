"""Published results for the settings of a report, and reference accuracies."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

_TABLES = ("dausort2025_table1.csv", "dausort2025_text.csv")
_REFERENCES = "references.csv"


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """One number of the literature, as a share in [0, 1]."""

    accuracy: float
    std: float | None
    """None where none is printed."""
    source: str
    published_as: str
    """What the source calls model and dataset."""
    note: str = ""
    """What keeps it from being the same experiment; empty where nothing known does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A published accuracy of a model that is not one of ours, to draw a line at."""

    dataset: str
    """Registered name with the label set that it was measured on."""
    name: str
    accuracy: float
    note: str
    source: str


def find_published(*, dataset: str, model: str, method: str, fraction: float | None = None) -> Published | None:
    """Returns the published accuracy of a model, or None where none is printed.

    Args:
        fraction: Share of the training images; None for all of them without any sampling.
    """
    name = "hicervix:25" if dataset == "hicervix" else dataset  # 25 classes are the default label set, and the paper's
    return _published().get((name, model, method, fraction))


@cache
def references(base: str) -> tuple[Reference, ...]:
    """Returns the reference lines of a dataset, whatever the label set they were measured on.

    Args:
        base: The dataset's name without a label set.
    """
    rows = [row for row in _rows(_REFERENCES) if row["dataset"].partition(":")[0] == base]
    return tuple(
        Reference(
            dataset=row["dataset"],
            name=row["name"],
            accuracy=float(row["accuracy"]),
            note=row["note"],
            source=row["source"],
        )
        for row in rows
    )


@cache
def printed_order() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Returns the datasets and the models of the paper's Table 1, in its order."""
    rows = _rows(_TABLES[0])
    return tuple(dict.fromkeys(row["dataset"] for row in rows)), tuple(dict.fromkeys(row["model"] for row in rows))


@cache
def _published() -> Mapping[tuple[str, str, str, float | None], Published]:
    table = {}
    for row in (row for name in _TABLES for row in _rows(name)):
        fraction = float(row["fraction"]) if row.get("fraction") else None
        table[row["dataset"], row["model"], row["method"], fraction] = Published(
            accuracy=float(row["accuracy"]),
            std=float(row["std"]) if row["std"] else None,
            source=row["source"],
            published_as=row["published_as"],
            note=row["note"],
        )
    return table


def _rows(name: str) -> list[dict[str, str]]:
    text = (files("cytolora.reporting.results") / "literature" / name).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))
