"""Assessment stage of `fit`: metrics on the test images, which decided nothing."""

from collections.abc import Mapping
from typing import Any

from cytolora.classifier.decision.conformal import needed_groups
from cytolora.classifier.decision.decide import decide
from cytolora.classifier.decision.rules import DecisionRules
from cytolora.classifier.fit.baselines import not_beaten, untrained
from cytolora.classifier.fit.calibrate import Calibrated
from cytolora.classifier.fit.ensemble import compare_members
from cytolora.classifier.fit.prepare import Prepared
from cytolora.classifier.fit.readers import READERS, beside_readers
from cytolora.classifier.fit.train import Trained
from cytolora.classifier.inference.metrics import Labelled
from cytolora.classifier.inference.metrics import assess as metrics_of
from cytolora.display.format import percent, whole_percent
from cytolora.metrics.calibration import probabilities

_FEW = 5
"""Test images of a class, below which its metrics say little."""

Metrics = Mapping[str, Any]
"""``test``; beside a head also ``neighbours``, of classifiers that need no training; of an ensemble
``members``, each with its paired difference; ``too_few_groups`` where an
operating point was asked for and calibration groups cannot promise it; ``readers`` where several
readers labelled test images."""


def assess(prepared: Prepared, trained: Trained, calibrated: Calibrated) -> Metrics:
    """Measures the classifier on the test images, and beside a head the classifiers that need no training."""
    samples = prepared.split.test
    logits, features = trained.outputs(samples)
    paths = [sample.path for sample in samples]
    labelled = Labelled(
        predictions=decide(calibrated.rules, paths, logits, features, calibrated.bank),
        labels=prepared.session.labels_of(samples).numpy(),
        paths=paths,
        groups=[sample.group for sample in samples],
    )
    metrics: dict[str, Any] = {"test": metrics_of(calibrated.rules, labelled)}
    if prepared.config.adapter is None:
        metrics["neighbours"] = untrained(prepared.session, prepared.split)
    if trained.members:
        by_image = probabilities(logits, trained.temperature)
        metrics["members"] = compare_members(prepared.session, trained.members, samples, by_image)
    if calibrated.too_few_groups is not None:
        metrics["too_few_groups"] = calibrated.too_few_groups.plain()
    if (readings := prepared.cells.readings) is not None:
        metrics[READERS] = beside_readers(readings, paths, labelled.predicted)
    return metrics


def cautions(rules: DecisionRules, metrics: Metrics) -> list[str]:
    """Returns the reasons against trusting the classifier that its own numbers give."""
    test, texts = metrics["test"], [*_of_operating_point(rules, metrics), *_of_prediction_sets(rules)]
    small = [row["label"] for row in test["classes"] if row["n"] < _FEW]
    if small:
        texts.append(f"Fewer than {_FEW} test images of {', '.join(small)}: their numbers say little.")
    if "neighbours" in metrics:
        texts += not_beaten(metrics["neighbours"], test["balanced_accuracy"])
    return [*texts, *test["warnings"]]


def _of_operating_point(rules: DecisionRules, metrics: Metrics) -> list[str]:
    if "too_few_groups" in metrics:
        return [metrics["too_few_groups"]["text"]]
    point = rules.operating_point
    if point is None or point.promised is None or point.promised >= point.asked:
        return []
    return [
        f"The operating point promises a sensitivity of {percent(point.promised)} % for new groups, not the "
        f"{whole_percent(point.asked)} asked for: only {point.num_groups} calibration groups hold "
        f"{', '.join(point.positive)}."
    ]


def _of_prediction_sets(rules: DecisionRules) -> list[str]:
    sets = rules.conformal
    assert sets is not None
    needed = needed_groups(sets.coverage)
    also = ", even with those of training, predicted by cross-validation" if sets.is_folded else ""
    if sets.num_groups < needed:
        return [
            f"Prediction sets hold every class: {sets.coverage:.0%} coverage takes at least {needed} calibration "
            f"groups, there are {sets.num_groups}{also}. Every image is referred until there are more."
        ]
    if sets.is_folded:
        return [
            f"Held-out groups were fewer than the {needed} that prediction sets take, so those of training were added, "
            "predicted by cross-validation: the coverage is then not guaranteed; the page says what was measured."
        ]
    return []
