"""Result of an audit, as plain data and as findings."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from cytolora.core.findings import Finding, finding, first, gravest_first, problems, refuse_errors
from cytolora.data.imaging.findings import NOT_READ, converted

_NUM_SHOWN = 3
"""Paths that one case names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable:
    """A file that is no image that can be read."""

    path: str
    why: str
    code: str = "P101"
    """Of its finding: what keeps it from being read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Duplicate:
    """Images that show the same thing."""

    paths: tuple[str, ...]
    distance: int | None
    """Of 256 bits, those in which the perceptual hashes of two images differ; None: equal pixels, or by features."""
    labels: tuple[str, ...]
    """Distinct ones, sorted."""
    subsets: tuple[str, ...]
    """Distinct ones, sorted; empty before a split."""
    groups: tuple[str, ...] | None
    """Distinct ones, sorted; None where one is not known."""
    similarity: float | None = None
    """Cosine of the centred features of two images that only these bring together; None for all others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TornGroup:
    """A patient, slide or field with images in more than one subset."""

    group: str
    counts: Mapping[str, int]
    """Images by subset."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Edges of the readable images, pixels."""

    smallest: tuple[int, int]
    median: tuple[int, int]
    largest: tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """What was found; plain data, ready for ``dataclasses.asdict`` and JSON."""

    name: str
    num_images: int
    counts: Mapping[str, Mapping[str, int]]
    """Images per class and subset."""
    num_grouped: int
    """Images whose group is known."""
    num_groups: int
    group_rule: str
    split_rule: str
    max_distance: int
    unreadable: tuple[Unreadable, ...]
    exact_duplicates: tuple[Duplicate, ...]
    near_duplicates: tuple[Duplicate, ...]
    torn_groups: tuple[TornGroup, ...]
    of_reader: tuple[Finding, ...]
    """Of the reader: differences from the published counts, files left out."""
    conversions: Mapping[str, int] = field(default_factory=dict)
    """Images that are not plain 8-bit RGB, by how they are converted."""
    sizes: Sizes | None = None
    sibling_share: float | None = None
    """Test images that a random split by image (60 % train) would give a mate of their own group in train."""
    of_pixels: tuple[Finding, ...] = ()
    """Of the images that were read: value range, content, colour profiles, classes that differ (pixels.py)."""
    min_similarity: float | None = None
    """Cosine from which features made two images near duplicates; None: features were not looked at."""
    refused: tuple[Finding, ...] = ()
    """What `fit`, `split` and `run` would refuse; empty where that was not asked."""
    suspected: tuple[Finding, ...] = ()
    """Groups that file names and pixels suggest."""
    confounded: tuple[Finding, ...] = ()
    """Classes that are their source."""
    num_near_pairs: int = 0
    """Near duplicates by their hashes; of very many, ``near_duplicates`` holds the nearest."""

    @property
    def duplicates(self) -> tuple[Duplicate, ...]:
        """Equal and near ones together."""
        return self.exact_duplicates + self.near_duplicates

    @property
    def label_conflicts(self) -> tuple[Duplicate, ...]:
        """Duplicates with different labels."""
        return tuple(duplicate for duplicate in self.duplicates if len(duplicate.labels) > 1)

    @property
    def duplicates_across_subsets(self) -> tuple[Duplicate, ...]:
        """Duplicates that stand in more than one subset."""
        return tuple(duplicate for duplicate in self.duplicates if len(duplicate.subsets) > 1)

    @property
    def loose_near_duplicates(self) -> tuple[Duplicate, ...]:
        """Near duplicates that no common group keeps on one side of a split."""
        return tuple(one for one in self.near_duplicates if one.groups is None or len(one.groups) > 1)

    @property
    def imbalance(self) -> float:
        """Images of the largest class by those of the smallest; at least 1."""
        sizes = [row["all"] for row in self.counts.values()]
        return max(sizes) / max(1, min(sizes))

    @property
    def has_problems(self) -> bool:
        """Whether there is a finding that somebody should look at."""
        return bool(problems(self.findings()))

    def findings(self) -> list[Finding]:
        """Returns every finding, the gravest first: one a kind, with its number and its first cases."""
        return gravest_first(
            [*self.refused, *self.of_reader, *self._of_pixels(), *self._of_duplicates(), *self._of_groups()]
        )

    def _of_pixels(self) -> Iterator[Finding]:
        for code, what in NOT_READ.items():
            yield from _cases(code, what, [f"{bad.path} ({bad.why})" for bad in self.unreadable if bad.code == code])
        yield from self.of_pixels
        yield from converted(self.conversions)

    def check_readable(self) -> None:
        """Raises a DataError for images that leave a choice open or show nothing: leaving them out is no answer."""
        refuse_errors(self.name, self._of_pixels())

    def _of_duplicates(self) -> Iterator[Finding]:
        alike = "" if self.min_similarity is None else f", or features with a cosine of at least {self.min_similarity}"
        near = f"Near duplicates (at most {self.max_distance} of 256 bits{alike}) that no group holds together"
        yield from _cases("D501", "Images with equal pixels", _named(self.exact_duplicates))
        yield from _cases("D502", near, _named(self.loose_near_duplicates))
        num_listed = sum(one.distance is not None for one in self.near_duplicates)
        if self.num_near_pairs > num_listed:
            text = (
                f"{self.num_near_pairs:,} pairs of images resemble each other; only the {num_listed:,} nearest are "
                "listed, and compared by label, group and subset."
            )
            yield finding("D514", text, count=self.num_near_pairs - num_listed)
        yield from _cases("D503", "Duplicates with different labels", _named(self.label_conflicts))
        yield from _cases("D504", "Duplicates in more than one subset", _named(self.duplicates_across_subsets))

    def _of_groups(self) -> Iterator[Finding]:
        torn = [f"{torn.group} ({', '.join(torn.counts)})" for torn in self.torn_groups]
        yield from _cases("D505", "Groups in more than one subset", torn)
        unknown = self.num_images - self.num_grouped
        if unknown:
            whose = (
                "the groups of these images are not known"
                if not self.num_grouped
                else f"the group of {unknown} of {self.num_images} images is not known"
            )
            side = "whether one patient, slide or field stands on two sides of a split"
            yield finding("D506", f"Cannot be verified: {side}; {whose}.", count=unknown)
        yield from self.suspected
        yield from self.confounded


def _cases(code: str, what: str, cases: list[str]) -> Iterator[Finding]:
    if cases:
        yield finding(code, f"{what}: {len(cases)}, {first(cases)}.", count=len(cases), examples=cases)


def _named(duplicates: Iterable[Duplicate]) -> list[str]:
    return [" = ".join(duplicate.paths[:_NUM_SHOWN]) for duplicate in duplicates]
