"""Pools of datasets under one label map: images of all, the dataset as a metadata column, and what the map loses."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cytolora.config.reading import AS_IT_STANDS, ReadOptions
from cytolora.core.files import sha256_text
from cytolora.core.findings import Finding, finding, first
from cytolora.core.schema import is_file_name
from cytolora.core.text import counted, matching
from cytolora.data.datasets import DATASETS, load_manifest
from cytolora.data.label_map import LabelMap, apply_label_map
from cytolora.data.manifest import Manifest, Sample
from cytolora.data.pool_maps import Line, PoolMap, read_pool_map
from cytolora.data.readers.pool import POOL
from cytolora.data.similar_names import with_label_findings
from cytolora.errors import ConfigError

COLUMN = "dataset"
"""Metadata column that names the dataset of an image: ``--leave-out dataset=herlev``."""
_LONGEST = 48
"""Characters of a pool's name before its members become a digest: names are parts of file names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """Datasets to be read as one."""

    label_map: PoolMap
    members: Mapping[str, Path]
    """Folder of each dataset: of a registered name (``herlev``, ``hicervix:26``), or of one's own cells by any name."""

    def __post_init__(self) -> None:
        if len(self.members) < 2:
            given = ", ".join(self.members) or "none"
            raise ConfigError(f"A pool is made of two datasets or more, got {given}: --data herlev=PATH sipakmed=PATH.")
        prefixes: dict[str, str] = {}
        for name in self.members:
            if not is_file_name(prefix_of(name)):
                raise ConfigError(f"A dataset of a pool is called by letters, digits and any of . _ + -, got {name!r}.")
            other = prefixes.setdefault(prefix_of(name).casefold(), name)
            if other != name:
                raise ConfigError(f"The datasets {other!r} and {name!r} of a pool have one name; rename one of them.")
        places: dict[Path, str] = {}
        for name, path in self.members.items():
            other = places.setdefault(path.resolve(), name)
            if other != name:
                raise ConfigError(f"--data names {path} as {other} and as {name}; a dataset is pooled once.")

    @property
    def name(self) -> str:
        """What runs call it: label map and datasets."""
        members = "+".join(sorted(map(prefix_of, self.members)))
        if len(self.label_map.name) + len(members) > _LONGEST:
            members = f"{len(self.members)}-datasets-{sha256_text(members)[:8]}"
        return f"{POOL.name}:{self.label_map.name}+{members}"

    @property
    def exists(self) -> bool:
        """Whether all its folders are there."""
        return all(path.exists() for path in self.members.values())

    def absolute(self) -> "Pool":
        """Returns it with absolute paths."""
        return replace(self, members={name: path.absolute() for name, path in self.members.items()})


@dataclass(frozen=True, slots=True, kw_only=True)
class Mapped:
    """One class of one dataset in a pool."""

    dataset: str
    label: str
    category: str
    """Empty where its images are left out."""
    number: int
    """Images."""
    line: Line


def pool_of(label_map: str | Path, members: Mapping[str, Path]) -> Pool:
    """Reads the label map of a pool, by shipped name or from a YAML file."""
    return Pool(label_map=read_pool_map(label_map), members=members)


def pooled(pool: Pool, datasets: Sequence[str], label_map: Path | None) -> list[str]:
    """Returns what takes the place of a grid's datasets where these are pooled.

    Raises:
        ConfigError: If datasets of the grid, or a label map of one dataset, are named too.
    """
    if datasets:
        raise ConfigError(f"--pool makes one dataset of those of --data; leave out --dataset {' '.join(datasets)}.")
    if label_map is not None:
        raise ConfigError("--map is for one dataset, and --pool has the map of several; give one of them.")
    return [pool.name]


def prefix_of(name: str) -> str:
    """Returns what stands before the paths and groups of a dataset's images."""
    return name.replace(":", "-")


def load_pool(pool: Pool, reading: ReadOptions = AS_IT_STANDS, *, strict: bool = False) -> Manifest:
    """Reads all datasets of a pool and maps their classes.

    Paths and groups begin with the dataset's name, so that equal ones of two datasets stay apart. Official subsets
    stay where all datasets have them; else none are kept, and its findings say so.

    Args:
        strict: Makes a count that differs from the published one an error, as in ``load_manifest``.

    Raises:
        ConfigError: If a class is neither in the map nor called like a category, or nothing of a dataset is left.
        DataError: If a dataset cannot be read.
    """
    read = {name: _read(name, path, reading, strict=strict) for name, path in pool.members.items()}
    mapped = {name: _mapped(pool.label_map, name, manifest) for name, manifest in read.items()}
    present = {one.category for rows in mapped.values() for one in rows if one.number}
    classes = tuple(label for label in pool.label_map.categories if label in present)
    parts = {name: _part(name, read[name], mapped[name], classes) for name in read}
    rules = {replace(one.decoding) for one in parts.values()}
    if len(rules) > 1:
        raise ConfigError(
            "The datasets of the pool are not read by one rule of pixels; give the value that is white: --value-range."
        )
    keeps_subsets = all(one.has_subsets for one in parts.values())
    samples = tuple(
        sample if keeps_subsets else replace(sample, subset=None) for one in parts.values() for sample in one.samples
    )
    manifest = Manifest(
        name=pool.name,
        root=next(iter(pool.members.values())).absolute(),
        classes=classes,
        samples=samples,
        group_rule="; ".join(f"{name}: {one.group_rule or 'not known'}" for name, one in read.items()),
        split_rule="train, val and test as each dataset gives them" if keeps_subsets else "",
        has_given_test=keeps_subsets and any(one.has_given_test for one in parts.values()),
        findings=(
            *(found for one in parts.values() for found in one.findings),
            *_lost(pool.label_map, mapped),
            *_columns_replaced(read),
            *_subsets_dropped(parts, keeps_subsets=keeps_subsets),
        ),
        decoding=rules.pop(),
    )
    return with_label_findings(manifest)


def account(pool: Pool, reading: ReadOptions = AS_IT_STANDS) -> list[Mapped]:
    """Lists every class of every dataset, the category that it goes to, and its images."""
    return [
        one for name, path in pool.members.items() for one in _mapped(pool.label_map, name, _read(name, path, reading))
    ]


def registered(name: str) -> str | None:
    """Returns the name of a dataset of a pool where it says which reader; None of one's own cells."""
    return name if name.partition(":")[0] in {spec.name for spec in DATASETS if not spec.generic} else None


def _read(name: str, path: Path, reading: ReadOptions, *, strict: bool = False) -> Manifest:
    return load_manifest(path, registered(name), reading=reading, strict=strict)


def _mapped(label_map: PoolMap, name: str, manifest: Manifest) -> list[Mapped]:
    """Finds the line of every class; a dataset that the map does not know has classes called like categories."""
    lines = label_map.lines(name) or _of_published(label_map, manifest)
    counts = manifest.counts()
    _refuse_unknown_lines(label_map, name, manifest, lines)
    rows = []
    for label in manifest.classes:
        written = matching(label, lines)
        category = label_map.category(label) if not lines else None
        if written is None and category is None:
            raise _no_line(label_map, name, label)
        line = Line(to=category or "") if written is None else lines[written]
        number = counts[label]["all"]
        rows.append(Mapped(dataset=name, label=label, category=line.to, number=number, line=line))
    if not any(one.category and one.number for one in rows):
        raise ConfigError(f"The label map {label_map.name} leaves out every image of {name}; leave the dataset out.")
    return rows


def _of_published(label_map: PoolMap, manifest: Manifest) -> Mapping[str, Line]:
    """Returns the lines of the published dataset that was recognised under another name."""
    known = {spec.name: spec for spec in DATASETS if not spec.generic}
    spec = known.get(manifest.name.partition(":")[0])
    if spec is None or not set(manifest.classes) <= _all_classes(spec.name):
        return {}
    return label_map.lines(spec.name)


def _all_classes(name: str) -> set[str]:
    """Returns the classes of a registered dataset under all its label sets; none for data of one's own."""
    spec = next((spec for spec in DATASETS if spec.name == name.partition(":")[0]), None)
    if spec is None:
        return set()
    return {label for one in (spec, *spec.label_sets.values()) for label in one.classes}


def _refuse_unknown_lines(label_map: PoolMap, name: str, manifest: Manifest, lines: Mapping[str, Line]) -> None:
    """A line for a class that no label set of the dataset has is a slip of the pen."""
    known = {*manifest.classes, *_all_classes(name), *_all_classes(manifest.name)}
    for label in lines:
        if matching(label, known) is None:
            raise ConfigError(
                f"The label map {label_map.name} names a class {label!r} of {name}, which has "
                f"{', '.join(manifest.classes)}. Correct the line."
            )


def _no_line(label_map: PoolMap, name: str, label: str) -> ConfigError:
    return ConfigError(
        f"The label map {label_map.name} has no line for class {label!r} of {name}, and no category is called so: "
        f"{', '.join(label_map.categories)}. Give a map of your own with --pool MAP.yaml (docs/pooling.md)."
    )


def _part(name: str, manifest: Manifest, rows: Sequence[Mapped], classes: Sequence[str]) -> Manifest:
    """Maps one dataset, and tells its paths and groups apart from those of the others."""
    targets = {one.label: one.category for one in rows}
    merged = apply_label_map(manifest, LabelMap(targets=targets, classes=tuple(classes), is_ordered=False))
    return replace(merged, samples=tuple(_apart(name, one, merged.root) for one in merged.samples))


def _apart(name: str, sample: Sample, root: Path) -> Sample:
    prefix = prefix_of(name)
    return replace(
        sample,
        path=f"{prefix}/{sample.path}",
        group=None if sample.group is None else f"{prefix}/{sample.group}",
        metadata=tuple(sorted({**dict(sample.metadata), COLUMN: name}.items())),
        elsewhere=sample.file_in(root).absolute(),
    )


def _lost(label_map: PoolMap, mapped: Mapping[str, Sequence[Mapped]]) -> list[Finding]:
    """Says which classes are left out, and which are told apart no more."""
    findings = []
    for name, rows in mapped.items():
        away = [one for one in rows if not one.category and one.number]
        if away:
            cases = [f"{one.label} ({counted(one.number, 'image')}{_why(one.line)})" for one in away]
            text = f"{name}: the label map {label_map.name} leaves out {', '.join(cases)}."
            findings.append(finding("L410", text, count=sum(one.number for one in away), examples=cases))
        times = Counter(one.category for one in rows if one.category and one.number)
        merged = [
            f"{' + '.join(f'{one.label} ({one.number:,})' for one in rows if one.category == category)} as {category}"
            for category, number in times.items()
            if number > 1
        ]
        if merged:
            text = f"{name}: the label map {label_map.name} joins {'; '.join(merged)}."
            findings.append(finding("L411", text, count=len(merged), examples=merged))
    return findings


def _why(line: Line) -> str:
    return f": {line.note}" if line.note else ""


def _columns_replaced(read: Mapping[str, Manifest]) -> list[Finding]:
    """Says whose own column ``dataset`` gives way to that of the pool."""
    findings = []
    for name, manifest in read.items():
        own = Counter(value for sample in manifest.samples for column, value in sample.metadata if column == COLUMN)
        if set(own) <= {name}:
            continue
        cases = [f"{value} ({counted(number, 'image')})" for value, number in sorted(own.items())]
        text = f"{name}: its own metadata column {COLUMN!r} gives way to the pool's, {first(cases)}."
        findings.append(finding("L413", text, count=len(own), examples=cases))
    return findings


def _subsets_dropped(parts: Mapping[str, Manifest], *, keeps_subsets: bool) -> list[Finding]:
    having = [name for name, one in parts.items() if any(sample.subset for sample in one.samples)]
    if keeps_subsets or not having:
        return []
    lacking = [name for name in parts if name not in having]
    whose = f"{', '.join(lacking) or 'some images'} {'has' if len(lacking) == 1 else 'have'} none"
    text = f"The official train, val and test of {', '.join(having)} are not used: {whose}. The pool is divided anew."
    return [finding("L412", text, count=len(having), examples=having)]
