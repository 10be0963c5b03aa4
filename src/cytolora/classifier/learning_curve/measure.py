"""How many more labelled images a balanced accuracy would take: the learning curve measured, fitted and read off."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cytolora.classifier.fit.recipe import check_seed
from cytolora.config.run import Budget, Sampling, SplitSpec, TrainSpec
from cytolora.core.arguments import OneOrMany, as_whole_numbers
from cytolora.data.manifest import Manifest, Sample
from cytolora.data.splitting.splits import assign_subsets, draw
from cytolora.errors import ConfigError, DataError
from cytolora.metrics.scores import score
from cytolora.metrics.units import unit_names
from cytolora.training.heads import fit_heads
from cytolora.training.session import Session

RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
"""Peaks of the cosine to choose from; those of the shipped grids."""
TRAIN = TrainSpec(budget=Budget(amount=50, unit="steps_per_shot", plus_steps=50))
"""The few-shot budget of the shipped grids: 50 x shots + 50 steps (public code of Dausort et al. 2025)."""
MIN_POINTS = 4
"""The curve has three unknowns: through three points it would pass, whatever they are."""
MOST_SHOTS = 256
"""The largest number of shots taken by default: a head with more trains for minutes on a CPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """One seed: its own division of the groups, its own draw of shots."""

    seed: int
    test_labels: NDArray[np.int64]
    """[images]"""
    test_units: NDArray[np.str_]
    """The group of each, or the image where that is not known."""
    is_right: NDArray[np.bool_]
    """[shots, images]"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """A measured learning curve."""

    shots: tuple[int, ...]
    """Labelled images per class to train on, ascending."""
    draws: tuple[Draw, ...]
    rates: tuple[float, ...]
    """The learning rate chosen on validation at each number of shots."""
    available: dict[str, int]
    """By class, images to train on in the smallest of the divisions."""
    by_group: bool
    split_rule: str

    def balanced_accuracies(self, times: Mapping[str, NDArray[np.floating]] | None = None) -> NDArray[np.float64]:
        """Returns balanced accuracy [resamples, draws, shots].

        Args:
            times: How often each unit counts in each resample, by unit, [resamples]; None: once, in one resample.
        """
        return np.stack([_balanced(draw, times) for draw in self.draws], axis=1)


def default_shots(manifest: Manifest, seeds: OneOrMany[int]) -> tuple[int, ...]:
    """Returns 1, 2, 4, … and the most that every class has to train on, up to ``MOST_SHOTS``.

    Raises:
        ConfigError: If that makes fewer than ``MIN_POINTS``.
    """
    pools = _available([_divided(manifest, seed) for seed in as_whole_numbers(seeds, "seeds")])
    label = min(pools, key=lambda name: pools[name])
    most = min(pools[label], MOST_SHOTS)
    doubled = [2**power for power in range(most.bit_length()) if 2**power <= most]
    shots = [*doubled, most] if most >= 1.4 * doubled[-1] else doubled
    if len(shots) < MIN_POINTS:
        raise ConfigError(
            f"{manifest.name}: class {label!r} has {pools[label]} images to train on, and a curve with three unknowns "
            f"takes at least {MIN_POINTS} numbers of shots, such as 1 2 4 8. Label more of it, or join classes."
        )
    return tuple(shots)


def check_asked(manifest: Manifest, shots: OneOrMany[int], seeds: OneOrMany[int]) -> None:
    """Raises a CytoloraError if no curve can come of this, before any image is looked at.

    Args:
        shots: Empty where they are to be chosen.
    """
    shots, seeds = as_whole_numbers(shots, "shots"), as_whole_numbers(seeds, "seeds")
    if len(manifest.classes) == 1:
        raise DataError(
            f"{manifest.name} has one class, {manifest.classes[0]!r}; a classifier tells two or more apart. "
            "Make one sub-folder for each class."
        )
    if shots and len(set(shots)) < MIN_POINTS:
        raise ConfigError(
            f"A curve with three unknowns takes at least {MIN_POINTS} numbers of shots, got {sorted(set(shots))}."
        )
    if not seeds:
        raise ConfigError("--seeds is empty; name some, such as 1 2 3, or leave it out for five.")
    for seed in seeds:
        check_seed(seed)


def measure(
    session: Session,
    shots: OneOrMany[int],
    seeds: OneOrMany[int],
    *,
    on_steps: Callable[[int], None] = lambda steps: None,
) -> Curve:
    """Trains linear heads on frozen features at several numbers of shots and scores them on groups of their own.

    Every seed divides the groups anew (official subsets stay) and draws its shots, fewer being a part of more. The
    learning rate is chosen at each number of shots on min(shots, 4) validation images a class, over all seeds.

    Raises:
        ConfigError: If there are too few numbers of shots for a curve, or a class has fewer images.
        DataError: If there is one class.
    """
    shots, seeds = as_whole_numbers(shots, "shots"), as_whole_numbers(seeds, "seeds")
    check_asked(session.manifest, shots, seeds)
    shots, seeds = sorted(set(shots)), list(dict.fromkeys(seeds))  # a seed named twice is one draw
    divided = {seed: _divided(session.manifest, seed) for seed in seeds}
    is_right: dict[int, list[NDArray[np.bool_]]] = {seed: [] for seed in seeds}
    rates = []
    for number in shots:
        rate, heads = _heads(session, divided, number)
        rates.append(rate)
        for seed, head in heads.items():
            test = divided[seed].subset("test")
            predicted = _logits(session, test, head).argmax(dim=1)
            is_right[seed].append((predicted == session.labels_of(test)).numpy())
        on_steps(_num_steps(number))
    draws = [_draw(session, seed, divided[seed].subset("test"), np.stack(is_right[seed])) for seed in seeds]
    return Curve(
        shots=tuple(shots),
        draws=tuple(draws),
        rates=tuple(rates),
        available=_available(list(divided.values())),
        by_group=any(sample.group is not None for sample in session.manifest.samples),
        split_rule=_rule(list(divided.values())),
    )


def num_steps(shots: OneOrMany[int]) -> int:
    """Optimiser steps of a whole measurement; all heads of a number of shots take theirs together."""
    return sum(map(_num_steps, as_whole_numbers(shots, "shots")))


def _num_steps(shots: int) -> int:
    return TRAIN.budget.num_steps(num_train=1, batch_size=TRAIN.batch_size, shots=shots)


Head = tuple[Tensor, Tensor]
"""Weight [classes, feature_dim] and bias [classes]."""


def _heads(session: Session, divided: dict[int, Manifest], shots: int) -> tuple[float, dict[int, Head]]:
    """Trains the heads of all seeds and rates; returns the chosen rate, and its head of each seed."""
    splits = {seed: draw(manifest, Sampling(shots=shots), seed) for seed, manifest in divided.items()}
    weights, biases, _ = fit_heads(
        torch.stack([session.features_of(split.train) for split in splits.values()]).to(session.device),
        torch.stack([session.labels_of(split.train) for split in splits.values()]).to(session.device),
        TRAIN,
        num_classes=len(session.manifest.classes),
        learning_rates=RATES,
        seeds=list(splits),
        num_steps=_num_steps(shots),
    )
    weights, biases = weights.cpu(), biases.cpu()
    standing = []
    for place, rate in enumerate(RATES):
        scores = [
            score(session.labels_of(split.val), _logits(session, split.val, (w[place], b[place])).softmax(dim=1))
            for split, w, b in zip(splits.values(), weights, biases, strict=True)
        ]
        accuracy, loss = (round(float(np.mean([found[name] for found in scores])), 12) for name in ("accuracy", "loss"))
        standing.append((-accuracy, loss, rate, place))  # select.choose_rate's order
    _, _, rate, place = min(standing)
    return rate, {seed: (w[place], b[place]) for seed, w, b in zip(splits, weights, biases, strict=True)}


def _logits(session: Session, samples: Sequence[Sample], head: Head) -> Tensor:
    return session.features_of(samples) @ head[0].T + head[1]


def _divided(manifest: Manifest, seed: int) -> Manifest:
    return assign_subsets(manifest, SplitSpec(seed=seed))


def _rule(divided: Sequence[Manifest]) -> str:
    """The rule of the first division; each seed's own differ in the seed that ends it."""
    first = divided[0].split_rule
    return (
        first
        if all(other.split_rule == first for other in divided)
        else first.rpartition(", seed")[0] + ", anew for every seed"
    )


def _available(divided: Sequence[Manifest]) -> dict[str, int]:
    counts = [manifest.counts() for manifest in divided]
    return {label: min(count[label]["train"] for count in counts) for label in divided[0].classes}


def _draw(session: Session, seed: int, test: Sequence[Sample], is_right: NDArray[np.bool_]) -> Draw:
    units = unit_names([sample.group for sample in test], [sample.path for sample in test])
    return Draw(
        seed=seed, test_labels=session.labels_of(test).numpy(), test_units=np.array(units, dtype=str), is_right=is_right
    )


def _balanced(draw: Draw, times: Mapping[str, NDArray[np.floating]] | None) -> NDArray[np.float64]:
    """Balanced accuracy of one draw, [resamples, shots]; over the classes that a resample holds."""
    units = draw.test_units
    counted = np.ones((1, len(units))) if times is None else np.stack([times[unit] for unit in units], axis=1)
    classes = np.unique(draw.test_labels)
    members = (draw.test_labels[:, None] == classes).astype(np.float64)
    totals = counted @ members  # [resamples, classes]
    is_held = totals > 0
    recalls = [
        np.divide(counted @ (members * right[:, None]), totals, out=np.zeros_like(totals), where=is_held).sum(axis=1)
        for right in draw.is_right
    ]
    return np.stack(recalls, axis=1) / np.maximum(1, is_held.sum(axis=1))[:, None]


def rounded_up(labels: float) -> int | None:
    """Returns a whole number of labels; None for no number at all."""
    return ceil(labels - 1e-9) if np.isfinite(labels) else None
