"""Assessment stage of `fit`: metrics on the test images, which decided nothing."""

from collections.abc import Mapping
from typing import Any

from cytolora.classifier.decision.conformal import needed_groups
from cytolora.classifier.decision.decide import decide
from cytolora.classifier.decision.rules import DecisionRules
from cytolora.classifier.fit.baselines import not_beaten, untrained
from cytolora.classifier.fit.calibrate import Calibrated
from cytolora.classifier.fit.prepare import Prepared
from cytolora.classifier.fit.train import Trained
from cytolora.classifier.inference.metrics import Labelled
from cytolora.classifier.inference.metrics import assess as metrics_of

_FEW = 5
"""Test images of a class, below which its metrics say little."""

Metrics = Mapping[str, Any]
"""``test``; beside a head also ``neighbours``, of classifiers that need no training."""


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
    test = metrics_of(calibrated.rules, labelled)
    if prepared.config.adapter is not None:
        return {"test": test}
    return {"test": test, "neighbours": untrained(prepared.session, prepared.split)}


def cautions(rules: DecisionRules, metrics: Metrics) -> list[str]:
    """Returns the reasons against trusting the classifier that its own numbers give."""
    test, texts = metrics["test"], _of_prediction_sets(rules)
    small = [row["label"] for row in test["classes"] if row["n"] < _FEW]
    if small:
        texts.append(f"Fewer than {_FEW} test images of {', '.join(small)}: their numbers say little.")
    if "neighbours" in metrics:
        texts += not_beaten(metrics["neighbours"], test["balanced_accuracy"])
    return [*texts, *test["warnings"]]


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
