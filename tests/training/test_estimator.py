"""LinearHead keeps scikit-learn's contract, and is the protocol's own head."""

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.datasets import make_blobs
from sklearn.utils.estimator_checks import check_estimator

import cytolora
from cytolora.config.run import Budget, TrainSpec
from cytolora.errors import ConfigError
from cytolora.training.estimator import LinearHead
from cytolora.training.heads.linear import fit_heads

EXPECTED_FAILURES: dict[str, str] = {}
"""Checks of scikit-learn's that the estimator may fail, with the reason: none."""


@pytest.fixture(scope="module")
def blobs() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    drawn: Any = make_blobs(90, 6, centers=3, cluster_std=2, random_state=0)
    return drawn[0].astype(np.float32), drawn[1]


@pytest.mark.slow
def test_it_passes_scikit_learns_own_checks():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = check_estimator(LinearHead(), on_fail=None, expected_failed_checks=EXPECTED_FAILURES)
    failed = {result["check_name"]: result["exception"] for result in results if result["status"] == "failed"}
    assert failed == {}
    assert sum(result["status"] == "passed" for result in results) > 40


def test_it_is_the_head_that_grids_train(blobs):
    features, labels = blobs
    head = LinearHead(0.003, num_epochs=20, random_state=7).fit(features, np.array(["a", "b", "c"])[labels])
    weights, biases, _ = fit_heads(
        torch.from_numpy(features).unsqueeze(0),
        torch.from_numpy(labels).unsqueeze(0),
        TrainSpec(budget=Budget(amount=20, unit="epochs")),
        num_classes=3,
        learning_rates=[0.003],
        seeds=[7],
        num_steps=60,
    )
    np.testing.assert_array_equal(head.coef_, weights[0, 0].numpy())
    np.testing.assert_array_equal(head.intercept_, biases[0, 0].numpy())
    logits = torch.from_numpy(features) @ weights[0, 0].T + biases[0, 0]
    np.testing.assert_allclose(head.predict_proba(features), logits.softmax(dim=1).numpy(), atol=1e-5)
    assert head.n_iter_ == 60
    assert head.score(features, np.array(["a", "b", "c"])[labels]) > 0.8


def test_a_parameter_out_of_range_is_named(blobs):
    with pytest.raises(ConfigError, match="learning_rate must be above 0, got -1"):
        LinearHead(-1).fit(*blobs)
    with pytest.raises(ConfigError, match="batch_size is at least 1"):
        LinearHead(batch_size=0).fit(*blobs)


def test_it_is_a_public_name_of_the_package():
    assert cytolora.LinearHead is LinearHead
