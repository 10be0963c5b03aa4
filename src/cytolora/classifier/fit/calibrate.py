"""Calibration stage of `fit`: decision rules chosen on held-out images that decided nothing before."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cytolora.classifier.decision import conformal, ood, operating_point, transduction
from cytolora.classifier.decision.rules import Conformal, DecisionRules, OperatingPoint, OutOfDistribution
from cytolora.classifier.fit.config import FitOptions
from cytolora.classifier.fit.held_out import unit_names
from cytolora.classifier.fit.prepare import Prepared
from cytolora.classifier.fit.train import Trained
from cytolora.config.run import method_kind
from cytolora.data.manifest import Sample
from cytolora.metrics.calibration import probabilities

_OF_ABSENT_CLASS = 64
"""Images of a class that the bank lacks, at most."""


@dataclass(frozen=True, kw_only=True)
class Calibrated:
    """Decision rules, and the features that one of them compares with."""

    rules: DecisionRules
    too_few_groups: operating_point.TooFewGroups | None
    """In place of the operating point that was asked for, where no threshold can promise its sensitivity."""
    bank: ood.Features
    """Of training images, of length one."""
    anchors: transduction.Anchors | None
    """Of transductive prediction; None where a class has no training image."""


def calibrate(prepared: Prepared, trained: Trained, options: FitOptions) -> Calibrated:
    """Chooses operating point, prediction sets and out-of-distribution threshold."""
    logits, features = trained.outputs(trained.calibration)
    by_image = probabilities(logits, trained.temperature)
    rule, bank = _out_of_distribution(prepared, trained, features)
    point = _operating_point(prepared, trained, options, by_image)
    rules = DecisionRules(
        classes=prepared.session.manifest.classes,
        temperature=trained.temperature,
        operating_point=point if isinstance(point, OperatingPoint) else None,
        conformal=_conformal(prepared, trained, options.coverage, by_image),
        out_of_distribution=rule,
    )
    too_few_groups = point if isinstance(point, operating_point.TooFewGroups) else None
    anchors = _anchors(prepared, trained, bank, logits, features)
    return Calibrated(rules=rules, too_few_groups=too_few_groups, bank=bank, anchors=anchors)


def _operating_point(
    prepared: Prepared, trained: Trained, options: FitOptions, by_image: NDArray[np.float64]
) -> OperatingPoint | operating_point.TooFewGroups | None:
    if not options.positive:
        return None
    samples = trained.calibration
    return operating_point.choose(
        by_image,
        prepared.session.labels_of(samples).numpy(),
        classes=prepared.session.manifest.classes,
        positive=options.positive,
        asked=options.sensitivity,
        is_lower_allowed=options.lower_sensitivity,
        paths=[sample.path for sample in samples],
        groups=[sample.group for sample in samples],
    )


def _conformal(prepared: Prepared, trained: Trained, coverage: float, by_image: NDArray[np.float64]) -> Conformal:
    """Calibrates on held-out groups; where these are too few, on cross-validation's predictions with them."""
    samples, is_folded = trained.calibration, False
    if trained.folded is not None and len(set(unit_names(samples))) < conformal.needed_groups(coverage):
        logits, trained_on = trained.folded
        by_image = np.concatenate([by_image, probabilities(logits, trained.temperature)])
        samples, is_folded = (*samples, *trained_on), True
    labels = prepared.session.labels_of(samples).numpy()
    return replace(conformal.calibrate(by_image, labels, unit_names(samples), coverage), is_folded=is_folded)


def _out_of_distribution(
    prepared: Prepared, trained: Trained, features: ood.Features
) -> tuple[OutOfDistribution, ood.Features]:
    bank = ood.unit(trained.outputs(_of_bank(prepared))[1])
    distances = ood.distances(features, bank, ood.NEIGHBOURS)
    rule = OutOfDistribution(neighbours=ood.NEIGHBOURS, threshold=ood.threshold_of(distances), quantile=ood.QUANTILE)
    return rule, bank


def _of_bank(prepared: Prepared) -> list[Sample]:
    """Returns the training images whose features are kept."""
    train = prepared.split.train
    return [train[row] for row in ood.bank_rows([one.sha256 for one in train])]


def _anchors(
    prepared: Prepared,
    trained: Trained,
    bank: ood.Features,
    logits: NDArray[np.float32],
    features: NDArray[np.float32],
) -> transduction.Anchors | None:
    """Makes the anchors from the bank, and from as many calibration images; with some of each class that it lacks."""
    session, train, held_out = prepared.session, prepared.split.train, trained.calibration
    of_train, of_held_out = (session.labels_of(part).numpy() for part in (train, held_out))
    kept, rows = (ood.bank_rows([one.sha256 for one in part]) for part in (train, held_out))
    more = _of_absent_classes(of_train, kept)
    if more:
        bank = np.concatenate([bank, ood.unit(trained.outputs([train[row] for row in more])[1])])
    rows += _of_absent_classes(of_held_out, rows)
    return transduction.make_anchors(
        bank,
        of_train[[*kept, *more]],
        len(session.manifest.classes),
        embeddings=_class_texts(prepared, trained),
        held_out_features=features[rows],
        held_out_logits=logits[rows],
        held_out_labels=of_held_out[rows],
        held_out_groups=unit_names([held_out[row] for row in rows]),
    )


def _class_texts(prepared: Prepared, trained: Trained) -> NDArray[np.float32] | None:
    """Returns the text embeddings of the classes, of any length, where they are the head; None of other methods."""
    is_text = method_kind(prepared.config.method) == "prompt"
    return trained.state["head.weight"].numpy() if is_text else None


def _of_absent_classes(labels: NDArray[np.int64], kept: list[int]) -> list[int]:
    """Returns some images of every class that has none among those kept: a rare one among many thousands."""
    absent = np.setdiff1d(labels, labels[kept])
    return [int(row) for label in absent for row in np.flatnonzero(labels == label)[:_OF_ABSENT_CLASS]]
