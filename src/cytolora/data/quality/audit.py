"""Dataset audit: unreadable files, duplicates, group leakage between subsets."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import median_low

import numpy as np
from numpy.typing import NDArray

from cytolora.data.manifest import Manifest, Sample
from cytolora.data.quality.confounded import classes_that_are_their_source
from cytolora.data.quality.duplicates import (
    MAX_DISTANCE,
    MIN_SIMILARITY,
    nearest_pairs,
    similar_pairs,
)
from cytolora.data.quality.findings import Audit, Duplicate, Sizes, TornGroup, Unreadable
from cytolora.data.quality.group_test import groups_suspected
from cytolora.data.quality.pixel_findings import pixel_findings
from cytolora.data.quality.scan import ImageRecord, Records, scan
from cytolora.errors import DataError

_TRAIN_SHARE = 0.6
"""Of the random split by image that ``sibling_share`` imagines."""

Features = Callable[[tuple[Sample, ...]], NDArray[np.float32]]
"""Gives the features of images, one row each."""


def audit(
    manifest: Manifest,
    *,
    records: Records | None = None,
    max_distance: int = MAX_DISTANCE,
    features: Features | None = None,
    min_similarity: float = MIN_SIMILARITY,
    num_threads: int | None = None,
    on_image: Callable[[], None] = lambda: None,
) -> Audit:
    """Opens every image once and reports what it finds; raises for nothing that an image can do.

    Args:
        records: Of a scan of the manifest; scanned now if None.
        max_distance: Bits of 256 in which two images may differ and still be near duplicates.
        features: Called once with all images that can be read, to find near duplicates that hashes miss; no features,
            no such search.
        min_similarity: Cosine of two images' features, less the mean of all, from which they are near duplicates.
        on_image: Called after each image, for a progress bar.

    Raises:
        DataError: If more pairs of features are alike than anybody can look at; and what ``features`` raises.
    """
    if records is None:
        records = scan(manifest, num_threads=num_threads, on_image=on_image)
    looks, unreadable = _readable(manifest, records)
    exact, near, firsts, num_near = _duplicates(looks, max_distance)
    if features is not None and looks:
        rows = features(tuple(one.sample for one in looks))[firsts]
        near += _similar([looks[place].sample for place in firsts], rows, min_similarity, near)
    return Audit(
        name=manifest.name,
        num_images=len(manifest.samples),
        counts=manifest.counts(),
        num_grouped=sum(sample.group is not None for sample in manifest.samples),
        num_groups=len({sample.group for sample in manifest.samples} - {None}),
        group_rule=manifest.group_rule,
        split_rule=manifest.split_rule,
        max_distance=max_distance,
        unreadable=unreadable,
        exact_duplicates=exact,
        near_duplicates=near,
        num_near_pairs=num_near,
        torn_groups=_torn_groups(manifest.samples),
        of_reader=tuple(one for one in manifest.findings if one.code != "P102"),  # counted anew, of all that are read
        suspected=tuple(groups_suspected(manifest)),
        confounded=tuple(classes_that_are_their_source(manifest.samples, manifest.classes)),
        conversions=dict(sorted(Counter(conversion for one in looks if (conversion := one.record.conversion)).items())),
        sizes=_sizes(looks),
        of_pixels=pixel_findings([(look.sample, look.record) for look in looks], manifest.decoding),
        sibling_share=_sibling_share(manifest),
        min_similarity=None if features is None else min_similarity,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    sample: Sample
    record: ImageRecord


def _readable(manifest: Manifest, records: Records) -> tuple[list[_Look], tuple[Unreadable, ...]]:
    looks: list[_Look] = []
    unreadable: list[Unreadable] = []
    for sample in manifest.samples:
        record = records[sample.path]
        if isinstance(record, ImageRecord):
            looks.append(_Look(sample=sample, record=record))
        else:
            unreadable.append(Unreadable(path=sample.path, why=_why(record), code=getattr(record, "code", "P101")))
    return looks, tuple(unreadable)


def _duplicates(
    looks: list[_Look], max_distance: int
) -> tuple[tuple[Duplicate, ...], tuple[Duplicate, ...], list[int], int]:
    """Finds equal pixels, and near pairs among the first of each set of equal ones; the places of those that count.

    These are all firsts but blank images, which resemble each other. Of very many near pairs only the nearest are
    returned; the last value is the number of all.
    """
    equal: defaultdict[str, list[int]] = defaultdict(list)
    for place, look in enumerate(looks):
        equal[look.record.pixel_sha256].append(place)
    exact = tuple(_duplicate([looks[at].sample for at in places]) for places in equal.values() if len(places) > 1)
    firsts = [places[0] for places in equal.values() if looks[places[0]].record.signature.any()]
    pairs, num_near = nearest_pairs([looks[at].record.signature for at in firsts], max_distance)
    near = tuple(
        _duplicate([looks[firsts[at]].sample for at in (pair.first, pair.second)], distance=pair.distance)
        for pair in pairs
    )
    return exact, near, firsts, num_near


def _similar(
    samples: list[Sample], features: NDArray[np.float32], min_similarity: float, known: tuple[Duplicate, ...]
) -> tuple[Duplicate, ...]:
    """Finds pairs by features that are not known by their hashes."""
    pairs = {
        (samples[pair.first].path, samples[pair.second].path): pair for pair in similar_pairs(features, min_similarity)
    }
    for duplicate in known:
        pairs.pop((duplicate.paths[0], duplicate.paths[1]), None)
    return tuple(
        _duplicate([samples[pair.first], samples[pair.second]], similarity=pair.similarity) for pair in pairs.values()
    )


def _duplicate(samples: list[Sample], *, distance: int | None = None, similarity: float | None = None) -> Duplicate:
    groups = {sample.group for sample in samples if sample.group is not None}
    return Duplicate(
        paths=tuple(sample.path for sample in samples),
        distance=distance,
        labels=tuple(sorted({sample.label for sample in samples})),
        subsets=tuple(sorted({sample.subset for sample in samples if sample.subset})),
        groups=None if any(sample.group is None for sample in samples) else tuple(sorted(groups)),
        similarity=similarity,
    )


def _torn_groups(samples: Iterable[Sample]) -> tuple[TornGroup, ...]:
    homes: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for sample in samples:
        if sample.group is not None and sample.subset:
            homes[sample.group][sample.subset] += 1
    return tuple(TornGroup(group=group, counts=dict(homes[group])) for group in sorted(homes) if len(homes[group]) > 1)


def _sizes(looks: list[_Look]) -> Sizes | None:
    if not looks:
        return None
    widths, heights = zip(*(look.record.size for look in looks), strict=True)
    return Sizes(
        smallest=(min(widths), min(heights)),
        median=(median_low(widths), median_low(heights)),
        largest=(max(widths), max(heights)),
    )


def _sibling_share(manifest: Manifest) -> float | None:
    if not manifest.has_groups:
        return None
    sizes = Counter(sample.group for sample in manifest.samples)
    alone = sum(size * (1 - _TRAIN_SHARE) ** (size - 1) for size in sizes.values())
    return 1 - alone / len(manifest.samples)


def _why(error: DataError) -> str:
    """Takes the reason out of decode's message; path and advice stand elsewhere in the report."""
    return (
        str(error)
        .partition(" as an image: ")[2]
        .removesuffix(". Run `cytolora check DATA` to list every bad file.")
        .partition(", and nothing says")[0]
    )
