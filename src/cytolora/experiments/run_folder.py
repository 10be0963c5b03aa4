"""Files of a run folder: their names, what they must hold, their checksums, and the errors for those that are wrong."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cytolora.core.schema import COUNT, OBJECT, SHARE, TEXT, WHOLE, Check, between, or_null, present, problem_in
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


_SCORES = Check("an object or null", lambda value: value is None or isinstance(value, dict))
_NAMES = Check(
    "a list of texts",
    lambda value: isinstance(value, list) and bool(value) and all(isinstance(name, str) for name in value),
)
_RATE = between(0, noun="a finite number")
_LOSS = between(0, noun="a finite number")

_SCORE = {"accuracy": SHARE, "balanced_accuracy": SHARE, "macro_f1": SHARE, "n": COUNT}
_SPEC = {
    **{"dataset": TEXT, "backbone": TEXT, "method": TEXT, "learning_rate": _RATE, "seed": WHOLE},
    **{"sampling": OBJECT, "split": OBJECT, "train": OBJECT},
}
_METRICS = {"val": _SCORES, "test": _SCORES, "num_trainable": COUNT, "train": OBJECT}
_PROVENANCE = {"weights_sha256": TEXT, "data_fingerprint": TEXT, "split_fingerprint": TEXT, "classes": _NAMES}
_GROUPING = ("num_images", "num_grouped", "num_groups", "num_torn")
_COUNTS = Check(
    f"an object of the whole numbers {', '.join(_GROUPING)}",
    lambda value: isinstance(value, dict) and all(COUNT.is_right(value.get(name)) for name in _GROUPING),
)
_SPENT = (
    dict.fromkeys(("wall_seconds", "cpu_seconds", "gpu_seconds", "cpu_kwh", "gpu_kwh"), or_null(_LOSS))
    | {"peak_memory_bytes": or_null(COUNT)}
    | dict.fromkeys(("host", "processor", "gpu", "date"), or_null(TEXT))
)
_SPENDING = Check(
    "an object of numbers and texts as in core/spending.py",
    lambda value: isinstance(value, dict) and not problem_in(value, present(value, _SPENT)),
)
_OPTIONAL = {"grouping": _COUNTS, "seconds": _LOSS, "num_repeated": COUNT, "threads": COUNT, "spending": _SPENDING}
"""Of provenance: earlier runs may lack them."""
_TEXT_COLUMNS = ("path", "label", "subset")


def _problem_in_spec(content: Any) -> str:
    """Names what is missing or wrong in a run's spec; empty where nothing is."""
    return problem_in(content, _SPEC)


def _problem_in_metrics(content: Any) -> str:
    """Names what is missing or wrong in a run's metrics; empty where nothing is."""
    train = {"num_images": COUNT, "num_steps": COUNT}
    problem = problem_in(content, _METRICS) or problem_in(content["train"], train, "train.")
    for name, checks in (("val", _SCORE | {"loss": _LOSS}), ("test", _SCORE)):
        if not problem and content[name] is not None:
            problem = problem_in(content[name], checks, f"{name}.")
    return problem


def _problem_in_provenance(content: Any) -> str:
    """Names what is missing or wrong in a run's provenance; empty where nothing is."""
    return problem_in(content, _PROVENANCE) or problem_in(
        content, {name: check for name, check in _OPTIONAL.items() if content.get(name)}
    )


def problem_in_table(table: Any, classes: Sequence[str]) -> str:
    """Names what is missing or wrong in the columns of a table of predictions; empty where nothing is.

    Args:
        table: ``pyarrow.Table``.
        classes: Of the run's provenance; a column of probabilities each.
    """
    columns = {field.name: str(field.type) for field in table.schema}
    if len(columns) != len(table.column_names):
        return f"{PREDICTIONS} has two columns of one name"
    if lacking := [name for name in (*_TEXT_COLUMNS, "group") if name not in columns]:
        return f"{PREDICTIONS} has no column {lacking[0]!r}"
    if strange := [name for name in _TEXT_COLUMNS if columns[name] not in ("string", "large_string")]:
        return f"{PREDICTIONS} has a column {strange[0]!r} of {columns[strange[0]]}, expected texts"
    if strange := [name for name in classes if columns.get(name, "float") not in ("float", "double", "halffloat")]:
        return f"{PREDICTIONS} has a column {strange[0]!r} of {columns[strange[0]]}, expected probabilities"
    unknown = set(table["label"].unique().to_pylist()) - set(classes)
    if unknown or len(set(classes)) != len(classes) or not set(classes) <= columns.keys():
        return f"its predictions do not fit its classes ({', '.join(classes)})"
    if others := set(table["subset"].unique().to_pylist()) - {"val", "test"}:
        return f"{PREDICTIONS} has rows of {min(map(str, others))!r:.40}, expected val and test"
    import pyarrow.compute as pc  # slow to load, and planning needs none of it

    tested = table.filter(pc.field("subset") == "test")["path"]
    if len(tested.unique()) != len(tested):
        return f"{PREDICTIONS} holds test images twice: {len(tested):,} rows of {len(tested.unique()):,} images"
    return ""


PROBLEMS = {SPEC: _problem_in_spec, METRICS: _problem_in_metrics, PROVENANCE: _problem_in_provenance}
"""What keeps a folder from being a run; unknown fields are ignored."""
