"""Marks of a fit: findings about its numbers that travel with them, on page, card and in ``bundle.json``."""

from collections.abc import Iterator, Mapping, Sequence
from math import log
from typing import Any

import numpy as np

from cytolora.classifier.fit.config import FitConfig
from cytolora.classifier.fit.linear import Head
from cytolora.classifier.fit.prepare import Prepared
from cytolora.classifier.fit.train import Trained
from cytolora.core.findings import Finding, finding
from cytolora.data.quality.confounded import classes_that_are_their_source
from cytolora.display import format as words
from cytolora.metrics.intervals import FEW_UNITS, Interval, joint_warnings

_NUM_LOOKED_AT = 64
"""Training images of an adapter whose loss is looked at: a pass through the encoder each."""


def marks(prepared: Prepared, trained: Trained, test: Mapping[str, Any]) -> list[Finding]:
    """Returns what a reader must know before the numbers are compared.

    Args:
        test: Metrics on the test images.
    """
    return [
        *_precision(prepared),
        *_training(trained, prepared.config),
        *(
            mark
            for one, config in zip(trained.members, prepared.config.members, strict=True)
            for mark in _training(one.head, config)
        ),
        *_loss(prepared, trained),
        *_one_class(test["confusion"]),
        *classes_that_are_their_source(prepared.cells.manifest.samples, prepared.cells.manifest.classes),
        *_intervals(test["intervals"]),
    ]


def _precision(prepared: Prepared) -> Iterator[Finding]:
    if prepared.config.precision == "int8":
        text = "Features were computed in int8, those of the test images too; the classifier predicts in int8."
        yield finding("N816", text)


def _training(trained: Trained | Head, config: FitConfig) -> Iterator[Finding]:
    warmup_steps = config.protocol.train.warmup_steps
    if 0 < trained.num_steps <= warmup_steps:
        steps = words.count(trained.num_steps, "step")
        yield finding("N804", f"Training ends after {steps}, within its warm-up of {warmup_steps}: no result.")
    rates = sorted(scores.rate for scores in trained.tried)
    if trained.num_steps and len(rates) > 1 and trained.learning_rate in (rates[0], rates[-1]):
        side = "lowest" if trained.learning_rate == rates[0] else "highest"
        text = f"The chosen learning rate, {trained.learning_rate:g}, is the {side} of the {len(rates)} tried"
        yield finding("N808", f"{text}: a wider grid may do better.")


def _loss(prepared: Prepared, trained: Trained) -> Iterator[Finding]:
    """Whether the loss of training images is no lower than that of guessing all classes alike."""
    if not trained.num_steps:
        return
    from scipy.special import logsumexp  # a quarter of a second, after the training it looks at

    samples = prepared.split.train
    if prepared.config.adapter is not None:  # of heads features are at hand
        samples = samples[:: -(-len(samples) // _NUM_LOOKED_AT)]
    logits = trained.outputs(samples)[0].astype(np.float64)
    labels = prepared.session.labels_of(samples).numpy()
    losses = np.asarray(logsumexp(logits, axis=1)) - logits[np.arange(len(labels)), labels]
    loss, guess = float(losses.mean()), log(logits.shape[1])
    if not loss < guess:
        text = f"The loss of training images ended at {loss:.3f} nats; guessing all classes alike has {guess:.3f}."
        yield finding("N806", text, count=len(samples))


def _one_class(confusion: Sequence[Sequence[int]]) -> Iterator[Finding]:
    table = np.asarray(confusion)
    if (table.sum(axis=1) > 0).sum() > 1 and (table.sum(axis=0) > 0).sum() == 1:
        yield finding("N805", "One class is named for every test image.")


def _intervals(limits: Mapping[str, Mapping[str, Any]]) -> Iterator[Finding]:
    """Too few units for any of the intervals, and what else accuracy's warns of."""
    names = ("low", "high", "level", "kind", "unit", "num_units", "num_wrong")
    intervals = {key: Interval(**{name: one[name] for name in names}) for key, one in limits.items()}
    for tag, text in joint_warnings(intervals.values()):
        if tag in FEW_UNITS:
            yield finding("N811", text)
        elif text in intervals["accuracy"].warnings.values():
            yield finding("N812", text)
