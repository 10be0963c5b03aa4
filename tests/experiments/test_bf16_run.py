"""`--precision bf16` from the command line to the report, with a CLIP-shaped encoder that a backbone file describes."""

import csv
import json
import math
from pathlib import Path
from typing import Any

import pytest
from in_process import output_of

ARCHITECTURE = "vit_base_patch16_clip_quickgelu_224"
SIZES: dict[str, Any] = {"embed_dim": 48, "depth": 2, "num_heads": 3, "img_size": 64, "patch_size": 16}
PROJECTED = 32


@pytest.fixture(scope="module")
def clip_shaped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Writes a backbone file of a CLIP encoder in small, and its random weights: a class token, then a projection."""
    import timm
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("backbone")
    described = {
        "name": "small-clip",
        "architecture": ARCHITECTURE,
        "arguments": {**SIZES, "num_classes": 0},
        "weights": "model.safetensors",
        "pool": "cls",
        "projection": PROJECTED,
        "preprocess": {"size_px": 64, "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]},
        "licence": "none",
    }
    trunk = timm.create_model(ARCHITECTURE, **SIZES, num_classes=PROJECTED)
    save_file(trunk.state_dict(), folder / "model.safetensors")
    (folder / "backbone.yaml").write_text(json.dumps(described))  # JSON is YAML
    return folder / "backbone.yaml"


def run_in_bf16(grid: str, data: str, backbone: Path, folder: Path, *axes: object) -> list[dict[str, str]]:
    """Runs LoRA of a grid with four shots and its report; returns the rows of the report's table."""
    asked = ("--dataset", data.partition("=")[0], "--data", data, "--model", "small-clip", "--backbone-file", backbone)
    asked += ("--method", "lora", "--shots", 4, "--precision", "bf16", "--threads", 1, "--quiet")
    output_of("run", grid, *asked, *axes, "--out", folder / "runs")
    output_of("report", folder / "runs", "--out", folder / "report")
    assert "bf16" in (folder / "report" / "index.html").read_text(encoding="utf-8")
    return list(csv.DictReader((folder / "report" / "settings.csv").read_text(encoding="utf-8").splitlines()))


def metrics_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(folder.glob("runs/*/metrics.json"))]


@pytest.mark.slow
def test_lora_in_bf16_of_a_encoder_with_a_projection_runs_to_its_report(
    drawn_cells: Path, clip_shaped: Path, tmp_path: Path
):
    axes = ("--steps", 3, "--seeds", 1, "--learning-rates", 0.001)
    [row] = run_in_bf16("smoke", f"synthetic={drawn_cells}", clip_shaped, tmp_path, *axes)
    assert 0 <= float(row["accuracy_mean"]) <= 1
    [metrics] = metrics_of(tmp_path)
    assert math.isfinite(metrics["train"]["final_loss"])


@pytest.mark.slow
def test_experiment_2_in_bf16_on_real_cells_runs_to_its_report(herlev_dir: Path, clip_shaped: Path, tmp_path: Path):
    """Five rates and three seeds; random weights, so nothing is said of how well it classifies."""
    [row] = run_in_bf16("exp2", f"herlev={herlev_dir}", clip_shaped, tmp_path, "--steps", 2)
    assert 0 <= float(row["accuracy_mean"]) <= 1
    metrics = metrics_of(tmp_path)
    assert len(metrics) == 15
    assert all(math.isfinite(one["train"]["final_loss"]) and one["train"]["num_steps"] == 2 for one in metrics)
