"""Killing `fit` at any moment costs what was in flight and changes no byte."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).resolve().parents[3] / "benchmarks" / "kill_fit.py"


@pytest.mark.slow
def test_killed_ten_times_fit_ends_with_the_bundle_of_an_uninterrupted_one():
    done = subprocess.run(
        [sys.executable, str(PROGRAM), "--kills", "10", "--seed", "1"], capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.strip().splitlines()[-1])
    assert sum(one["killed"] for one in found) == 10
    for one in found:
        assert one["bad"] == 0  # whatever could be opened on the way was whole
        assert one["last_exit_code"] == 0
        assert one["equal"]
