"""The shipped grids are the paper's experiments: Dausort et al. 2025, Sec. 3 and 4."""

from dataclasses import replace
from pathlib import Path

import pytest

from cytolora.cli.options import AS_IT_STANDS, InputOptions, read_inputs
from cytolora.config.grid import MethodSpec
from cytolora.config.run import AdapterSpec
from cytolora.config.yaml import load_grid, shipped_grids
from cytolora.core.files import sha256_text
from cytolora.errors import ConfigError, WeightsError
from cytolora.experiments.expand import count_runs, expand, narrowed
from cytolora.models.backbones.spec import BackboneSpec
from cytolora.training.resources import Inputs

FIVE_MODELS = ("clip-vit-b16", "vit-b16", "biomedclip", "quiltnet-b16", "uni")
FOUR_DATASETS = ("bcfc", "mlcc", "sipakmed", "hicervix:25")


LORA_RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
LINEAR_RATES = (*LORA_RATES, 0.03, 0.1, 0.3)


@pytest.mark.parametrize(
    ("name", "num_settings", "rates"),
    [
        ("exp1", 5 * 4, LINEAR_RATES),
        ("exp2", 5 * 4 * 6, LORA_RATES),
        ("exp2-linear", 5 * 4 * 6, LINEAR_RATES),
        ("exp3", 11, LORA_RATES),
    ],
)
def test_every_experiment_has_the_papers_settings_with_three_seeds(
    name: str, num_settings: int, rates: tuple[float, ...]
):
    grid = load_grid(name)
    runs = expand(grid)
    assert (grid.seeds, grid.batch_size) == ((1, 2, 3), 32)
    assert tuple(sorted({run.learning_rate for run in runs})) == rates
    assert {(run.train.weight_decay, run.train.warmup_steps, run.train.precision) for run in runs} == {
        (0.01, 50, "fp32")
    }
    assert len({run.run_id for run in runs}) == len(runs) == count_runs(grid) == num_settings * 3 * len(rates)
    assert len({run.setting_id for run in runs}) == num_settings
    assert {run.sampling.on_small_class for run in runs} == {"repeat"}


@pytest.mark.parametrize(("name", "num_runs"), [("exp1", 480), ("exp2", 1800), ("exp2-linear", 2880), ("exp3", 165)])
def test_the_header_of_a_grid_has_the_number_of_its_runs(name: str, num_runs: int):
    header = " ".join(shipped_grids()[name].read_text().partition("\nname:")[0].split())
    assert f"= {num_runs:,} runs." in header
    assert count_runs(load_grid(name)) == num_runs


@pytest.mark.parametrize("name", ["exp1", "exp2-linear"])
def test_rates_of_the_command_line_replace_a_methods_own(name: str):
    runs = expand(narrowed(load_grid(name), learning_rates=[0.5, 0.7]))
    assert {run.learning_rate for run in runs} == {0.5, 0.7}


@pytest.mark.parametrize(("name", "digest"), [("exp1", "4e3da2b23a4ba60d"), ("exp2-linear", "31e0c63c1e7cb0f4")])
def test_linear_runs_of_the_first_five_rates_keep_the_ids_of_stored_ones(name: str, digest: str):
    """Pins what stores have held since before there were eight rates."""
    ids = sorted(run.run_id for run in expand(load_grid(name)) if run.learning_rate in LORA_RATES)
    assert sha256_text("\n".join(ids))[:16] == digest


def test_an_axis_that_names_a_value_twice_has_it_once():
    grid = narrowed(load_grid("exp2"), shots=[1, 1], seeds=[1, 1], learning_rates=[1e-3, 1e-3], models=["uni", "uni"])
    assert len(expand(grid)) == count_runs(grid) == len(FOUR_DATASETS)


def test_experiment_1_is_a_linear_classifier_on_everything():
    grid = load_grid("exp1")
    assert (grid.models, grid.datasets, grid.shots, grid.fractions) == (FIVE_MODELS, FOUR_DATASETS, ("all",), ())
    assert list(grid.methods) == ["linear"]


def test_experiment_2_is_lora_of_rank_2_on_q_and_v_at_six_numbers_of_shots():
    grid = load_grid("exp2")
    assert (grid.models, grid.datasets, grid.shots) == (FIVE_MODELS, FOUR_DATASETS, (1, 2, 4, 8, 16, 50))
    assert list(grid.methods) == ["lora"]
    assert grid.methods["lora"].adapter == AdapterSpec(rank=2, alpha=1, targets=("q", "v"), dropout=0.25)
    assert grid.max_val_shots == 4
    budget = grid.methods["lora"].budget
    assert budget is not None
    assert budget.num_steps(num_train=80, batch_size=32, shots=16) == 50 * 16 + 50


def test_the_linear_classifier_beside_experiment_2_sees_its_draws():
    lora, linear = load_grid("exp2"), load_grid("exp2-linear")
    for axis in ("models", "datasets", "shots", "seeds", "split", "max_val_shots", "on_small_class"):
        assert getattr(lora, axis) == getattr(linear, axis)


def test_experiment_3_is_lora_of_rank_16_on_q_k_v_and_o_from_5_to_100_percent_of_hicervix():
    grid = load_grid("exp3")
    assert (grid.models, grid.datasets, grid.shots) == (("clip-vit-l14",), ("hicervix:25",), ())
    assert (grid.fractions[0], 0.7 in grid.fractions, grid.fractions[-1]) == (0.05, True, 1.0)
    assert grid.methods["lora"].adapter == AdapterSpec(rank=16, alpha=1, targets=("q", "k", "v", "o"), dropout=0.25)
    budget = grid.methods["lora"].budget
    assert budget is not None
    assert budget.num_steps(num_train=64, batch_size=32, shots=None) == 100 * 2 + 50


@pytest.mark.parametrize(
    ("axes", "said"), [({"shots": [4, "all"]}, "and all images have none"), ({"fractions": [0.5]}, "and fractions")]
)
def test_steps_a_shot_are_refused_where_there_are_no_shots_before_anything_is_planned(axes, said: str):
    with pytest.raises(ConfigError, match=f"'exp2', lora: a budget in steps_per_shot needs shots, {said}"):
        expand(narrowed(load_grid("exp2"), **axes))
    expand(narrowed(load_grid("exp2-linear"), **axes))


def test_a_missing_text_package_is_said_before_anything_runs(monkeypatch: pytest.MonkeyPatch):
    grid = replace(load_grid("exp1"), models=("clip-vit-b16", "biomedclip"), methods={"zero-shot": MethodSpec()})
    assert {run.needs_text for run in expand(grid)} == {True}
    without = lambda package: None if package == "transformers" else package  # noqa: E731
    monkeypatch.setattr("cytolora.experiments.expand.find_spec", without)
    with pytest.raises(ConfigError, match=r"Text encoders need transformers, .* the extra `text`"):
        expand(grid)
    expand(replace(grid, models=("clip-vit-b16",)))


def test_a_missing_vocabulary_is_said_before_anything_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(spec: BackboneSpec) -> None:
        raise WeightsError(f"no words of {spec.name}")

    monkeypatch.setattr("cytolora.training.resources.fetch_vocabulary", refuse)
    monkeypatch.setattr("cytolora.models.checkpoints.hub._cached", lambda hub: None)
    weights = tmp_path / "open_clip_pytorch_model.bin"
    weights.write_bytes(b"")
    inputs = Inputs(data={}, weights={"biomedclip": weights})
    with pytest.raises(WeightsError, match="no words of biomedclip"):
        inputs.fetch_vocabulary("biomedclip")
    (tmp_path / "vocab.txt").write_text("a")
    inputs.fetch_vocabulary("biomedclip")


def test_a_dataset_named_without_its_label_set_is_the_grids(tmp_path: Path):
    found = read_inputs(InputOptions(data=[f"hicervix={tmp_path}"]), AS_IT_STANDS, load_grid("exp3"), tmp_path)
    assert found.data == {"hicervix:25": tmp_path}


def test_precision_is_of_runs_that_train_a_encoder_alone():
    runs = expand(narrowed(load_grid("smoke"), precision="bf16"))
    assert {(run.method, run.train.precision) for run in runs} == {("linear", "fp32"), ("lora", "bf16")}
    assert {run.run_id for run in expand(load_grid("smoke"))} >= {run.run_id for run in runs if run.method == "linear"}
