"""Findings of a division: group leakage, unknown groups, and copies on two sides."""

from collections import defaultdict

from cytolora.core.findings import Finding, RefusedDataError, finding, first
from cytolora.core.text import counted
from cytolora.data.grouping import GROUPS_UNKNOWN, SPLIT_BY_IMAGE
from cytolora.data.manifest import Manifest, Split

_NUM_SHOWN = 3
"""Paths that one case names."""


def of_division(manifest: Manifest) -> list[Finding]:
    """Returns what keeps the test set of a divided dataset from being one of new patients and new images."""
    return [*of_groups(manifest), *torn_copies(manifest)]


def of_groups(manifest: Manifest) -> list[Finding]:
    """Returns group leakage, a division by image, and unknown groups."""
    grouping = manifest.grouping
    warnings = grouping.warnings(manifest.split_rule)
    findings = []
    if SPLIT_BY_IMAGE in warnings:
        code, count = ("D505", grouping.num_torn) if grouping.num_torn else ("D508", grouping.num_images)
        findings.append(finding(code, warnings[SPLIT_BY_IMAGE], count=count))
    if GROUPS_UNKNOWN in warnings:
        count = grouping.num_images - grouping.num_grouped
        findings.append(finding("D506", warnings[GROUPS_UNKNOWN], count=count))
    return findings


def torn_copies(manifest: Manifest) -> list[Finding]:
    """Returns byte-equal files that stand in more than one subset; known only of images with hashes."""
    paths: defaultdict[str, list[str]] = defaultdict(list)
    subsets: defaultdict[str, set[str]] = defaultdict(set)
    for sample in manifest.samples:
        if sample.sha256 and sample.subset:
            paths[sample.sha256].append(sample.path)
            subsets[sample.sha256].add(sample.subset)
    cases = [" = ".join(paths[digest][:_NUM_SHOWN]) for digest in paths if len(subsets[digest]) > 1]
    if not cases:
        return []
    text = f"Byte-equal files in more than one of train, val and test: {len(cases)}, {first(cases)}."
    return [finding("D507", text, count=len(cases), examples=cases)]


def of_draw(manifest: Manifest, split: Split) -> list[Finding]:
    """Returns the classes that a draw in natural prevalence left without a training image."""
    drawn = {sample.label for sample in split.train}
    absent = [label for label in manifest.classes if label not in drawn]
    if not absent or not split.train:
        return []
    number = counted(len(absent), "class", "classes")
    text = f"The {counted(len(split.train), 'training image')} drawn hold none of {number}, {first(absent)}."
    return [finding("D513", text, count=len(absent), examples=absent)]


def refuse_one_class(manifest: Manifest) -> None:
    """Raises a RefusedDataError if there is nothing to tell apart."""
    if len(manifest.classes) == 1:
        raise RefusedDataError(
            "L405",
            f"{manifest.name} has one class, {manifest.classes[0]!r}; a classifier tells two or more apart. "
            "Add images of another: in a sub-folder of its own, or with its label in the table or project.",
        )
