"""Reports without the drawing of PDFs, half of the time of a report: for tests that look at other files of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch


@contextmanager
def blank_pdfs() -> Iterator[None]:
    """Writes an empty PDF wherever a figure would be rendered as one."""
    with patch("cytolora.display.figure.to_pdf", lambda *_: b"%PDF-1.4 blank"):
        yield
