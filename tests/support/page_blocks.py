"""Runs the fenced blocks of a page of docs/, in their order and in the current folder.

A block that no test runs says why in a comment on the line before it: ``<!-- not run: needs a network -->``.
"""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from cytolora.cli.app import main
from cytolora.models.backbones.registry import BACKBONES

ROOT = Path(__file__).resolve().parents[2]
_FENCE = re.compile(
    r"(?:^ *<!-- not run: (?P<reason>[^\n]+) -->\n)?^(?P<indent> *)```(?P<kind>\w*)\n(?P<text>.*?)^ *```$",
    re.MULTILINE | re.DOTALL,
)


class Block(NamedTuple):
    """A fenced block."""

    kind: str
    """The language after the fence; empty where there is none."""
    text: str
    reason: str | None
    """Why no test runs it."""


def all_blocks(page: Path) -> list[Block]:
    """Lists every block."""
    return [Block(one["kind"], one["text"], one["reason"]) for one in _FENCE.finditer(page.read_text("utf-8"))]


def blocks(page: Path) -> Iterator[tuple[str, str]]:
    """Gives language and text of every block that names one and is not left out."""
    for block in all_blocks(page):
        if block.kind and block.reason is None:
            yield block.kind, block.text


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
    """Runs `sh` line by line and `python` as it stands; a block whose first line names a file is written to it."""
    for kind, text in blocks(page):
        file = re.match(r"# (\S+\.(?:py|yaml))\n", text)
        if file is not None or kind == "yaml":
            Path(text.partition("\n")[0].removeprefix("# ")).write_text(text)
        elif kind == "sh":
            for line in filter(str.strip, text.splitlines()):
                run_command(line)
        elif kind == "python":
            exec(compile(text, str(page), "exec"), {})
