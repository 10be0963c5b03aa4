"""Source readability: how well slide, scanner or site can be read from features, beside the class.

Both measures have a permutation null, in which sources are dealt anew among the cells of each class: class frequencies
that differ between sources are no readability.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64

from cytolora.classifier.leakage.cells import SourcedCells, codes
from cytolora.classifier.leakage.report import MIN_CELLS, NEIGHBOURS, SourceReading

NUM_PERMUTATIONS = 199
"""The smallest p-value is one in 200."""
_EQUAL = 1e-12
"""Two permutations that read equally many cells differ by less."""

Rows = Float64[np.ndarray, "cells features"]
Codes = Int64[np.ndarray, " cells"]


def read_source(
    cells: SourcedCells,
    source: str = "group",
    *,
    seed: int = 0,
    permutations: int = NUM_PERMUTATIONS,
    on_permutation: Callable[[], None] = lambda: None,
) -> SourceReading | None:
    """Measures how well a source can be read; None where fewer than two have ``MIN_CELLS`` cells.

    Args:
        source: ``group``, or a metadata column.
    """
    names = [sample.group for sample in cells.samples] if source == "group" else cells.column(source)
    kept = _of_large_sources(names, MIN_CELLS)
    if kept is None:
        return None
    sources, labels = codes([names[at] or "" for at in kept]), cells.labels[kept]
    whitened = _whitened(cells.features[kept].double().numpy(), labels)

    def dealt(sources: Codes, labels: Codes) -> Iterator[Codes]:
        for number in range(permutations):
            yield _permuted(sources, labels, np.random.default_rng([seed, number]))

    read, null = _balanced_accuracy(whitened, sources), []
    for permuted in dealt(sources, labels):
        null.append(_balanced_accuracy(whitened, permuted))
        on_permutation()
    index = _index(cells, names, dealt)
    return SourceReading(
        source=source,
        num_sources=len(np.unique(sources)),
        num_cells=len(kept),
        num_left_out=len(names) - len(kept),
        balanced_accuracy=read,
        chance=float(np.mean(null)),
        p=_p_value(np.array(null) >= read - _EQUAL),
        **index,
    )


def _index(
    cells: SourcedCells, names: Sequence[str | None], dealt: Callable[[Codes, Codes], Iterator[Codes]]
) -> dict[str, Any]:
    """Returns the robustness index, its null, p-value and what is left out of it."""
    kept = _of_large_sources(names, NEIGHBOURS)
    nothing = {"robustness": None, "robustness_null": None, "robustness_p": None}
    if kept is None:
        return {**nothing, "num_left_out_of_index": len(names)}
    left_out = {"num_left_out_of_index": len(names) - len(kept)}
    sources, labels = codes([names[at] or "" for at in kept]), cells.labels[kept]
    near = _nearest(cells.features[kept].numpy(), NEIGHBOURS)
    index = _robustness(near, labels, sources)
    null = np.array([_robustness(near, labels, permuted) for permuted in dealt(sources, labels)])
    if not (np.isfinite(index) and np.isfinite(null).all()):
        return {**nothing, **left_out}
    p = _p_value(null <= index + _EQUAL)
    return {"robustness": index, "robustness_null": float(null.mean()), "robustness_p": p, **left_out}


def _of_large_sources(names: Sequence[str | None], fewest: int) -> list[int] | None:
    """Returns the places of cells of sources with enough cells; None where these are fewer than two."""
    sizes = Counter(name for name in names if name is not None)
    kept = [at for at, name in enumerate(names) if name is not None and sizes[name] >= fewest]
    return kept if len({names[at] for at in kept}) > 1 else None


def _p_value(is_beyond: Bool[np.ndarray, " permutations"]) -> float:
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


def _nearest(features: Float32[np.ndarray, "cells features"], k: int) -> Int64[np.ndarray, "cells k"]:
    """Returns the k nearest other cells by cosine."""
    rows = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), np.finfo(np.float32).tiny)
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
