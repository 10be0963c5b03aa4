"""Child processes of this Python that are told through standard input what to do, and answer on standard output."""

import os
import sys
from pathlib import Path
from typing import BinaryIO


def child_command(program: str, **values: object) -> list[str]:
    """Returns the command of a child that finds the modules which this process finds, from whatever folder.

    Args:
        program: Python code in which ``{path!r}`` stands for the places of modules.
        values: What else it is formatted with.
    """
    path = [str(Path(folder).resolve()) for folder in sys.path]
    return [sys.executable, "-c", program.format(path=path, **values)]


def own_answers() -> BinaryIO:
    """Returns the standard output that this child started with; what any library prints is no answer."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return answers
