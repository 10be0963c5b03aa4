"""Logistic and ridge regression heads, their penalty chosen by cross-validation over groups."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import reduce
from typing import Protocol

import numpy as np
from jaxtyping import Float64

from cytolora.config.run import HeadSpec
from cytolora.metrics.calibration import cross_entropy, fit_temperature, probabilities
from cytolora.training.heads.affine import AffineHead, scaled
from cytolora.training.heads.folds import Fold, group_folds
from cytolora.training.heads.labelled import Labelled
from cytolora.training.heads.logistic import Labels, Logistic, Map, Rows

PENALTIES = (1e2, 1e1, 1.0, 1e-1, 1e-2, 1e-3, 1e-4)
"""To choose from, the strongest first; logistic regression's C is the inverse."""
UNCHOSEN = 1.0
"""Where a class comes from one group only, as with 1 shot, so that none can be chosen; scikit-learn's default."""

Scores = Float64[np.ndarray, "_ classes"]


class _Solver(Protocol):
    """One kind of regression of the same images, class indices without gaps."""

    def held_out(self, folds: Sequence[Fold], penalties: Sequence[float]) -> Iterator[Scores]:
        """Yields the scores of the images that folds leave out, in their order, for one penalty after the other."""
        ...

    def fit(self, penalty: float) -> Map:
        """Fits all images."""
        ...


def logistic(known: Labelled, spec: HeadSpec, *, seed: int) -> AffineHead:
    """Fits multinomial logistic regression by L-BFGS on features scaled to length 1."""
    return _penalised(known, spec, Logistic, seed=seed, with_temperature=False)


def ridge(known: Labelled, spec: HeadSpec, *, seed: int) -> AffineHead:
    """Fits ridge regression of the classes, +1 and -1, on features scaled to length 1.

    Scores are no logits: they are divided by the temperature that fits the held-out images of cross-validation, by 1
    where there is none.
    """
    return _penalised(known, spec, _Ridge, seed=seed, with_temperature=True)


def _penalised(
    known: Labelled, spec: HeadSpec, solver_of: Callable[[Rows, Labels], _Solver], *, seed: int, with_temperature: bool
) -> AffineHead:
    rows = scaled(known.features).double().numpy()
    present, labels = np.unique(known.labels.numpy(), return_inverse=True)
    folds = group_folds(labels, known.units, seed=seed) if len(present) > 1 else []
    penalties = PENALTIES if spec.penalty is None else (spec.penalty,)
    penalty, temperature = spec.penalty or UNCHOSEN, 1.0
    solver = solver_of(rows, labels)
    if folds and (with_temperature or len(penalties) > 1):
        truth = labels[np.concatenate([left for _, left in folds])]
        losses = []
        for candidate, scores in zip(penalties, solver.held_out(folds, penalties), strict=True):
            scale = fit_temperature(scores, truth) if with_temperature else 1.0
            losses.append((cross_entropy(truth, probabilities(scores, scale)), candidate, scale))
        _, penalty, temperature = min(losses, key=lambda found: found[0])  # of equals the strongest penalty
    weight, bias = solver.fit(penalty)
    return AffineHead.of_classes(weight / temperature, bias / temperature, present, known.num_classes)


@dataclass(frozen=True, kw_only=True)
class _Moments:
    """Sums over images: all that ridge regression needs of them, and what can be taken from the sums over others."""

    count: int
    rows: Float64[np.ndarray, " features"]
    targets: Float64[np.ndarray, " classes"]
    squares: Float64[np.ndarray, "features features"]
    products: Float64[np.ndarray, "features classes"]

    @staticmethod
    def of(rows: Rows, targets: Float64[np.ndarray, "images classes"]) -> "_Moments":
        return _Moments(
            count=len(rows),
            rows=rows.sum(axis=0),
            targets=targets.sum(axis=0),
            squares=rows.T @ rows,
            products=rows.T @ targets,
        )

    def plus(self, other: "_Moments", factor: int = 1) -> "_Moments":
        return _Moments(
            **{each.name: getattr(self, each.name) + factor * getattr(other, each.name) for each in fields(self)}
        )

    def centred(self) -> tuple[Float64[np.ndarray, "features features"], Float64[np.ndarray, "features classes"]]:
        """Returns squares and products around the means."""
        mean = self.rows / self.count
        return self.squares - np.outer(mean, self.rows), self.products - np.outer(mean, self.targets)

    def map_of(self, weight: Float64[np.ndarray, "classes features"]) -> Map:
        """Adds the bias, which bears no penalty."""
        return weight, (self.targets - weight @ self.rows) / self.count


class _Ridge:
    """Ridge regression from sums over images: a fold is trained on all sums less its own, each computed once."""

    def __init__(self, rows: Rows, labels: Labels) -> None:
        self._rows, self._basis = _turned(rows)
        self._targets = 2.0 * np.eye(labels.max() + 1)[labels] - 1
        self._moments: _Moments | None = None

    def held_out(self, folds: Sequence[Fold], penalties: Sequence[float]) -> Iterator[Scores]:
        parts = [_Moments.of(self._rows[left], self._targets[left]) for _, left in folds]
        rest = np.setdiff1d(np.arange(len(self._rows)), np.concatenate([left for _, left in folds]))
        self._moments = reduce(_Moments.plus, parts, _Moments.of(self._rows[rest], self._targets[rest]))
        scores: list[list[Scores]] = [[] for _ in penalties]
        for part, (_, left) in zip(parts, folds, strict=True):
            trained = self._moments.plus(part, -1)
            maps = [trained.map_of(weight) for weight in _ridge_weights(*trained.centred(), penalties)]
            together = self._rows[left] @ np.concatenate([weight for weight, _ in maps]).T
            for index, (of_penalty, (_, bias)) in enumerate(zip(scores, maps, strict=True)):
                of_penalty.append(together[:, index * len(bias) : (index + 1) * len(bias)] + bias)
        yield from map(np.concatenate, scores)

    def fit(self, penalty: float) -> Map:
        moments = self._moments or _Moments.of(self._rows, self._targets)
        (weight,) = _ridge_weights(*moments.centred(), [penalty])
        weight, bias = moments.map_of(weight)
        return (weight if self._basis is None else weight @ self._basis.T), bias


def _ridge_weights(
    squares: Float64[np.ndarray, "features features"],
    products: Float64[np.ndarray, "features classes"],
    penalties: Sequence[float],
) -> Iterator[Float64[np.ndarray, "classes features"]]:
    """Yields the weights for one penalty after the other; of smallest length where the equations are singular."""
    from scipy.linalg import cho_factor, cho_solve  # slow to load

    diagonal = np.diag_indices(len(squares))
    for penalty in penalties:
        equations = squares.copy()
        equations[diagonal] += penalty
        try:  # transposed they are the same, and lie in memory as LAPACK takes them
            factor = cho_factor(equations.T, lower=True, overwrite_a=True, check_finite=False)
            yield cho_solve(factor, products, check_finite=False).T
        except np.linalg.LinAlgError:  # a penalty below the rounding of the squares
            yield (np.linalg.pinv(squares + penalty * np.eye(len(squares)), hermitian=True) @ products).T


def _turned(rows: Rows) -> tuple[Float64[np.ndarray, "images _"], Float64[np.ndarray, "features images"] | None]:
    """Turns fewer rows than columns into as many dimensions as rows, and returns the basis; None where it need not.

    All inner products stay, and with them penalised solutions, which lie in the span of the rows.
    """
    if len(rows) >= rows.shape[1]:
        return rows, None
    basis, coordinates = np.linalg.qr(rows.T)
    return np.ascontiguousarray(coordinates.T), basis
