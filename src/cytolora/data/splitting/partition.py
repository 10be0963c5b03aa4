"""Stratified partition of groups into subsets: no group in two of them, the same on every machine."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from cytolora.config.run import Subset
from cytolora.core.files import sha256_text
from cytolora.data.manifest import Sample
from cytolora.errors import DataError


@dataclass(frozen=True, kw_only=True)
class Partition:
    """Where every image went, and what was divided."""

    subsets: Mapping[str, Subset]
    """By path."""
    num_groups: int
    """Units that were divided: groups, and images without one."""
    num_grouped: int
    """Images whose group is known."""

    @property
    def num_images(self) -> int:
        """Images that were divided."""
        return len(self.subsets)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Unit:
    """Images that stay in one subset: a group, or one image whose group is not known."""

    key: str
    paths: tuple[str, ...]
    counts: Mapping[str, int]
    """Images by class."""


SubsetOf = dict[str, Subset]
"""Subset by the unit's key."""


def partition(
    name: str,
    samples: Iterable[Sample],
    shares: Mapping[Subset, float],
    *,
    by: Literal["group", "image"],
    seed: int,
) -> Partition:
    """Divides samples into the subsets of ``shares``.

    Units go, the largest first, to the subset that is furthest from its share of their classes. Units of about
    equal size (to the next power of two) go in the order of the SHA-256 of seed and name, so that seeds differ.

    Raises:
        DataError: If a class cannot stand in every subset.
    """
    samples = list(samples)
    units = sorted(_units(samples, by), key=lambda unit: (-len(unit.paths).bit_length(), _rank(unit, seed), unit.key))
    totals = Counter(sample.label for sample in samples)
    _check_enough(name, units, totals, shares, by)
    subset_of = _fill(units, totals, shares)
    _repair(units, subset_of, totals, shares)
    missing = next(_missing(units, subset_of, totals, shares), None)
    if missing:
        label, subset = missing
        raise _too_few(name, label, units, totals, f"no way was found to put one of them into {subset}", by)
    return Partition(
        subsets={path: subset_of[unit.key] for unit in units for path in unit.paths},
        num_groups=len(units),
        num_grouped=sum(sample.group is not None for sample in samples) if by == "group" else 0,
    )


def _units(samples: Iterable[Sample], by: Literal["group", "image"]) -> Iterator[_Unit]:
    members: dict[str, list[Sample]] = {}
    for sample in samples:
        grouped = by == "group" and sample.group is not None
        members.setdefault(f"group:{sample.group}" if grouped else f"image:{sample.path}", []).append(sample)
    for key, group in members.items():
        counts = Counter(sample.label for sample in group)
        yield _Unit(key=key, paths=tuple(sample.path for sample in group), counts=counts)


def _rank(unit: _Unit, seed: int) -> str:
    return sha256_text(f"{seed}:{unit.key.partition(':')[2]}")


def _fill(units: list[_Unit], totals: Mapping[str, int], shares: Mapping[Subset, float]) -> SubsetOf:
    held: dict[Subset, Counter[str]] = {subset: Counter() for subset in shares}
    subset_of: SubsetOf = {}
    for unit in units:
        best = max(shares, key=lambda subset: _deficit(unit, held[subset], totals, shares[subset]))
        subset_of[unit.key] = best
        held[best].update(unit.counts)
    return subset_of


def _deficit(unit: _Unit, held: Mapping[str, int], totals: Mapping[str, int], share: float) -> float:
    """Computes how far a subset is below its target with half of the unit in it; rare classes count like common ones.

    Half of the unit: that is the gain in chi-square distance to the aim, and keeps large units out of small subsets.
    """
    open_share = 0.0
    for label, number in unit.counts.items():
        aim = share * totals[label]
        open_share += number / totals[label] * (aim - held[label] - number / 2) / aim
    return open_share


def _repair(units: list[_Unit], subset_of: SubsetOf, totals: Mapping[str, int], shares: Mapping[Subset, float]) -> None:
    """Moves the smallest unit that can be spared into a subset that lacks its class; changes ``subset_of``."""
    num_moves = len(totals) * len(shares)
    for _ in range(num_moves):
        for label, subset in _missing(units, subset_of, totals, shares):
            spare = _spare(units, subset_of, label)
            if spare is not None:
                subset_of[spare.key] = subset
                break
        else:
            return


def _spare(units: list[_Unit], subset_of: SubsetOf, label: str) -> _Unit | None:
    """Returns the smallest unit of a class whose leaving takes no class away from its subset."""
    number = Counter((subset_of[unit.key], kind) for unit in units for kind in unit.counts)
    spare = [
        unit
        for unit in units
        if label in unit.counts and all(number[subset_of[unit.key], kind] > 1 for kind in unit.counts)
    ]
    return min(spare, key=lambda unit: len(unit.paths), default=None)


def _missing(
    units: list[_Unit], subset_of: SubsetOf, totals: Mapping[str, int], shares: Mapping[Subset, float]
) -> Iterator[tuple[str, Subset]]:
    present = {(kind, subset_of[unit.key]) for unit in units for kind in unit.counts}
    return ((label, subset) for label in sorted(totals) for subset in shares if (label, subset) not in present)


def _check_enough(
    name: str, units: list[_Unit], totals: Mapping[str, int], shares: Mapping[Subset, float], by: str
) -> None:
    number = Counter(label for unit in units for label in unit.counts)
    for label in sorted(totals):
        if number[label] < len(shares):
            raise _too_few(name, label, units, totals, f"too few to stand in {', '.join(shares)}", by)


def _too_few(name: str, label: str, units: list[_Unit], totals: Mapping[str, int], why: str, by: str) -> DataError:
    number = sum(label in unit.counts for unit in units)
    is_grouped = any(label in unit.counts and unit.key.startswith("group:") for unit in units)
    found = f"{totals[label]} images from {number} groups" if is_grouped else f"{totals[label]} images"
    other = ", or divide by image (groups then stand on two sides)" if by == "group" and is_grouped else ""
    return DataError(f"{name}: class {label!r} has {found}, {why}. Add images, merge classes with a label map{other}.")
