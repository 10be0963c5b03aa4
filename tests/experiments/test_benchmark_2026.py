"""The follow-up's protocol: the grid and the preset say what it does, and all of it runs."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from later_benchmark import write_datasets
from later_encoders import write_encoders

from cytolora.cli.app import main
from cytolora.config.preset import load_preset, with_preset
from cytolora.config.run import FITTED_HEADS, TREE_HEADS, ZERO_SHOT, AugmentSpec, Budget, EarlyStopping, RunSpec
from cytolora.config.yaml import load_grid
from cytolora.data.datasets import find_dataset
from cytolora.experiments.expand import expand, narrowed
from cytolora.experiments.store import Store
from cytolora.models.backbones.registry import BACKBONES
from cytolora.models.text.prompts import TEMPLATES
from cytolora.reporting.results.settings import read_settings
from cytolora.training.heads import text_steps

CANCER = "carcinoma_in_situ"
BUDGET = Budget(amount=100, unit="epochs", early_stopping=EarlyStopping(patience=10, uncounted_epochs=10))


def _runs(*methods: str) -> list[RunSpec]:
    return [run for run in expand(load_grid("benchmark-2026")) if run.method in methods]


@pytest.mark.slow
def test_the_followups_grid_has_its_shots_seeds_and_protocol():
    grid, runs = load_grid("benchmark-2026"), _runs("linear", "lora")
    assert len(grid.datasets) == 10
    assert len(grid.models) == 8
    assert all(BACKBONES.get(name).text for name in grid.models)
    assert {run.sampling.shots for run in runs} == {1, 2, 4, 8, 16}
    assert {run.seed for run in runs} == {1, 2, 3}
    assert {run.sampling.val_per_class for run in runs} == {16}
    assert {run.sampling.on_small_class for run in runs} == {"repeat"}
    assert {(run.train.budget, run.train.batch_size, run.learning_rate) for run in runs} == {(BUDGET, 8, 1e-3)}
    assert set(FITTED_HEADS) - set(TREE_HEADS) <= grid.methods.keys(), "none of its datasets but one has a tree"


@pytest.mark.slow
@pytest.mark.parametrize("shots", [1, 2, 4, 8, 16])
def test_the_followups_warm_up_is_a_tenth_of_training_at_every_number_of_shots(shots: int):
    for run in _runs("lora"):
        if run.sampling.shots == shots:
            num_train = shots * len(find_dataset(run.dataset).classes)
            assert 10 * run.train.num_warmup_steps(num_train) == run.num_steps(num_train)


@pytest.mark.slow
def test_the_followups_lora_is_of_rank_2_on_four_projections_of_the_image_tower():
    adapters = {run.adapter for run in _runs("lora")}
    assert len(adapters) == 1
    (adapter,) = adapters
    assert adapter is not None
    assert (adapter.rank, adapter.alpha, adapter.dropout, adapter.targets) == (2, 1, 0.25, ("q", "k", "v", "o"))
    assert (adapter.scaling, adapter.blocks) == ("alpha_over_sqrt_rank", "all")


def test_the_followups_heads_have_its_rate_and_epochs():
    """What docs/parity.md names as kept, and as another choice."""
    grid = load_grid("benchmark-2026")
    residual = grid.methods["task-residual"].head
    assert residual is not None
    assert (residual.rates, residual.epochs) == ((0.001,), 100)
    for recipe in (text_steps.CLIP_ADAPTER, text_steps.TIP_F):
        assert (recipe.rates, recipe.epochs) == ((0.001,), 100)
    assert grid.augment == AugmentSpec(min_scale=0.08, flip=0.5, interpolation="bicubic")
    assert len(TEMPLATES) == 5
    assert "hicervix:25" in grid.datasets


def test_the_preset_brings_the_followups_protocol_to_other_grids_and_changes_no_protocol_of_its_own():
    preset = load_preset("benchmark-2026")
    own = load_grid("benchmark-2026")
    assert with_preset(own, preset) == replace(own, preset="benchmark-2026")
    for name in ("exp2", "smoke", "exp1"):
        runs = [run for run in expand(with_preset(load_grid(name), preset)) if run.has_steps]
        assert {(run.train.budget, run.train.batch_size, run.learning_rate) for run in runs} == {(BUDGET, 8, 1e-3)}
        assert {(run.sampling.val_shots, run.sampling.on_small_class) for run in runs} == {(16, "repeat")}
        assert {run.train.warmup_epochs for run in runs} == {10}
        assert not {run.run_id for run in runs} & {run.run_id for run in expand(load_grid(name))}
    cut = narrowed(with_preset(load_grid("exp2"), preset), max_steps=2)
    assert cut.methods["lora"].budget == replace(BUDGET, max_steps=2)


@pytest.mark.slow
def test_the_followups_grid_is_planned_and_rehearsed_on_all_its_datasets(tmp_path: Path):
    """One method of each kind that looks at a dataset in its own way; the others: below, on all encoders."""
    data = write_datasets(tmp_path / "data")
    methods = ["zero-shot", "linear", "lora", "tip-adapter-f", "gda"]
    axes = ["--model", "nano-clip", "--shots", "16", "--seeds", "1", "--preset", "benchmark-2026", "--steps", "2"]
    axes += ["--method", *methods]
    places = [f"{name}={path}" for name, path in data.items()]
    for command in ("plan", "run"):
        with pytest.raises(SystemExit) as stop:
            main([command, "benchmark-2026", *axes, "--data", *places, "--out", str(tmp_path / "runs")])
        assert not stop.value.code
    settings = read_settings(Store(tmp_path / "runs").runs())
    assert Counter(one.spec.dataset for one in settings) == dict.fromkeys(data, len(methods))
    for one in settings:
        num_classes = len(find_dataset(one.spec.dataset).classes)
        (run,) = one.tested
        assert run.metrics["val"]["n"] == 3 * num_classes, "all that a class has, where it has no 16"
        if one.spec.has_steps:
            assert run.metrics["train"]["num_images"] == (one.shots or 0) * num_classes
            assert 1 <= run.metrics["train"]["kept_step"] <= run.metrics["train"]["num_steps"] == 2


@pytest.mark.slow
def test_the_followups_grid_is_rehearsed_on_its_eight_encoders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Half of them with one shot, half with sixteen: every method meets each encoder and each number of shots."""
    encoders = write_encoders(tmp_path / "weights")
    for name, entry in encoders.items():
        monkeypatch.setitem(BACKBONES._entries, name, entry)
    (place,) = [path for name, path in write_datasets(tmp_path / "data").items() if name == "herlev"]
    axes = ["--dataset", "herlev", "--data", f"herlev={place}", "--seeds", "1", "--steps", "2"]
    axes += ["--preset", "benchmark-2026", "--out", str(tmp_path / "runs")]
    names = list(encoders)
    for shots, half in (("1", names[::2]), ("16", names[1::2])):
        for command in ("plan", "run"):
            with pytest.raises(SystemExit) as stop:
                main([command, "benchmark-2026", *axes, "--shots", shots, "--model", *half])
            assert not stop.value.code
    runs = list(Store(tmp_path / "runs").runs())
    num_methods = len(load_grid("benchmark-2026").methods)
    assert set(encoders) == set(load_grid("benchmark-2026").models)
    settings = read_settings(runs)
    assert Counter(one.model for one in settings) == dict.fromkeys(encoders, num_methods)
    answers = {tuple(run.predictions()[CANCER].to_pylist()) for run in runs if run.spec["method"] == ZERO_SHOT}
    assert len(answers) == 5, "an answer of every shape of encoder; those of one shape have the same random weights"
