"""Consistency checks of a bundle: files, classes and shapes against its manifest, when it is opened."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, deserialize

from cytolora.classifier.bundle.files import BANK, HEAD, OPENED, PEFT_WEIGHTS, SEEN
from cytolora.classifier.bundle.manifest import BundleManifest
from cytolora.core.strict_json import read_json
from cytolora.errors import BundleError

_AGAIN = "Get the bundle again."


def check_whole(path: Path, manifest: BundleManifest, files: Mapping[str, bytes]) -> None:
    """Raises a BundleError if a file or class is missing that the description needs, or does not fit it."""
    adapters = [] if manifest.adapter is None else [PEFT_WEIGHTS if OPENED not in files else OPENED]
    for name in (HEAD, SEEN, *adapters):
        if name not in files:
            raise BundleError(f"{path}: {name} is missing, and the description does not list it. {_AGAIN}")
    missing = [label for label in _measured(manifest.metrics) if label not in manifest.classes]
    if missing:
        raise BundleError(f"{path}: class {missing[0]!r}, which it was measured on, is missing. {_AGAIN}")
    rows, width = _shape(path, files, HEAD, "head.weight")
    if rows != len(manifest.classes):
        raise BundleError(
            f"{path}: the head does not fit {len(manifest.classes)} classes ({', '.join(manifest.classes)}); it has "
            f"{rows}. {_AGAIN}"
        )
    check_bank(path, manifest, files, width)
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


def _shape(path: Path, files: Mapping[str, bytes], name: str, tensor: str) -> tuple[int, int]:
    try:
        shape = dict(deserialize(files[name]))[tensor]["shape"]
        rows, width = shape
    except (SafetensorError, KeyError, ValueError) as error:
        raise BundleError(f"{path}: {name} holds no table {tensor!r}. {_AGAIN}") from error
    return rows, width


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
