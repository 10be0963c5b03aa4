"""Ridge regression of the classes from sums over images, and the choice of its penalty with few equations solved."""

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float, Float64, Int64

from cytolora.metrics.calibration import cross_entropy, fit_temperature, least_cross_entropy, probabilities
from cytolora.training.heads.folds import Fold
from cytolora.training.heads.logistic import Labels, Map
from cytolora.training.heads.moments import ClassSums, Divided, Rows, Squares, positive_solution

_ROUNDING = 1e-9
"""Of a bound that is a sum over folds: relative, and near 0 in nats, where nothing of its digits is left."""

Scores = Float64[np.ndarray, "images classes"]


class _Equations:
    """The normal equations of some images around their means: the bias bears no penalty."""

    def __init__(self, sums: ClassSums, squares: Squares) -> None:
        """Computes nothing of the size of the squares.

        Args:
            squares: Around no centre.
        """
        self._squares, self._count = squares, float(sums.counts.sum())
        self._mean, self._targets = sums.sums.sum(axis=0) / self._count, 2 * sums.counts / self._count - 1
        products = 2 * sums.sums - self._count * self._mean
        self._products = (products - np.outer(self._count * self._targets, self._mean)).T

    def solved(self, penalty: float, memory: Squares) -> Map:
        """Solves for weight and bias; of smallest length where the equations are singular.

        Args:
            memory: Written over.
        """
        self._centre(memory)
        is_lost = penalty < np.finfo(np.float64).eps * np.trace(memory)
        memory[np.diag_indices(len(memory))] += penalty
        found = positive_solution(memory, self._products)
        if found is None or is_lost:  # below the rounding of the squares, which may hide that they are singular
            self._centre(memory)
            lower = np.tril(memory)
            equations = lower + np.tril(lower, -1).T + penalty * np.eye(len(memory))
            found = np.linalg.pinv(equations, hermitian=True) @ self._products
        weight = found.T
        return weight, self._targets - weight @ self._mean

    def _centre(self, memory: Squares) -> None:
        """Writes the squares around the mean; of the upper triangle, something else."""
        from scipy.linalg import get_blas_funcs  # slow to load

        np.copyto(memory, self._squares)
        (syr,) = get_blas_funcs(("syr",), (memory,))
        syr(-self._count, self._mean, a=memory.T, lower=False, overwrite_a=True)  # transposed it is the upper triangle


class RidgeSolver:
    """Ridge regression of the same images, class indices without gaps, to targets +1 and -1.

    A fold is trained on the sums over all images less its own, each computed once.
    """

    def __init__(self, rows: Rows, labels: Labels, divided: Divided | None = None) -> None:
        """Solves nothing yet.

        Args:
            divided: The sums over the images, by the folds that ``held_out`` and ``contenders`` are given, where they
                are known.
        """
        self._rows, self._basis = _turned(rows)
        self._labels = labels
        self._divided_before = divided if self._basis is None else None
        self._memory = np.empty((self._rows.shape[1],) * 2)
        self._all: _Equations | None = None
        self._left_out: tuple[Sequence[Fold], list[_LeftOut]] | None = None

    def held_out(self, folds: Sequence[Fold], penalties: Sequence[float]) -> Iterator[Scores]:
        """Yields the scores of the images that folds leave out, in their order, for one penalty after the other."""
        left_out = self._divided(folds)
        for penalty in penalties:
            yield np.concatenate([one.scores(penalty) for one in left_out])

    def contenders(self, folds: Sequence[Fold], penalties: Sequence[float]) -> list[float]:
        """Returns the penalties, in their order, of which one has the lowest loss at its own temperature.

        A penalty is out, and its other folds are not solved, once the images of some folds alone cost more, each fold
        at the temperature that is best for it, than all images at another penalty. Those best on the first fold come
        first.
        """
        left_out = self._divided(folds)
        first, *others = left_out
        first.solve(penalties)
        kept, lowest = set[float](), np.inf
        for penalty in sorted(penalties, key=first.least_loss):
            bound = first.least_loss(penalty)
            for one in others:
                if bound > lowest:
                    break
                bound += one.least_loss(penalty)
            else:
                kept.add(penalty)
                lowest = min(lowest, _loss_at_most(left_out, penalty) * (1 + _ROUNDING) + _ROUNDING)
        return [penalty for penalty in penalties if penalty in kept]

    def fit(self, penalty: float) -> Map:
        """Fits all images."""
        if self._all is None:
            known = self._divided_before or Divided.of(self._rows, self._labels, [])
            self._all = _Equations(known.everything, known.squares[0])
        weight, bias = self._all.solved(penalty, self._memory)
        return (weight if self._basis is None else weight @ self._basis.T), bias

    def _divided(self, folds: Sequence[Fold]) -> "list[_LeftOut]":
        if self._left_out is None or self._left_out[0] is not folds:
            known = self._divided_before or Divided.of(self._rows, self._labels, folds)
            squares, trained = known.squares
            self._all = _Equations(known.everything, squares)
            left_out = [
                _LeftOut(own, self._labels[left], _Equations(known.everything.less(part), others), self._memory)
                for own, part, others, (_, left) in zip(known.rows, known.left_out, trained, folds, strict=True)
            ]
            self._left_out = folds, left_out
        return self._left_out[1]


class _LeftOut:
    """The images that a fold leaves out, and the equations of the others; what is solved is kept."""

    def __init__(self, rows: Rows, labels: Int64[np.ndarray, " images"], others: _Equations, memory: Squares) -> None:
        self.labels = labels
        self._rows, self._others, self._memory = rows, others, memory
        self._scores, self._least_losses = dict[float, Scores](), dict[float, float]()

    def solve(self, penalties: Sequence[float]) -> None:
        """Solves for several penalties, whose scores are then one product."""
        maps = [self._others.solved(penalty, self._memory) for penalty in penalties]
        products = self._rows @ np.concatenate([weight for weight, _ in maps]).T
        for penalty, part, (_, bias) in zip(penalties, np.split(products, len(maps), axis=1), maps, strict=True):
            self._scores[penalty] = part + bias

    def scores(self, penalty: float) -> Scores:
        """Of its images."""
        if penalty not in self._scores:
            self.solve([penalty])
        return self._scores[penalty]

    def least_loss(self, penalty: float) -> float:
        """At least that of its images together, whatever the temperature; nats."""
        if penalty not in self._least_losses:
            self._least_losses[penalty] = least_cross_entropy(self.scores(penalty), self.labels) * len(self.labels)
        return self._least_losses[penalty]


def _loss_at_most(left_out: Sequence[_LeftOut], penalty: float) -> float:
    """Returns the loss of all images left out at the first fold's temperature: at the best one it is no more; nats."""
    temperature = fit_temperature(left_out[0].scores(penalty), left_out[0].labels)
    return sum(
        cross_entropy(one.labels, probabilities(one.scores(penalty), temperature)) * len(one.labels) for one in left_out
    )


def _turned(rows: Rows) -> tuple[Float[np.ndarray, "images _"], Float64[np.ndarray, "features images"] | None]:
    """Turns fewer rows than columns into as many dimensions as rows, and returns the basis; None where it need not.

    All inner products stay, and with them penalised solutions, which lie in the span of the rows.
    """
    if len(rows) >= rows.shape[1]:
        return rows, None
    basis, coordinates = np.linalg.qr(rows.T.astype(np.float64, copy=False))
    return np.ascontiguousarray(coordinates.T), basis
