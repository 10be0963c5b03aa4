"""Files of a run folder: their names, what they must hold, their checksums, and the errors for those that are wrong."""

import hashlib
from collections.abc import Callable, Mapping
from math import isfinite
from pathlib import Path
from typing import Any

from cytolora.errors import StoreError

SPEC = "spec.json"
METRICS = "metrics.json"
PREDICTIONS = "predictions.parquet"
WEIGHTS = "weights.safetensors"
PROVENANCE = "provenance.json"
CHECKSUMS = "sha256sums.txt"
"""SHA-256 of every other file, as ``sha256sum --check`` takes it; runs stored by 0.1.0 have none."""


def damaged(path: Path, problem: str) -> StoreError:
    """The error for a run folder whose content was read and is wrong."""
    return StoreError(
        f"Stored run {path} is damaged: {problem.rstrip('.')}. Restore it from a copy, or move this folder out of the "
        "store and run again."
    )


def unreadable(path: Path, error: OSError) -> StoreError:
    """The error for a run folder of which a file is missing or cannot be read: nothing says that a byte is wrong."""
    if isinstance(error, FileNotFoundError):
        return damaged(path, f"{error.filename} is missing")
    return StoreError(
        f"Cannot read stored run {path}: {error.filename}: {error.strerror or error}. Nothing says that it is damaged: "
        "make it readable, and run the same command again."
    )


def checksum_lines(contents: Mapping[str, bytes]) -> bytes:
    """Writes the SHA-256 of files, a line each."""
    return "".join(f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in contents.items()).encode()


def read_checksums(path: Path, content: bytes) -> dict[str, str]:
    """Reads what ``checksum_lines`` wrote."""
    lines = [line.split("  ", 1) for line in content.decode(errors="replace").splitlines()]
    sums = {line[1]: line[0] for line in lines if len(line) == 2}
    if len(sums) != len(lines) or not {SPEC, METRICS, PREDICTIONS, PROVENANCE} <= sums.keys():
        raise damaged(path, f"{CHECKSUMS} does not list its files")
    return sums


def verify(path: Path, checksums: Mapping[str, str], contents: Mapping[str, bytes]) -> None:
    """Raises a StoreError if a file of a run folder is not as it was written."""
    for name, content in contents.items():
        if hashlib.sha256(content).hexdigest() != checksums.get(name):
            raise damaged(path, f"{name} was changed after it was written ({CHECKSUMS})")


_Check = tuple[str, Callable[[Any], bool]]
"""What a value must be, in words, and the test of it."""


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


_TEXT: _Check = ("a text", lambda value: isinstance(value, str))
_NUMBER: _Check = ("a finite number", _is_number)
_COUNT: _Check = ("a whole number", _is_count)
_WHOLE: _Check = ("a whole number", lambda value: isinstance(value, int) and not isinstance(value, bool))
_OBJECT: _Check = ("an object", lambda value: isinstance(value, dict))
_SCORES: _Check = ("an object or null", lambda value: value is None or isinstance(value, dict))
_NAMES: _Check = (
    "a list of texts",
    lambda value: isinstance(value, list) and bool(value) and all(isinstance(name, str) for name in value),
)

_SCORE = {"accuracy": _NUMBER, "balanced_accuracy": _NUMBER, "macro_f1": _NUMBER, "n": _COUNT}
_SPEC = {
    **{"dataset": _TEXT, "backbone": _TEXT, "method": _TEXT, "learning_rate": _NUMBER, "seed": _WHOLE},
    **{"sampling": _OBJECT, "split": _OBJECT, "train": _OBJECT},
}
_METRICS = {"val": _SCORES, "test": _SCORES, "num_trainable": _COUNT, "train": _OBJECT}
_PROVENANCE = {"weights_sha256": _TEXT, "data_fingerprint": _TEXT, "split_fingerprint": _TEXT, "classes": _NAMES}
_GROUPING = ("num_images", "num_grouped", "num_groups", "num_torn")
_COUNTS: _Check = (
    f"an object of the whole numbers {', '.join(_GROUPING)}",
    lambda value: isinstance(value, dict) and all(_is_count(value.get(name)) for name in _GROUPING),
)
_OPTIONAL = {"grouping": _COUNTS, "seconds": _NUMBER, "num_repeated": _COUNT, "threads": _COUNT}
"""Of provenance: earlier runs may lack them."""


def _problem_in_spec(content: Any) -> str:
    """Names what is missing or wrong in a run's spec; empty where nothing is."""
    return _problem(content, _SPEC)


def _problem_in_metrics(content: Any) -> str:
    """Names what is missing or wrong in a run's metrics; empty where nothing is."""
    train = {"num_images": _COUNT, "num_steps": _COUNT}
    problem = _problem(content, _METRICS) or _problem(content["train"], train, "train.")
    for name, checks in (("val", _SCORE | {"loss": _NUMBER}), ("test", _SCORE)):
        if not problem and content[name] is not None:
            problem = _problem(content[name], checks, f"{name}.")
    return problem


def _problem_in_provenance(content: Any) -> str:
    """Names what is missing or wrong in a run's provenance; empty where nothing is."""
    return _problem(content, _PROVENANCE) or _problem(
        content, {name: check for name, check in _OPTIONAL.items() if content.get(name)}
    )


def _problem(content: Any, checks: Mapping[str, _Check], prefix: str = "") -> str:
    for name, (kind, is_right) in checks.items():
        if not isinstance(content, dict) or name not in content:
            return f"has no {prefix + name!r}"
        if not is_right(content[name]):
            return f"has {prefix + name!r} {content[name]!r:.40}, which is not {kind}"
    return ""


PROBLEMS = {SPEC: _problem_in_spec, METRICS: _problem_in_metrics, PROVENANCE: _problem_in_provenance}
"""What keeps a folder from being a run; unknown fields are ignored."""
