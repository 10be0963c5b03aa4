"""Permutation test of suspected groups: are images of one group more alike than others of their class?"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from cytolora.core.files import sha256_text
from cytolora.core.findings import Finding, finding
from cytolora.core.machine import num_cpus
from cytolora.core.text import counted
from cytolora.data.imaging.decode import Pixels, decode
from cytolora.data.imaging.room import one_image
from cytolora.data.manifest import Manifest, Sample
from cytolora.data.name_groups import NameGroups, groups_in_names
from cytolora.errors import DataError

LEVEL = 0.05
"""Of the test: the share of false alarms where groups have no meaning."""
_NUM_DRAWS = 999
_NUM_IMAGES = 600
"""Images that are looked at; a larger dataset is sampled by whole groups, of which each gives at most the next."""
_NUM_PER_GROUP = 12
_EDGE_PX = 128
"""Pixels are thinned to about this edge: colour, focus and background survive it."""
_MAX_DEVIATION = 3.0
"""Standard deviations to which a value is cut: one image out of focus decides nothing."""

Vectors = Float[NDArray[np.float64], "images values"]


def groups_suspected(manifest: Manifest) -> list[Finding]:
    """Returns a finding where names suggest groups of images that have none, and pixels agree; none once refused."""
    if any(one.code == "D512" for one in manifest.findings):
        return []
    files = {sample.sha256 or sample.path: sample for sample in reversed(manifest.samples) if sample.group is None}
    samples = sorted(files.values())  # copies of one file resemble each other whatever their names say
    names = groups_in_names(samples)
    if names is None:
        return []
    looked = _sampled(samples, names)
    with ThreadPoolExecutor(num_cpus()) as pool:
        vectors = list(pool.map(lambda sample: _appearance_of(manifest, sample), looked))
    kept = [(sample, vector) for sample, vector in zip(looked, vectors, strict=True) if vector is not None]
    if not kept:
        return []
    p = permutation_p(
        np.stack([vector for _, vector in kept]),
        [sample.label for sample, _ in kept],
        [names.group_of[sample.path] for sample, _ in kept],
    )
    return [_finding(manifest, names, p, len(kept))] if p <= LEVEL else []


def permutation_p(
    vectors: Vectors, classes: Sequence[str], groups: Sequence[str], *, num_draws: int = _NUM_DRAWS, seed: int = 0
) -> float:
    """Tests whether two images of one class and group have a higher mean cosine than two of one class.

    Vectors are centred and scaled by class; groups are permuted within class, so that a difference between classes
    counts for nothing. The level is exact where the images of a class are exchangeable.

    Returns:
        The share of permutations with a mean cosine at least as high, the one at hand included.
    """
    random = np.random.default_rng(seed)
    observed, drawn = 0.0, np.zeros(num_draws)
    places = defaultdict[str, list[int]](list)
    for place, label in enumerate(classes):
        places[label].append(place)
    for label in sorted(places):
        members = places[label]
        _, number = np.unique([groups[place] for place in members], return_inverse=True)
        order = np.argsort(number, kind="stable")
        units, starts = _units(vectors[members]), np.flatnonzero(np.diff(number[order], prepend=-1))
        observed += _within(units[order], starts)
        drawn += [_within(units[random.permutation(len(units))], starts) for _ in range(num_draws)]
    rounding = 1e-9 * max(1.0, abs(observed))
    return (1 + int((drawn >= observed - rounding).sum())) / (1 + num_draws)


def appearance(pixels: Pixels) -> Float[NDArray[np.float64], " values"]:
    """Describes stain, light and focus: of each channel mean, deviation and three percentiles, and the contrast."""
    height, width, _ = pixels.shape
    thin = pixels[:: max(1, height // _EDGE_PX), :: max(1, width // _EDGE_PX)].astype(np.float64)
    flat = thin.reshape(-1, 3)
    gray = thin.mean(axis=2)
    steps = [np.abs(np.diff(gray, axis=axis)).mean() if gray.shape[axis] > 1 else 0.0 for axis in (0, 1)]
    quantiles = np.percentile(flat, (10, 50, 90), axis=0).ravel()
    return np.concatenate([flat.mean(axis=0), flat.std(axis=0), quantiles, np.log1p(steps)])


def _units(vectors: Vectors) -> Vectors:
    centred = vectors - vectors.mean(axis=0)
    scale = centred.std(axis=0)
    scaled = np.clip(centred / np.where(scale > 0, scale, 1), -_MAX_DEVIATION, _MAX_DEVIATION)
    return scaled / np.maximum(np.linalg.norm(scaled, axis=1, keepdims=True), np.finfo(np.float64).tiny)


def _within(units: Vectors, starts: NDArray[np.int64]) -> float:
    """Sums the cosines of all pairs of one group; the number of pairs is the same in every permutation."""
    return float((np.add.reduceat(units, starts, axis=0) ** 2).sum())


def _sampled(samples: Iterable[Sample], names: NameGroups) -> list[Sample]:
    """Draws images of classes with several groups: one of each source, of groups that have two, in order of a hash."""
    sources: dict[tuple[str, str, str], Sample] = {}
    for sample in samples:
        if sample.path in names.group_of:
            key = (sample.label, names.group_of[sample.path], names.source_of[sample.path])
            sources.setdefault(key, sample)
    members = defaultdict[tuple[str, str], list[Sample]](list)
    for (label, group, _), sample in sources.items():
        members[label, group].append(sample)
    units = {key: group for key, group in members.items() if len(group) > 1}
    drawn: list[Sample] = []
    for key in sorted(units, key=lambda key: sha256_text("/".join(key))):
        if len(drawn) >= _NUM_IMAGES:
            break
        drawn += sorted(units[key], key=lambda one: sha256_text(one.path))[:_NUM_PER_GROUP]
    return drawn


def _appearance_of(manifest: Manifest, sample: Sample) -> Float[NDArray[np.float64], " values"] | None:
    try:
        with one_image():
            return appearance(decode(sample.file_in(manifest.root), decoding=manifest.decoding))
    except DataError:
        return None  # the scan says which files cannot be read


def _finding(manifest: Manifest, names: NameGroups, p: float, num_looked: int) -> Finding:
    by_group: Mapping[str, list[str]] = _by_group(names)
    cases = [f"{group} ({counted(len(paths), 'image')}, such as {paths[0]})" for group, paths in by_group.items()]
    text = (
        f"{manifest.name}: file names suggest {names.num_groups} groups ({names.rule}), such as {cases[0]}, and images "
        f"of one are more alike than others of their class (permutation test on {num_looked} images, p = {p:.3g}); "
        "they are not used. Accept with `--groups-from names`, refuse with `--groups-from none`, or write "
        "`--groups-from 'REGEX'`."
    )
    return finding("D511", text, count=names.num_groups, examples=cases)


def _by_group(names: NameGroups) -> dict[str, list[str]]:
    members = defaultdict[str, list[str]](list)
    for path in sorted(names.group_of):
        members[names.group_of[path]].append(path)
    return dict(sorted(members.items()))
