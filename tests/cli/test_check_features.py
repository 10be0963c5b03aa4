"""`check --model`: near duplicates by frozen features, taken once; without it no torch is loaded."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from cytolora.cli.datasets import check
from cytolora.cli.feature_options import FeatureOptions
from cytolora.errors import ConfigError
from cytolora.models.encoder import Encoder


@pytest.fixture
def cropped(drawn_cells: Path, tmp_path: Path) -> Path:
    """Drawn cells with a copy of one of them, cropped by 5 % on each side, that names another slide."""
    folder = tmp_path / "cells"
    shutil.copytree(drawn_cells, folder)
    lines = (folder / "manifest.csv").read_text().splitlines()
    path = lines[1].split(",")[0]
    image = Image.open(folder / path).convert("RGB")
    across, down = round(image.width * 0.05), round(image.height * 0.05)
    image.crop((across, down, image.width - across, image.height - down)).save(folder / "cropped.png")
    lines.append(",".join(["cropped.png", *lines[1].split(",")[1:-1], "another"]))
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
    return folder


def _pairs(capsys: pytest.CaptureFixture[str], cells: Path, options: FeatureOptions, **more: Any) -> list[list[str]]:
    check(cells, alike=options, json_=True, quiet=True, **more)
    return [found["paths"] for found in json.loads(capsys.readouterr().out)["near_duplicates"]]


def test_a_cropped_copy_is_found_by_features_taken_once(cropped, tmp_path, capsys, monkeypatch):
    first = (cropped / "manifest.csv").read_text().splitlines()[1].split(",")[0]
    options = FeatureOptions(model="nano", out=tmp_path / "runs", similarity=0.9)
    page = tmp_path / "check.html"
    assert sorted(["cropped.png", first]) not in _pairs(capsys, cropped, FeatureOptions())
    found = _pairs(capsys, cropped, options, page=page)
    assert sorted(["cropped.png", first]) in [sorted(pair) for pair in found]
    assert "features with a cosine of 0.9" in page.read_text()
    monkeypatch.setattr(Encoder, "forward", lambda *_: pytest.fail("features were taken again"))
    assert _pairs(capsys, cropped, options) == found


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (FeatureOptions(weights=["nano=x"]), "name the model as well: --model NAME"),
        (FeatureOptions(model="nanoo"), "Did you mean 'nano'"),
        (FeatureOptions(model="nano", similarity=96), r"--similarity is a cosine in \(0, 1\], got 96"),
    ],
)
def test_a_mistake_is_said_before_any_image_is_read(drawn_cells, options, message):
    with pytest.raises(ConfigError, match=message):
        check(drawn_cells, alike=options, quiet=True)


@pytest.mark.slow
def test_without_a_model_no_torch_is_loaded(drawn_cells):
    program = (
        "import sys; from pathlib import Path; from cytolora.cli.datasets import check\n"
        f"check(Path({str(drawn_cells)!r}), quiet=True); sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_real_encoder_finds_cells_of_herlev_that_were_cut_twice(herlev_dir, shared_data, tmp_path, capsys):
    file = shared_data / "weights" / "vit_tiny6" / "backbone.yaml"
    if not file.is_file():
        pytest.skip(f"no {file}")
    found = _pairs(capsys, herlev_dir, FeatureOptions(model="vit-tiny6", backbone_file=[file], out=tmp_path / "runs"))
    assert len(found) == 16
    assert ["severe_dysplastic/153829063-153829073-001.BMP", "severe_dysplastic/153829063-153829078-001.BMP"] in found
