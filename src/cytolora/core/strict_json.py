"""Strict JSON reading: NaN and numbers beyond float, which Python's own reader takes, are refused."""

import json
from collections.abc import Callable, Iterable
from math import isfinite
from typing import Any

MAX_DEPTH = 200
"""Lists and objects within each other."""
_MAX_DIGITS = 300


def read_json(text: str | bytes, *, pairs: Callable[[list[tuple[str, Any]]], Any] = dict) -> Any:
    """Reads a text.

    Args:
        pairs: Makes an object of its keys and values.

    Raises:
        ValueError: If it is no JSON, is nested more than ``MAX_DEPTH`` deep, or holds a number that no float holds.
    """
    try:
        value = json.loads(
            text, object_pairs_hook=pairs, parse_float=_finite, parse_int=whole, parse_constant=_no_constant
        )
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    check_depth(value)
    return value


def check_depth(value: Any, most: int = MAX_DEPTH) -> None:
    """Raises a ValueError where lists and objects are nested deeper than code that calls itself can follow."""
    level, depth = [value], 0
    while level := [inner for one in level for inner in _inside(one) if isinstance(inner, dict | list)]:
        depth += 1
        if depth >= most:
            raise ValueError(f"it is nested too deeply: more than {most} lists and objects in each other")


def _inside(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def whole(text: str) -> int:
    """Reads a whole number.

    Raises:
        ValueError: If it has more digits than any number that is meant.
    """
    if len(text) > _MAX_DIGITS:
        raise ValueError(f"the number {text[:20]}… has {len(text):,} digits, expected at most {_MAX_DIGITS}")
    return int(text)


def _finite(text: str) -> float:
    number = float(text)
    if not isfinite(number):
        raise ValueError(f"{text} is too large")
    return number


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")
