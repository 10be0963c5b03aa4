"""What the paper printed, for the cells of a report that it printed."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

_TABLES = ("dausort2025_table1.csv",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """One number of the literature, as a share in [0, 1]."""

    accuracy: float
    std: float
    source: str
    published_as: str
    """What the source calls model and dataset."""
    note: str = ""
    """What keeps it from being the same experiment; empty where nothing known does."""


def find_published(*, dataset: str, model: str, method: str) -> Published | None:
    """Returns the published accuracy of a model trained on all images of a dataset, or None where none is printed."""
    name = "hicervix:25" if dataset == "hicervix" else dataset  # 25 classes are the default label set, and the paper's
    return _published().get((name, model, method))


@cache
def _published() -> Mapping[tuple[str, str, str], Published]:
    table = {}
    for name in _TABLES:
        text = (files("cytolora.report") / "literature" / name).read_text()
        for row in csv.DictReader(text.splitlines()):
            table[row["dataset"], row["model"], row["method"]] = Published(
                accuracy=float(row["accuracy"]),
                std=float(row["std"]),
                source=row["source"],
                published_as=row["published_as"],
                note=row["note"],
            )
    return table
