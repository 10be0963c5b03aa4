"""Training stage of `fit`: a head on frozen features, or an adapter with its head."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from cytolora.classifier.decision.conformal import needed_groups
from cytolora.classifier.fit.adapter import fit_adapter, outputs
from cytolora.classifier.fit.config import FitConfig, as_lora, estimate_seconds
from cytolora.classifier.fit.ensemble import EnsembleHead, FittedMember, fit_frozen
from cytolora.classifier.fit.held_out import RateScores, halves
from cytolora.classifier.fit.prepare import Prepared
from cytolora.data.manifest import Sample
from cytolora.display.format import about
from cytolora.metrics.calibration import fit_temperature
from cytolora.training.features import seconds_per_image

Outputs = Callable[[Sequence[Sample]], tuple[NDArray[np.float32], NDArray[np.float32]]]
"""Logits [images, classes] and features [images, feature_dim] of some images."""


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A trained classifier without its decision rules, and the held-out images that decided nothing yet."""

    state: dict[str, torch.Tensor]
    learning_rate: float
    tried: tuple[RateScores, ...]
    num_steps: int
    num_trainable: int
    temperature: float
    """Fitted on the images that the learning rate was chosen on."""
    chosen_on: str
    """Description of these images."""
    calibration: tuple[Sample, ...]
    """The part of val that decided nothing yet."""
    outputs: Outputs
    """Logits [images, classes] and features [images, feature_dim] of any images of the dataset."""
    folded: tuple[NDArray[np.float32], tuple[Sample, ...]] | None = None
    """Logits of the training images by cross-validation; None where there was none."""
    members: tuple[FittedMember, ...] = ()
    """Of an ensemble."""
    notes: tuple[str, ...] = ()


def train(prepared: Prepared, coverage: float) -> Trained:
    """Trains as the configuration says.

    Args:
        coverage: Nominal, of the prediction sets: decides how many groups calibration takes.
    """
    _announce_duration(prepared)
    stage = _train_linear if prepared.config.adapter is None else _train_adapter
    return stage(prepared, needed_groups(coverage))


def _train_linear(prepared: Prepared, needed: int) -> Trained:
    session, config = prepared.session, prepared.config
    session.progress.begin("features", len(session.manifest.samples), "images")
    for _ in session.feature_chunks(session.progress.done):
        pass  # cached now, and read back at once
    num_heads = sum(len(one.protocol.learning_rates) for one in config.members or (config,))
    session.progress.begin(f"{num_heads} {config.method} heads", 0, "heads")
    selected = fit_frozen(session, prepared.split, config, needed_groups=needed)
    head = selected.head

    def of(samples: Sequence[Sample]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        features = session.features_of(samples)
        return head.logits(features), features.numpy()

    return Trained(
        state=head.state,
        learning_rate=head.learning_rate,
        tried=head.tried,
        num_steps=head.num_steps,
        num_trainable=head.num_trainable,
        temperature=head.temperature,
        chosen_on=head.chosen_on,
        calibration=selected.calibration,
        outputs=of,
        folded=selected.folded,
        members=head.members if isinstance(head, EnsembleHead) else (),
        notes=selected.notes,
    )


def _train_adapter(prepared: Prepared, needed: int) -> Trained:
    """The learning rate is chosen on one half of the held-out groups."""
    session, split = prepared.session, prepared.split
    select, calibration, notes = halves(split.val, session.manifest.name, needed)
    adapted = fit_adapter(session, prepared.config, split, select)
    return Trained(
        state=adapted.state,
        learning_rate=adapted.learning_rate,
        tried=adapted.tried,
        num_steps=adapted.num_steps,
        num_trainable=adapted.num_trainable,
        temperature=fit_temperature(adapted.held_out, session.labels_of(select).numpy()),
        chosen_on=f"{len(select)} held-out images",
        calibration=calibration,
        outputs=_remembered(lambda samples: outputs(session, adapted.classifier, samples)),
        notes=notes,
    )


def _remembered(outputs: Outputs) -> Outputs:
    """Computes the outputs of equal images once: an adapted encoder has no cache of features."""
    kept: dict[tuple[str, ...], tuple[NDArray[np.float32], NDArray[np.float32]]] = {}

    def of(samples: Sequence[Sample]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        key = tuple(sample.path for sample in samples)
        if key not in kept:
            kept[key] = outputs(samples)
        return kept[key]

    return of


def _announce_duration(prepared: Prepared) -> None:
    """Times a few images through the encoder, unless heads are asked for and all their features are cached."""
    session, config, num_train = prepared.session, prepared.config, len(prepared.split.train)
    num_missing = session.num_missing_features()
    if config.adapter is None and not num_missing:
        return
    per_image = seconds_per_image(session.encoder, config.backbone.preprocess.size_px, session.device)

    def expected(config: FitConfig) -> str:
        num_images = num_missing if config.adapter is None else len(session.manifest.samples)
        return about(estimate_seconds(config, num_images=num_images, num_train=num_train, seconds_per_image=per_image))

    instead = f"; --method lora would take {expected(as_lora(config))}" if config.adapter is None else ""
    session.progress.say(f"{config.backbone.name}, {config.method}: {expected(config)} on this machine{instead}")
