"""Saved figures: what stands in a page takes the page's colours."""

from pathlib import Path

import numpy as np
import pytest

from cytolora.display.confusion import ConfusionMatrix
from cytolora.display.figure import in_page, save

pytestmark = pytest.mark.usefixtures("real_drawings")


def _figure() -> ConfusionMatrix:
    return ConfusionMatrix(name="c", caption="", classes=("a", "b"), counts=np.eye(2, dtype=int), caution="few images")


def test_a_caution_in_a_page_takes_the_pages_warning_colour_and_is_read_on_a_dark_page_too(tmp_path: Path):
    svg = save(_figure(), tmp_path)
    assert "#7a3500" not in svg
    assert "var(--warn-ink)" in svg
    assert "#7a3500" in (tmp_path / "c.svg").read_text()  # on white it is a colour of its own


def test_a_figure_that_only_a_page_shows_is_the_one_that_is_saved(tmp_path: Path):
    assert in_page(_figure()) == save(_figure(), tmp_path)
    assert in_page(_figure()) == in_page(_figure())
