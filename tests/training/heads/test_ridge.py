"""Ridge regression solves fewer folds of penalties that are out, and chooses as if it had solved them all."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.preprocessing import normalize

from cytolora.config.run import HeadSpec
from cytolora.metrics.calibration import cross_entropy, fit_temperature, least_cross_entropy, probabilities
from cytolora.training.heads import ridge as ridge_module
from cytolora.training.heads.folds import MAX_FOLDS, group_folds
from cytolora.training.heads.labelled import Labelled
from cytolora.training.heads.penalised import ridge
from cytolora.training.heads.penalties import PENALTIES
from cytolora.training.heads.ridge import RidgeSolver, _Equations


@given(
    num_classes=st.integers(2, 5),
    per_class=st.integers(3, 30),
    spread=st.sampled_from([0.02, 0.3, 1.0, 4.0]),
    num_wrong=st.integers(0, 3),
    seed=st.integers(0, 1000),
)
@settings(max_examples=20)
def test_ridge_leaves_out_no_penalty_that_would_be_chosen(num_classes, per_class, spread, num_wrong, seed):
    """Some are out after a few folds; the choice and its scores are those with every fold solved for all of them."""
    rng = np.random.default_rng(seed)
    labels = np.arange(num_classes * per_class) % num_classes
    rows = np.asarray(normalize(np.eye(num_classes, 12)[labels] + spread * rng.standard_normal((len(labels), 12))))
    labels[rng.integers(len(labels), size=num_wrong)] = 0
    folds = group_folds(labels, [str(index // 2) for index in range(len(labels))], seed=seed)
    assume(folds)
    truth = labels[np.concatenate([left for _, left in folds])]
    kept = RidgeSolver(rows, labels).contenders(folds, PENALTIES)
    solver, losses = RidgeSolver(rows, labels), {}
    for penalty, scores in zip(PENALTIES, solver.held_out(folds, PENALTIES), strict=True):
        losses[penalty] = cross_entropy(truth, probabilities(scores, fit_temperature(scores, truth)))
        assert least_cross_entropy(scores, truth) <= losses[penalty] * (1 + 1e-9)
    assert min(PENALTIES, key=lambda penalty: losses[penalty]) in kept
    assert kept == [penalty for penalty in PENALTIES if penalty in kept]


def test_penalties_without_a_loss_are_kept_though_bounds_are_rounded(monkeypatch: pytest.MonkeyPatch):
    """Rounding of 1e-16 nats in a bound once left out the penalty that would be chosen."""
    labels = np.arange(24) % 2
    rows = 10 * np.eye(2, 3)[labels] + 1e-3 * np.random.default_rng(0).standard_normal((24, 3))
    monkeypatch.setattr(ridge_module, "least_cross_entropy", lambda *given: least_cross_entropy(*given) + 1e-12)
    folds = group_folds(labels, [str(index) for index in range(24)], seed=0)
    without_loss = (1e-2, 1e-3, 1e-4)
    assert RidgeSolver(rows, labels).contenders(folds, without_loss) == list(without_loss)


def test_ridge_solves_few_folds_of_a_penalty_that_is_far_from_the_best(monkeypatch: pytest.MonkeyPatch):
    generator = torch.Generator().manual_seed(1)
    labels = torch.arange(180) % 3
    features = torch.eye(3, 16)[labels] + 0.2 * torch.randn(180, 16, generator=generator)
    known = Labelled(features=features, labels=labels, num_classes=3)
    solved: list[float] = []
    original = _Equations.solved
    monkeypatch.setattr(_Equations, "solved", lambda self, p, memory: solved.append(p) or original(self, p, memory))
    ridge(known, HeadSpec(), seed=0)
    assert MAX_FOLDS + 1 + len(PENALTIES) <= len(solved) < MAX_FOLDS * len(PENALTIES)
    assert solved.count(PENALTIES[0]) < MAX_FOLDS, "as strong a penalty leaves hardly a difference"


@given(
    sharpness=st.sampled_from([0.01, 0.3, 1.0, 10.0, 200.0]),
    num_classes=st.integers(2, 6),
    seed=st.integers(0, 1000),
)
@settings(max_examples=25)
def test_the_least_cross_entropy_is_a_bound_and_mostly_near_that_of_the_best_temperature(sharpness, num_classes, seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(num_classes, size=40)
    logits = sharpness * (np.eye(num_classes)[labels] + 0.7 * rng.standard_normal((40, num_classes)))
    bound = least_cross_entropy(logits, labels)
    losses = [cross_entropy(labels, probabilities(logits, t)) for t in np.geomspace(0.05, 20, 60)]
    assert 0 <= bound <= min(losses) * (1 + 1e-9)
    if sharpness * np.ptp(logits / sharpness, axis=1).max() < 1:  # no probability can come near the limit
        assert bound >= 0.95 * min(losses)
