"""Grids, presets and backbone files with names and numbers that do harm: one line, exit code 2, nothing is written."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from cytolora.cli.app import main
from cytolora.config.grid import GridSpec
from cytolora.config.preset import load_preset, shipped_presets
from cytolora.config.run import Budget, RunSpec, Sampling, SplitSpec, TrainSpec
from cytolora.config.yaml import load_grid, shipped_grids
from cytolora.errors import ConfigError
from cytolora.models.backbones.registry import read_backbone_file

NAMES = (
    "../../x", "..", ".", "/etc/x", "a/b", "a\\b", "C:\\x", "CON", "con", "aux.txt", "NUL", "lpt1.png", "x.", "x ",
    ".x", "", " ", "a\0b", "a\nb", "\x1b[2J", "x" * 300, "癌" * 60, "a:b", "a*b", "a?b", "<b>", "a|b", "\ud800",
)  # fmt: skip
NO_FOLDERS = {"../../x", "..", ".", "/etc/x", "a/b", "", " ", "a\0b", "a\nb", "\x1b[2J", "x" * 300, "\ud800"}
GRID: dict[str, Any] = {
    "name": "mine",
    "datasets": ["synthetic"],
    "models": ["nano"],
    "methods": {"linear": {"budget": {"amount": 1, "unit": "epochs"}}},
    "shots": [1],
    "learning_rates": [0.01],
    "seeds": [1],
}


def written(path: Path, plain: Any) -> Path:
    path.write_text(yaml.safe_dump(plain), encoding="utf-8")
    return path


@pytest.mark.parametrize("name", NAMES[:-1], ids=ascii)
def test_a_grid_whose_name_is_no_file_name_is_refused_and_nothing_is_written(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    inside = tmp_path / "a" / "b"
    inside.mkdir(parents=True)
    monkeypatch.chdir(inside)
    grid = written(inside / "grid.yaml", GRID | {"name": name})
    with pytest.raises(SystemExit) as stop:
        main(["run", str(grid), "--out", "runs"])
    said = capsys.readouterr().err.strip()
    assert stop.value.code == 2
    assert said.count("\n") == 0
    assert "grid.yaml is not valid: name is a name of 1 to 70 bytes" in said
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["grid.yaml"]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
@pytest.mark.parametrize("field", ["dataset", "backbone", "method"])
def test_no_run_has_a_folder_outside_of_its_store(name: str, field: str):
    run = RunSpec(
        dataset="herlev", backbone="uni", method="linear", sampling=Sampling(shots=1), split=SplitSpec(),
        train=TrainSpec(budget=Budget(amount=1, unit="epochs")), learning_rate=0.1, seed=1,
    )  # fmt: skip
    if field == "dataset" and name not in NO_FOLDERS:  # a folder that `fit` takes may be called so
        assert not {"/", ":"} & set(replace(run, dataset=name).run_id)
        return
    with pytest.raises(ConfigError, match=rf"{field} is a name of 1 to "):
        replace(run, **{field: name})


@pytest.mark.parametrize("name", [".hidden", "con", "Ящик " * 12, "癌細胞の写真" * 8, "A?b", "data."])
def test_a_run_of_a_folder_of_any_name_has_a_spec(name: str):
    run = RunSpec(
        dataset=name, backbone="nano", method="linear", sampling=Sampling(shots=1), split=SplitSpec(),
        train=TrainSpec(budget=Budget(amount=1, unit="epochs")), learning_rate=0.1, seed=1,
    )  # fmt: skip
    assert run.run_id.startswith(f"{name}_nano_linear_1-shot")


@pytest.mark.parametrize("name", NAMES[:-1], ids=ascii)
def test_a_preset_whose_name_is_no_file_name_is_refused(name: str, tmp_path: Path):
    with pytest.raises(ConfigError, match=r"p\.yaml is not valid: name is a name of 1 to 70 bytes"):
        load_preset(str(written(tmp_path / "p.yaml", {"name": name})))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"shots": [10**12]}, "shots"),
        ({"seeds": [2**63]}, "a seed is a whole number from 0 to"),
        ({"seeds": list(range(2000)), "shots": list(range(1, 1001))}, "has 2,000,000 runs, expected 1,000,000 at most"),
        ({"batch_size": 10**12}, "batch_size is a whole number from 1 to 1,000,000, got 1000000000000"),
        ({"batch_size": 0}, "batch_size is a whole number from 1 to 1,000,000, got 0"),
        ({"warmup_steps": -1}, "warmup_steps is a whole number from 0 up, got -1"),
        ({"weight_decay": -1.0}, "weight_decay is a number in"),
        ({"split": {"ratios": [float("nan"), 0.2, 0.2]}}, "ratios are the shares"),
        ({"split": {"ratios": [float("inf"), 0.2, 0.2]}}, "ratios are the shares"),
        ({"methods": {"linear": {"budget": {"amount": 10**15, "unit": "epochs"}}}}, "amount is a whole number"),
        ({"methods": {"lora": {"budget": {"amount": 1, "unit": "epochs"}, "adapter": {"rank": 10**9}}}}, "rank is a"),
        ({"methods": {"lora": {"budget": {"amount": 1, "unit": "epochs"}, "adapter": {"alpha": 1e308}}}}, "alpha is a"),
        (
            {"methods": {"vpt": {"budget": {"amount": 1, "unit": "epochs"}, "adapter": {"prompts": 10**9}}}},
            "prompts is",
        ),
        ({"methods": {"knn": {"head": {"neighbours": 10**12}}}}, "neighbours is a whole number"),
    ],
    ids=str,
)
def test_numbers_far_beyond_any_grid_are_refused_by_their_field(change: dict[str, Any], said: str, tmp_path: Path):
    path = written(tmp_path / "grid.yaml", GRID | change)
    with pytest.raises(ConfigError, match=rf"grid\.yaml is not valid: .*({said})") as caught:
        load_grid(path)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"depth": 10**9}, "depth is at most 200, got 1000000000"),
        ({"embed_dim": 10**9}, "embed_dim is at most 16,384"),
        ({"mlp_ratio": float("inf")}, "mlp_ratio is at most 64, got inf"),
        ({"img_size": [64, 10**7]}, "img_size is at most 4,096"),
        ({"anything": 10**9}, "anything is at most 65,536"),
        ({"anything": {"deep": {}}}, "anything is a text, a number or a short list"),
    ],
    ids=str,
)
def test_a_backbone_file_with_sizes_of_no_encoder_is_refused(arguments: dict[str, Any], said: str, tmp_path: Path):
    plain = {
        "name": "own", "architecture": "vit_tiny_patch16_224", "weights": "own.safetensors", "pool": "cls",
        "licence": "MIT", "arguments": arguments, "preprocess": {"size_px": 64, "mean": [0.5] * 3, "std": [0.5] * 3},
    }  # fmt: skip
    with pytest.raises(ConfigError, match=said):
        read_backbone_file(written(tmp_path / "own.yaml", plain))


def test_all_that_is_shipped_is_within_the_ranges():
    assert all(isinstance(load_grid(name), GridSpec) for name in shipped_grids())
    assert all(load_preset(name).name == name for name in shipped_presets())
