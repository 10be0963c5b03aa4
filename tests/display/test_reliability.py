"""Reliability diagram figure: arrays in, equal for reports and classifiers."""

import numpy as np
import pytest

from cytolora.display.figure import look
from cytolora.display.reliability import ReliabilityDiagram
from cytolora.metrics.calibration import bin_index, reliability

pytestmark = pytest.mark.usefixtures("real_drawings")

LABELS = np.array([0, 0, 1, 1])
PROBABILITIES = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.7, 0.3]])


def diagram() -> ReliabilityDiagram:
    return ReliabilityDiagram(name="r", caption="", bins=reliability(LABELS, PROBABILITIES))


def test_the_frame_has_a_row_for_each_bin_and_none_of_an_empty_one():
    rows = diagram().frame().to_pylist()
    assert len(rows) == 15
    assert sum(row["num_predictions"] for row in rows) == 4
    assert rows[0]["accuracy"] is None


def test_only_bins_that_hold_images_are_drawn():
    with look():
        above, below = diagram().plot().axes
    assert np.asarray(above.collections[0].get_offsets()).shape == (4, 2)
    assert len(below.patches) == 4


def test_the_mean_confidence_of_a_bin_lies_in_the_bin_that_it_is_of():
    bins = reliability(LABELS, PROBABILITIES)
    indices = bin_index([entry.confidence for entry in bins])
    assert all(indices[index] == index for index, entry in enumerate(bins) if entry.num_images)
