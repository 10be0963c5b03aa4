"""What the JSON files of a stored run must hold for anything to be made of them; what is more is let be."""

from collections.abc import Callable, Mapping
from math import isfinite
from typing import Any

Check = tuple[str, Callable[[Any], bool]]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


_TEXT: Check = ("a text", lambda value: isinstance(value, str))
_NUMBER: Check = ("a finite number", _is_number)
_COUNT: Check = ("a whole number", _is_count)
_WHOLE: Check = ("a whole number", lambda value: isinstance(value, int) and not isinstance(value, bool))
_OBJECT: Check = ("an object", lambda value: isinstance(value, dict))
_SCORES: Check = ("an object or null", lambda value: value is None or isinstance(value, dict))
_NAMES: Check = (
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
_COUNTS: Check = (
    f"an object of the whole numbers {', '.join(_GROUPING)}",
    lambda value: isinstance(value, dict) and all(_is_count(value.get(name)) for name in _GROUPING),
)
_OPTIONAL = {"grouping": _COUNTS, "seconds": _NUMBER, "num_repeated": _COUNT, "threads": _COUNT}
"""Of provenance: earlier runs may lack them."""


def problem_in_spec(content: Any) -> str:
    """Says what is missing or wrong in a run's spec; empty where nothing is."""
    return _problem(content, _SPEC)


def problem_in_metrics(content: Any) -> str:
    """Says what is missing or wrong in a run's metrics; empty where nothing is."""
    found = _problem(content, _METRICS) or _problem(
        content["train"], {"num_images": _COUNT, "num_steps": _COUNT}, "train."
    )
    for name, checks in (("val", _SCORE | {"loss": _NUMBER}), ("test", _SCORE)):
        if not found and content[name] is not None:
            found = _problem(content[name], checks, f"{name}.")
    return found


def problem_in_provenance(content: Any) -> str:
    """Says what is missing or wrong in a run's provenance; empty where nothing is."""
    found = _problem(content, _PROVENANCE)
    return found or _problem(content, {name: check for name, check in _OPTIONAL.items() if content.get(name)})


def _problem(content: Any, checks: Mapping[str, Check], prefix: str = "") -> str:
    for name, (kind, is_right) in checks.items():
        if not isinstance(content, dict) or name not in content:
            return f"has no {prefix + name!r}"
        if not is_right(content[name]):
            return f"has {prefix + name!r} {content[name]!r:.40}, which is not {kind}"
    return ""
