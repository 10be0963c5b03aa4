"""Source readability: how well slide, scanner or site can be read from features, beside the class.

Both measures have a permutation null, in which sources are dealt anew among the cells of each class: class frequencies
that differ between sources are no readability.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from cytolora.classifier.leakage.cells import SourcedCells, codes

NEIGHBOURS = 10
"""k of the robustness index; sources with fewer cells are left out."""
NUM_PERMUTATIONS = 199
"""The smallest p-value is one in 200."""
ALPHA = 0.05

Rows = Float64[np.ndarray, "cells features"]
Codes = Int64[np.ndarray, " cells"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceReading:
    """How well one kind of source can be read from features."""

    source: str
    """``group``, or the name of a metadata column."""
    num_sources: int
    num_cells: int
    num_left_out: int
    """Cells of sources that are unknown or have fewer than ``NEIGHBOURS`` cells."""
    balanced_accuracy: float
    """Of a source classifier: Gaussian discriminant analysis of features centred by class, each cell left out."""
    chance: float
    """The same with permuted sources, mean."""
    p: float
    """Share of permutations that read the source as well."""
    robustness: float | None
    """SO / (SO + OS) among the nearest neighbours (Kömen et al. 2025, arXiv:2507.17845): SO are of the same class and
    another source, OS of another class and the same source. 1: neighbours share the class, 0: they share the source.
    None where there are neither."""
    robustness_null: float | None
    """The same with permuted sources, mean: what the classes alone give."""
    robustness_p: float | None
    """Share of permutations whose index is as low."""

    @property
    def is_readable(self) -> bool:
        """Whether the source is read better than permuted ones."""
        return self.p <= ALPHA


def read_source(
    cells: SourcedCells,
    source: str = "group",
    *,
    seed: int = 0,
    permutations: int = NUM_PERMUTATIONS,
    on_permutation: Callable[[], None] = lambda: None,
) -> SourceReading | None:
    """Measures how well a source can be read; None where fewer than two have ``NEIGHBOURS`` cells.

    Args:
        source: ``group``, or a metadata column.
    """
    names = [sample.group for sample in cells.samples] if source == "group" else cells.column(source)
    sizes = {name: names.count(name) for name in set(names) if name is not None}
    kept = [at for at, name in enumerate(names) if name is not None and sizes[name] >= NEIGHBOURS]
    sources = codes([names[at] or "" for at in kept])
    if len(np.unique(sources)) < 2:
        return None
    features = cells.features[kept].double().numpy()
    labels = cells.labels[kept]
    whitened, near = _whitened(features, labels), _nearest(features, NEIGHBOURS)

    def measure(sources: Codes) -> tuple[float, float]:
        return _balanced_accuracy(whitened, sources), _robustness(near, labels, sources)

    read, index = measure(sources)
    null = []
    for number in range(permutations):
        null.append(measure(_permuted(sources, labels, np.random.default_rng([seed, number]))))
        on_permutation()
    of_reader, of_index = (np.array(column) for column in zip(*null, strict=True))
    has_index = bool(np.isfinite(index)) and bool(np.isfinite(of_index).all())
    return SourceReading(
        source=source,
        num_sources=len(np.unique(sources)),
        num_cells=len(kept),
        num_left_out=len(names) - len(kept),
        balanced_accuracy=read,
        chance=float(of_reader.mean()),
        p=_p_value(of_reader >= read - 1e-12),
        robustness=index if has_index else None,
        robustness_null=float(of_index.mean()) if has_index else None,
        robustness_p=_p_value(of_index <= index + 1e-12) if has_index else None,
    )


def _p_value(is_beyond: np.ndarray) -> float:
    """The observed one counts among the permutations (Davison & Hinkley 1997, eq. 4.11)."""
    return (1 + int(is_beyond.sum())) / (1 + len(is_beyond))


def _permuted(sources: Codes, labels: Codes, rng: np.random.Generator) -> Codes:
    """Deals the sources anew among the cells of each class."""
    dealt = sources.copy()
    for label in np.unique(labels):
        at = np.flatnonzero(labels == label)
        dealt[at] = sources[rng.permutation(at)]
    return dealt


def _whitened(features: Rows, labels: Codes) -> Rows:
    """Takes the class means away and the covariance out, shrunk as that of gda (``training.heads.means``)."""
    rows = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    for label in np.unique(labels):
        rows[labels == label] -= rows[labels == label].mean(axis=0)
    num_cells, dim = rows.shape
    shrinkage = dim / (num_cells - 1 + dim)
    values, vectors = np.linalg.eigh(rows.T @ rows / max(1, num_cells - 1))
    shrunk = (1 - shrinkage) * values + shrinkage * max(float(values.sum()) / dim, np.finfo(np.float32).eps ** 2)
    return rows @ (vectors / np.sqrt(np.maximum(shrunk, np.finfo(np.float32).eps ** 2)))


def _balanced_accuracy(rows: Rows, sources: Codes) -> float:
    """Assigns every cell to the nearest source, the cell itself left out of its mean.

    The mean of n cells is uncertain by 1 / n of the spread of one: distances are those of the predictive distribution,
    else the mean that a cell was left out of would lie farther away than it should, and chance would read too low.
    """
    counts = np.bincount(sources).astype(np.float64)
    sums = np.zeros((len(counts), rows.shape[1]))
    np.add.at(sums, sources, rows)
    means = sums / counts[:, None]
    square = (rows**2).sum(axis=1)
    spread = float(square.mean())
    distances = square[:, None] - 2 * rows @ means.T + (means**2).sum(axis=1)
    scores = distances / (1 + 1 / counts) + spread * np.log1p(1 / counts)
    own = np.arange(len(rows))
    left = counts[sources] - 1
    apart = distances[own, sources] * (counts[sources] / left) ** 2
    scores[own, sources] = apart / (1 + 1 / left) + spread * np.log1p(1 / left)
    is_right = scores.argmin(axis=1) == sources
    return float((np.bincount(sources, weights=is_right) / counts).mean())


def _nearest(features: Rows, k: int) -> Int64[np.ndarray, "cells k"]:
    """Returns the k nearest other cells by cosine."""
    rows = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    rows = rows.astype(np.float32)
    found = []
    for start in range(0, len(rows), 1024):
        similarity = rows[start : start + 1024] @ rows.T
        similarity[np.arange(len(similarity)), np.arange(start, start + len(similarity))] = -np.inf
        found.append(np.argpartition(-similarity, k - 1, axis=1)[:, :k])
    return np.concatenate(found)


def _robustness(near: Int64[np.ndarray, "cells k"], labels: Codes, sources: Codes) -> float:
    """Computes SO / (SO + OS) over all neighbours of all cells; not a number where there are neither."""
    same_class, same_source = labels[near] == labels[:, None], sources[near] == sources[:, None]
    same_other, other_same = int((same_class & ~same_source).sum()), int((~same_class & same_source).sum())
    return same_other / (same_other + other_same) if same_other + other_same else float("nan")
