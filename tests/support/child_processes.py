"""Processes that a process started, and those that these started; on Linux."""

from collections.abc import Iterator
from pathlib import Path

HEARING_CTRL_C = (
    "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from cytolora.cli.app import main; main(sys.argv[1:])"
)
"""The command line as a program (``python -c``); a child of tests that a shell runs in the background hears none."""


def below(ancestor: int) -> dict[int, str]:
    """Command lines of the processes that an ancestor started, by id."""
    parents, lines = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            lines[int(folder.name)] = (folder / "cmdline").read_text().replace("\0", " ")
        except OSError:
            continue

    def ancestors(number: int) -> Iterator[int]:
        while number := parents.get(number, 0):
            yield number

    return {number: line for number, line in lines.items() if ancestor in ancestors(number)}


def is_alive(number: int) -> bool:
    """Whether there is a process of an id that has not ended; one that nobody has waited for yet has."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
