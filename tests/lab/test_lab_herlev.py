"""Real cells, a real tower: fit, evaluate and predict from the command line, and again in a process of its own."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    program = "from cytolora.cli import main; import sys; main(sys.argv[1:])"
    command = [sys.executable, "-c", program, *map(str, arguments), "--threads", "1", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env={**os.environ, **environment})
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.slow
def test_herlev_from_fit_to_predictions_that_a_fresh_process_gives_again(herlev_dir: Path, shared_data, tmp_path):
    weights = shared_data / "weights" / "vit_tiny6"
    if not weights.is_dir():
        pytest.skip(f"no {weights}")
    own = ("--backbone-file", weights / "backbone.yaml")
    positive = ("--positive", "severe_dysplastic,carcinoma_in_situ")
    fitted = run(
        "fit", herlev_dir, "--out", tmp_path / "model", "--cache", tmp_path / "cache", *own, *positive, "--json"
    )
    test = json.loads(fitted.stdout)["metrics"]["test"]
    assert test["balanced_accuracy"] > 0.4  # a seventh would be chance
    assert abs(test["prediction_sets"]["coverage_over_groups"] - 0.9) < 0.1
    measured = run("evaluate", tmp_path / "model", herlev_dir, *own, "--seen", "drop", "--json")
    assert json.loads(measured.stdout)["metrics"]["balanced_accuracy"] == test["balanced_accuracy"]
    tables = []
    for number in range(2):
        out = tmp_path / f"{number}.csv"
        named = ("--weights", f"vit-tiny6={weights}")
        run("predict", tmp_path / "model", herlev_dir, "--out", out, *named, HF_HUB_OFFLINE="1")
        tables.append(out.read_bytes())
    assert tables[0] == tables[1]
    rows = list(csv.DictReader(tables[0].decode().splitlines()))
    assert len(rows) == 917
    assert not any(row["error"] for row in rows)
