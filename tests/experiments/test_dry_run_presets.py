"""The presets of the public code, run whole on small checkpoints in the official formats."""

from pathlib import Path

import pytest
from dry_run import dry_run

from cytolora.cli.app import main
from cytolora.experiments.store import Store
from cytolora.reporting.results.marks import marks
from cytolora.reporting.results.settings import read_settings


@pytest.mark.slow
def test_the_codes_presets_run_beside_the_papers_and_are_told_apart(tmp_path: Path):
    runs = tmp_path / "runs"
    axes = [
        "--dataset",
        "sipakmed",
        "--model",
        "uni",
        "clip-vit-b16",
        "--shots",
        "1",
        "--seeds",
        "1",
        "--learning-rates",
        "0.001",
    ]
    with dry_run(tmp_path / "made") as made:
        for preset in ("paper", "paper-code-2024", "paper-code-2025"):
            options = [*axes, "--preset", preset, "--steps", "2", "--out", str(runs), "--quiet"]
            with pytest.raises(SystemExit) as stop:
                main(["run", "exp2", *options, *made.options("sipakmed")])
            assert not stop.value.code
    found = {(cell.model, cell.spec.preset): cell for cell in read_settings(Store(runs).runs())}
    assert len(found) == 6
    wrong = {key for key, cell in found.items() if marks(cell)[0].tag == "wrong attention"}
    assert wrong == {("uni", "paper-code-2024"), ("uni", "paper-code-2025")}
    losses = {key: cell.runs[0].metrics["val"]["loss"] for key, cell in found.items()}
    assert len({losses[key] for key in losses if key[0] == "uni"}) == 3
