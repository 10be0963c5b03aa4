"""Evaluation of a classifier on labelled images that it was not trained on."""

from collections.abc import Callable, Sized
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from cytolora.classifier.bundle.files import SEEN
from cytolora.classifier.inference.classifier import Classifier
from cytolora.classifier.inference.image_sources import Source
from cytolora.classifier.inference.images_read import ImagesRead
from cytolora.classifier.inference.metrics import Labelled, assess
from cytolora.classifier.inference.review_page import CellsOfPage, ReviewCell, write_page
from cytolora.classifier.inference.table import Seen, check_page, check_room, look, review_cell
from cytolora.config.reading import STANDARD, Decoding
from cytolora.core.arguments import AnyPath, as_path_or_none
from cytolora.core.findings import Finding, gravest_first
from cytolora.core.strict_json import read_json
from cytolora.core.text import counted
from cytolora.data.imaging.decode import decode, pixel_sha256
from cytolora.data.imaging.room import one_image
from cytolora.data.manifest import Manifest, Sample
from cytolora.errors import ConfigError, DataError

OnSeen = Literal["refuse", "mark", "drop"]
"""Treatment of images that the classifier was trained or calibrated on."""
_NUM_SHOWN = 3
_STANDARD = asdict(STANDARD)
_NUM_THREADS = 4
_KINDS = ("train", "calibration", "trained_groups")
"""Kinds of seen images; an image of the third was not seen, but another of its patient, slide or field was."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Result of an evaluation; plain data, ready for ``dataclasses.asdict`` and JSON."""

    bundle: str
    data: str
    data_fingerprint: str
    num_images: int
    """Of the dataset, before anything was left out."""
    seen: dict[str, int]
    """Images by their content in ``train`` or ``calibration`` of the bundle, or unused ones of the same groups."""
    on_seen: OnSeen
    errors: dict[str, str]
    """By path, images that cannot be read."""
    metrics: dict[str, Any]
    """As ``assess`` gives them, of the images that were left."""
    notes: tuple[str, ...]
    findings: tuple[Finding, ...] = ()
    """Of the data, the gravest first."""


def evaluate(
    bundle: Classifier,
    manifest: Manifest,
    *,
    on_seen: OnSeen = "refuse",
    page: AnyPath | None = None,
    on_images: Callable[[int], None] = lambda images: None,
) -> Evaluation:
    """Predicts labelled images and computes metrics with intervals.

    Args:
        manifest: With hashes; its classes are among the bundle's.
        page: HTML file to write: the images whose label the prediction contradicts first, to be corrected.

    Raises:
        ConfigError: If the dataset was read by other pixel rules than the bundle's.
        DataError: If a class is none of the bundle's, images were in training and are to be refused, nothing is left,
            or more images are to stand on the page than it holds.
    """
    page = as_path_or_none(page, "page")
    check_page(page)
    _check_decoding(bundle, manifest)
    unknown = [label for label in manifest.classes if label not in bundle.classes]
    if unknown:
        raise DataError(
            f"{manifest.name} has the class {unknown[0]!r}, and {bundle.name} knows {', '.join(bundle.classes)}. "
            "Rename or leave out classes with --map."
        )
    where = _where_seen(bundle, manifest)
    used = _unseen(bundle, manifest, where, on_seen)
    if page is not None:
        check_room(page, len(used))
    on_images(len(manifest.samples) - len(used))
    sources = (Source(name=sample.path, file=sample.file_in(manifest.root)) for sample in used)
    predictions, cells, read = [], CellsOfPage(bundle.classes), ImagesRead(bundle.decoding)
    for batch in look(bundle, sources, with_thumbnails=page is not None):
        if page is not None:
            samples = used[len(predictions) : len(predictions) + len(batch)]
            cells.add(_cell(one, sample, where) for one, sample in zip(batch, samples, strict=True))
        predictions += [one.prediction for one in batch]
        read.add(batch)
        on_images(len(batch))
    findings = gravest_first([*bundle.findings(), *manifest.findings, *read.findings()])
    if page is not None:
        source = f"Labels, and predictions of {bundle.name}"
        write_page(cells, page, classes=bundle.classes, title=manifest.name, source=source, findings=findings)
    readable = [row for row, one in enumerate(predictions) if not one.error]
    if not readable:
        raise DataError(f"No image of {manifest.name} can be read; the first: {predictions[0].error}")
    index = {label: number for number, label in enumerate(bundle.classes)}
    labelled = Labelled(
        predictions=[predictions[row] for row in readable],
        labels=np.array([index[used[row].label] for row in readable]),
        paths=[used[row].path for row in readable],
        groups=[used[row].group for row in readable],
    )
    errors = {one.name: one.error for one in predictions if one.error}
    return Evaluation(
        bundle=bundle.name,
        data=str(manifest.root),
        data_fingerprint=manifest.fingerprint,
        num_images=len(manifest.samples),
        seen={name: sum(one == name for one in where.values()) for name in _KINDS},
        on_seen=on_seen,
        errors=errors,
        metrics=assess(bundle.contents.rules, labelled),
        notes=_notes(where, on_seen, errors),
        findings=tuple(findings),
    )


def _check_decoding(bundle: Classifier, manifest: Manifest) -> None:
    """Raises a ConfigError for choices that would not act: images are read by the rules of training."""
    chosen, trained = asdict(manifest.decoding), asdict(bundle.decoding)
    other = [name for name in ("frame", "icc", "value_range") if chosen[name] not in (_STANDARD[name], trained[name])]
    if other:
        name = other[0]
        option = f"--{name.replace('_', '-')}"
        raise ConfigError(
            f"{manifest.name} was read with {option} {chosen[name]}, and {bundle.name} reads images by the rules of "
            f"its training ({option} {trained[name]}). Leave it out."
        )


def _cell(seen: Seen, sample: Sample, where: dict[str, str]) -> ReviewCell:
    """Adds label, group and leakage flags of an image to its cell of the page."""
    cell = review_cell(seen)
    flags = (*cell.flags, f"in {where[sample.path].replace('_', ' ')}") if sample.path in where else cell.flags
    note = " · ".join(text for text in (sample.group and f"group {sample.group}", cell.note) if text)
    return replace(cell, label=sample.label, flags=flags, note=note)


def only(manifest: Manifest, subset: str) -> Manifest:
    """Returns the images of one subset.

    Raises:
        DataError: If there are none.
    """
    samples = tuple(sample for sample in manifest.samples if sample.subset == subset)
    if not samples:
        raise DataError(f"{manifest.name} has no images in {subset}; name the file of the division with --split.")
    return replace(manifest, samples=samples)


def _where_seen(bundle: Classifier, manifest: Manifest) -> dict[str, str]:
    """Returns by path the kind of each seen image: same bytes, same pixels, or group leakage."""
    seen = read_json(bundle.files[SEEN])
    by_file = {digest: name for name in reversed(_KINDS) for digest in seen.get(name, ())}
    by_pixels = {digest: name for name in reversed(_KINDS) for digest in seen.get(f"{name}_pixels", ())}
    where = {one.path: by_file[one.sha256] for one in manifest.samples if one.sha256 in by_file}
    rest = [one.path for one in manifest.samples if one.path not in where] if by_pixels else []
    files = {one.path: one.file_in(manifest.root) for one in manifest.samples}

    def hashed(path: str) -> str:
        return _pixel_sha256(files[path], bundle.decoding)

    with ThreadPoolExecutor(_NUM_THREADS) as pool:
        for path, digest in zip(rest, pool.map(hashed, rest), strict=True):
            if digest in by_pixels:
                where[path] = by_pixels[digest]
    return where


def _pixel_sha256(path: Path, decoding: Decoding) -> str:
    try:
        with one_image():
            return pixel_sha256(decode(path, decoding=decoding))
    except DataError:
        return ""  # reported when it is predicted


def _unseen(bundle: Classifier, manifest: Manifest, where: dict[str, str], on_seen: OnSeen) -> tuple[Sample, ...]:
    if not where or on_seen == "mark":
        return manifest.samples
    if on_seen == "refuse":
        raise DataError(
            f"{len(where)} of {counted(len(manifest.samples), 'image')} of {manifest.name} {_were(where)} in training "
            f"or calibration of {bundle.name}{_same_groups(where)}, the first are "
            f"{', '.join(list(where)[:_NUM_SHOWN])}: it would be tested on its training data. "
            "Leave them out with --seen drop, or take other images."
        )
    left = tuple(sample for sample in manifest.samples if sample.path not in where)
    if not left:
        raise DataError(
            f"All images of {manifest.name} were in training or calibration of {bundle.name}; none is left."
        )
    return left


def _same_groups(where: dict[str, str]) -> str:
    count = sum(name == _KINDS[2] for name in where.values())
    return f" ({count} of them: others of the same groups)" if count else ""


def _notes(where: dict[str, str], on_seen: OnSeen, errors: dict[str, str]) -> tuple[str, ...]:
    notes = []
    were = f"{counted(len(where), 'image')} {_were(where)} in training or calibration{_same_groups(where)}"
    if where and on_seen == "mark":
        notes.append(f"{were}: these numbers are too good.")
    if where and on_seen == "drop":
        notes.append(f"{were} and {'is' if len(where) == 1 else 'are'} left out.")
    if errors:
        left_out = counted(
            len(errors), "image cannot be read and is left out", "images cannot be read and are left out"
        )
        notes.append(f"{left_out}; the first: {next(iter(errors.values()))}")
    return tuple(notes)


def _were(images: Sized) -> str:
    return "was" if len(images) == 1 else "were"
