"""Multinomial logistic regression with a penalty, by L-BFGS in coordinates in which all directions are curved alike.

Features of an encoder vary by orders of magnitude between directions, which costs a solver hundreds of steps. In the
principal axes of the images, each divided by the root of the curvature that it has at most, up to a factor (Boehning
1992, doi:10.1007/BF00048682), tens are enough. The objective is scikit-learn's, and so is the solution.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float64, Int64
from numpy.typing import NDArray

from cytolora.training.heads.folds import Fold

Rows = Float64[np.ndarray, "images features"]
Labels = Int64[np.ndarray, " images"]
Solutions = Float64[np.ndarray, "problems classes axes_and_1"]
Map = tuple[Float64[np.ndarray, "classes features"], Float64[np.ndarray, " classes"]]
"""Weight and bias of the classes that occur."""

_CURVATURE = 0.1
"""Of the loss of an image along a score, p (1 - p) at most 1/4: a typical one."""
_MAX_ITERATIONS = 1000
_TOLERANCE = 1e-8
"""Of the largest gradient in those coordinates, for a head; its probabilities are within 1e-5 of the optimum's."""
_TOLERANCE_OF_FOLDS = 1e-6
"""For cross-validation, of which only the losses are used, to compare penalties a power of ten apart."""


class Logistic:
    """Logistic regression of the same images, class indices without gaps."""

    def __init__(self, rows: Rows, labels: Labels) -> None:
        self._labels, self._num_classes = labels, int(labels.max()) + 1
        self._centre = rows.mean(axis=0)  # the bias bears no penalty, so that this changes nothing but the conditioning
        self._axes, self._spread = _principal_axes(rows - self._centre)
        self._rows = np.ascontiguousarray((rows - self._centre) @ self._axes)

    def held_out(self, folds: Sequence[Fold], penalties: Sequence[float]) -> Iterator[Float64[np.ndarray, "_ classes"]]:
        """Yields the scores of the images that folds leave out, in their order, for one penalty after the other.

        All folds are solved together, each product of the images made once, and each penalty from the one before it.
        """
        is_used = np.ones((len(folds), len(self._labels)))
        for row, (_, left) in zip(is_used, folds, strict=True):
            row[left] = 0
        solved = self._start(len(folds))
        for penalty in penalties:
            solved = self._descended(solved, is_used, penalty, _TOLERANCE_OF_FOLDS)
            pairs = zip(solved, folds, strict=True)
            yield np.concatenate([self._rows[left] @ each[:, :-1].T + each[:, -1] for each, (_, left) in pairs])

    def contenders(self, folds: Sequence[Fold], penalties: Sequence[float]) -> Sequence[float]:
        """Returns all penalties: each is solved from the one before it, so that none is left out."""
        return penalties

    def fit(self, penalty: float) -> Map:
        """Fits all images. Of one class alone there is nothing to tell apart: its score is 0."""
        everything = np.ones((1, len(self._labels)))
        (solved,) = self._descended(self._start(1), everything, penalty, _TOLERANCE)
        weight = solved[:, :-1] @ self._axes.T
        return weight, solved[:, -1] - weight @ self._centre

    def _start(self, problems: int) -> Solutions:
        return np.zeros((problems, self._num_classes, self._rows.shape[1] + 1))

    def _descended(
        self, start: Solutions, is_used: Float64[np.ndarray, "problems images"], penalty: float, tolerance: float
    ) -> Solutions:
        """Minimises scikit-learn's objective of every problem from ``start``: the sum of them, which share nothing."""
        from scipy.optimize import minimize  # slow to load

        counts = is_used.sum(axis=1)
        share = (is_used / counts[:, None])[:, None]
        truth = np.eye(self._num_classes)[self._labels].T * share
        # scikit-learn has one row of weights for two classes: twice as long as each of ours, and penalised once
        factor = (penalty * (2 if self._num_classes == 2 else 1) / counts)[:, None, None]
        unit = 1 / np.sqrt(np.append(_CURVATURE * self._spread + factor.mean(), _CURVATURE))

        def loss(flat: Float64[np.ndarray, " parameters"]) -> tuple[float, Float64[np.ndarray, " parameters"]]:
            both = flat.reshape(start.shape) * unit
            value, slopes = self._loss(both, truth, share)
            slopes[:, :, :-1] += factor * both[:, :, :-1]
            penalised = value + float((factor / 2 * both[:, :, :-1] ** 2).sum())
            return penalised, (slopes * unit).ravel()

        limits = {"maxiter": _MAX_ITERATIONS, "maxls": 50, "gtol": tolerance, "ftol": np.finfo(float).eps, "maxcor": 20}
        found = minimize(loss, (start / unit).ravel(), jac=True, method="L-BFGS-B", options=limits)
        return found.x.reshape(start.shape) * unit

    def _loss(
        self,
        both: Solutions,
        truth: Float64[np.ndarray, "problems classes images"],
        share: Float64[np.ndarray, "problems 1 images"],
    ) -> tuple[float, Solutions]:
        """Returns the cross-entropies of all problems, added up, and their gradients; images stand in columns."""
        flat = both.reshape(-1, both.shape[2])
        scores = (flat[:, :-1] @ self._rows.T + flat[:, -1:]).reshape(truth.shape)
        of_truth = float(np.vdot(scores, truth))
        highest = scores.max(axis=1, keepdims=True)
        errors = np.exp(np.subtract(scores, highest, out=scores), out=scores)
        totals = errors.sum(axis=1, keepdims=True)
        value = float(((np.log(totals) + highest) * share).sum()) - of_truth
        errors *= share / totals
        errors -= truth
        slopes = np.empty_like(both)
        slopes.reshape(flat.shape)[:, :-1] = errors.reshape(len(flat), -1) @ self._rows
        slopes[:, :, -1] = errors.sum(axis=2)
        return value, slopes


def _principal_axes(centred: Rows) -> tuple[Float64[np.ndarray, "features axes"], NDArray[np.float64]]:
    """Returns the axes of centred rows, in whose span penalised solutions lie, and the mean square along each."""
    from scipy.linalg import eigh  # slow to load

    num_images, dim = centred.shape
    is_tall = num_images >= dim
    squares, vectors = eigh(centred.T @ centred if is_tall else centred @ centred.T, check_finite=False, driver="evd")
    if is_tall:
        return vectors, np.maximum(squares, 0) / num_images
    kept = squares > np.finfo(float).eps * num_images * max(squares[-1], np.finfo(float).tiny)
    return centred.T @ (vectors[:, kept] / np.sqrt(squares[kept])), squares[kept] / num_images
