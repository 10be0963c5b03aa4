"""Checks of what a command is given, before it starts: places to write to, and numbers that are none."""

import math
from pathlib import Path
from typing import Any

from cyclopts import Parameter
from cyclopts.validators import Number

from cytolora.data.own_files import FileKind, FilesTogether
from cytolora.data.targets import check_replaceable_file, check_shared, check_target, check_together


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


def replaced(option: str = "--out", kind: FileKind | None = None) -> Parameter:
    """Returns the parameter of a file or folder that is written, or replaced whole.

    Args:
        kind: Of a file: one of another kind is not replaced; None leaves it to the command, which knows its own.
    """

    def check(_: Any, value: Path | None) -> None:
        if value is None or str(value) == "-":
            return
        if kind is None:
            check_target(value, option=option)
        else:
            check_replaceable_file(value, kind, option=option)

    return Parameter(validator=check)


def shared(*kinds: str, option: str = "--out", files: FilesTogether | None = None) -> Parameter:
    """Returns the parameter of a folder that something is put into.

    Args:
        kinds: As for ``check_shared``.
        files: What is put there, where it has fixed names: those of others are not replaced.
    """

    def check(_: Any, value: Path | None) -> None:
        if value is None:
            return
        check_shared(value, *kinds, option=option)
        if files is not None:
            check_together(value, files, option=option)

    return Parameter(validator=check)
