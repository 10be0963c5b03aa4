"""The suite on a busy machine: no property fails by the time it takes, and all properties share one profile."""

import re
import time
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

TESTS = Path(__file__).parent
DEFAULT_DEADLINE_SECONDS = 0.2


@given(st.just(0))
def test_an_example_that_takes_longer_than_hypothesis_own_deadline_is_no_failure(number: int):
    time.sleep(2 * DEFAULT_DEADLINE_SECONDS)
    assert number == 0


def test_all_properties_draw_the_same_examples_on_every_machine():
    assert (settings().deadline, settings().derandomize, settings().database) == (None, True, None)


def test_no_test_sets_what_the_profile_sets():
    own = re.compile(r"\b(deadline|derandomize|print_blob|database)=|HealthCheck\.too_slow|suppress_health_check=\[")
    files = [path for path in TESTS.rglob("*.py") if path != TESTS / "conftest.py"]
    assert [path.name for path in files if own.search(path.read_text(encoding="utf-8"))] == []
