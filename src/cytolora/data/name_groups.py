"""Groups in file names: ``slide03_007`` is cell 7 of slide 03; coordinates, dates, copies and counters are none."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from cytolora.data.manifest import Sample

_MIN_FITTING = 0.9
"""Share of the names in which two numbers stand."""
_MIN_GROUPS = 3
_MAX_GROUPS = 0.9
"""Groups by images; above it, names number images."""
_MAX_SHARE = 0.5
"""Of all images in one group."""
_MIN_REPEATED = 0.05
"""Share of the names that stand in two classes, from which numbering restarts in each class."""
_MIN_EXTENT_PX = 256
"""Of coordinates without a name, in both directions; smaller numbers count slides and cells."""

_SEPARATORS = " _-.,;:=+#([{/"

_AUGMENTED = re.compile(
    r"""[\s_.\-]+(?:
        (?:rot|rotated?|rotation)[_\-]?-?\d{0,3}(?:deg)? | r(?:90|180|270)
      | (?:[hv]|lr|ud|horizontal|vertical)?[_\-]?(?:flip(?:ped)?|mirror(?:ed)?)
          (?:[_\-]?(?:[hvxy]|lr|ud|horizontal|vertical|\d+))?
      | (?:aug(?:mented|mentation)?|transposed?|zoom|shear|blur(?:red)?|noisy?|noise|jitter|bright(?:ness)?|contrast
          |elastic|hue|gamma)[_\-]?\d*
      | (?:copy|kopie|copie|copia)[\s_\-]?(?:\(\d+\)|\d*)
    )$""",
    re.IGNORECASE | re.VERBOSE,
)
"""Not crop, tile or scale: their number counts cells."""
_COPY_OF = re.compile(r"^copy of\s+", re.IGNORECASE)
_NUMBERED_COPY = re.compile(r"\s*\(\d+\)$")
"""A copy only beside its original: ``slide3 (10)`` may be cell 10 of slide 3."""

_TOKEN = re.compile(
    r"""
    (?P<opaque>[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}
      | (?<![0-9a-z])(?=[0-9a-f]*[a-f])(?=[0-9a-f]*[0-9])[0-9a-f]{12,}(?![0-9a-z]))
    | (?P<date>(?<!\d)(?:
          (?:19|20)\d\d(?P<a>[-_.]?)(?:0[1-9]|1[0-2])(?P=a)(?:0[1-9]|[12]\d|3[01])
        | (?:0[1-9]|[12]\d|3[01])(?P<b>[-_.])(?:0[1-9]|1[0-2])(?P=b)(?:19|20)\d\d)(?!\d)
        (?:[-_T .]{1,3}(?:[01]\d|2[0-3])(?P<c>[-_:.h]?)[0-5]\d[-_:.m]?[0-5]\d(?:\d{3})?(?!\d)
          | [-_T .](?:[01]\d|2[0-3])[:h][0-5]\d(?!\d))?)
    | (?P<position>(?<![a-z])(?:
          (?:x|col|column|c|left)[-_=: ]{0,2}\d+(?:\.\d+)?[-_,; ]{0,2}(?:y|row|r|top)[-_=: ]{0,2}\d+(?:\.\d+)?
        | (?:y|row|r|top)[-_=: ]{0,2}\d+(?:\.\d+)?[-_,; ]{0,2}(?:x|col|column|c|left)[-_=: ]{0,2}\d+(?:\.\d+)?
        | \d+x[-_,]\d+y)
        (?:[-_,; ]{0,2}(?:w|h|width|height|size|level)[-_=: ]{0,2}\d+)*)
    | (?P<scale>(?<!\d)\d{1,3}x(?![a-z0-9]))
    | (?P<number>\d+)
    """,
    re.IGNORECASE | re.VERBOSE,
)

_SHORT_DATE = re.compile(r"\D*(?:(?:19|20)\d\d(?:[-_.]?(?:0[1-9]|1[0-2]))?|(?P<six>\d{6}))\D*")


@dataclass(frozen=True, kw_only=True)
class NameGroups:
    """Groups that the names of images suggest."""

    group_of: Mapping[str, str]
    """By path; images whose name does not fit are left out."""
    source_of: Mapping[str, str]
    """By path, the name without marks of augmentation: equal for versions of one image."""
    rule: str
    """How groups were read, in words for a report."""
    by_class: bool
    """Whether a group holds images of one class only."""
    num_positions: int | None
    """Numbers at the end of a name that are coordinates; None where groups are versions of one image."""

    def of(self, stem: str, label: str) -> str | None:
        """Returns the group of an image from elsewhere, named by the same rule; None where its name does not fit."""
        name = _Name(path=stem, label=label, source=_source(stem, frozenset()), tokens=())
        if self.num_positions is None:
            return _group(label, name.source, self.by_class)
        cut = _cut(replace(name, tokens=_tokens(name.source)), self.num_positions)
        return None if cut is None else _group(label, cut.prefix, self.by_class)

    @property
    def num_groups(self) -> int:
        """Distinct groups."""
        return len(set(self.group_of.values()))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Token:
    kind: str
    start: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Name:
    path: str
    label: str
    source: str
    """Folder, where folders are no classes, and stem without marks of augmentation."""
    tokens: tuple[_Token, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cut:
    """A name in two parts."""

    name: _Name
    prefix: str
    rest: str


def groups_in_names(samples: Iterable[Sample]) -> NameGroups | None:
    """Returns the groups that names such as ``slide03_007`` suggest; None where they suggest none.

    A group is what stands before the last number: two numbers in 90 % of the names, from 3 groups to 0.9 by image, none
    with more than half of the images. Coordinates and times at the end are no part of it, a date alone is none, and the
    class is part of it where numbering restarts in each class. Versions of one image (``_rot90``, ``_flip``,
    ``copy``) are a group where names hold no other.
    """
    names = _names(list(samples))
    if not names:
        return None
    source_of = {one.path: one.source for one in names}
    num_positions = _num_positions(names)
    cuts = [cut for name in names if (cut := _cut(name, num_positions)) is not None]
    if len(cuts) >= _MIN_FITTING * len(names):
        by_class = _restarts(cuts)
        groups = {cut.name.path: _group(cut.name.label, cut.prefix, by_class) for cut in cuts}
        if _plausible(groups, names) and not _only_dates(cuts):
            what = "class and prefix" if by_class else "prefix"
            return NameGroups(
                group_of=groups,
                source_of=source_of,
                rule=f"{what} of the file name, before its last number",
                by_class=by_class,
                num_positions=num_positions,
            )
    versions = {one.path: _group(one.label, one.source, by_class=True) for one in names}
    if _plausible(versions, names, of_sources=False):
        rule = "file name without marks of augmentation and copies"
        alone = {one.path: one.path for one in names}
        return NameGroups(group_of=versions, source_of=alone, rule=rule, by_class=True, num_positions=None)
    return None


def _names(samples: Sequence[Sample]) -> list[_Name]:
    labels, stems = defaultdict[str, set[str]](set), defaultdict[str, set[str]](set)
    for sample in samples:
        folder, stem = _parts(sample.path)
        labels[folder].add(sample.label)
        stems[folder].add(stem)
    folders_name_groups = len(labels) >= _MIN_GROUPS and any(len(several) > 1 for several in labels.values())
    names = []
    for sample in samples:
        folder, stem = _parts(sample.path)
        source = _source(stem, stems[folder])
        text = f"{folder}/{source}" if folders_name_groups else source
        names.append(_Name(path=sample.path, label=sample.label, source=text, tokens=_tokens(text)))
    return names


def _parts(path: str) -> tuple[str, str]:
    pure = PurePosixPath(path)
    return pure.parent.as_posix(), pure.stem


def _source(stem: str, siblings: Set[str]) -> str:
    """Takes off marks of augmentation and of copies, as many as there are."""
    while True:
        shorter = _AUGMENTED.sub("", _COPY_OF.sub("", stem))
        numbered = _NUMBERED_COPY.sub("", shorter)
        shorter = numbered if numbered in siblings else shorter
        if shorter in ("", stem):
            return stem
        stem = shorter


def _tokens(text: str) -> tuple[_Token, ...]:
    found = ((match.lastgroup or "number", match) for match in _TOKEN.finditer(text))
    return tuple(_Token(kind=kind, start=match.start(), text=match[0]) for kind, match in found if kind != "scale")


def _cut(name: _Name, num_positions: int) -> _Cut | None:
    """Cuts a name before the last number, time or position, where a number that is no date stands before that."""
    kept = list(name.tokens)
    last = kept.pop() if kept else None
    for _ in range(num_positions - 1):
        last = kept.pop() if kept else None
    while kept and kept[-1].kind == "position":
        last = kept.pop()
    if last is None or not any(token.kind in ("number", "opaque") for token in kept):
        return None
    prefix = name.source[: last.start].rstrip(_SEPARATORS)
    return _Cut(name=name, prefix=prefix, rest=name.source[last.start :])


def _num_positions(names: Sequence[_Name]) -> int:
    """Counts the numbers at the end of the names that are coordinates: 0, 2, or 4 of a box."""
    number = 0
    for last in (2, 4):
        columns = [
            [int(token.text) for token in tokens[-last : len(tokens) - last + 2]]
            for tokens in (name.tokens for name in names)
            if len(tokens) >= last and all(token.kind == "number" for token in tokens[-last:])
        ]
        if len(columns) < _MIN_FITTING * len(names) or not _are_positions(columns):
            break
        number = last
    return number


def _are_positions(pairs: Sequence[Sequence[int]]) -> bool:
    """Says whether two numbers spread alike, far and thinly, as x and y in pixels do; slides and cells are counted."""
    xs, ys = (set(column) for column in zip(*pairs, strict=True))
    extents = [max(values) - min(values) for values in (xs, ys)]
    numbers = [len(xs), len(ys)]
    return (
        min(extents) >= _MIN_EXTENT_PX
        and max(extents) <= 4 * min(extents)
        and max(numbers) <= 2 * min(numbers)
        and all(2 * number < extent for number, extent in zip(numbers, extents, strict=True))
    )


def _group(label: str, prefix: str, by_class: bool) -> str:
    return f"{label}/{prefix}" if by_class else prefix


def _restarts(cuts: Sequence[_Cut]) -> bool:
    """Says whether numbering restarts in each class, so that one name stands for images of several sources."""
    labels = defaultdict[tuple[str, str], set[str]](set)
    for cut in cuts:
        labels[cut.prefix, cut.rest].add(cut.name.label)
    repeated = sum(len(labels[cut.prefix, cut.rest]) > 1 for cut in cuts)
    return repeated > _MIN_REPEATED * len(cuts)


def _plausible(group_of: Mapping[str, str], names: Sequence[_Name], *, of_sources: bool = True) -> bool:
    """Says whether groups are several, hold several images each, and are not the classes under another name."""
    units = {
        (name.label, name.source if of_sources else name.path): group_of[name.path]
        for name in names
        if name.path in group_of
    }
    sizes = Counter(units.values())
    if not _MIN_GROUPS <= len(sizes) <= _MAX_GROUPS * len(units) or max(sizes.values()) > _MAX_SHARE * len(units):
        return False
    of_class = defaultdict[str, set[str]](set)
    for (label, _), group in units.items():
        of_class[label].add(group)
    return 2 * sum(len(of_class[label]) > 1 for label, _ in units) >= len(units)


def _only_dates(cuts: Sequence[_Cut]) -> bool:
    """Says whether all prefixes are years, months or days in the forms that a number may have by chance."""
    return all(_is_date(prefix) for prefix in {cut.prefix for cut in cuts})


def _is_date(prefix: str) -> bool:
    match = _SHORT_DATE.fullmatch(prefix)
    if match is None:
        return False
    six = match["six"]
    return six is None or any(
        1 <= int(month) <= 12 and 1 <= int(day) <= 31 for month, day in ((six[2:4], six[4:]), (six[2:4], six[:2]))
    )
