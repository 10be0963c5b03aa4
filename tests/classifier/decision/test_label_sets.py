"""Prediction sets as one text of a table."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cytolora.classifier.decision.decide import Prediction, join_labels, split_labels


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        ((), ""),
        (("lsil", "hsil"), "lsil|hsil"),
        (("carcinoma, in situ", "normal"), "carcinoma, in situ|normal"),
        (("a|b", "c"), r"a\|b|c"),
        (("a", "b|c"), r"a|b\|c"),
        (("a\\", "b"), r"a\\|b"),
        (('say "x"', "<i>&amp;</i>"), 'say "x"|<i>&amp;</i>'),
    ],
)
def test_a_label_with_a_separator_is_escaped_and_others_stand_as_they_are(labels: tuple[str, ...], text: str):
    assert join_labels(labels) == text
    assert split_labels(text) == labels


@given(st.lists(st.text("ab|\\,;\"'<&\n é", min_size=1, max_size=5), max_size=5).map(tuple))
def test_a_set_of_any_labels_comes_back_from_a_table(labels: tuple[str, ...]):
    sink = io.StringIO()
    csv.writer(sink).writerow([Prediction(name="a", prediction_set=labels).row([])["prediction_set"], "end"])
    (text, _) = next(csv.reader(io.StringIO(sink.getvalue(), newline="")))
    assert split_labels(text) == labels
