"""Strict JSON reading: NaN and numbers beyond float, which Python's own reader takes, are refused."""

import json
from collections.abc import Callable
from math import isfinite
from typing import Any


def read_json(text: str | bytes, *, pairs: Callable[[list[tuple[str, Any]]], Any] = dict) -> Any:
    """Reads a text.

    Args:
        pairs: Makes an object of its keys and values.

    Raises:
        ValueError: If it is no JSON, is nested too deeply, or holds a number that no float holds.
    """
    try:
        return json.loads(text, object_pairs_hook=pairs, parse_float=_finite, parse_constant=_no_constant)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _finite(text: str) -> float:
    number = float(text)
    if not isfinite(number):
        raise ValueError(f"{text} is too large")
    return number


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")
