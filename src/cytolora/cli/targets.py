"""Checks of what a command is given, before it starts: places to write to, and numbers that are none."""

import math
from pathlib import Path
from typing import Any

from cyclopts import Parameter
from cyclopts.validators import Number

from cytolora.data.targets import check_shared, check_target


def check_numbers(_: Any, value: Any) -> None:
    """Raises a ValueError if a number, or one of several, is infinite or none (nan); of every option."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"Expected a finite number, got {value:g}.")
    if isinstance(value, list | tuple | set | frozenset):
        for one in value:
            check_numbers(None, one)


def number(**limits: float) -> Parameter:
    """Returns the parameter of a finite number within limits (``gt``, ``gte``, ``lte``)."""
    return Parameter(validator=(Number(**limits), check_numbers))


def replaced(option: str = "--out") -> Parameter:
    """Returns the parameter of a file or folder that is written, or replaced whole."""

    def check(_: Any, value: Path | None) -> None:
        if value is not None and str(value) != "-":
            check_target(value, option=option)

    return Parameter(validator=check)


def shared(*kinds: str, option: str = "--out") -> Parameter:
    """Returns the parameter of a folder that something is put into; ``kinds`` as for ``check_shared``."""

    def check(_: Any, value: Path | None) -> None:
        if value is not None:
            check_shared(value, *kinds, option=option)

    return Parameter(validator=check)
