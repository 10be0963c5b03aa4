"""Usable images: what `fit` leaves out of a dataset and what it refuses, which `check` says beforehand."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from cytolora.classifier.decision.decide import COLUMNS
from cytolora.config.run import SplitSpec
from cytolora.core.findings import Finding, RefusedDataError, finding, first, refuse_errors
from cytolora.core.text import counted
from cytolora.data.manifest import Manifest, Sample
from cytolora.data.quality.audit import Features, audit
from cytolora.data.quality.duplicates import MIN_SIMILARITY
from cytolora.data.quality.findings import Audit, Duplicate
from cytolora.data.quality.scan import scan
from cytolora.data.splitting.findings import of_division, refuse_one_class
from cytolora.data.splitting.splits import assign_subsets
from cytolora.display import format as words

_NUM_SHOWN = 3

DIVISION = SplitSpec(copies="together")
"""Where the dataset has no official subsets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usable:
    """The images of a dataset that a classifier can be trained, calibrated or tested on."""

    manifest: Manifest
    findings: tuple[Finding, ...]
    """On what was left out."""


def audited(
    manifest: Manifest,
    *,
    features: Features | None = None,
    min_similarity: float = MIN_SIMILARITY,
    on_image: Callable[[], None] = lambda: None,
) -> Audit:
    """Audits a dataset, with what `fit` and `run` would refuse of it; the arguments are those of ``audit``."""
    found = audit(manifest, features=features, min_similarity=min_similarity, on_image=on_image)
    return replace(found, refused=refused(manifest, found))


def usable(manifest: Manifest, found: Audit) -> Usable:
    """Leaves out unreadable files, images with equal pixels and different labels, and all but one of other copies.

    Raises:
        RefusedDataError: If nothing is left.
    """
    samples = {sample.path: sample for sample in manifest.samples}
    bad = {one.path for one in found.unreadable}
    conflicting = {path for one in found.exact_duplicates if len(one.labels) > 1 for path in one.paths}
    copies = {path for one in found.exact_duplicates if len(one.labels) == 1 for path in _all_but_one(one, samples)}
    findings = tuple(
        finding(
            code,
            f"{counted(len(paths), *what)} left out: {_first(sorted(paths))}.",
            count=len(paths),
            examples=sorted(paths),
        )
        for code, paths, what in (
            ("P101", bad, ("unreadable file",)),
            ("D503", conflicting, ("image", "images with equal pixels and different labels")),
            ("D501", copies, ("copy of an image that stays", "copies of images that stay")),
        )
        if paths
    )
    left = tuple(one for one in manifest.samples if one.path not in bad | conflicting | copies)
    if not left:
        raise RefusedDataError(
            "L404", f"{manifest.name}: no image is left; {findings[0] if findings else 'there are none.'}"
        )
    return Usable(manifest=replace(manifest, samples=left), findings=findings)


def without_unusable(manifest: Manifest, *, on_image: Callable[[], None] = lambda: None) -> Manifest:
    """Looks at every image and leaves out what ``usable`` does; what was left out stands in the findings.

    Raises:
        DataError: If an image leaves a choice open or shows nothing, or fewer than two classes are left.
    """
    found = audit(manifest, records=scan(manifest, on_image=on_image))
    found.check_readable()
    left = usable(manifest, found)
    check_classes(left.manifest, left.findings)
    return replace(left.manifest, findings=(*manifest.findings, *left.findings))


def check_classes(manifest: Manifest, left_out: Sequence[Finding] = ()) -> None:
    """Raises a RefusedDataError if the classes are none that a classifier can tell apart.

    Args:
        left_out: What was left out of it, and why.
    """
    taken = [label for label in manifest.classes if label in COLUMNS]
    if taken:
        raise RefusedDataError(
            "L409",
            f"{manifest.name}: a class is named {taken[0]!r}, like a column of predictions. "
            "Rename it with a label map.",
        )
    counts = manifest.counts()
    empty = [label for label in manifest.classes if not counts[label]["all"]]
    if empty:
        raise RefusedDataError(
            "L404",
            f"{manifest.name}: class {empty[0]!r} has no image left that can be used. Add some, or remove the class."
            + "".join(f" {one}" for one in left_out),
        )
    refuse_one_class(manifest)


def refused(manifest: Manifest, found: Audit) -> tuple[Finding, ...]:
    """Returns what `fit`, `split` and `run` would refuse, by trying what they do."""
    by_message: dict[tuple[str, str], list[str]] = {}
    for command, attempt in _ATTEMPTS.items():
        try:
            attempt(manifest, found)
        except RefusedDataError as error:
            by_message.setdefault((error.code, str(error)), []).append(command)
    return tuple(
        finding(code, f"Refused by {words.listed([f'`{name}`' for name in commands])}: {text}")
        for (code, text), commands in by_message.items()
    )


def _fit(manifest: Manifest, found: Audit) -> None:
    left = usable(manifest, found)
    check_classes(left.manifest, left.findings)
    assign_subsets(left.manifest, DIVISION)


def _split(manifest: Manifest, found: Audit) -> None:
    assign_subsets(manifest, DIVISION)


def _run(manifest: Manifest, found: Audit) -> None:
    refuse_one_class(manifest)
    assign_subsets(manifest, SplitSpec())


_ATTEMPTS: dict[str, Callable[[Manifest, Audit], None]] = {"fit": _fit, "split": _split, "run": _run}


def findings_of_fit(divided: Manifest, found: Audit, left_out: tuple[Finding, ...]) -> list[Finding]:
    """Returns the findings of a dataset once its unusable images are gone and the others are divided.

    What concerns duplicates and groups is said of the images that are used.

    Raises:
        RefusedDataError: If one of them is an error.
    """
    replaced = {"P101", "D501", "D503", "D504", "D505", "N841"}
    of_data = [one for one in found.findings() if one.code not in replaced]
    refuse_errors(found.name, of_data)
    of_groups = [one for one in of_division(divided) if one.code != "D506"]  # the audit says it in its words
    return [*of_data, *left_out, *_near_conflicts(found), *_across(divided, found), *of_groups]


def _near_conflicts(found: Audit) -> list[Finding]:
    cases = [" = ".join(one.paths) for one in found.near_duplicates if len(one.labels) > 1]
    if not cases:
        return []
    text = f"Near duplicates with different labels, which stay: {len(cases)}, {first(cases)}."
    return [finding("D503", text, count=len(cases), examples=cases)]


def _across(divided: Manifest, found: Audit) -> list[Finding]:
    """Names near duplicates that the split put on two sides."""
    subsets = {sample.path: sample.subset for sample in divided.samples}
    pairs = [
        " = ".join(one.paths)
        for one in found.near_duplicates
        if all(path in subsets for path in one.paths) and len({subsets[path] for path in one.paths}) > 1
    ]
    if not pairs:
        return []
    text = (
        f"{len(pairs)} pairs of near duplicates stand on two sides of the split, the first is {pairs[0]}; results may "
        "be too good. Look at them with cytolora check --page."
    )
    return [finding("D504", text, count=len(pairs), examples=pairs)]


def _all_but_one(duplicate: Duplicate, samples: Mapping[str, Sample]) -> set[str]:
    """Keeps a copy in test before val before train, so that no answer is known, and one that was added last of all."""
    place = {None: 0, "test": 0, "val": 1, "train": 2}
    kept = min(duplicate.paths, key=lambda path: (samples[path].is_added, place[samples[path].subset], path))
    return set(duplicate.paths) - {kept}


def _first(paths: list[str]) -> str:
    return ", ".join(paths[:_NUM_SHOWN]) + (", …" if len(paths) > _NUM_SHOWN else "")
