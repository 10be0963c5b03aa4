"""Dataset manifest: a checked, sorted and fingerprinted table of images."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain
from pathlib import Path

from cytolora.config.reading import DECODE_VERSION, STANDARD, Decoding
from cytolora.config.run import SUBSETS, Subset
from cytolora.core.files import canonical_json, sha256_text
from cytolora.core.findings import Finding
from cytolora.core.tables import html_table
from cytolora.core.text import counted
from cytolora.data.grouping import Grouping
from cytolora.errors import DataError

METADATA_PREFIX = "meta_"
"""Before the name of a metadata column wherever it stands beside classes."""
_COLUMNS = ("path", "label", "subset", "group")
"""Stand beside the classes in every table of predictions."""
_HASHED_TOGETHER = 16
"""Files that a thread takes at once: handing each over takes longer than hashing a cell."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Sample:
    """One labelled image."""

    path: str
    """Relative to the dataset's root, with forward slashes; unique within a manifest. Open ``file_in(root)``."""
    label: str
    subset: Subset | None = None
    """None until the dataset is split."""
    group: str | None = None
    """Patient, slide or field that the image comes from; None where it cannot be known."""
    sha256: str = ""
    """Of the file's bytes; empty until ``with_hashes``."""
    metadata: tuple[tuple[str, str], ...] = ()
    """Further columns (stain, scanner, site, …), sorted by name."""
    pixel_rules: str = ""
    """Rules that read the image otherwise than version 1 of them, in words; empty where none does: most images."""
    elsewhere: Path | None = field(default=None, compare=False)
    """Its file where that is not below the dataset's root: an image that ``fit`` added, or one of a pool."""
    is_added: bool = field(default=False, compare=False)
    """Whether ``fit`` added it to a dataset: it may be trained on, and nothing else."""
    shares: tuple[tuple[str, float], ...] = field(default=(), compare=False)
    """Soft label: classes with their shares, which add up to 1; empty where ``label`` is all there is."""

    @property
    def pixels_key(self) -> str:
        """SHA-256 of what its pixels are made from: the file, and the rules where they are others than those before."""
        if not self.pixel_rules:
            return self.sha256
        return sha256_text(canonical_json([self.sha256, DECODE_VERSION, self.pixel_rules]))

    def file_in(self, root: Path) -> Path:
        """Returns its file, of a dataset in the folder ``root``."""
        return self.elsewhere or root / self.path


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A dataset: classes in the literature's order and samples sorted by path."""

    name: str
    root: Path
    """Folder that sample paths are relative to; no part of the fingerprint."""
    classes: tuple[str, ...]
    samples: tuple[Sample, ...]
    group_rule: str = ""
    """How groups were read, in words for a report; empty where there are none."""
    split_rule: str = ""
    """Where train, val and test come from, in words for a report; empty while there are none."""
    findings: tuple[Finding, ...] = field(default=(), compare=False)
    """Of the reader: what is odd in its input."""
    decoding: Decoding = STANDARD
    """How its files become pixels; part of the fingerprint through the images that it acts on."""
    tree: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)
    """By class, its ancestors from the coarsest level down, and itself; empty where classes have no hierarchy."""
    has_given_test: bool = field(default=False, compare=False)
    """Whether there ever was a test image: a copy with fewer images keeps it, so that none is tested on instead."""

    def __post_init__(self) -> None:
        if any(sample.subset == "test" for sample in self.samples):
            object.__setattr__(self, "has_given_test", True)
        object.__setattr__(self, "samples", tuple(sorted(self.samples, key=lambda sample: sample.path)))
        if not self.samples:
            raise DataError(f"{self.name}: no images found in {self.root}.")
        path, times = Counter(sample.path for sample in self.samples).most_common(1)[0]
        if times > 1:
            raise DataError(f"{self.name}: {path} is listed {times} times; list every image once.")
        taken = [name for name in self.classes if name in _COLUMNS or name.startswith(METADATA_PREFIX)]
        if taken:
            raise DataError(
                f"{self.name}: a class is named {taken[0]!r}, like a column of the results; no class may be called "
                f"{', '.join(_COLUMNS)} or begin with {METADATA_PREFIX}. Rename the class in the data."
            )
        strange = sorted({sample.label for sample in self.samples} - set(self.classes))
        if strange:
            raise DataError(f"{self.name}: label {strange[0]!r} is none of the classes {', '.join(self.classes)}.")

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over classes, paths, labels, groups and the bytes of every image; subsets are not part of it.

        Of an image that today's pixel rules read otherwise than those before, their name is part of it.
        """
        return self._fingerprint(lambda sample: [f"{DECODE_VERSION}: {sample.pixel_rules}"] * bool(sample.pixel_rules))

    @cached_property
    def fingerprint_before(self) -> str:
        """The fingerprint that the same files had by pixel rules of version 1."""
        return self._fingerprint(lambda sample: [])

    def changed_pixels(self) -> list[str]:
        """Says which pixel rules read images otherwise than before, with the number of images."""
        counts = Counter(sample.pixel_rules for sample in self.samples if sample.pixel_rules)
        return [f"{counted(number, 'image')}: {rules}" for rules, number in sorted(counts.items())]

    def _fingerprint(self, mark: Callable[[Sample], list[str]]) -> str:
        if any(not sample.sha256 for sample in self.samples):
            return self.with_hashes()._fingerprint(mark)
        rows = [[one.path, one.label, one.group, one.sha256, *mark(one)] for one in self.samples]
        return sha256_text(canonical_json({"classes": list(self.classes), "samples": rows}))

    def with_hashes(self) -> "Manifest":
        """Returns the manifest with the hash and the pixel rules of every image; reads each file once.

        Images that use few of their values (P102) are among its findings from then on, whatever command reads them.
        """
        from cytolora.data.imaging.marks import Mark, hash_and_mark, small_range_of, used_range  # not while only listed

        new = [sample.file_in(self.root) for sample in self.samples if not sample.sha256]
        decoding = used_range(new, self.decoding)
        marks: dict[str, Mark] = {}

        def hashed(sample: Sample) -> Sample:
            if sample.sha256:
                return sample
            file = sample.file_in(self.root)
            try:
                sha256, mark = hash_and_mark(file, decoding)
            except OSError as error:
                raise DataError(f"Cannot read {file}: {error.strerror}.") from error
            marks[sample.path] = mark
            return replace(sample, sha256=sha256, pixel_rules=mark.rules)

        def all_hashed(some: Sequence[Sample]) -> list[Sample]:
            return [hashed(sample) for sample in some]

        parts = [self.samples[at : at + _HASHED_TOGETHER] for at in range(0, len(self.samples), _HASHED_TOGETHER)]
        with ThreadPoolExecutor() as pool:
            samples = tuple(chain.from_iterable(pool.map(all_hashed, parts)))
        in_order = {sample.path: marks[sample.path] for sample in samples if sample.path in marks}
        findings = (*self.findings, *small_range_of(in_order, decoding))
        return replace(self, samples=samples, decoding=decoding, findings=findings)

    def subset(self, name: Subset) -> tuple[Sample, ...]:
        """Returns the samples of one subset, sorted by path."""
        return tuple(sample for sample in self.samples if sample.subset == name)

    @property
    def has_subsets(self) -> bool:
        """Whether every sample stands in train, val or test."""
        return all(sample.subset is not None for sample in self.samples)

    @property
    def has_groups(self) -> bool:
        """Whether every sample says which patient, slide or field it comes from."""
        return all(sample.group is not None for sample in self.samples)

    @property
    def metadata_names(self) -> list[str]:
        """Names of the further columns of any sample, sorted."""
        return sorted({name for sample in self.samples for name, _ in sample.metadata})

    @cached_property
    def grouping(self) -> Grouping:
        """Whether groups are known, and whether the subsets share any."""
        return Grouping.of((sample.subset, sample.group) for sample in self.samples)

    def counts(self) -> dict[str, dict[str, int]]:
        """Returns images per class and subset: ``counts()["hsil"]["train"]``; ``all`` is the sum."""
        table: dict[str, dict[str, int]] = {label: dict.fromkeys(("all", *SUBSETS), 0) for label in self.classes}
        for sample in self.samples:
            table[sample.label]["all"] += 1
            if sample.subset:
                table[sample.label][sample.subset] += 1
        return table

    def __repr__(self) -> str:
        counts = ", ".join(f"{label} {row['all']}" for label, row in self.counts().items())
        return f"Manifest({self.name!r}, {counted(len(self.samples), 'image')}: {counts})"

    def _repr_html_(self) -> str:
        subsets = ("all", *(name for name in SUBSETS if self.subset(name)))
        rows = [[label, *(row[name] for name in subsets)] for label, row in self.counts().items()]
        num_groups = len({sample.group for sample in self.samples} - {None})
        groups = counted(num_groups, "group") if num_groups else "groups not known"
        images, classes = counted(len(self.samples), "image"), counted(len(self.classes), "class", "classes")
        title = f"{self.name}: {images}, {classes}, {groups}"
        return html_table(["class", *subsets], rows, caption=title)


@dataclass(frozen=True, kw_only=True)
class Split:
    """What one run sees; a repeated sample (``on_small_class: repeat``) stands in ``train`` more than once."""

    train: tuple[Sample, ...]
    val: tuple[Sample, ...]
    test: tuple[Sample, ...]

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the three lists of paths and labels, in their order."""
        return sha256_text(canonical_json([_rows(self.train), _rows(self.val), _rows(self.test)]))


def _rows(samples: Iterable[Sample]) -> list[list[str]]:
    return [[sample.path, sample.label] for sample in samples]
