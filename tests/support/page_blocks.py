"""Runs the fenced blocks of a page of docs/, in their order and in the current folder."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from cytolora.cli.app import main
from cytolora.models.backbones.registry import BACKBONES

ROOT = Path(__file__).resolve().parents[2]


def blocks(page: Path) -> Iterator[tuple[str, str]]:
    """Gives language and text of every block that names one."""
    for found in re.finditer(r"^```(\w+)\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL):
        yield found[1], found[2]


def commands(page: Path) -> list[str]:
    """Lists the lines of its `sh` blocks."""
    return [line for kind, text in blocks(page) if kind == "sh" for line in text.splitlines() if line.strip()]


def run_command(line: str) -> None:
    """Runs `cytolora …`; what looks at data may find something, and ends with 1 then."""
    words = shlex.split(line, comments=True)
    assert words[0] == "cytolora", line
    own = dict(BACKBONES._entries)
    try:
        with pytest.raises(SystemExit) as ended:
            main(words[1:])
    finally:
        BACKBONES._entries = own  # as in a process of its own: no command knows what another was told
    assert ended.value.code in ((0, 1) if words[1] == "check" else (0,)), line


def run_page(page: Path) -> None:
    """Runs `sh` line by line and `python` as it stands; `yaml` is written to the file that its first line names."""
    for kind, text in blocks(page):
        if kind == "sh":
            for line in filter(str.strip, text.splitlines()):
                run_command(line)
        elif kind == "yaml":
            Path(text.partition("\n")[0].removeprefix("# ")).write_text(text)
        elif kind == "python":
            exec(compile(text, str(page), "exec"), {})
