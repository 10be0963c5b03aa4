"""Stored runs and pixel rules: runs of plain images stay as they are, others are stale by the name of the rule."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from cytolora.cli.app import main
from cytolora.data.datasets import load_manifest

pytestmark = pytest.mark.slow

_IDS = {
    "folder_nano_linear_1-shot_lr0.001_s1_e305457c",
    "folder_nano_linear_1-shot_lr0.003_s1_97aec905",
    "folder_nano_linear_1-shot_lr0.01_s1_c2991608",
    "folder_nano_linear_1-shot_lr0.03_s1_203cc593",
    "folder_nano_linear_1-shot_lr0.1_s1_cd97d97a",
}
_FINGERPRINT = "53b47d56b8bd39194905e9733c5fead13ca98decd81b92dcd37b5488433502aa"
"""Both by the version before pixel rules had a name."""


def cells(folder: Path) -> Path:
    """Two classes of plain 8-bit images, whose files are the same bytes on every machine."""
    random = np.random.default_rng(0)
    for place, label in enumerate(("hsil", "normal")):
        (folder / label).mkdir(parents=True)
        for number in range(8):
            pixels = random.integers(0, 80, (40, 40, 3)) + np.eye(3, dtype=int)[place] * 150
            Image.fromarray(pixels.astype(np.uint8)).save(folder / label / f"{number}.bmp")
    return folder


def command(name: str, data: Path, runs: Path, *more: str) -> list[str]:
    axes = ["--dataset", "folder", "--model", "nano", "--method", "linear", "--shots", "1", "--seeds", "1"]
    return [name, "smoke", *axes, "--data", f"folder={data}", "--out", str(runs), *more]


def call(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    printed = capsys.readouterr()
    return int(ended.value.code or 0), printed.out, printed.err


def provenance(runs: Path) -> dict[str, dict[str, Any]]:
    return {file.parent.name: json.loads(file.read_text()) for file in sorted(runs.glob("*/provenance.json"))}


def test_runs_of_plain_images_keep_id_and_fingerprint_and_are_not_stale(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    data, runs = cells(tmp_path / "cells"), tmp_path / "runs"
    assert call(capsys, command("run", data, runs, "--steps", "2", "--quiet"))[0] == 0
    stored = provenance(runs)
    assert set(stored) == _IDS
    assert {one["data_fingerprint"] for one in stored.values()} == {_FINGERPRINT}
    before = {file: file.read_bytes() for file in runs.glob("*/*.json")}
    _, plan, _ = call(capsys, command("plan", data, runs, "--steps", "2", "--json"))
    assert json.loads(plan)["stale"] == []
    assert call(capsys, command("run", data, runs, "--steps", "2", "--quiet"))[0] == 0
    assert {file: file.read_bytes() for file in runs.glob("*/*.json")} == before
    assert call(capsys, ["report", str(runs), "--out", str(tmp_path / "report"), "--data", f"folder={data}"])[0] == 0


def test_runs_of_images_that_are_read_otherwise_since_are_stale_by_the_rule(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    data, runs = cells(tmp_path / "cells"), tmp_path / "runs"
    deep = np.random.default_rng(1).integers(0, 65536, (40, 40, 3)).astype(np.uint16)
    tifffile.imwrite(data / "hsil" / "deep.tif", deep, photometric="rgb")
    assert call(capsys, command("run", data, runs, "--steps", "2", "--quiet"))[0] == 0
    manifest = load_manifest(data)
    assert manifest.fingerprint_before != manifest.fingerprint
    for file in runs.glob("*/provenance.json"):  # as the version before wrote it, which had neither rules nor checksums
        (file.parent / "sha256sums.txt").unlink()
        plain = json.loads(file.read_text())
        assert plain["data_fingerprint"] == manifest.fingerprint
        file.write_text(json.dumps({**plain, "data_fingerprint": manifest.fingerprint_before}))
    rule = "1 image: 16-bit RGB, divided by 257"
    _, plan, _ = call(capsys, command("plan", data, runs, "--steps", "2", "--json"))
    stale = json.loads(plan)["stale"]
    assert len(stale) == len(_IDS)
    assert all(f"images are read by other rules since ({rule})" in one for one in stale)
    code, _, said = call(capsys, command("run", data, runs, "--steps", "2", "--quiet"))
    assert code == 2
    assert rule in " ".join(said.split())
