"""Baselines that need no training, nearest neighbours and nearest class mean, beside a linear head."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from cytolora.data.manifest import Sample, Split
from cytolora.display.format import percent
from cytolora.training.heads.labelled import Labelled
from cytolora.training.heads.neighbours import choose_k, score_neighbours
from cytolora.training.session import Session

TITLES = {"knn": "a vote of the nearest neighbours", "nearest_mean": "the nearest class mean"}


def untrained(session: Session, split: Split) -> dict[str, Any]:
    """Scores nearest neighbours and the nearest class mean, as stored runs have them under ``neighbours``.

    The number of neighbours is chosen on the held-out images, which is no loss to what is calibrated on these: the head
    knows nothing of it.
    """

    def of(samples: Sequence[Sample]) -> tuple[Tensor, Tensor]:
        return session.features_of(samples), session.labels_of(samples)

    features, labels = of(split.train)
    known = Labelled(features=features, labels=labels, num_classes=len(session.manifest.classes))
    k = choose_k(known, *of(split.val))
    val, test = (score_neighbours(known, *of(samples), k=k) for samples in (split.val, split.test))
    scores = {name: {"val": val[name], "test": test[name]} for name in TITLES}
    return {**scores, "knn": {"k": k, **scores["knn"]}}


def not_beaten(scores: dict[str, Any], balanced_accuracy: float) -> list[str]:
    """Names the baseline that the head falls short of on the test images, the better one where it is both."""
    reached = {name: scores[name]["test"]["balanced_accuracy"] for name in TITLES}
    best = max(reached, key=lambda name: reached[name])
    if reached[best] <= balanced_accuracy:
        return []
    return [
        f"Without any training, {TITLES[best]} reaches a balanced accuracy of {percent(reached[best])} % on the test "
        f"images, and the head {percent(balanced_accuracy)} %: too few images, or learning rates that do not fit."
    ]
