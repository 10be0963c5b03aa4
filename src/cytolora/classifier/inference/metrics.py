"""Metrics of a classifier on labelled images: scores, intervals, calibration, prediction sets, referral."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytolora.classifier.decision import conformal
from cytolora.classifier.decision.decide import Prediction
from cytolora.classifier.decision.operating_point import share, share_over_groups, summed
from cytolora.classifier.decision.referral import referral_curve
from cytolora.classifier.decision.rules import DecisionRules
from cytolora.metrics.agreement import confusion
from cytolora.metrics.calibration import expected_calibration_error, reliability
from cytolora.metrics.intervals import joint_warnings, metric_intervals
from cytolora.metrics.scores import score
from cytolora.metrics.units import unit_names


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """Predictions with their true labels; none of them has an error."""

    predictions: Sequence[Prediction]
    labels: NDArray[np.int64]
    """Class indices of the bundle."""
    paths: Sequence[str]
    groups: Sequence[str | None]

    @property
    def shares(self) -> NDArray[np.float64]:
        """Probabilities, images x classes."""
        return np.array([prediction.probabilities for prediction in self.predictions], dtype=np.float64)

    @property
    def predicted(self) -> list[str]:
        """Class of each image."""
        return [prediction.predicted or "" for prediction in self.predictions]


def assess(rules: DecisionRules, found: Labelled) -> dict[str, Any]:
    """Returns plain data for JSON: metrics with 95 % intervals over groups, and how thresholds perform."""
    shares, labels = found.shares, found.labels
    predicted, bins = shares.argmax(axis=1), reliability(labels, shares)
    intervals = metric_intervals(
        labels, predicted, images=found.paths, groups=found.groups, num_classes=len(rules.classes)
    )
    return {
        **score(labels, shares),
        "num_groups": len(set(found.groups) - {None}),
        "intervals": {
            name: {
                **{"low": one.low, "high": one.high, "level": one.level, "kind": one.kind},
                **{"unit": one.unit, "num_units": one.num_units, "n": one.num_images, "n_eff": one.n_eff},
                "num_wrong": one.num_wrong,
            }
            for name, one in intervals.items()
        },
        "warnings": [text for _, text in joint_warnings(intervals.values())],
        "classes": _per_class(rules.classes, labels, predicted, found),
        "confusion": confusion(labels, predicted, len(rules.classes)).tolist(),
        "calibration_error": expected_calibration_error(bins),
        "reliability": [
            {"confidence": entry.confidence, "accuracy": entry.accuracy, "n": entry.num_images}
            for entry in bins
            if entry.num_images
        ],
        "prediction_sets": _sets(rules, shares, labels, found),
        "referral": _referral(shares, labels, found),
        "operating_point": _operating(rules, shares, labels, found),
        "unfamiliar": float(np.mean([bool(one.is_out_of_distribution) for one in found.predictions])),
    }


def _per_class(
    classes: Sequence[str], labels: NDArray[np.int64], predicted: NDArray[np.int64], found: Labelled
) -> list[dict[str, Any]]:
    table: list[dict[str, Any]] = []
    for index, label in enumerate(classes):
        is_one, said = labels == index, predicted == index
        table.append({"label": label, "n": int(is_one.sum()), **_two_by_two(is_one, said, found)})
    return table


def _two_by_two(is_one: NDArray[np.bool_], said: NDArray[np.bool_], found: Labelled) -> dict[str, Any]:
    return {
        "sensitivity": _share(said, is_one, found),
        "specificity": _share(~said, ~is_one, found),
        "positive_predictive_value": _share(is_one, said, found),
        "negative_predictive_value": _share(~is_one, ~said, found),
    }


def _share(hits: NDArray[np.bool_], among: NDArray[np.bool_], found: Labelled) -> dict[str, Any] | None:
    """The share of hits among some images, with its interval; None where there are none."""
    rows = np.flatnonzero(among).tolist()
    if not rows:
        return None
    one = share(hits[rows], [found.paths[row] for row in rows], [found.groups[row] for row in rows])
    return {"value": one.value, "low": one.low, "high": one.high, "kind": one.kind, "n_eff": one.n_eff}


def _sets(
    rules: DecisionRules, shares: NDArray[np.float64], labels: NDArray[np.int64], found: Labelled
) -> dict[str, Any] | None:
    if rules.conformal is None:
        return None
    hits, sizes = conformal.contains(shares, labels, rules.conformal), conformal.sizes(shares, rules.conformal)
    names = np.array(unit_names(found.groups, found.paths))
    by_group = [hits[names == name].mean() for name in np.unique(names)]
    return {
        "nominal": rules.conformal.coverage,
        "coverage": _share(hits, np.ones(len(hits), dtype=bool), found),
        "coverage_over_groups": float(np.mean(by_group)),
        "mean_size": float(sizes.mean()),
        "share_of_one": float((sizes == 1).mean()),
        "share_empty": float((sizes == 0).mean()),
    }


def _referral(shares: NDArray[np.float64], labels: NDArray[np.int64], found: Labelled) -> dict[str, Any]:
    """Referral curve, and the error rate with the classifier's own referral flag."""
    referred = np.array([bool(one.is_referred) for one in found.predictions])
    wrong = shares.argmax(axis=1) != labels
    rest = wrong[~referred]
    return {
        "share": float(referred.mean()),
        "interval": _share(referred, np.ones(len(referred), dtype=bool), found),
        "error_of_rest": float(rest.mean()) if len(rest) else None,
        "error_of_all": float(wrong.mean()),
        "curve": referral_curve(shares, labels),
    }


def _operating(
    rules: DecisionRules, shares: NDArray[np.float64], labels: NDArray[np.int64], found: Labelled
) -> dict[str, Any] | None:
    point = rules.operating_point
    if point is None:
        return None
    said = summed(shares, rules.classes, point.positive) >= point.threshold
    is_positive = np.isin(labels, [rules.classes.index(label) for label in point.positive])
    return {
        "positive": list(point.positive),
        "threshold": point.threshold,
        "n": int(is_positive.sum()),
        **_two_by_two(is_positive, said, found),
        "sensitivity_over_groups": _over_groups(said, is_positive, found),
    }


def _over_groups(hits: NDArray[np.bool_], among: NDArray[np.bool_], found: Labelled) -> dict[str, Any] | None:
    """The mean over groups of the share of hits among some images; None where there are none."""
    rows = np.flatnonzero(among).tolist()
    if not rows:
        return None
    one = share_over_groups(
        hits[rows], unit_names([found.groups[row] for row in rows], [found.paths[row] for row in rows])
    )
    return {"value": one.value, "low": one.low, "high": one.high, "num_groups": one.num_groups}
