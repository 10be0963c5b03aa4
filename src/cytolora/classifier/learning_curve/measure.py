"""Learning curve of a linear classifier: balanced accuracy measured by labelled images per class."""

from collections.abc import Callable, Sequence

import numpy as np

from cytolora.classifier.decision.conformal import needed_groups
from cytolora.classifier.fit.config import FitOptions, check_seed
from cytolora.classifier.fit.linear import fit_linear
from cytolora.classifier.learning_curve.curve import Curve, Draw
from cytolora.config.run import Sampling, SplitSpec
from cytolora.core.arguments import OneOrMany, as_whole_numbers
from cytolora.data.manifest import Manifest
from cytolora.data.splitting.splits import assign_subsets, draw
from cytolora.errors import ConfigError, DataError
from cytolora.training.protocol import FIT_LINEAR, Protocol
from cytolora.training.session import Session

MIN_POINTS = 4
"""The curve has three unknowns: through three points it would pass, whatever they are."""
MOST_SHOTS = 256
"""The largest number of shots taken by default: a head with more trains for minutes on a CPU."""


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
    """Raises a CytoloraError if no curve can be measured, before any image is read.

    Args:
        shots: Empty where they are to be chosen.
    """
    shots, seeds = as_whole_numbers(shots, "shots"), as_whole_numbers(seeds, "seeds")
    if len(manifest.classes) == 1:
        raise DataError(
            f"{manifest.name} has one class, {manifest.classes[0]!r}; a classifier tells two or more apart. "
            "Add images of another: in a sub-folder of its own, or with its label in the table or project."
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
    protocol: Protocol = FIT_LINEAR,
    on_classifier: Callable[[], None] = lambda: None,
) -> Curve:
    """Trains linear classifiers as ``fit --method linear --shots`` does, and scores them on the test groups.

    Every seed divides the groups anew (official subsets stay) and draws its shots, fewer being a part of more. What
    is trained, and how the learning rate is chosen, is ``fit_linear`` in both: the curve forecasts what `fit` gives.

    Args:
        on_classifier: Called after each of the ``num_classifiers``.

    Raises:
        ConfigError: If there are too few numbers of shots for a curve, or a class has fewer images.
        DataError: If there is one class.
    """
    shots, seeds = as_whole_numbers(shots, "shots"), as_whole_numbers(seeds, "seeds")
    check_asked(session.manifest, shots, seeds)
    shots, seeds = _distinct(shots, seeds)
    divided = {seed: _divided(session.manifest, seed) for seed in seeds}
    draws = [_draw(session, divided[seed], shots, seed, protocol, on_classifier) for seed in seeds]
    return Curve(
        shots=tuple(shots),
        draws=tuple(draws),
        available=_available(list(divided.values())),
        by_group=any(sample.group is not None for sample in session.manifest.samples),
        split_rule=_rule(list(divided.values())),
    )


def num_classifiers(shots: OneOrMany[int], seeds: OneOrMany[int]) -> int:
    """Classifiers that a whole measurement trains."""
    distinct = _distinct(as_whole_numbers(shots, "shots"), as_whole_numbers(seeds, "seeds"))
    return len(distinct[0]) * len(distinct[1])


def _distinct(shots: Sequence[int], seeds: Sequence[int]) -> tuple[list[int], list[int]]:
    return sorted(set(shots)), list(dict.fromkeys(seeds))  # a seed named twice is one draw


def _draw(
    session: Session,
    divided: Manifest,
    shots: Sequence[int],
    seed: int,
    protocol: Protocol,
    on_classifier: Callable[[], None],
) -> Draw:
    """Trains and tests the classifiers of one seed."""
    test, needed = divided.subset("test"), needed_groups(FitOptions().coverage)
    features, labels = session.features_of(test), session.labels_of(test).numpy()
    is_right, rates = [], []
    for number in shots:
        split = draw(divided, Sampling(shots=number, max_val_shots=None), seed)
        head = fit_linear(session, split, protocol, seed=seed, needed_groups=needed).head
        is_right.append(head.logits(features).argmax(axis=1) == labels)
        rates.append(head.learning_rate)
        on_classifier()
    units = [f"group {one.group}" if one.group is not None else f"image {one.path}" for one in test]
    return Draw(
        seed=seed,
        test_labels=labels,
        test_units=np.array(units, dtype=str),
        is_right=np.stack(is_right),
        learning_rates=tuple(rates),
    )


def _divided(manifest: Manifest, seed: int) -> Manifest:
    return assign_subsets(manifest, SplitSpec(seed=seed, copies="together"))


def _rule(divided: Sequence[Manifest]) -> str:
    """Returns the rule of the first division; those of the other seeds differ in the seed that ends it."""
    first = divided[0].split_rule
    return (
        first
        if all(other.split_rule == first for other in divided)
        else first.rpartition(", seed")[0] + ", anew for every seed"
    )


def _available(divided: Sequence[Manifest]) -> dict[str, int]:
    counts = [manifest.counts() for manifest in divided]
    return {label: min(count[label]["train"] for count in counts) for label in divided[0].classes}
