"""Similar names: classes and groups whose names differ by what nobody means, such as case, blanks or leading zeros."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import replace

from cytolora.core.findings import Finding, finding, first
from cytolora.core.text import counted, difference, folded, normal, shown
from cytolora.data.grouping import group_key, names_of_groups
from cytolora.data.manifest import Manifest, Sample

_OF_LABELS = ("L401", "L403")
_MISSING = frozenset(
    {
        *("nan", "na", "n/a", "n.a.", "#n/a", "#na", "<na>", "nat", "none", "<none>", "null", "<null>", "#null!"),
        *("nan.0", "-nan", "1.#qnan", "#value!", "#ref!", "#name?", "#div/0!", "missing", "undefined", "undef"),
        *("-", "--", "---", "–", "—", "?", "??", "???", ".", "..", "...", "…", "not available", "(blank)", "(empty)"),
    }
)
"""How programs and people write a missing value, in lower case; ``unknown`` and ``nil`` (NILM) may be classes."""
_UNKNOWN = _MISSING | {"unknown", "unk", "not known", "unbekannt", "inconnu", "desconocido", "#n/d"}
"""The same of a group, which nobody calls unknown."""
_ROUNDED = re.compile(r"[+-]?\d+([.,]\d+)?e\+\d+", re.IGNORECASE)
"""``2.02411E+11``: a number of which a spreadsheet kept the first digits."""


def with_label_findings(manifest: Manifest) -> Manifest:
    """Returns the manifest with what is odd about the names of its classes, in the place of what was said before."""
    others = (one for one in manifest.findings if one.code not in _OF_LABELS)
    return replace(manifest, findings=(*others, *_similar_classes(manifest), *_missing_labels(manifest)))


def join_groups(name: str, samples: Iterable[Sample]) -> tuple[list[Sample], list[Finding]]:
    """Gives groups one name that differ only by case, dashes, leading zeros or the form of a number, and says so.

    Groups named like a missing value count as not known.
    """
    samples, findings = _without_missing_groups(name, samples)
    findings += _rounded_groups(name, samples)
    names = names_of_groups(sample.group for sample in samples if sample.group is not None)
    forms: defaultdict[str, list[str]] = defaultdict(list)
    for written, group in names.items():
        forms[group].append(written)
    several = [" = ".join(map(shown, sorted(written))) for written in forms.values() if len(written) > 1]
    if not several:
        return samples, findings
    text = f"{name}: groups written in several forms, which count as one group each: {len(several)}, {first(several)}."
    joined = [replace(one, group=None if one.group is None else names[one.group]) for one in samples]
    return joined, [*findings, finding("L402", text, count=len(several), examples=several)]


def join_metadata(name: str, samples: Iterable[Sample]) -> tuple[list[Sample], list[Finding]]:
    """Gives values of a metadata column one name where they differ as ``join_groups`` says, and tells of each column.

    Values named like a missing value count as not known.
    """
    samples = list(samples)
    columns = sorted({column for one in samples for column, _ in one.metadata})
    names: dict[str, dict[str, str]] = {}
    findings: list[Finding] = []
    for column in columns:
        written = [value for one in samples for key, value in one.metadata if key == column]
        known = names_of_groups(value for value in written if not is_unknown_group(value))
        names[column] = known
        forms: defaultdict[str, list[str]] = defaultdict(list)
        for form, value in known.items():
            forms[value].append(form)
        several = [" = ".join(map(shown, sorted(those))) for those in forms.values() if len(those) > 1]
        missing = [f"{shown(value)}, which counts as none" for value in sorted(set(written) - known.keys())]
        if several or missing:
            told = [*several, *missing]
            text = f"{name}: texts of column {column!r} that count as one, or as none: {len(told)}, {first(told)}."
            findings.append(finding("T302", text, count=len(told), examples=told))
    joined = [
        replace(one, metadata=tuple((key, names[key][value]) for key, value in one.metadata if value in names[key]))
        for one in samples
    ]
    return joined, findings


def is_unknown_group(group: str) -> bool:
    """Says whether a group is named like a missing value."""
    return normal(group).casefold() in _UNKNOWN


def _without_missing_groups(name: str, samples: Iterable[Sample]) -> tuple[list[Sample], list[Finding]]:
    samples = list(samples)
    times = Counter(one.group for one in samples if one.group is not None and is_unknown_group(one.group))
    if not times:
        return samples, []
    named = ", ".join(f"{shown(group)} ({counted(number, 'image')})" for group, number in sorted(times.items()))
    text = f"{name}: groups named like a missing value, which count as not known: {named}."
    known = [replace(one, group=None) if one.group in times else one for one in samples]
    return known, [finding("L406", text, count=times.total(), examples=sorted(times))]


def _rounded_groups(name: str, samples: Iterable[Sample]) -> list[Finding]:
    rounded = sorted({one.group for one in samples if one.group is not None and _ROUNDED.fullmatch(one.group)})
    if not rounded:
        return []
    text = (
        f"{name}: groups that a spreadsheet has rounded, so that several may be one: {len(rounded)}, {first(rounded)}."
    )
    return [finding("L407", text, count=len(rounded), examples=rounded)]


def _similar_classes(manifest: Manifest) -> list[Finding]:
    counts = manifest.counts()
    by_form: defaultdict[str, list[str]] = defaultdict(list)
    for label in manifest.classes:
        by_form[group_key(label)].append(label)
    findings = []
    for labels in by_form.values():
        if len(labels) < 2:
            continue
        *head, last = [f"{shown(label)} ({counted(counts[label]['all'], 'image')})" for label in labels]
        by = " or ".join(dict.fromkeys(_difference(labels[0], label) for label in labels[1:]))
        text = f"{manifest.name}: classes {', '.join(head)} and {last} differ only by {by}."
        findings.append(finding("L401", text, count=len(labels), examples=labels))
    return findings


def _difference(one: str, other: str) -> str:
    if folded(one) == folded(other):
        return difference(one, other)
    return "leading zeros, the form of a number, quotes or slashes"


def _missing_labels(manifest: Manifest) -> list[Finding]:
    counts = manifest.counts()
    labels = [label for label in manifest.classes if normal(label).casefold() in _MISSING]
    if not labels:
        return []
    number = sum(counts[label]["all"] for label in labels)
    named = ", ".join(f"{shown(label)} ({counted(counts[label]['all'], 'image')})" for label in labels)
    text = f"{manifest.name}: classes named like a missing value: {named}."
    return [finding("L403", text, count=number, examples=labels)]
