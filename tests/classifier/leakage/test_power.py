"""benchmarks/leakage.py in small: 20 trials a setting, seeded, with bounds of the Monte Carlo error."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

_FILE = Path(__file__).parents[3] / "benchmarks" / "leakage.py"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def power() -> Any:
    spec = importlib.util.spec_from_file_location("leakage_benchmark", _FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where a dataclass looks for its module
    spec.loader.exec_module(module)
    return module


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
