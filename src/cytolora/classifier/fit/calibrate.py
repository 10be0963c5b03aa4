"""What a trained model learns from held-out images: operating point, prediction sets, and what is unfamiliar."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from cytolora.classifier.bundle.manifest import Conformal, Contents, Unfamiliar
from cytolora.classifier.decision import conformal
from cytolora.classifier.decision import ood as unfamiliar
from cytolora.classifier.decision import operating_point as thresholds
from cytolora.classifier.fit.recipe import FitOptions
from cytolora.classifier.fit.train import Model, units_of
from cytolora.data.manifest import Sample, Split
from cytolora.metrics.calibration import probabilities


def calibrated(
    contents: Contents, model: Model, split: Split, options: FitOptions
) -> tuple[Contents, unfamiliar.Features]:
    """Sets thresholds on images that decided nothing so far; returns the features that familiarity is measured by."""
    held_out = model.calibration
    logits, features = model.outputs(held_out)
    shares = probabilities(logits, contents.temperature)
    labels = np.array([contents.classes.index(sample.label) for sample in held_out])
    paths, groups = [sample.path for sample in held_out], [sample.group for sample in held_out]
    point = None
    if options.positive:
        point = thresholds.choose(
            shares,
            labels,
            classes=contents.classes,
            positive=options.positive,
            asked=options.sensitivity,
            paths=paths,
            groups=groups,
        )
    train = [split.train[row] for row in unfamiliar.bank_rows([sample.sha256 for sample in split.train])]
    bank = unfamiliar.unit(model.outputs(train)[1])
    far = unfamiliar.distances(features, bank, unfamiliar.NEIGHBOURS)
    sets = _sets(contents, model, options.coverage, shares, held_out)
    strange = Unfamiliar(
        neighbours=unfamiliar.NEIGHBOURS, threshold=unfamiliar.threshold_of(far), quantile=unfamiliar.QUANTILE
    )
    return replace(contents, operating_point=point, conformal=sets, unfamiliar=strange), bank


def _sets(
    contents: Contents, model: Model, coverage: float, shares: NDArray[np.float64], held_out: Sequence[Sample]
) -> Conformal:
    """Calibrates prediction sets on held-out groups; where these are too few, on the folds' predictions with them."""
    samples, is_folded = list(held_out), False
    if model.folded is not None and len(set(units_of(samples))) < conformal.needed_groups(coverage):
        logits, trained_on = model.folded
        shares = np.concatenate([shares, probabilities(logits, contents.temperature)])
        samples, is_folded = [*samples, *trained_on], True
    labels = np.array([contents.classes.index(sample.label) for sample in samples])
    found = conformal.calibrate(shares, labels, units_of(samples), coverage)
    return replace(found, is_folded=is_folded)
