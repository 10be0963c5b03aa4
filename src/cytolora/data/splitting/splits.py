"""Train, val and test splits, few-shot and fractional sampling: pure functions of manifest, rule, sampling and seed."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from fractions import Fraction
from itertools import cycle, islice

from cytolora.config.run import SUBSETS, Sampling, SplitSpec, Subset
from cytolora.core.files import sha256_text
from cytolora.core.findings import RefusedDataError
from cytolora.core.text import counted
from cytolora.data.grouping import DIVIDED_BY_IMAGE
from cytolora.data.manifest import Manifest, Sample, Split
from cytolora.data.splitting.leave_out import left_out
from cytolora.data.splitting.partition import Partition, partition
from cytolora.errors import ConfigError, DataError


def assign_subsets(manifest: Manifest, spec: SplitSpec) -> Manifest:
    """Divides what has no official subsets into train, val and test.

    With ``spec.leave_out`` the images of one metadata value are the test set. Else official subsets are left alone;
    where val or test is missing, it is taken out of train by its share of the ratios, and the rule says so; but no
    test set where there was one and none of its images is left, for what was meant for training is no stand-in.
    Classes are spread alike over the subsets, no group stands in two of them unless ``spec.by`` is ``image``, nor do
    byte-equal files where ``spec.copies`` is ``together``; equal arguments give equal subsets on every machine.

    Raises:
        RefusedDataError: If a class comes from too few groups to stand in every subset, or a test set was lost.
    """
    if spec.leave_out is not None:
        return _without_value(manifest, spec, spec.leave_out)
    present = {sample.subset for sample in manifest.samples if sample.subset}
    if present and not manifest.has_subsets:
        number = sum(sample.subset is None for sample in manifest.samples)
        without = counted(number, "image has", "images have")
        raise RefusedDataError("D509", f"{manifest.name}: {without} no subset and others have one; give all or none.")
    if present and "test" not in present and manifest.has_given_test:
        raise RefusedDataError(
            "D509",
            f"{manifest.name}: no image of its test set can be used any more, and training images are not tested on "
            "instead. Mend the test images, or keep the classes that they have.",
        )
    given = "train, val and test" if present == set(SUBSETS) else " and ".join(one for one in SUBSETS if one in present)
    official = manifest.split_rule or f"{given} as the dataset gives them"
    if present == set(SUBSETS):
        return replace(manifest, split_rule=official)
    if present and "train" not in present:
        raise RefusedDataError(
            "D509",
            f"{manifest.name} has images for {' and '.join(sorted(present))} but none for train. Mark some as "
            "train, or leave out the column of subsets.",
        )
    pool, lead = manifest.samples, ""
    subsets: tuple[Subset, ...] = SUBSETS
    if present:
        pool = manifest.subset("train")
        subsets = tuple(subset for subset in SUBSETS if subset == "train" or subset not in present)
        lead = f"{official}; {' and '.join(subsets[1:])} taken out of train: "
    shares = _shares(subsets, spec)
    parts = partition(manifest.name, pool, shares, by=spec.by, copies=spec.copies, seed=spec.seed)
    samples = tuple(
        replace(sample, subset=parts.subsets.get(sample.path, sample.subset)) for sample in manifest.samples
    )
    return replace(manifest, samples=samples, split_rule=lead + _in_words(parts, shares, spec))


def _without_value(manifest: Manifest, spec: SplitSpec, leave_out: str) -> Manifest:
    """Tests on the images of one metadata value, and divides the others into train and val."""
    held = left_out(manifest, leave_out, by_group=spec.by == "group", with_copies=spec.copies == "together")
    rest = [sample for sample in manifest.samples if sample.path not in held.paths]
    shares = _shares(("train", "val"), spec)
    parts = partition(manifest.name, rest, shares, by=spec.by, copies=spec.copies, seed=spec.seed)
    samples = tuple(replace(one, subset=parts.subsets.get(one.path, "test")) for one in manifest.samples)
    return replace(manifest, samples=samples, split_rule=held.in_words + _in_words(parts, shares, spec))


def draw(manifest: Manifest, sampling: Sampling, seed: int) -> Split:
    """Draws the images of one run.

    Equal arguments give equal splits on every machine: images are ordered by the SHA-256 of seed and path. Fewer
    shots are a part of more shots, and no class depends on another. Test is never sampled.

    Args:
        seed: 0 is a seed like any other.

    With ``sampling: natural`` the first images in that order are taken, whatever their class: a simple random sample
    without replacement, so that classes come as often as they do in the data, give or take chance, and fewer labels are
    a part of more.

    Raises:
        ConfigError: If a class has fewer training images than ``sampling.shots``, unless they are to be repeated.
    """
    if not manifest.has_subsets:
        raise DataError(f"{manifest.name} is not divided into train, val and test yet; assign subsets before drawing.")
    train, val = manifest.subset("train"), manifest.subset("val")
    val_shots = sampling.val_per_class
    if sampling.sampling == "natural":
        train = _natural(train, seed, _num_natural(manifest, len(train), sampling))
        val = _natural(val, seed, None if val_shots is None else val_shots * len(manifest.classes))
    elif sampling.shots is not None:
        train = _per_class(manifest, train, lambda label, pool: _shots(manifest.name, label, pool, sampling), seed)
        val = _per_class(manifest, val, lambda _, pool: pool[:val_shots], seed)
    elif sampling.fraction is not None:
        share = Fraction(str(sampling.fraction))  # 29 % of 100 images are 29, not int(28.999…)
        train = _per_class(manifest, train, lambda _, pool: _part(pool, share), seed)
        if val_shots is None:
            val = _per_class(manifest, val, lambda _, pool: _part(pool, share), seed)
    if sampling.shots is None and val_shots is not None:
        val = _per_class(manifest, val, lambda _, pool: pool[:val_shots], seed)
    return Split(train=train, val=val, test=manifest.subset("test"))


Take = Callable[[str, list[Sample]], list[Sample]]


def _per_class(manifest: Manifest, samples: Iterable[Sample], take: Take, seed: int) -> tuple[Sample, ...]:
    pools: dict[str, list[Sample]] = {label: [] for label in manifest.classes}
    for sample in samples:
        pools[sample.label].append(sample)
    taken: Iterator[Sample] = (
        sample for label, pool in pools.items() for sample in take(label, _in_drawn_order(pool, seed))
    )
    return tuple(sorted(taken, key=lambda sample: sample.path))


def _natural(samples: Iterable[Sample], seed: int, number: int | None) -> tuple[Sample, ...]:
    """Takes the first images in the order of the draw, whatever their class; ``number`` None: all."""
    return tuple(sorted(_in_drawn_order(list(samples), seed)[:number], key=lambda sample: sample.path))


def _num_natural(manifest: Manifest, num_train: int, sampling: Sampling) -> int:
    """Labels of a draw in natural prevalence: as many as ``shots`` of every class make."""
    assert sampling.shots is not None
    number = sampling.shots * len(manifest.classes)
    if number > num_train:
        most = num_train // len(manifest.classes)
        raise ConfigError(
            f"{manifest.name}: {sampling.shots} shots of {len(manifest.classes)} classes are {number} labels, and "
            f"there are {counted(num_train, 'training image')}. Ask for at most {most} shots."
        )
    return number


def _in_drawn_order(pool: list[Sample], seed: int) -> list[Sample]:
    return sorted(pool, key=lambda sample: (sha256_text(f"{seed}:{sample.path}"), sample.path))


def _shots(name: str, label: str, pool: list[Sample], sampling: Sampling) -> list[Sample]:
    shots = sampling.shots
    assert shots is not None
    if len(pool) >= shots:
        return pool[:shots]
    if sampling.on_small_class == "repeat" and pool:
        return list(islice(cycle(pool), shots))
    raise ConfigError(
        f"{name}: class {label!r} has {counted(len(pool), 'image')}, fewer than the {shots} shots asked for. "
        f"Ask for at most {len(pool)}, add images, or set on_small_class: repeat."
    )


def _part(pool: list[Sample], share: Fraction) -> list[Sample]:
    return pool[: max(1, int(len(pool) * share))]


def _shares(subsets: Iterable[Subset], spec: SplitSpec) -> dict[Subset, float]:
    ratios = dict(zip(SUBSETS, spec.ratios, strict=True))
    total = sum(ratios[subset] for subset in subsets)
    return {subset: ratios[subset] / total for subset in subsets}


def _in_words(divided: Partition, shares: Mapping[Subset, float], spec: SplitSpec) -> str:
    parts = " / ".join(f"{subset} {100 * share:.4g} %" for subset, share in shares.items())
    if spec.by == "image":
        unit = DIVIDED_BY_IMAGE
    elif divided.num_grouped == divided.num_images:
        unit = f"divided by group ({divided.num_groups} groups), none stands in two subsets"
    elif divided.num_grouped:
        num_alone = divided.num_images - divided.num_grouped
        unit = f"divided by group, and by image for the {num_alone} whose group is not known"
    else:
        unit = "divided by image, for groups are not known"
    together = f", {divided.num_bound} byte-equal files beside each other" if divided.num_bound else ""
    return f"{unit}{together}; {parts}, stratified by class, seed {spec.seed}"
