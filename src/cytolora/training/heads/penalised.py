"""Logistic and ridge regression heads by scikit-learn, their penalty chosen by cross-validation over groups."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import reduce
from typing import Protocol

import numpy as np
from jaxtyping import Float64, Int64

from cytolora.config.run import HeadSpec
from cytolora.metrics.calibration import cross_entropy, fit_temperature, probabilities
from cytolora.training.heads.affine import AffineHead, scaled
from cytolora.training.heads.folds import Fold, group_folds
from cytolora.training.heads.labelled import Labelled

PENALTIES = (1e2, 1e1, 1.0, 1e-1, 1e-2, 1e-3, 1e-4)
"""To choose from, the strongest first; logistic regression's C is the inverse."""
UNCHOSEN = 1.0
"""Where a class comes from one group only, as with 1 shot, so that none can be chosen; scikit-learn's default."""
_MAX_ITERATIONS = 1000
_TOLERANCE = 1e-6
"""Of the largest gradient."""

Rows = Float64[np.ndarray, "images features"]
Labels = Int64[np.ndarray, " images"]
Map = tuple[Float64[np.ndarray, "classes features"], Float64[np.ndarray, " classes"]]
"""Weight and bias of the classes that occur."""
WithBias = Float64[np.ndarray, "classes features_and_1"]
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
    return _penalised(known, spec, _Logistic, seed=seed, with_temperature=False)


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


class _Logistic:
    """Multinomial logistic regression, the head itself by scikit-learn.

    Of cross-validation only the losses are used, to compare penalties a power of ten apart: there every penalty starts
    from the solution of the stronger one before it, on images turned into as many dimensions as they span.
    """

    def __init__(self, rows: Rows, labels: Labels) -> None:
        self._rows, self._labels = rows, labels

    def held_out(self, folds: Sequence[Fold], penalties: Sequence[float]) -> Iterator[Scores]:
        turned, _ = _turned(self._rows)
        turned = turned - turned.mean(axis=0)
        starts = [np.zeros((self._labels.max() + 1, turned.shape[1] + 1)) for _ in folds]
        trained = [np.ascontiguousarray(turned[train]) for train, _ in folds]
        for penalty in penalties:
            starts = [
                _descended(rows, self._labels[train], penalty, start)
                for rows, (train, _), start in zip(trained, folds, starts, strict=True)
            ]
            pairs = zip(starts, folds, strict=True)
            yield np.concatenate([turned[left] @ solved[:, :-1].T + solved[:, -1] for solved, (_, left) in pairs])

    def fit(self, penalty: float) -> Map:
        """Fits centred rows: the same problem, for the bias bears no penalty, and a better conditioned one.

        Of one class alone there is nothing to tell apart: its logit is 0.
        """
        if not self._labels.any():
            return np.zeros((1, self._rows.shape[1])), np.zeros(1)
        from sklearn.exceptions import ConvergenceWarning  # a second of processor time, which linear heads need not
        from sklearn.linear_model import LogisticRegression

        centre = self._rows.mean(axis=0)
        model = LogisticRegression(C=1 / penalty, max_iter=_MAX_ITERATIONS, tol=_TOLERANCE)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=ConvergenceWarning)  # weak penalties on divisible classes
            model.fit(self._rows - centre, self._labels)
        weight, bias = model.coef_, model.intercept_
        if len(weight) == 1:  # two classes: scikit-learn gives the logit of the second against the first
            weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
        return weight, bias - weight @ centre


def _descended(rows: Rows, labels: Labels, penalty: float, start: WithBias) -> WithBias:
    """Minimises scikit-learn's objective by L-BFGS from ``start``, with products laid out for few classes."""
    from scipy.optimize import minimize  # slow to load

    count, images = len(labels), np.arange(len(labels))
    # scikit-learn has one row of weights for two classes: twice as long as each of ours, and penalised once
    factor = penalty * (2 if len(start) == 2 else 1) / count

    def loss(flat: Float64[np.ndarray, " weights"]) -> tuple[float, Float64[np.ndarray, " weights"]]:
        both = flat.reshape(start.shape)
        scores = both[:, :-1] @ rows.T + both[:, -1:]
        scores -= scores.max(axis=0)
        errors = np.exp(scores)
        totals = errors.sum(axis=0)
        value = (np.log(totals) - scores[labels, images]).mean() + factor / 2 * (both[:, :-1] ** 2).sum()
        errors /= totals
        errors[labels, images] -= 1
        errors /= count
        slopes = np.concatenate([errors @ rows + factor * both[:, :-1], errors.sum(axis=1, keepdims=True)], axis=1)
        return float(value), slopes.ravel()

    limits = {"maxiter": _MAX_ITERATIONS, "maxls": 50, "gtol": _TOLERANCE, "ftol": 64 * np.finfo(float).eps}
    return minimize(loss, start.ravel(), jac=True, method="L-BFGS-B", options=limits).x.reshape(start.shape)


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
        try:
            factor = cho_factor(equations, lower=True, overwrite_a=False, check_finite=False)
            yield cho_solve(factor, products, check_finite=False).T
        except np.linalg.LinAlgError:  # a penalty below the rounding of the squares
            yield (np.linalg.pinv(equations, hermitian=True) @ products).T


def _turned(rows: Rows) -> tuple[Float64[np.ndarray, "images _"], Float64[np.ndarray, "features images"] | None]:
    """Turns fewer rows than columns into as many dimensions as rows, and returns the basis; None where it need not.

    All inner products stay, and with them penalised solutions, which lie in the span of the rows.
    """
    if len(rows) >= rows.shape[1]:
        return rows, None
    basis, coordinates = np.linalg.qr(rows.T)
    return np.ascontiguousarray(coordinates.T), basis
