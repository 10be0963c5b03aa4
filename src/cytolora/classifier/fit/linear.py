"""Head on frozen features: linear, its learning rate chosen by cross-validation over groups, or fitted without one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cytolora.classifier.fit.held_out import RateScores, best_rate, halves, unit_names
from cytolora.config.run import HeadSpec
from cytolora.data.manifest import Sample, Split
from cytolora.metrics.calibration import fit_temperature
from cytolora.models.encoder_with_head import head_state
from cytolora.training.heads.affine import scaled
from cytolora.training.heads.fitted import HEADS, head_of
from cytolora.training.heads.folds import complete_folds
from cytolora.training.heads.labelled import Labelled
from cytolora.training.heads.linear import fit_heads
from cytolora.training.protocol import Protocol
from cytolora.training.session import Session

Logits = NDArray[np.float32]
"""[images, classes]"""


@dataclass(frozen=True, kw_only=True)
class Head:
    """A trained head, and how its learning rate was chosen."""

    state: dict[str, Tensor]
    learning_rate: float
    tried: tuple[RateScores, ...]
    num_steps: int
    held_out: Logits
    """Of the images in ``held_out_labels``, by heads that had not seen them; the temperature is fitted on them."""
    held_out_labels: NDArray[np.int64]
    chosen_on: str
    """Description of these images."""
    scales_features: bool = False
    """Whether it maps features scaled to length 1."""
    num_trained: int | None = None
    """Numbers that were trained; None: all of its own."""

    @property
    def num_trainable(self) -> int:
        """Numbers that were trained."""
        return self.num_trained or sum(tensor.numel() for tensor in self.state.values())

    @property
    def temperature(self) -> float:
        """Fitted on the images that the learning rate was chosen on."""
        return fit_temperature(self.held_out, self.held_out_labels)

    def logits(self, features: Tensor) -> Logits:
        """Applies the head to features [images, feature_dim]."""
        return _apply(
            scaled(features) if self.scales_features else features, self.state["head.weight"], self.state["head.bias"]
        )


SomeHead = TypeVar("SomeHead")


@dataclass(frozen=True, kw_only=True)
class Selected(Generic[SomeHead]):
    """A head beside the held-out images that decided nothing yet."""

    head: SomeHead
    calibration: tuple[Sample, ...]
    folded: tuple[Logits, tuple[Sample, ...]] | None = None
    """Logits of the training images by cross-validation; None where there was none."""
    notes: tuple[str, ...] = ()


def fit_linear(session: Session, split: Split, protocol: Protocol, *, seed: int, needed_groups: int) -> Selected[Head]:
    """Trains a head as `fit` and the learning curve do: by folds where each trains on every class.

    Otherwise the learning rate is chosen on held-out images, on half of them where that leaves ``needed_groups``.

    Args:
        seed: Decides folds, start and the order of batches.
        needed_groups: Groups that calibration takes at least.
    """
    num_classes = len(session.manifest.classes)
    view = scaled if protocol.head in HEADS else _as_they_are
    features, labels = view(session.features_of(split.train)), session.labels_of(split.train).numpy()
    groups, is_own = unit_names(split.train), np.array([not sample.is_added for sample in split.train])
    soft = session.soft_labels_of(split.train)
    head = fit_by_folds(features, labels, groups, protocol, num_classes, seed=seed, is_scored=is_own, soft=soft)
    if head is not None:
        own = tuple(sample for sample in split.train if not sample.is_added)
        return Selected(head=head, calibration=split.val, folded=(head.held_out, own))
    select, calibration, notes = halves(split.val, session.manifest.name, needed_groups)
    head = fit_by_validation(
        features,
        labels,
        view(session.features_of(select)),
        session.labels_of(select).numpy(),
        protocol,
        num_classes,
        seed=seed,
        groups=groups,
        soft=soft,
    )
    return Selected(head=head, calibration=calibration, notes=notes)


def fit_by_folds(
    features: Tensor,
    labels: NDArray[np.int64],
    groups: Sequence[str],
    protocol: Protocol,
    num_classes: int,
    *,
    seed: int,
    is_scored: NDArray[np.bool_] | None = None,
    soft: Tensor | None = None,
) -> Head | None:
    """Chooses the learning rate by stratified cross-validation over whole groups, then trains on everything.

    None where no division leaves every class in the training images of each fold: a head that never saw a class would
    decide temperature, learning rate and prediction sets by it.

    Args:
        features: Of the training images, float32 [images, feature_dim]; scaled to length 1 for a fitted head.
        is_scored: Images that the rate is chosen on and whose logits are returned; None: all. The rest is trained on.
        soft: Labels that are trained on in the place of ``labels``, float32 [images, classes]; steps alone take them.
    """
    is_scored = np.ones(len(labels), dtype=bool) if is_scored is None else is_scored
    folds = complete_folds(labels, groups, is_scored, seed=seed)
    if not folds:
        return None
    held_out = np.zeros((len(protocol.learning_rates), len(labels), num_classes), dtype=np.float32)
    for train, left in folds:
        inside: list[str] = [groups[int(index)] for index in train]
        own = None if soft is None else soft[train]
        weights, biases = _heads(features[train], labels[train], inside, protocol, num_classes, seed, own)
        for row, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            held_out[row, left] = _apply(features[left], weight, bias)
    units = {group for group, counts in zip(groups, is_scored, strict=True) if counts}
    unit = "groups" if len(units) < int(is_scored.sum()) else "images"
    return _final(
        features,
        labels,
        groups,
        protocol,
        seed=seed,
        held_out=held_out[:, is_scored],
        held_out_labels=labels[is_scored],
        soft=soft,
        chosen_on=f"cross-validation in {len(folds)} folds over {len(units)} {unit} of the training images",
    )


def fit_by_validation(
    features: Tensor,
    labels: NDArray[np.int64],
    validation: Tensor,
    validation_labels: NDArray[np.int64],
    protocol: Protocol,
    num_classes: int,
    *,
    seed: int,
    groups: Sequence[str] = (),
    soft: Tensor | None = None,
) -> Head:
    """Chooses the learning rate on images set aside: for training sets too small to be divided again."""
    weights, biases = _heads(features, labels, groups, protocol, num_classes, seed, soft)
    return _final(
        features,
        labels,
        groups,
        protocol,
        seed=seed,
        held_out=np.stack([_apply(validation, weight, bias) for weight, bias in zip(weights, biases, strict=True)]),
        held_out_labels=validation_labels,
        soft=soft,
        chosen_on=f"{len(validation_labels)} held-out images",
    )


def _final(
    features: Tensor,
    labels: NDArray[np.int64],
    groups: Sequence[str],
    protocol: Protocol,
    *,
    seed: int,
    held_out: NDArray[np.float32],
    held_out_labels: NDArray[np.int64],
    chosen_on: str,
    soft: Tensor | None,
) -> Head:
    """Chooses the learning rate by logits [rates, images, classes], and trains on all images."""
    best, tried = best_rate(protocol, held_out, held_out_labels)
    # At every rate, for the last bits depend on how many heads are trained together.
    weights, biases = _heads(features, labels, groups, protocol, held_out.shape[2], seed, soft)
    return Head(
        state=head_state(weights[best].clone(), biases[best].clone()),
        learning_rate=protocol.learning_rates[best],
        tried=tried,
        num_steps=protocol.num_steps(len(labels)),
        held_out=held_out[best],
        held_out_labels=held_out_labels,
        chosen_on=chosen_on,
        scales_features=protocol.head in HEADS,
    )


def _heads(
    features: Tensor,
    labels: NDArray[np.int64],
    groups: Sequence[str],
    protocol: Protocol,
    num_classes: int,
    seed: int,
    soft: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Trains one head for every rate: weights [rates, classes, feature_dim] and biases [rates, classes]."""
    if protocol.head in HEADS:
        known = Labelled(
            features=features, labels=torch.from_numpy(labels), num_classes=num_classes, groups=tuple(groups)
        )
        state = head_of(protocol.head).fit(known, known, HeadSpec(), seed)
        return state["head.weight"].unsqueeze(0), state["head.bias"].unsqueeze(0)
    weights, biases, _ = fit_heads(
        features.unsqueeze(0),
        (torch.from_numpy(labels) if soft is None else soft).unsqueeze(0),
        protocol.train,
        num_classes=num_classes,
        learning_rates=protocol.learning_rates,
        seeds=[seed],
        num_steps=protocol.num_steps(len(labels)),
    )
    return weights[0].cpu(), biases[0].cpu()


def _as_they_are(features: Tensor) -> Tensor:
    return features


def _apply(features: Tensor, weight: Tensor, bias: Tensor) -> Logits:
    return (features @ weight.T + bias).numpy()
