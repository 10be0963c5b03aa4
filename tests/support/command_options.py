"""Options of the command line with their checks, without running a command."""

from collections.abc import Iterator, Sequence
from typing import Any

from cyclopts import App


def options(of: App, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yields every option of every command with the command's name."""
    for command in of:
        if command.startswith("-"):
            continue
        inner = of[command]
        if inner.default_command is not None:
            for option in inner.assemble_argument_collection():
                yield f"{name}{command}", option
        else:
            yield from options(inner, f"{name}{command} ")


def checks(option: Any, value: Any, others: Sequence[Any] = ()) -> str:
    """Returns what the validators of an option, or others where it has none, say of a value; empty: nothing."""
    for validator in option.parameter.validator or others:
        try:
            validator(option.hint, value)
        except ValueError as error:
            return str(error)
    return ""
