"""Arguments of the command that is running, for those that start it again elsewhere."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

_arguments: ContextVar[tuple[str, ...]] = ContextVar("cytolora_arguments", default=())


@contextmanager
def command_line(arguments: Sequence[str]) -> Iterator[None]:
    """Notes the arguments of a command as long as it runs."""
    token = _arguments.set(tuple(arguments))
    try:
        yield
    finally:
        _arguments.reset(token)


def same_command(*flags: str) -> tuple[str, ...]:
    """Returns program and arguments that start this command again, with more flags; none outside a command.

    The flags stand before all others, which ``--`` may end. The folder that it is started in is no place of modules
    (``-P``), as it is none for the program ``cytolora``.
    """
    name, *arguments = _arguments.get() or ("",)
    start = "from cytolora.cli.app import main; main()"
    return (sys.executable, "-P", "-c", start, name, *flags, *arguments) if name else ()
