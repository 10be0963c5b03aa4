"""The two ways to train: a head on frozen features, or an adapter with its head; and how long it will take."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from cytolora.classifier.fit.adapter import fit_adapter, outputs
from cytolora.classifier.fit.linear import Tried, fit_by_folds, fit_by_validation, num_folds
from cytolora.classifier.fit.prepare import halves
from cytolora.classifier.fit.recipe import Recipe, as_lora, estimate_seconds
from cytolora.data.manifest import Sample, Split
from cytolora.display.format import duration
from cytolora.metrics.calibration import fit_temperature
from cytolora.metrics.units import unit_names
from cytolora.training.features import seconds_per_image
from cytolora.training.session import Session


@dataclass(frozen=True, kw_only=True)
class Model:
    """A trained model with what it says of every image that was held out, and where its features lie."""

    state: dict[str, torch.Tensor]
    rate: float
    tried: tuple[Tried, ...]
    num_steps: int
    num_trainable: int
    temperature: float
    chosen_on: str
    calibration: tuple[Sample, ...]
    """The part of val that decided nothing yet."""
    outputs: Callable[[Sequence[Sample]], tuple[NDArray[np.float32], NDArray[np.float32]]]
    """Logits and features of some images."""
    folded: tuple[NDArray[np.float32], tuple[Sample, ...]] | None = None
    """Logits of the training images by cross-validation; None where there was none."""
    notes: tuple[str, ...] = ()


def train_linear(session: Session, recipe: Recipe, split: Split, needed: int) -> Model:
    """Trains a head on frozen features; by folds where every class comes from two groups or more.

    Args:
        needed: Groups that calibration takes at least.
    """
    labels, num_classes = session.labels_of(split.train).numpy(), len(session.manifest.classes)
    session.progress.begin("features", len(session.manifest.samples), "images")
    for _ in session.feature_chunks(session.progress.done):
        pass  # kept now, and read back at once
    features, calibration, notes, folded = session.features_of(split.train), split.val, (), None
    groups, is_own = units_of(split.train), np.array([one.elsewhere is None for one in split.train])
    session.progress.begin(f"{len(recipe.rates)} linear heads", 0, "heads")
    if num_folds(labels, groups, is_own) > 1:
        head = fit_by_folds(features, labels, groups, recipe, num_classes, is_own)
        folded = head.held_out, tuple(one for one in split.train if one.elsewhere is None)
    else:
        select, calibration, notes = _divided_val(session, split, needed)
        head = fit_by_validation(
            features, labels, session.features_of(select), session.labels_of(select).numpy(), recipe, num_classes
        )

    def of(samples: Sequence[Sample]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        found = session.features_of(samples)
        return head.logits(found), found.numpy()

    return Model(
        state=head.state,
        rate=head.rate,
        tried=head.tried,
        num_steps=head.num_steps,
        num_trainable=sum(tensor.numel() for tensor in head.state.values()),
        temperature=fit_temperature(head.held_out, head.held_out_labels),
        chosen_on=head.chosen_on,
        calibration=calibration,
        outputs=of,
        folded=folded,
        notes=notes,
    )


def train_adapter(session: Session, recipe: Recipe, split: Split, needed: int) -> Model:
    """Trains an adapter and its head, the rate chosen on one half of the held-out groups.

    Args:
        needed: Groups that calibration takes at least.
    """
    select, calibration, notes = _divided_val(session, split, needed)
    adapted = fit_adapter(session, recipe, select)
    return Model(
        state=adapted.state,
        rate=adapted.rate,
        tried=adapted.tried,
        num_steps=adapted.num_steps,
        num_trainable=adapted.num_trainable,
        temperature=fit_temperature(adapted.held_out, session.labels_of(select).numpy()),
        chosen_on=f"{len(select)} held-out images",
        calibration=calibration,
        outputs=lambda samples: outputs(session, adapted.classifier, samples),
        notes=notes,
    )


def _divided_val(
    session: Session, split: Split, needed: int
) -> tuple[tuple[Sample, ...], tuple[Sample, ...], tuple[str, ...]]:
    """Returns the images to choose with and those to calibrate with.

    The same ones do both where they cannot be divided, or where only all of them together are enough to calibrate.
    """
    found, num_groups = halves(split.val, session.manifest.name), len(set(units_of(split.val)))
    if found is not None and (num_groups < needed or len(set(units_of(found[1]))) >= needed):
        return *found, ()
    note = (
        "Too few held-out groups to choose and to calibrate on different ones: the same images did both, so "
        "probabilities and prediction sets are somewhat too sure."
    )
    return split.val, split.val, (note,)


def units_of(samples: Sequence[Sample]) -> list[str]:
    """Names the group of each image, or the image itself where its group is unknown."""
    return unit_names([one.group for one in samples], [one.path for one in samples])


def say_how_long(session: Session, recipe: Recipe, split: Split) -> None:
    """Times a few images through the encoder, unless heads are asked for and all their features are kept already."""
    absent = session.num_missing_features()
    if recipe.adapter is None and not absent:
        return
    seconds = seconds_per_image(session.encoder, recipe.backbone.preprocess.size_px, session.device)

    def expected(what: Recipe) -> str:
        return duration(
            estimate_seconds(
                what,
                num_images=absent if what.adapter is None else len(session.manifest.samples),
                num_train=len(split.train),
                seconds_per_image=seconds,
            )
        )

    instead = f"; --method lora would take about {expected(as_lora(recipe))}" if recipe.adapter is None else ""
    session.progress.say(f"{recipe.backbone.name}, {recipe.method}: about {expected(recipe)} on this machine{instead}")
