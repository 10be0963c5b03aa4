"""Nearest neighbours on frozen features, and their scores with those of the nearest class mean beside linear heads."""

from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from jaxtyping import Float32, Int64
from torch import Tensor

from cytolora.config.run import HeadSpec
from cytolora.metrics.scores import score
from cytolora.training.heads.draws import draw_of
from cytolora.training.heads.labelled import Labelled, by_rows
from cytolora.training.heads.means import nearest_mean

NEIGHBOURS = (1, 3, 5, 10, 20)
"""Numbers of neighbours to choose from."""


def vote_shares(
    known: Labelled, queries: Float32[Tensor, "queries features"], *, k: int
) -> Float32[Tensor, "queries classes"]:
    """Returns the share of each class among the ``k`` nearest known images by cosine.

    Every neighbour has one vote, as in scikit-learn's ``KNeighborsClassifier(metric="cosine")``.
    """
    return F.one_hot(_nearest_labels(known, queries, k), known.num_classes).float().mean(dim=1)


def smoothed_votes(
    known: Labelled, queries: Float32[Tensor, "queries features"], *, k: int
) -> Float32[Tensor, "queries classes"]:
    """Returns ``vote_shares`` with one vote more that all classes share: no probability is 0, and the order stays."""
    return (vote_shares(known, queries, k=k) * k + 1 / known.num_classes) / (k + 1)


def mean_shares(known: Labelled, queries: Float32[Tensor, "queries features"]) -> Float32[Tensor, "queries classes"]:
    """Returns the softmax of minus half the squared distance to each class's mean; see ``means.nearest_mean``.

    A class without a known image gets nothing.
    """
    return nearest_mean(known, HeadSpec()).logits(queries).softmax(dim=1)


def choose_k(known: Labelled, val: Float32[Tensor, "queries features"], val_labels: Int64[Tensor, " queries"]) -> int:
    """Chooses among ``NEIGHBOURS`` by accuracy on validation images; of equals the smallest."""
    choices = [k for k in NEIGHBOURS if k <= len(known.labels)]
    near = _nearest_labels(known, val, choices[-1])

    def accuracy(k: int) -> float:
        votes = F.one_hot(near[:, :k], known.num_classes).sum(dim=1)
        return float((votes.argmax(dim=1) == val_labels).float().mean())

    return max(choices, key=accuracy)


def score_neighbours(
    known: Labelled, queries: Float32[Tensor, "queries features"], labels: Int64[Tensor, " queries"], *, k: int
) -> dict[str, dict[str, Any]]:
    """Scores ``knn`` and ``nearest_mean`` on the same images: all of ``metrics.score`` but the loss.

    Shares of votes are no probabilities: where no neighbour has the true class, the loss would be infinite.
    """
    scores = {"knn": vote_shares(known, queries, k=k), "nearest_mean": mean_shares(known, queries)}
    return {name: _without_loss(score(labels, by_class)) for name, by_class in scores.items()}


def _nearest_labels(
    known: Labelled, queries: Float32[Tensor, "queries features"], k: int
) -> Int64[Tensor, "queries k"]:
    """Returns the labels of the ``k`` nearest, the nearest first."""
    draw = draw_of(known)
    return by_rows(queries, lambda part: known.labels[draw.cosines(part).topk(k, dim=1).indices])


def _without_loss(metrics: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in metrics.items() if name != "loss"}
