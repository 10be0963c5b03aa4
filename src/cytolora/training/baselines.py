"""Nearest-neighbour and nearest-class-mean baselines on frozen features, which need no training."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float32, Int64
from torch import Tensor

from cytolora.metrics.scores import score

NEIGHBOURS = (1, 3, 5, 10, 20)
"""Numbers of neighbours to choose from."""
_ROWS = 1024
"""Images compared with the training set at a time."""


@dataclass(frozen=True, kw_only=True)
class Known:
    """Labelled features that others are compared with."""

    features: Float32[Tensor, "images features"]
    labels: Int64[Tensor, " images"]
    """Class indices."""
    num_classes: int


def vote_shares(
    known: Known, queries: Float32[Tensor, "queries features"], *, k: int
) -> Float32[Tensor, "queries classes"]:
    """Returns the share of each class among the ``k`` nearest known images by cosine.

    Every neighbour has one vote, as in scikit-learn's ``KNeighborsClassifier(metric="cosine")``.
    """
    return F.one_hot(_nearest_labels(known, queries, k), known.num_classes).float().mean(dim=1)


def mean_shares(known: Known, queries: Float32[Tensor, "queries features"]) -> Float32[Tensor, "queries classes"]:
    """Returns the softmax of minus half the squared distance to each class's mean.

    Features are scaled to length 1 before means are taken (Wang et al. 2019, arXiv:1911.04623). A class without a
    known image gets nothing.
    """
    members = F.one_hot(known.labels, known.num_classes).float()
    means = (members.T @ F.normalize(known.features, dim=1)) / members.sum(dim=0).clamp(min=1).unsqueeze(1)
    closeness = F.normalize(queries, dim=1) @ means.T - means.square().sum(dim=1) / 2
    return closeness.masked_fill(members.sum(dim=0) == 0, -torch.inf).softmax(dim=1)


def choose_k(known: Known, val: Float32[Tensor, "queries features"], val_labels: Int64[Tensor, " queries"]) -> int:
    """Chooses among ``NEIGHBOURS`` by accuracy on validation images; of equals the smallest."""
    choices = [k for k in NEIGHBOURS if k <= len(known.labels)]
    near = _nearest_labels(known, val, choices[-1])

    def accuracy(k: int) -> float:
        votes = F.one_hot(near[:, :k], known.num_classes).sum(dim=1)
        return float((votes.argmax(dim=1) == val_labels).float().mean())

    return max(choices, key=accuracy)


def score_neighbours(
    known: Known, queries: Float32[Tensor, "queries features"], labels: Int64[Tensor, " queries"], *, k: int
) -> dict[str, dict[str, Any]]:
    """Scores ``knn`` and ``nearest_mean`` on the same images: all of ``metrics.score`` but the loss.

    Shares of votes are no probabilities: where no neighbour has the true class, the loss would be infinite.
    """
    scores = {"knn": vote_shares(known, queries, k=k), "nearest_mean": mean_shares(known, queries)}
    return {name: _without_loss(score(labels, by_class)) for name, by_class in scores.items()}


def _nearest_labels(known: Known, queries: Float32[Tensor, "queries features"], k: int) -> Int64[Tensor, "queries k"]:
    """Returns the labels of the ``k`` nearest, the nearest first."""
    near = F.normalize(known.features, dim=1)
    rows = F.normalize(queries, dim=1).split(_ROWS)
    return torch.cat([known.labels[(part @ near.T).topk(k, dim=1).indices] for part in rows])


def _without_loss(metrics: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in metrics.items() if name != "loss"}
