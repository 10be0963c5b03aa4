"""Confusion matrix figure: arrays in, equal for reports and classifiers."""

import numpy as np
import pytest

from cytolora.display.confusion import ConfusionMatrix, row_shares
from cytolora.display.figure import look

pytestmark = pytest.mark.usefixtures("real_drawings")

COUNTS = np.array([[8, 2, 0], [1, 9, 0], [0, 0, 0]])


def matrix(**changes) -> ConfusionMatrix:
    options = {"name": "c", "caption": "", "classes": ("nilm", "hsil", "scc"), "counts": COUNTS}
    return ConfusionMatrix(**options | changes)


def test_rows_add_up_to_one_and_a_class_without_images_has_none():
    assert row_shares(COUNTS).sum(axis=1) == pytest.approx([1, 1, 0])


def test_the_frame_has_a_row_for_each_pair_of_classes_with_count_share_and_flags():
    rows = matrix(flags="cut").frame().to_pylist()
    assert len(rows) == 9
    assert rows[1] == {"true": "nilm", "predicted": "hsil", "count": 2, "share_of_true": 0.2, "flags": "cut"}


def test_the_drawing_writes_percent_and_count_of_every_field_and_the_caution():
    with look():
        drawing = matrix(caution="1 of 1 setting: budget cut").plot()
    texts = [text.get_text() for text in drawing.axes[0].texts]
    assert {"80", "8", "20", "2", "90", "9", "10", "1"} <= set(texts)
    assert [text.get_text() for text in drawing.texts] == ["Caution: 1 of 1 setting: budget cut."]


def test_the_diagonal_alone_is_written_out_where_asked_for():
    with look():
        texts = [text.get_text() for text in matrix(numbers="diagonal").plot().axes[0].texts]
    assert "80" in texts
    assert "20" not in texts
