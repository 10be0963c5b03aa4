"""Reports without drawings, most of the time of a report: for tests that look at other files of it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

_BLANK = {"svg": b'<svg xmlns="http://www.w3.org/2000/svg" width="1" height="1"></svg>', "png": b"\x89PNG blank"}


@contextmanager
def blank_pdfs() -> Iterator[None]:
    """Writes an empty PDF wherever a figure would be rendered as one."""
    with _replaced({"to_pdf": _no_pdf, "_code": lambda: "blank PDFs"}):
        yield


def program_without_pdfs(commands: Sequence[Sequence[str]]) -> str:
    """Returns the code of another Python that gives some commands, and writes empty PDFs."""
    return f"""
import sys
sys.path.append({str(Path(__file__).parent)!r})
from blank_pdfs import blank_pdfs
from cytolora.cli.app import main
with blank_pdfs():
    for command in {commands!r}:
        try:
            main(command)
        except SystemExit as stop:
            assert not stop.code, command
"""


@contextmanager
def blank_drawings() -> Iterator[None]:
    """Plots every figure, and neither lays it out nor renders it: its files hold nothing."""
    plain = {"to_pdf": _no_pdf, "lay_out": _no_layout, "_render": _no_drawing, "_code": lambda: "blank drawings"}
    with _replaced(plain):
        yield


@contextmanager
def _replaced(functions: Mapping[str, Callable[..., Any]]) -> Iterator[None]:
    """Replaces functions of the module of figures, ``_code`` among them: blank drawings are kept under another key.

    ``unittest.mock.patch`` takes twenty times as long, in each of thousands of tests.
    """
    module = import_module("cytolora.display.figure")
    before = {name: getattr(module, name) for name in functions}
    try:
        vars(module).update(functions)
        yield
    finally:
        vars(module).update(before)


def _no_pdf(*_: Any) -> bytes:
    return b"%PDF-1.4 blank"


def _no_layout(_: Any) -> Any:
    from matplotlib.transforms import Bbox

    return Bbox.unit()


def _no_drawing(drawing: Any, kind: str, *_: Any, **options: Any) -> bytes:
    return _BLANK[kind]
