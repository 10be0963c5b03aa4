"""Dataset specification: the facts known of a dataset before an image is read, and its reader."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cytolora.config.reading import Decoding, ReadOptions
from cytolora.config.run import Subset
from cytolora.core.text import counted
from cytolora.data.manifest import Manifest

Spellings = Mapping[str, tuple[str, ...]]
"""Further names of a class, by the class; case, blanks, underscores and hyphens do not count."""


@dataclass(frozen=True, kw_only=True)
class ZenodoRecord:
    """A download that needs no account."""

    record: str
    """The number at the end of ``10.5281/zenodo.<record>``."""
    md5: Mapping[str, str] = field(default_factory=dict)
    """By file, as published; empty takes files and checksums from the record itself."""
    preferred: tuple[str, ...] = ()
    """The files that are meant where nobody says which; empty: all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CountDifference:
    """A number of images that is not the published one."""

    dataset: str
    part: str
    """Class or subset, in words; empty for all images."""
    number: int
    published: int

    def __str__(self) -> str:
        of_part = f"{self.part} has " if self.part else ""
        return f"{self.dataset}: {of_part}{counted(self.number, 'image')}, {self.published} are published."


@dataclass(frozen=True, kw_only=True)
class DatasetSpec:
    """One dataset: its reader, and the facts that a reader's result is held against."""

    name: str
    title: str
    read: Callable[[Path], Manifest]
    """Reads the official download as it was unpacked; raises DataError where the folder is something else."""
    looks_like: Callable[[Path], bool]
    """Whether a folder or file is this dataset; quick, and never raises for a path that exists."""
    description: str
    sources: Callable[[Path], Iterable[Path]] = lambda _: ()
    """Files that labels or images are read from, whatever they are called; of a folder or file."""
    read_with: Callable[[Path, ReadOptions], Manifest] | None = None
    """``read`` with columns of other names; None where there is no table to choose them in."""
    read_decoded: Callable[[Path, Decoding], Manifest] | None = None
    """``read`` by other pixel rules; None where it makes no images of others."""
    classes: tuple[str, ...] = ()
    """In the literature's order; empty for data of one's own."""
    expected_counts: Mapping[str, int] = field(default_factory=dict)
    """Images per class as published; empty where nobody says."""
    expected_subsets: Mapping[Subset, int] = field(default_factory=dict)
    """Images per official subset as published; empty where there is none."""
    expected_total: int | None = None
    """Only where the classes' own counts are not known."""
    companions: tuple[str, ...] = ()
    """Files of the layout that are no photographs and need no finding: patterns of paths in lower case."""
    group_rule: str = "groups cannot be known"
    """How groups are read from names or tables, in words for a report."""
    group_of: Callable[[str, str], str | None] | None = None
    """From a file's name without suffix, and its class; None where a name alone says nothing."""
    licence: str = "not stated"
    citation: str = ""
    page: str = ""
    """Where the official download is."""
    how_to_get: str = ""
    """What to click on the page, and where to point afterwards."""
    zenodo: ZenodoRecord | None = None
    """Where it can be fetched without an account."""
    spellings: Spellings = field(default_factory=dict)
    """Names of the classes in copies of the download."""
    verified: bool = True
    """False where the official layout was not seen, and class folders of any depth are read instead."""
    generic: bool = False
    """Reads data of one's own; asked only when no published dataset recognises the path."""
    order: tuple[str, ...] = ()
    """The classes from the least to the most severe; empty where the literature does not order all of them."""
    order_source: str = ""
    """Who orders them so."""
    tree: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """As ``Manifest.tree``, where it is known before anything is read."""
    drawn: bool = False
    """Its reader draws the images into a folder that does not exist yet."""
    label_sets: "Mapping[str, DatasetSpec]" = field(default_factory=dict)
    """Other ways to label the same images, by the part after the colon: ``hicervix:25``; the first is the default."""

    def differences(self, manifest: Manifest) -> tuple[CountDifference, ...]:
        """Returns every count that is not the published one."""
        counts = manifest.counts()
        numbers = [
            *(
                (f"class {label!r}", counts.get(label, {}).get("all", 0), n)
                for label, n in self.expected_counts.items()
            ),
            *((subset, len(manifest.subset(subset)), n) for subset, n in self.expected_subsets.items()),
        ]
        if self.expected_total is not None:
            numbers.append(("", len(manifest.samples), self.expected_total))
        return tuple(
            CountDifference(dataset=self.name, part=part, number=number, published=published)
            for part, number, published in numbers
            if number != published
        )
