"""Consistency checks of a bundle: files, classes and shapes against its manifest, when it is opened."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, deserialize
from safetensors.numpy import load

from cytolora.classifier.bundle.files import ANCHORS, BANK, HEAD, OPENED, PEFT_WEIGHTS, SEEN
from cytolora.classifier.bundle.manifest import BundleManifest
from cytolora.core.strict_json import read_json
from cytolora.errors import BundleError

_AGAIN = "Get the bundle again."
_UNIT_ROUNDING = 1e-3


def check_whole(path: Path, manifest: BundleManifest, files: Mapping[str, bytes]) -> None:
    """Raises a BundleError if a file or class is missing that the description needs, or does not fit it."""
    adapters = [] if manifest.adapter is None else [PEFT_WEIGHTS if OPENED not in files else OPENED]
    for name in (HEAD, SEEN, *adapters):
        if name not in files:
            raise BundleError(f"{path}: {name} is missing, and the description does not list it. {_AGAIN}")
    missing = [label for label in _measured(manifest.metrics) if label not in manifest.classes]
    if missing:
        raise BundleError(f"{path}: class {missing[0]!r}, which it was measured on, is missing. {_AGAIN}")
    rows, width = _head_shape(path, manifest, files)
    if rows != len(manifest.classes):
        raise BundleError(
            f"{path}: the head does not fit {len(manifest.classes)} classes ({', '.join(manifest.classes)}); it has "
            f"{rows}. {_AGAIN}"
        )
    for name in (HEAD, *adapters):
        _check_finite(path, files, name)
    check_bank(path, manifest, files, width)
    check_anchors(path, manifest, files, width)
    _check_seen(path, files[SEEN])


def check_bank(path: Path, manifest: BundleManifest, files: Mapping[str, bytes], width: int | None) -> None:
    """Raises a BundleError if the features for out-of-distribution detection are missing, or of another width."""
    if manifest.unfamiliar is None:
        return
    if BANK not in files:
        raise BundleError(
            f"{path}: {BANK} is missing, without which no image can be flagged as out-of-distribution. {_AGAIN}"
        )
    rows, found = _shape(path, files, BANK, "features")
    if not rows or (width is not None and found != width):
        raise BundleError(f"{path}: {BANK} holds {rows} x {found} numbers, expected rows of {width}. {_AGAIN}")
    _check_finite(path, files, BANK)
    features = load(files[BANK])["features"]
    lengths = np.linalg.norm(features.astype(np.float64), axis=1)
    if features.dtype != np.float32 or not ((np.abs(lengths - 1) < _UNIT_ROUNDING) | (lengths == 0)).all():
        raise BundleError(
            f"{path}: {BANK} holds features of {features.dtype} and lengths from {lengths.min():.3g} to "
            f"{lengths.max():.3g}, expected float32 and length 1. {_AGAIN}"
        )


def check_anchors(path: Path, manifest: BundleManifest, files: Mapping[str, bytes], width: int | None) -> None:
    """Raises a BundleError if the anchors of transductive prediction do not fit classes, features and each other."""
    if ANCHORS not in files:
        return
    _check_finite(path, files, ANCHORS)
    stored = load(files[ANCHORS])
    num_classes, labels = len(manifest.classes), stored.get("held_out.labels", np.empty(0, np.int64))
    held_out, (feature_dim, dimensions) = len(labels), np.shape(stored.get("axes", np.empty((0, 0))))
    expected: dict[str, tuple[tuple[int, ...], type]] = {
        "centre": ((feature_dim,), np.float64),
        "axes": ((feature_dim, dimensions), np.float64),
        "means": ((num_classes, dimensions), np.float64),
        "held_out.points": ((held_out, dimensions), np.float64),
        "held_out.logits": ((held_out, num_classes), np.float32),
        "held_out.labels": ((held_out,), np.int64),
        "held_out.groups": ((held_out,), np.int64),
    }
    for name, (shape, kind) in expected.items():
        found = stored.get(name)
        if found is None or found.shape != shape or found.dtype != kind or not dimensions:
            raise BundleError(f"{path}: {ANCHORS} holds no {name!r} of shape {shape}. {_AGAIN}")
    if stored.keys() != expected.keys() or (width is not None and feature_dim != width):
        raise BundleError(f"{path}: {ANCHORS} does not fit features of {width}. {_AGAIN}")
    if not held_out or not ((labels >= 0) & (labels < num_classes)).all():
        raise BundleError(f"{path}: {ANCHORS} has no held-out cell, or one of no class of the bundle. {_AGAIN}")


def _head_shape(path: Path, manifest: BundleManifest, files: Mapping[str, bytes]) -> tuple[int, int]:
    """Returns rows and width of the head, of each head of an ensemble."""
    if manifest.members is None:
        return _shape(path, files, HEAD, "head.weight")
    try:
        number, rows, width = dict(deserialize(files[HEAD]))["head.weight"]["shape"]
    except (SafetensorError, KeyError, ValueError) as error:
        raise BundleError(f"{path}: {HEAD} holds no heads of an ensemble. {_AGAIN}") from error
    if number != len(manifest.members):
        raise BundleError(
            f"{path}: {HEAD} holds {number} heads, and the description names {len(manifest.members)} members. {_AGAIN}"
        )
    return rows, width


def _shape(path: Path, files: Mapping[str, bytes], name: str, tensor: str) -> tuple[int, int]:
    try:
        shape = dict(deserialize(files[name]))[tensor]["shape"]
        rows, width = shape
    except (SafetensorError, KeyError, ValueError) as error:
        raise BundleError(f"{path}: {name} holds no table {tensor!r}. {_AGAIN}") from error
    return rows, width


def _check_finite(path: Path, files: Mapping[str, bytes], name: str) -> None:
    """Raises a BundleError if a tensor holds NaN or an infinity: predictions would be nonsense, and say nothing."""
    try:
        tensors = dict(deserialize(files[name]))
    except SafetensorError as error:
        raise BundleError(f"{path}: {name} is no safetensors file: {error}. {_AGAIN}") from error
    wrong = next(
        (tensor for tensor, stored in tensors.items() if not _is_finite(stored["dtype"], stored["data"])), None
    )
    if wrong is not None:
        raise BundleError(f"{path}: {name}, tensor {wrong!r:.60}, holds numbers that are not finite. {_AGAIN}")


def _is_finite(dtype: str, content: bytes) -> bool:
    """Whether no number of a tensor is NaN or infinite: no exponent has all bits set."""
    if dtype in ("F64", "F32", "F16"):
        return bool(np.isfinite(np.frombuffer(content, f"<f{int(dtype[1:]) // 8}")).all())
    if dtype == "BF16":
        return bool(((np.frombuffer(content, "<u2") & 0x7F80) != 0x7F80).all())
    return True


def _measured(metrics: Mapping[str, Any]) -> Sequence[str]:
    try:
        return [row["label"] for row in metrics["test"]["classes"]]
    except (KeyError, TypeError):
        return []  # it was not measured by class


def _check_seen(path: Path, content: bytes) -> None:
    try:
        seen = read_json(content)
        is_good = all(isinstance(digest, str) for digests in seen.values() for digest in digests)
    except (ValueError, AttributeError, TypeError):
        is_good = False
    if not is_good:
        raise BundleError(f"{path}: {SEEN} does not list hashes of images. {_AGAIN}")
