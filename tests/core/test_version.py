"""The version of the package is told with results; it decides nothing about them."""

import json
from pathlib import Path

from cells import run_all, tiny_grid


def test_runs_stored_by_another_version_are_used_as_they_are(drawn_cells: Path, tmp_path: Path):
    grid = tiny_grid(methods=["linear"])
    run_all(grid, drawn_cells, tmp_path / "runs")
    files = sorted((tmp_path / "runs").glob("*/provenance.json"))
    assert files
    for file in files:
        (file.parent / "sha256sums.txt").unlink()  # which version 0.1.0 did not write
        provenance = json.loads(file.read_text(encoding="utf-8"))
        file.write_text(json.dumps(provenance | {"versions": provenance["versions"] | {"cytolora": "0.1.0"}}))
    assert run_all(grid, drawn_cells, tmp_path / "runs").jobs == ()
