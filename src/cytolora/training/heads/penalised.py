"""Logistic and ridge regression heads, their penalty chosen by cross-validation over groups."""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np
from jaxtyping import Float64

from cytolora.config.run import HeadSpec
from cytolora.metrics.calibration import cross_entropy, fit_temperature, probabilities
from cytolora.training.heads.affine import AffineHead
from cytolora.training.heads.draws import Draw, draw_of
from cytolora.training.heads.folds import Fold
from cytolora.training.heads.labelled import Labelled
from cytolora.training.heads.logistic import Logistic, Map
from cytolora.training.heads.penalties import PENALTIES, UNCHOSEN
from cytolora.training.heads.ridge import RidgeSolver

Scores = Float64[np.ndarray, "_ classes"]


class _Solver(Protocol):
    """One kind of regression of the same images, class indices without gaps."""

    def held_out(self, folds: Sequence[Fold], penalties: Sequence[float]) -> Iterator[Scores]:
        """Yields the scores of the images that folds leave out, in their order, for one penalty after the other."""
        ...

    def contenders(self, folds: Sequence[Fold], penalties: Sequence[float]) -> Sequence[float]:
        """Returns the penalties, in their order, of which one has the lowest loss on those images."""
        ...

    def fit(self, penalty: float) -> Map:
        """Fits all images."""
        ...


def logistic(known: Labelled, spec: HeadSpec, *, seed: int) -> AffineHead:
    """Fits multinomial logistic regression by L-BFGS on features scaled to length 1."""
    return _penalised(
        known, spec, lambda draw: Logistic(draw.rows.astype(np.float64), draw.labels), seed=seed, with_temperature=False
    )


def ridge(known: Labelled, spec: HeadSpec, *, seed: int) -> AffineHead:
    """Fits ridge regression of the classes, +1 and -1, on features scaled to length 1.

    Scores are no logits: they are divided by the temperature that fits the held-out images of cross-validation, by 1
    where there is none.
    """

    def solver_of(draw: Draw) -> RidgeSolver:
        return RidgeSolver(draw.rows, draw.labels, draw.divided(seed))

    return _penalised(known, spec, solver_of, seed=seed, with_temperature=True)


def _penalised(
    known: Labelled, spec: HeadSpec, solver_of: Callable[[Draw], _Solver], *, seed: int, with_temperature: bool
) -> AffineHead:
    draw = draw_of(known)
    labels, folds = draw.labels, draw.folds(seed)
    penalties = PENALTIES if spec.penalty is None else (spec.penalty,)
    penalty, temperature = spec.penalty or UNCHOSEN, 1.0
    solver = solver_of(draw)
    if folds and (with_temperature or len(penalties) > 1):
        truth = labels[np.concatenate([left for _, left in folds])]
        penalties = solver.contenders(folds, penalties)
        losses = []
        for candidate, scores in zip(penalties, solver.held_out(folds, penalties), strict=True):
            scale = fit_temperature(scores, truth) if with_temperature else 1.0
            losses.append((cross_entropy(truth, probabilities(scores, scale)), candidate, scale))
        _, penalty, temperature = min(losses, key=lambda found: found[0])  # of equals the strongest penalty
    weight, bias = solver.fit(penalty)
    return AffineHead.of_classes(weight / temperature, bias / temperature, draw.present, known.num_classes)
