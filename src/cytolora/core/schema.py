"""Schema checks: what a stored value must be, in words, with its test; for writers and readers."""

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import inf, isfinite
from typing import Any

from cytolora.errors import ConfigError

_MAX_NAME = 200
_MAX_FILE_NAME = 70
"""Bytes: three of them and some numbers are the name of a run's folder, of 255 bytes on every file system."""
_FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f]|^\.|[. ]$|^$')
"""What no file name may hold, begin or end with on Windows: names are parts of run ids and of figures' files."""
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
"""Devices of Windows, with any extension."""
_MAX_SHOWN = 40
"""Characters of a wrong value in an error."""


@dataclass(frozen=True, slots=True)
class Check:
    """What a value must be."""

    expected: str
    """In words: ``a number in [0, 1]``."""
    is_right: Callable[[Any], bool]


def between(low: float, high: float = inf, *, noun: str = "a number", opens: str = "") -> Check:
    """A finite number within limits.

    Args:
        opens: ``low``, ``high`` or both: limits that are not among the values.
    """

    def is_right(value: Any) -> bool:
        above = value > low if "low" in opens else value >= low
        return above and (value < high if "high" in opens else value <= high)

    left, right = "(" if "low" in opens else "[", ")" if "high" in opens else "]"
    limits = f"from {low:,g} up" if high == inf else f"in {left}{low:,g}, {high:,g}{right}"
    return Check(f"{noun} {limits}", lambda value: is_number(value) and is_right(value))


def whole(low: int, high: int) -> Check:
    """A whole number within limits; a truth value is none."""
    return Check(f"a whole number from {low:,} to {high:,}", lambda value: _is_whole(value) and low <= value <= high)


def one_of(*names: str) -> Check:
    """One of some texts."""
    return Check(f"one of {', '.join(names)}", lambda value: isinstance(value, str) and value in names)


def or_null(check: Check) -> Check:
    """The same, or null."""
    return Check(f"{check.expected} or null", lambda value: value is None or check.is_right(value))


def list_of(check: Check, *, at_least: int = 0) -> Check:
    """A list of values that are all so."""
    words = f"a list of {at_least} or more, each {check.expected}" if at_least else f"a list, each {check.expected}"
    return Check(
        words,
        lambda value: isinstance(value, list | tuple) and len(value) >= at_least and all(map(check.is_right, value)),
    )


def is_number(value: Any) -> bool:
    """Whether a value is a finite number; a truth value is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return isfinite(value)
    except OverflowError:  # a whole number beyond the largest float
        return False


def is_name(value: Any) -> bool:
    """Whether a value is a text that can stand in one line of a table: no control character, not blank, not endless."""
    if not isinstance(value, str) or not value.strip() or len(value) > _MAX_NAME:
        return False
    return (value.isascii() and value.isprintable()) or not any(
        unicodedata.category(one) in ("Cc", "Cs") for one in value
    )


def is_file_name(value: Any) -> bool:
    """Whether a value is a text that can be a part of file names on every platform."""
    if not is_name(value) or _FORBIDDEN.search(value) or _RESERVED.fullmatch(value):
        return False
    return len(value.encode()) <= _MAX_FILE_NAME


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


TEXT = Check("a text", lambda value: isinstance(value, str))
NAME = Check(f"a name of 1 to {_MAX_NAME} characters without control characters", is_name)
FILE_NAME = Check(
    f"a name of 1 to {_MAX_FILE_NAME} bytes that may be part of a file name on every platform: letters, digits and any "
    "of . _ + - and blanks inside",
    is_file_name,
)
NUMBER = Check("a finite number", is_number)
SHARE = between(0, 1)
COUNT = Check("a whole number from 0 up", lambda value: _is_whole(value) and 0 <= value < 2**63)
WHOLE = Check("a whole number", _is_whole)
SEED = whole(0, 2**63 - 1)
OBJECT = Check("an object", lambda value: isinstance(value, dict))
SHA256 = Check(
    "a SHA-256 of 64 hexadecimal digits",
    lambda value: isinstance(value, str) and len(value) == 64 and set(value) <= set("0123456789abcdef"),
)

Checks = Mapping[str, Check]


def problem_in(content: Any, checks: Checks, prefix: str = "") -> str:
    """Names the first key of an object that is missing or wrong; empty where none is. Other keys are ignored."""
    for name, check in checks.items():
        if not isinstance(content, Mapping) or name not in content:
            return f"has no {prefix + name!r}"
        if not check.is_right(content[name]):
            return f"has {prefix + name!r} {shown(content[name])}, which is not {check.expected}"
    return ""


def present(content: Any, checks: Checks) -> Checks:
    """Returns the checks of those keys that an object has, for keys that may be absent."""
    return {name: check for name, check in checks.items() if isinstance(content, Mapping) and name in content}


def check_fields(spec: Any, checks: Checks) -> None:
    """Raises a ConfigError for the first field of a spec that is wrong; None is a field that is not set."""
    for name, check in checks.items():
        value = getattr(spec, name)
        if value is not None and not check.is_right(value):
            raise ConfigError(f"{name} is {check.expected}, got {shown(value)}.")


def check_plain(content: Any, *, where: str = "") -> str:
    """Names the first text in plain data that no UTF-8 file can hold; empty where there is none."""
    for path, value in _leaves(content, where):
        if isinstance(value, str) and not _is_writable(value):
            return f"has {path!r} {shown(value)}, which holds half of a surrogate pair and is no text"
    return ""


def shown(value: Any) -> str:
    """Writes a wrong value in one short line."""
    text = ascii(value) if isinstance(value, str) and not _is_writable(value) else repr(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…"


def _is_writable(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= one <= "\udfff" for one in text)


def _leaves(content: Any, where: str) -> Iterable[tuple[str, Any]]:
    if isinstance(content, Mapping):
        for key, value in content.items():
            yield where, key
            yield from _leaves(value, f"{where}.{key}" if where else str(key))
    elif isinstance(content, list | tuple):
        for value in content:
            yield from _leaves(value, where)
    else:
        yield where, content
