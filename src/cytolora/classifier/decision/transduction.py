"""Transductive decision: all cells of a slide classified together, or the head's answer where that is not safe.

The held-out cells of ``fit`` join the slide without their labels. Prediction sets are then calibrated on them class by
class (Mondrian conformal prediction: Vovk, Gammerman & Shafer 2005, Sec. 4.5): cells of one class, of the slide and
held out, had the same part in the mixture, so that the sets' coverage of each class is at least nominal whatever the
shares of the classes on the slide.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64
from numpy.typing import NDArray
from safetensors.numpy import load, save

from cytolora.classifier.decision.conformal import calibrate
from cytolora.metrics.calibration import probabilities as softened
from cytolora.training.transduction.discriminants import Discriminants, discriminants, text_discriminants
from cytolora.training.transduction.mixture import transduce
from cytolora.training.transduction.presence import false_rate_limits, shown_present

_CONFIDENCE = 0.9
"""Probability that the held-out groups are such that each class's sets keep their coverage."""
LEAST_CELLS = 2
"""Of a slide: one cell has no other to be compared with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """Cells of `fit` that decided nothing before its thresholds."""

    points: Float64[np.ndarray, "cells dimensions"]
    """In the discriminant space."""
    logits: Float[np.ndarray, "cells classes"]
    labels: NDArray[np.int64]
    groups: NDArray[np.int64]
    """Number of the patient, slide or field of each; a cell whose group is not known has one of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchors:
    """All that transductive prediction takes from `fit`."""

    space: Discriminants
    held_out: HeldOut


@dataclass(frozen=True, slots=True, kw_only=True)
class SlideAnswer:
    """The cells of one slide."""

    probabilities: Float64[np.ndarray, "cells classes"]
    is_transductive: bool
    """False: the head's probabilities, for ``reason``."""
    sets: NDArray[np.bool_] | None
    """By cell, whether each class is in its prediction set; None where the sets are withheld."""
    reason: str = ""


def make_anchors(
    features: NDArray[np.float32],
    labels: NDArray[np.int64],
    num_classes: int,
    *,
    embeddings: NDArray[np.float32] | None = None,
    held_out_features: NDArray[np.float32],
    held_out_logits: NDArray[np.float32],
    held_out_labels: NDArray[np.int64],
    held_out_groups: Sequence[str],
) -> Anchors | None:
    """Makes the anchors from training features and held-out cells.

    Args:
        embeddings: Of the classes, by text, which are then the anchors.

    Returns:
        None where a class has neither text nor training feature.
    """
    if embeddings is not None:
        space = text_discriminants(features, labels, embeddings)
    elif len(np.unique(labels)) == num_classes:
        space = discriminants(features, labels, num_classes)
    else:
        return None
    held_out = HeldOut(
        points=space.project(held_out_features),
        logits=held_out_logits,
        labels=held_out_labels,
        groups=np.unique(np.asarray(held_out_groups), return_inverse=True)[1].astype(np.int64),
    )
    return Anchors(space=space, held_out=held_out)


def answer(
    anchors: Anchors,
    points: Float64[np.ndarray, "cells dimensions"],
    logits: Float[np.ndarray, "cells classes"],
    *,
    temperature: float,
    coverage: float | None,
    classes: Sequence[str],
) -> SlideAnswer:
    """Classifies the cells of one slide.

    Args:
        points: ``anchors.space.project(features)``.
        coverage: Nominal, of each class's prediction sets; None: no sets.
    """
    held_out = anchors.held_out
    plain, known = softened(logits, temperature), softened(held_out.logits, temperature)
    groups, num_classes = [str(group) for group in held_out.groups], len(classes)
    limits = false_rate_limits(held_out.labels, known.argmax(axis=1), groups, num_classes)
    is_shown = shown_present(plain.argmax(axis=1), limits)
    reason = _abstention(is_shown, len(points), classes)
    if reason:
        found = plain
    else:
        together, priors = np.concatenate([points, held_out.points]), np.concatenate([plain, known])
        both = transduce(together, priors, anchors.space.means, may_move=is_shown)
        found, known = both[: len(points)], both[len(points) :]
    sets = None if coverage is None else class_conditional_sets(found, known, held_out.labels, groups, coverage)
    return SlideAnswer(probabilities=found, is_transductive=not reason, sets=sets, reason=reason)


def _abstention(is_shown: NDArray[np.bool_], num_cells: int, classes: Sequence[str]) -> str:
    """Says why a slide keeps the head's answer; empty if it need not."""
    if num_cells < LEAST_CELLS:
        return "it has one cell"
    shown = [label for label, is_there in zip(classes, is_shown, strict=True) if is_there]
    if len(shown) >= 2:
        return ""
    return f"no class but {shown[0]} is shown to be present" if shown else "no class is shown to be present"


def class_conditional_sets(
    found: Float64[np.ndarray, "cells classes"],
    known: Float64[np.ndarray, "held_out classes"],
    labels: NDArray[np.int64],
    groups: Sequence[str],
    coverage: float,
) -> NDArray[np.bool_] | None:
    """Returns prediction sets with the nominal coverage for the cells of every class, by cell and class.

    Args:
        known: Of the held-out cells, made in the same way as ``found``.

    Returns:
        None where a class has fewer held-out groups than its sets take: they would hold every class.
    """
    quantiles = []
    for label in range(found.shape[1]):
        rows = np.flatnonzero(labels == label)
        of_class = [groups[row] for row in rows.tolist()]
        level = _level(coverage, len(set(of_class)))
        if level is None:
            return None
        quantiles.append(calibrate(known[rows], labels[rows], of_class, level).quantile)
    return 1 - found <= np.array(quantiles)


def _level(coverage: float, num_groups: int) -> float | None:
    """Returns the share of held-out groups to cover, so that new ones are with ``_CONFIDENCE`` over their draw.

    With k of n held-out scores at or below the threshold, the coverage of new ones is a draw from Beta(k, n + 1 - k)
    (Vovk 2012, arXiv:1209.2673). None where even all of them are too few.
    """
    from scipy.special import betaincinv

    covered = np.arange(1, num_groups + 1)
    is_enough = betaincinv(covered, num_groups + 1 - covered, 1 - _CONFIDENCE) >= coverage
    return float(covered[is_enough.argmax()] / (num_groups + 1)) if is_enough.any() else None


def to_bytes(anchors: Anchors) -> bytes:
    """Serialises anchors."""
    space, held_out = anchors.space, anchors.held_out
    arrays = {
        "centre": space.centre,
        "axes": space.axes,
        "means": space.means,
        "held_out.points": held_out.points,
        "held_out.logits": held_out.logits.astype(np.float32),
        "held_out.labels": held_out.labels,
        "held_out.groups": held_out.groups,
    }
    return save({name: np.ascontiguousarray(array) for name, array in arrays.items()})


def from_bytes(content: bytes) -> Anchors:
    """Reads what ``to_bytes`` wrote."""
    arrays = load(content)
    space = Discriminants(centre=arrays["centre"], axes=arrays["axes"], means=arrays["means"])
    fields = ("points", "logits", "labels", "groups")
    return Anchors(space=space, held_out=HeldOut(**{name: arrays[f"held_out.{name}"] for name in fields}))
