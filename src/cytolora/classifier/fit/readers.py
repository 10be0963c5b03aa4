"""Readers beside the classifier: agreement of readers with each other, and of the classifier with each of them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

from cytolora.metrics.readers import PairAgreement, compare

READERS = "readers"
"""Name of the agreement among a bundle's metrics."""
CLASSIFIER = "classifier"
_CLASSIFIER_KEY = ""
"""The classifier among readers, none of whom has an empty name."""


@dataclass(frozen=True, kw_only=True)
class Readings:
    """Classes that several readers gave to cells of the test share, each reader by itself."""

    classes: tuple[str, ...]
    """All that a reader could give, from the least to the most severe where ``is_ordered``."""
    is_ordered: bool
    labels: Mapping[str, Mapping[str, str]]
    """Class by reader and path."""
    units: Mapping[str, str]
    """Group of each path, or the image itself where it is unknown."""


def beside_readers(readings: Readings, paths: Sequence[str], predictions: Sequence[str]) -> dict[str, Any]:
    """Compares every two readers, and the classifier with each reader, all by the same measures.

    Readers are compared on all drawn cells. Those that are no test images, because readers differ and nobody decided or
    the image was left out, have no prediction: ``num_untested`` counts them.

    Args:
        paths: Of the test images.
        predictions: Class of each.

    Returns:
        Plain data: classes, weighted, num_untested, ``between`` readers and ``classifier`` with each reader, as
        ``PairAgreement``.
    """
    everyone = {**readings.labels, _CLASSIFIER_KEY: dict(zip(paths, predictions, strict=True))}
    number = {path: at for at, path in enumerate(readings.units)}
    index = {name: at for at, name in enumerate(readings.classes)}
    labels = {
        who: {number[path]: index[label] for path, label in given.items() if path in number}
        for who, given in everyone.items()
    }
    units, weights = list(readings.units.values()), "linear" if readings.is_ordered else None

    def compared(a: str, b: str) -> PairAgreement:
        return compare(a, b, labels, units, len(index), weights)

    readers, tested = sorted(readings.labels), set(labels[_CLASSIFIER_KEY])
    by_several = {cell for a, b in combinations(readers, 2) for cell in set(labels[a]) & set(labels[b])}
    return {
        "classes": list(readings.classes),
        "weighted": readings.is_ordered,
        "num_untested": len(by_several - tested),
        "between": [asdict(compared(a, b)) for a, b in combinations(readers, 2)],
        "classifier": [{**asdict(compared(_CLASSIFIER_KEY, one)), "a": CLASSIFIER} for one in readers],
    }


def in_words(found: Mapping[str, Any]) -> list[str]:
    """Writes a line for every comparison that has a kappa."""
    return [
        f"{row['a']} and {row['b']}: kappa {kappa_in_words(row)} on {row['cells']} cells"
        for row in (*found["between"], *found["classifier"])
        if row["kappa"] is not None
    ]


def kappa_in_words(row: Mapping[str, Any]) -> str:
    """Writes a kappa with its interval; a dash where there is none."""
    if row["kappa"] is None:
        return "–"
    return f"{row['kappa']:.2f}" + ("" if row["low"] is None else f" ({row['low']:.2f} to {row['high']:.2f})")
