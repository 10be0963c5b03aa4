"""Logistic and ridge regression heads by scikit-learn, their penalty chosen by cross-validation over groups."""

import warnings
from collections.abc import Callable

import numpy as np
from jaxtyping import Float64, Int64

from cytolora.config.run import HeadSpec
from cytolora.metrics.calibration import cross_entropy, fit_temperature, probabilities
from cytolora.training.heads.affine import AffineHead, scaled
from cytolora.training.heads.folds import group_folds
from cytolora.training.heads.labelled import Labelled

PENALTIES = (1e2, 1e1, 1.0, 1e-1, 1e-2, 1e-3, 1e-4)
"""To choose from, the strongest first; logistic regression's C is the inverse."""
UNCHOSEN = 1.0
"""Where a class comes from one group only, as with 1 shot, so that none can be chosen; scikit-learn's default."""
_MAX_ITERATIONS = 1000

Rows = Float64[np.ndarray, "images features"]
Labels = Int64[np.ndarray, " images"]
Map = tuple[Float64[np.ndarray, "classes features"], Float64[np.ndarray, " classes"]]
"""Weight and bias of the classes that occur."""
Fit = Callable[[Rows, Labels, float], Map]
"""Rows, class indices without gaps, and the penalty."""


def logistic(known: Labelled, spec: HeadSpec, *, seed: int) -> AffineHead:
    """Fits multinomial logistic regression by L-BFGS on features scaled to length 1."""
    return _penalised(known, spec, _fit_logistic, seed=seed, with_temperature=False)


def ridge(known: Labelled, spec: HeadSpec, *, seed: int) -> AffineHead:
    """Fits ridge regression of the classes, +1 and -1, on features scaled to length 1.

    Scores are no logits: they are divided by the temperature that fits the held-out images of cross-validation, by 1
    where there is none.
    """
    return _penalised(known, spec, _fit_ridge, seed=seed, with_temperature=True)


def _penalised(known: Labelled, spec: HeadSpec, fit: Fit, *, seed: int, with_temperature: bool) -> AffineHead:
    rows = scaled(known.features).double().numpy()
    present, labels = np.unique(known.labels.numpy(), return_inverse=True)
    folds = group_folds(labels, known.units, seed=seed) if len(present) > 1 else []
    penalties = PENALTIES if spec.penalty is None else (spec.penalty,)
    penalty, temperature = spec.penalty or UNCHOSEN, 1.0
    if folds and (with_temperature or len(penalties) > 1):
        held_out = np.concatenate([left for _, left in folds])
        losses = []
        for candidate in penalties:
            maps = [(fit(rows[train], labels[train], candidate), rows[left]) for train, left in folds]
            scores = np.concatenate([left @ weight.T + bias for (weight, bias), left in maps])
            scale = fit_temperature(scores, labels[held_out]) if with_temperature else 1.0
            losses.append((cross_entropy(labels[held_out], probabilities(scores, scale)), candidate, scale))
        _, penalty, temperature = min(losses, key=lambda found: found[0])  # of equals the strongest penalty
    weight, bias = fit(rows, labels, penalty)
    return AffineHead.of_classes(weight / temperature, bias / temperature, present, known.num_classes)


def _fit_logistic(rows: Rows, labels: Labels, penalty: float) -> Map:
    """Fits on centred rows, which is the same problem, for the bias bears no penalty, and a better conditioned one."""
    from sklearn.exceptions import ConvergenceWarning  # a second of processor time, which linear heads need not
    from sklearn.linear_model import LogisticRegression

    centre = rows.mean(axis=0)
    model = LogisticRegression(C=1 / penalty, max_iter=_MAX_ITERATIONS, tol=1e-6)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=ConvergenceWarning)  # weak penalties on classes that a plane divides
        model.fit(rows - centre, labels)
    weight, bias = model.coef_, model.intercept_
    if len(weight) == 1:  # two classes: scikit-learn gives the logit of the second against the first
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    return weight, bias - weight @ centre


def _fit_ridge(rows: Rows, labels: Labels, penalty: float) -> Map:
    from sklearn.linear_model import Ridge

    targets = 2.0 * np.eye(labels.max() + 1)[labels] - 1
    model = Ridge(alpha=penalty).fit(rows, targets)
    return model.coef_, model.intercept_
