"""Stratified partition of groups into subsets: no group in two of them, the same on every machine."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from cytolora.config.run import Subset
from cytolora.core.files import sha256_text
from cytolora.core.findings import RefusedDataError
from cytolora.core.text import counted
from cytolora.data.manifest import Sample


@dataclass(frozen=True, kw_only=True)
class Partition:
    """Where every image went, and what was divided."""

    subsets: Mapping[str, Subset]
    """By path."""
    num_groups: int
    """Units that were divided: groups, and images without one."""
    num_grouped: int
    """Images whose group is known."""
    num_bound: int
    """Images that stay beside an equal file, and would not by their group."""

    @property
    def num_images(self) -> int:
        """Images that were divided."""
        return len(self.subsets)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Unit:
    """Images that stay in one subset: a group, or one image of unknown group; several where they share files."""

    key: str
    """``group:NAME`` or ``image:PATH``; of several that share files, the first."""
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
    copies: Literal["apart", "together"] = "apart",
    seed: int,
) -> Partition:
    """Divides samples into the subsets of ``shares``.

    Units go, the largest first, to the subset that is furthest from its share of their classes. Units of about
    equal size (to the next power of two) go in the order of the SHA-256 of seed and name, so that seeds differ.

    Args:
        copies: ``together`` makes one unit of units that hold byte-equal files.

    Raises:
        RefusedDataError: If a class cannot stand in every subset.
    """
    samples = list(samples)
    units = sorted(
        _units(samples, by, copies), key=lambda unit: (-len(unit.paths).bit_length(), _rank(unit, seed), unit.key)
    )
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
        num_bound=_num_bound(samples, by) if copies == "together" else 0,
    )


def _units(
    samples: Sequence[Sample], by: Literal["group", "image"], copies: Literal["apart", "together"]
) -> Iterator[_Unit]:
    first_of = _joined(samples, by) if copies == "together" else {}
    members: dict[str, list[Sample]] = {}
    for sample in samples:
        key = _key(sample, by)
        members.setdefault(first_of.get(key, key), []).append(sample)
    for key, group in members.items():
        counts = Counter(sample.label for sample in group)
        yield _Unit(key=key, paths=tuple(sample.path for sample in group), counts=counts)


def _key(sample: Sample, by: Literal["group", "image"]) -> str:
    return f"group:{sample.group}" if by == "group" and sample.group is not None else f"image:{sample.path}"


def _joined(samples: Iterable[Sample], by: Literal["group", "image"]) -> dict[str, str]:
    """Returns, by the key of each unit that shares a file with another, the first key of all that hang together."""
    parent: dict[str, str] = {}
    holder: dict[str, str] = {}

    def first(key: str) -> str:
        while (above := parent.get(key, key)) != key:
            parent[key] = parent.get(above, above)
            key = above
        return key

    for sample in samples:
        key = _key(sample, by)
        other = holder.setdefault(sample.sha256, key) if sample.sha256 else key
        low, high = sorted((first(key), first(other)))
        parent[high] = low
    return {key: first(key) for key in parent}


def _num_bound(samples: Iterable[Sample], by: Literal["group", "image"]) -> int:
    keys: defaultdict[str, set[str]] = defaultdict(set)
    number = Counter(sample.sha256 for sample in samples if sample.sha256)
    for sample in samples:
        keys[sample.sha256].add(_key(sample, by))
    return sum(count for digest, count in number.items() if len(keys[digest]) > 1)


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


def _too_few(
    name: str, label: str, units: list[_Unit], totals: Mapping[str, int], why: str, by: str
) -> RefusedDataError:
    number = sum(label in unit.counts for unit in units)
    is_grouped = any(label in unit.counts and unit.key.startswith("group:") for unit in units)
    found = counted(totals[label], "image") + (f" from {counted(number, 'group')}" if is_grouped else "")
    if not is_grouped and number < totals[label]:
        found += f", {number} without copies"
    other = ", or divide by image (groups then stand on two sides)" if by == "group" and is_grouped else ""
    return RefusedDataError(
        "L404", f"{name}: class {label!r} has {found}, {why}. Add images, merge classes with a label map{other}."
    )
