"""benchmarks/leakage.py in small: 20 trials a setting, seeded, with bounds of the Monte Carlo error."""

from typing import Any

import pytest
from benchmark_files import load_benchmark

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def power() -> Any:
    return load_benchmark("leakage")


def test_one_report_in_twenty_reads_slides_that_are_names_and_nothing_else(power: Any):
    """Of 20 trials at 5 %, more than four give an alarm once in 400 times."""
    found = power.simulate("tint", 0.0, trials=20, seed=1)
    assert found.share["source-readable"] <= 0.2
    assert found.share["image-split-inflates"] <= 0.15
    assert found.share["class-is-its-source"] == 0
    assert found.share["near-duplicates"] <= 0.15  # two cells that resemble each other by chance
    assert abs(found.inflation) < 1


@pytest.mark.parametrize(
    ("plant", "strength", "finding"),
    [
        ("tint", 0.5, "source-readable"),
        ("tied", 1.0, "source-readable"),
        ("own slides", 0.0, "class-is-its-source"),
        ("byte copies", 0.0, "near-duplicates"),
        ("turned copies", 0.0, "near-duplicates"),
    ],
)
def test_what_was_planted_is_found(power: Any, plant: str, strength: float, finding: str):
    found = power.simulate(plant, strength, trials=4, seed=2)
    assert found.share[finding] == 1
    assert found.copies_found > 0.9
    assert found.inflation > 5 or plant != "tied"
