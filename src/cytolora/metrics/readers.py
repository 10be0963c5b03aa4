"""Agreement between readers: Cohen's kappa of two, by class too, and Fleiss' of several; intervals over groups."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np
from jaxtyping import Int64, Num

from cytolora.metrics.agreement import Weights, confusion, kappa

_LEVEL = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class PairAgreement:
    """Cohen's kappa of two readers."""

    a: str
    b: str
    cells: int
    """That both labelled."""
    kappa: float | None
    """None where chance alone agrees fully, as with one class."""
    low: float | None
    high: float | None
    """Interval over groups, 95 %; None with fewer than two groups."""
    by_class: tuple[float | None, ...] = ()
    """Specific agreement of each class, 2 a / (2 a + b): of the labels that either reader gave as the class, the share
    on which the other agrees (Cicchetti & Feinstein 1990); None where neither gave it."""


def cohen(
    first: Sequence[int], second: Sequence[int], units: Sequence[str], num_classes: int, weights: Weights | None = None
) -> tuple[float | None, float | None, float | None]:
    """Computes Cohen's kappa (1960; weighted 1968) with a jackknife interval over groups, t with groups - 1.

    Args:
        first: Class index of each cell by one reader.
        units: Group of each cell.
        weights: Of classes in their natural order; None: all errors cost 1.
    """
    from scipy.special import stdtrit

    one, other = np.asarray(first, dtype=np.int64), np.asarray(second, dtype=np.int64)
    if not len(one):
        return None, None, None
    whole = confusion(one, other, num_classes)
    value = kappa(whole, weights)
    names, unit = np.unique(np.asarray(units), return_inverse=True)
    if value is None or len(names) < 2:
        return value, None, None
    left_out = [
        kappa(whole - confusion(one[unit == at], other[unit == at], num_classes), weights) for at in range(len(names))
    ]
    known = np.array([each for each in left_out if each is not None])
    if len(known) < 2:
        return value, None, None
    error = float(np.sqrt((len(known) - 1) / len(known) * ((known - value) ** 2).sum()))
    half = float(stdtrit(len(known) - 1, (1 + _LEVEL) / 2)) * error
    return value, max(value - half, -1.0), min(value + half, 1.0)


def specific(first: Sequence[int], second: Sequence[int], num_classes: int) -> tuple[float | None, ...]:
    """Computes the specific agreement of two readers by class, in [0, 1]; None where neither gave the class."""
    counts = confusion(first, second, num_classes)
    given = counts.sum(axis=0) + counts.sum(axis=1)
    return tuple(float(2 * counts[at, at] / given[at]) if given[at] else None for at in range(num_classes))


def compare(
    a: str,
    b: str,
    labels: Mapping[str, Mapping[int, int]],
    units: Sequence[str],
    num_classes: int,
    weights: Weights | None = None,
) -> PairAgreement:
    """Compares two readers on the cells to which both gave a class; arguments as of ``pairs``."""
    both = sorted(set(labels[a]) & set(labels[b]))
    ones, others = [labels[a][cell] for cell in both], [labels[b][cell] for cell in both]
    value, low, high = cohen(ones, others, [units[cell] for cell in both], num_classes, weights)
    by_class = specific(ones, others, num_classes)
    return PairAgreement(a=a, b=b, cells=len(both), kappa=value, low=low, high=high, by_class=by_class)


def fleiss(counts: Num[np.ndarray, "cells classes"]) -> float | None:
    """Computes Fleiss' kappa (1971); None without cells, or where chance alone agrees fully.

    Args:
        counts: Readers who gave each class to each cell; as many readers for every cell, at least two.
    """
    table = np.asarray(counts, dtype=np.float64)
    if not len(table):
        return None
    raters = table.sum(axis=1)
    if raters[0] < 2 or not np.allclose(raters, raters[0]):
        raise ValueError(
            f"Fleiss' kappa takes cells of as many readers each, at least two; found {sorted(set(raters))}"
        )
    by_cell = ((table**2).sum(axis=1) - raters) / (raters * (raters - 1))
    by_chance = float(((table.sum(axis=0) / table.sum()) ** 2).sum())
    return None if by_chance >= 1 else float((by_cell.mean() - by_chance) / (1 - by_chance))


def pairs(
    labels: Mapping[str, Mapping[int, int]], units: Sequence[str], num_classes: int, weights: Weights | None = None
) -> list[PairAgreement]:
    """Compares every two readers on the cells to which both gave a class.

    Args:
        labels: Class index by reader and cell.
        units: Group of every cell.
    """
    return [compare(a, b, labels, units, num_classes, weights) for a, b in combinations(sorted(labels), 2)]


def table_of(labels: Mapping[str, Mapping[int, int]], num_classes: int) -> Int64[np.ndarray, "cells classes"]:
    """Counts, for the cells that every reader gave a class, the readers by class."""
    shared = set.intersection(*(set(own) for own in labels.values())) if labels else set[int]()
    counts = np.zeros((len(shared), num_classes), dtype=np.int64)
    for row, cell in enumerate(sorted(shared)):
        for own in labels.values():
            counts[row, own[cell]] += 1
    return counts


def summary(
    labels: Mapping[str, Mapping[int, int]], units: Sequence[str], *, classes: Sequence[str], order: Sequence[str]
) -> dict[str, Any]:
    """Compares all readers: Cohen's kappa of every two, Fleiss' on the cells that all of them gave a class.

    Args:
        labels: Index in ``classes``, by reader and cell.
        order: The classes by severity: kappa of two readers is then weighted linearly; empty: it is not.
    """
    place = [list(order or classes).index(name) for name in classes]
    ordered = {reader: {cell: place[at] for cell, at in own.items()} for reader, own in labels.items()}
    table = table_of(ordered, len(classes)) if len(labels) > 1 else np.zeros((0, len(classes)), dtype=np.int64)
    compared = pairs(ordered, units, len(classes), weights="linear" if order else None)
    return {
        "readers": sorted(labels),
        "cells": len(table),
        "cohen": [asdict(one) for one in compared],
        "fleiss": fleiss(table),
        "weighted": bool(order),
    }
