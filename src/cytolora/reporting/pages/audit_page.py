"""Audit page: duplicates side by side, unreadable files, group leakage and class counts of a dataset."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cytolora.config.run import SUBSETS
from cytolora.data.imaging.decode import decode
from cytolora.data.manifest import Manifest, Sample
from cytolora.data.quality.findings import Audit, Duplicate
from cytolora.display import format as words
from cytolora.display.page_templates import page_templates
from cytolora.display.thumbnails import thumbnail
from cytolora.errors import DataError

_MAX_SETS = 150
"""Sets of duplicates with pictures in each list; two pictures are about 8 kB, so that three lists stay below 4 MB."""
_MAX_IMAGES = 6
"""Pictures of one set; a file that was copied a hundred times shows nothing more."""
_MAX_ROWS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shown:
    """An image beside its double."""

    sample: Sample
    picture: str
    """A data URI; empty where the file has gone since."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pair:
    """Two images that show the same, or more of them with equal pixels."""

    images: tuple[_Shown, ...]
    num_more: int
    remark: str
    tags: tuple[str, ...]
    """What is wrong with them besides."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _List:
    """One kind of duplicates."""

    title: str
    text: str
    pairs: tuple[_Pair, ...]
    num_all: int
    is_open: bool


def render_audit(manifest: Manifest, audit: Audit) -> str:
    """Returns the page, complete in one file, of the audit of a manifest."""
    environment = page_templates("cytolora.reporting.pages")
    environment.filters |= {"percent": words.percent, "thousands": words.thousands}
    environment.globals |= {"count": words.count}
    return environment.get_template("audit.html.j2").render(**_context(manifest, audit))


def _context(manifest: Manifest, audit: Audit) -> dict[str, Any]:
    findings = audit.findings()
    subsets = [name for name in SUBSETS if any(row[name] for row in audit.counts.values())]
    return {
        "audit": audit,
        "problems": [one for one in findings if one.severity != "note"],
        "notes": [one for one in findings if one.severity == "note"],
        "subsets": subsets,
        "totals": {name: sum(row[name] for row in audit.counts.values()) for name in ("all", *subsets)},
        "largest": max(row["all"] for row in audit.counts.values()),
        "duplicates": [one for one in _lists(manifest, audit) if one.num_all],
        "max_rows": _MAX_ROWS,
    }


def _lists(manifest: Manifest, audit: Audit) -> list[_List]:
    samples = {sample.path: sample for sample in manifest.samples}
    near = f"Perceptual hashes of the two, turned or mirrored, differ in at most {audit.max_distance} of 256 bits"
    if audit.min_similarity is not None:
        near += f", or the cosine of their features, less the mean of all, is at least {audit.min_similarity}"
    loose = set(audit.loose_near_duplicates)
    held = [one for one in audit.near_duplicates if one not in loose]
    kinds = (
        ("Equal pixels", "Every pixel is the same; the files may differ.", audit.exact_duplicates, True),
        (
            "Near duplicates that no group holds together",
            f"{near}. Look at each: some may be two cells that resemble each other.",
            audit.loose_near_duplicates,
            True,
        ),
        (
            "Near duplicates within one group",
            f"{near}. A split by group keeps them on one side.",
            held,
            False,
        ),
    )
    return [
        _List(
            title=title,
            text=text,
            pairs=tuple(_pair(one, samples, manifest) for one in _worst_first(duplicates)[:_MAX_SETS]),
            num_all=len(duplicates),
            is_open=is_open,
        )
        for title, text, duplicates, is_open in kinds
    ]


def _worst_first(duplicates: Iterable[Duplicate]) -> list[Duplicate]:
    def rank(one: Duplicate) -> tuple[bool, bool, bool, float]:
        by_features = one.similarity is not None
        closeness = one.distance or 0 if one.similarity is None else -one.similarity
        return len(one.subsets) < 2, len(one.labels) < 2, by_features, closeness

    return sorted(duplicates, key=rank)


def _pair(duplicate: Duplicate, samples: Mapping[str, Sample], manifest: Manifest) -> _Pair:
    shown = [samples[path] for path in duplicate.paths[:_MAX_IMAGES]]
    return _Pair(
        images=tuple(_Shown(sample=sample, picture=_picture(sample, manifest)) for sample in shown),
        num_more=len(duplicate.paths) - len(shown),
        remark=_remark(duplicate),
        tags=tuple(_tags(duplicate)),
    )


def _remark(duplicate: Duplicate) -> str:
    if duplicate.similarity is not None:
        return f"features with a cosine of {duplicate.similarity:.3f}"
    return "equal pixels" if duplicate.distance is None else f"{duplicate.distance} of 256 bits differ"


def _tags(duplicate: Duplicate) -> Sequence[str]:
    wrong = {
        "different labels": len(duplicate.labels) > 1,
        "in more than one subset": len(duplicate.subsets) > 1,
        "different groups": duplicate.groups is not None and len(duplicate.groups) > 1,
    }
    return [tag for tag, is_so in wrong.items() if is_so]


def _picture(sample: Sample, manifest: Manifest) -> str:
    try:
        return thumbnail(decode(sample.file_in(manifest.root), decoding=manifest.decoding))
    except DataError:  # it could be read a moment ago
        return ""
