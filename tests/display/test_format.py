"""Durations, percentages and intervals: one wording for reports, cards, pages and the terminal."""

import pytest

from cytolora.display import format as words
from cytolora.metrics.intervals import Interval


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, ""),
        (0.01, "< 0.1 s"),
        (0.84, "0.84 s"),
        (45.2, "45 s"),
        (89.7, "90 s"),
        (90, "1.5 min"),
        (720, "12 min"),
        (11160, "3.1 h"),
        (1e6, "12 days"),
        (2e7, "230 days"),
    ],
)
def test_durations_have_two_significant_digits(seconds: float | None, text: str):
    assert words.duration(seconds) == text


def test_no_duration_below_a_hundred_days_has_a_third_digit():
    for power in range(0, 69):
        number = words.duration(1.25**power).split()[0].replace(".", "")
        assert len(number.lstrip("0")) <= 2


def test_an_interval_reads_the_same_from_a_value_and_from_a_metrics_file():
    interval = Interval(low=0.65, high=0.7712, level=0.95, kind="approximate", unit="image", num_units=100)
    assert words.interval(interval) == words.interval({"low": 0.65, "high": 0.7712}) == "65.0–77.1"
    assert words.interval(interval, digits=2) == "65.00–77.12"
    assert words.interval(None) == ""


def test_a_credible_interval_says_so_wherever_it_is_printed():
    interval = Interval(low=0.65, high=0.7712, level=0.95, kind="credible", unit="group", num_units=100)
    assert words.interval(interval) == "65.0–77.1 credible"
    measured = {"value": 0.7, "low": 0.65, "high": 0.7712, "kind": "credible"}
    assert words.with_interval(measured) == "70.0 (65.0–77.1 credible)"
    assert words.with_interval(measured | {"kind": "korn-graubard"}) == "70.0 (65.0–77.1)"


def test_a_share_without_images_is_a_dash():
    assert words.with_interval({"value": 0.7, "low": 0.65, "high": 0.77}) == "70.0 (65.0–77.0)"
    assert words.with_interval(None) == "–"
