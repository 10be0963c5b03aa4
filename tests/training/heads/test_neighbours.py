"""Nearest neighbours and nearest class mean equal scikit-learn's, and stand beside every linear head."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from sklearn.preprocessing import normalize

from cells import contents, run_all, tiny_grid
from cytolora.training import adapt
from cytolora.training.heads import neighbours
from cytolora.training.heads.labelled import Labelled
from cytolora.training.heads.neighbours import choose_k, mean_shares, score_neighbours, vote_shares


@pytest.fixture(scope="module")
def known() -> Labelled:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(90) % 3
    features = torch.randn(90, 8, generator=generator) + torch.eye(8)[labels] * 2
    return Labelled(features=features, labels=labels, num_classes=3)


@pytest.fixture(scope="module")
def queries() -> torch.Tensor:
    return torch.randn(50, 8, generator=torch.Generator().manual_seed(1)) + 0.5


@pytest.mark.parametrize("k", [1, 3, 5, 20])
def test_votes_equal_scikit_learns(known, queries, k):
    theirs = KNeighborsClassifier(k, metric="cosine").fit(known.features.numpy(), known.labels.numpy())
    ours = vote_shares(known, queries, k=k)
    np.testing.assert_allclose(ours.numpy(), theirs.predict_proba(queries.numpy()), atol=1e-6)
    np.testing.assert_array_equal(ours.argmax(dim=1).numpy(), theirs.predict(queries.numpy()))


def test_the_nearest_mean_equals_scikit_learns(known, queries):
    theirs = NearestCentroid().fit(normalize(known.features.numpy()), known.labels.numpy())
    ours = mean_shares(known, queries).argmax(dim=1)
    np.testing.assert_array_equal(ours.numpy(), theirs.predict(normalize(queries.numpy())))


def test_k_is_the_best_on_validation_and_the_smallest_of_equals(known):
    theirs = {}
    val, labels = known.features[:40] + 0.3, known.labels[:40]
    rest = Labelled(features=known.features[40:], labels=known.labels[40:], num_classes=3)
    for k in (1, 3, 5, 10, 20):
        model = KNeighborsClassifier(k, metric="cosine").fit(rest.features.numpy(), rest.labels.numpy())
        theirs[k] = model.score(val.numpy(), labels.numpy())
    best = max(theirs.values())
    assert choose_k(rest, val, labels) == min(k for k, value in theirs.items() if value == pytest.approx(best))


def test_one_image_a_class_leaves_one_neighbour_and_a_class_without_images_is_never_predicted():
    few = Labelled(features=torch.eye(4)[:2], labels=torch.tensor([0, 2]), num_classes=3)
    assert choose_k(few, torch.eye(4)[:2], few.labels) == 1
    shares = mean_shares(few, torch.randn(9, 4, generator=torch.Generator().manual_seed(0)))
    assert (shares[:, 1] == 0).all()
    assert score_neighbours(few, few.features, few.labels, k=1)["knn"]["accuracy"] == 1


def test_they_are_scored_with_every_linear_head_and_on_test_with_the_chosen_rate_alone(drawn_cells: Path, tmp_path):
    run_all(tiny_grid(methods=["linear"]), drawn_cells, tmp_path)
    found = [json.loads(text) for text in contents(tmp_path).values()]
    assert len(found) == 4
    for metrics in found:
        beside = metrics["neighbours"]
        assert beside["knn"]["k"] in (1, 3, 5, 10)
        assert {*beside["nearest_mean"]["val"]} == {"accuracy", "balanced_accuracy", "macro_f1", "n"}
        for method in ("knn", "nearest_mean"):
            assert beside[method]["val"]["n"] == metrics["val"]["n"]
            assert (beside[method]["test"] is None) == (metrics["test"] is None)
    assert sum(metrics["test"] is not None for metrics in found) == 2


@pytest.mark.parametrize(("shots", "times"), [("all", 1), (2, 2)])
def test_seeds_that_draw_the_same_images_share_products_and_features(shots, times, drawn_cells, tmp_path, monkeypatch):
    compared, stacked = [], []

    def nearest(known: Labelled, queries: torch.Tensor, k: int) -> torch.Tensor:
        compared.append(len(queries))
        return original(known, queries, k)

    def fit_heads(features: torch.Tensor, *arguments: Any, **options: Any) -> Any:
        stacked.append(len(features))
        return trains(features, *arguments, **options)

    original, trains = neighbours._nearest_labels, adapt.fit_heads
    monkeypatch.setattr(neighbours, "_nearest_labels", nearest)
    monkeypatch.setattr(adapt, "fit_heads", fit_heads)
    monkeypatch.setattr("cytolora.experiments.execute.head_rates", lambda *_, **__: {})  # trials for the forecast
    run_all(tiny_grid(methods=["linear"], shots=[shots]), drawn_cells, tmp_path)
    assert stacked == [times]
    assert len(compared) == 3 * times, "the choice of k, val, and test"
    found = [json.loads(text)["neighbours"] for text in contents(tmp_path).values()]
    assert len(found) == 4
    if shots == "all":
        assert len({json.dumps([one["knn"]["k"], one["knn"]["val"], one["nearest_mean"]["val"]]) for one in found}) == 1
        tested = [one["knn"]["test"] for one in found if one["knn"]["test"] is not None]
        assert len(tested) == 2
        assert tested[0] == tested[1]
