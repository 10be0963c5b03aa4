"""Presets: differences from a grid, told apart wherever a number is shown."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cells import run_all, tiny_grid
from cytolora.config.grid import GridSpec, MethodSpec
from cytolora.config.preset import PresetSpec, load_preset, shipped_presets, with_preset
from cytolora.config.run import (
    AugmentSpec,
    Budget,
    Preprocess,
    PreprocessChange,
    RunSpec,
    Sampling,
    SplitSpec,
    TrainSpec,
    to_plain,
)
from cytolora.config.yaml import load_grid
from cytolora.core.files import sha256_text
from cytolora.errors import ConfigError
from cytolora.experiments.expand import expand
from cytolora.experiments.store import Store
from cytolora.experiments.stored_run import StoredRun
from cytolora.models.backbones.registry import BACKBONES
from cytolora.reporting.results.facts import class_facts
from cytolora.reporting.results.marks import marks
from cytolora.reporting.results.settings import Setting, read_settings
from cytolora.reporting.results.variants import Variant
from cytolora.training.loop import rate_at

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)


def preset_runs(grid: str, preset: str) -> tuple[RunSpec, ...]:
    return expand(with_preset(load_grid(grid), load_preset(preset)))


def test_the_preset_of_the_paper_changes_nothing():
    assert with_preset(load_grid("exp2"), load_preset("paper")) == load_grid("exp2")
    assert list(shipped_presets()) == ["benchmark-2026", "paper", "paper-code-2024", "paper-code-2025"]


@pytest.mark.parametrize("preset", ["paper-code-2024", "paper-code-2025"])
@pytest.mark.parametrize("grid", ["exp1", "exp2", "exp3"])
def test_every_experiment_has_as_many_settings_with_the_codes_presets_and_shares_none(grid: str, preset: str):
    runs = preset_runs(grid, preset)
    assert len({run.setting_id for run in runs}) == len({run.setting_id for run in expand(load_grid(grid))})
    assert {run.preset for run in runs} == {preset}
    assert not {run.run_id for run in runs} & {run.run_id for run in expand(load_grid(grid))}
    assert not {run.setting_id for run in runs} & {run.setting_id for run in expand(load_grid(grid))}


@pytest.mark.parametrize("preset", ["paper-code-2024", "paper-code-2025"])
def test_the_codes_presets_take_quiltnet_b32_100_steps_a_shot_and_alpha_by_the_root_of_the_rank(preset: str):
    runs = preset_runs("exp2", preset)
    assert {run.backbone for run in runs} == {"clip-vit-b16", "vit-b16", "biomedclip", "quiltnet-b32", "uni"}
    assert {run.train.budget for run in runs} == {Budget(amount=100, unit="steps_per_shot", plus_steps=50)}
    assert {(run.adapter.rank, run.adapter.scaling) for run in runs if run.adapter} == {(2, "alpha_over_sqrt_rank")}


@pytest.mark.parametrize("preset", ["paper-code-2024", "paper-code-2025"])
def test_the_codes_presets_have_the_wrong_attention_for_uni_and_biomedclip_under_lora_alone(preset: str):
    wrong = {run.backbone for run in preset_runs("exp2", preset) if run.adapter and run.adapter.reference_attention_bug}
    assert wrong == {"biomedclip", "uni"}
    assert not any(run.adapter for run in preset_runs("exp1", preset))
    assert not any(run.adapter.reference_attention_bug for run in preset_runs("exp3", preset) if run.adapter)


def test_in_2024_every_model_sees_clips_view_and_crops_down_to_8_percent():
    for run in preset_runs("exp2", "paper-code-2024"):
        seen = run.preprocess or BACKBONES.get(run.backbone).preprocess
        assert (seen.mean, seen.interpolation, seen.resize) == (CLIP_MEAN, "bicubic", "shortest")
        assert run.train.augment == AugmentSpec(min_scale=0.08, flip=0.5)
    changed = {run.backbone for run in preset_runs("exp2", "paper-code-2024") if run.preprocess}
    assert changed == {"vit-b16", "uni"}  # the others' own view is CLIP's


def test_in_2025_every_model_sees_its_own_view_and_crops_down_to_70_percent():
    runs = preset_runs("exp2", "paper-code-2025")
    assert {run.preprocess for run in runs} == {None}
    assert {(run.train.augment.min_scale, run.train.augment.flip) for run in runs if run.train.augment} == {(0.7, 0.5)}


@pytest.mark.parametrize("grid", ["exp1", "exp2", "exp3"])
@pytest.mark.parametrize("preset", ["paper-code-2024", "paper-code-2025"])
def test_crops_are_resized_bicubically_for_every_model_in_both_code_presets(preset: str, grid: str):
    for run in preset_runs(grid, preset):
        seen, augment = run.preprocess or BACKBONES.get(run.backbone).preprocess, run.train.augment
        assert augment is not None
        assert (augment.interpolation or seen.interpolation) == "bicubic"


def test_an_interpolation_that_is_the_models_own_renames_no_run():
    named = {run.backbone for run in preset_runs("exp2", "paper-code-2025") if run.train.augment != AugmentSpec()}
    assert named == {"uni", "vit-b16"}
    assert {run.train.augment for run in expand(load_grid("exp2"))} == {AugmentSpec()}


@pytest.mark.parametrize("preset", ["paper-code-2024", "paper-code-2025"])
def test_the_codes_linear_classifier_sees_one_augmented_view_at_a_rate_that_climbs_again(preset: str):
    runs = preset_runs("exp1", preset)
    assert all(run.train.augment is not None and run.train.cosine_steps == 50 for run in runs)
    assert {run.train.augment for run in expand(load_grid("exp1"))} == {None}


@pytest.mark.parametrize("preset", ["paper-code-2024", "paper-code-2025"])
@pytest.mark.parametrize("grid", ["exp1", "exp2-linear", "smoke"])
def test_the_codes_presets_try_linear_at_the_five_rates_of_its_launcher(grid: str, preset: str):
    runs, before = preset_runs(grid, preset), expand(load_grid(grid))
    assert {run.learning_rate for run in runs if not run.adapter} == {1e-4, 3e-4, 1e-3, 3e-3, 1e-2}
    assert {run.learning_rate for run in runs if run.adapter} == {run.learning_rate for run in before if run.adapter}


@pytest.mark.parametrize(("grid", "digest"), [("exp1", "36eeefe4004715f4"), ("exp2-linear", "84be33d00f1780c6")])
def test_runs_of_the_code_of_2024_keep_the_ids_of_stored_ones(grid: str, digest: str):
    assert sha256_text("\n".join(sorted(run.run_id for run in preset_runs(grid, "paper-code-2024"))))[:16] == digest


def test_a_presets_rates_of_linear_leave_zero_shot_and_lora_alone():
    methods = {"zero-shot": MethodSpec(), **load_grid("smoke").methods}
    changed = with_preset(
        replace(load_grid("smoke"), methods=methods), PresetSpec(name="mine", learning_rates_frozen=(0.5,))
    )
    assert {name: method.learning_rates for name, method in changed.methods.items()} == {
        "zero-shot": None,
        "linear": (0.5,),
        "lora": None,
    }


def test_a_cosine_of_its_own_length_falls_climbs_and_falls_again():
    """As torch's CosineAnnealingLR does when it is stepped beyond T_max."""
    train = TrainSpec(budget=Budget(amount=1, unit="epochs"), warmup_steps=50, cosine_steps=50)
    optimiser = torch.optim.SGD([torch.zeros(1)], lr=1e-3)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 50, eta_min=1e-6)
    for step in range(50, 300):
        assert rate_at(step, 10_000, 1e-3, train) == pytest.approx(optimiser.param_groups[0]["lr"], rel=1e-6)
        optimiser.step()
        cosine.step()
    assert rate_at(100, 10_000, 1e-3, train) == pytest.approx(1e-6)
    assert rate_at(150, 10_000, 1e-3, train) == pytest.approx(1e-3)


def test_a_changed_view_keeps_the_size_of_the_backbones_own():
    own = BACKBONES.get("nano").preprocess
    changed = PreprocessChange(mean=CLIP_MEAN, resize="squash").apply(own)
    assert changed == replace(own, mean=CLIP_MEAN, resize="squash")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda grid: replace(grid, reference_attention_bug=True), "not for nano"),
        (
            lambda grid: replace(
                grid,
                models=("uni", "clip-vit-b16"),
                methods={
                    "lora": replace(
                        grid.methods["lora"],
                        adapter=replace(grid.methods["lora"].adapter, reference_attention_bug=True),
                    )
                },
            ),
            "biomedclip and uni, and for no other: not for clip-vit-b16",
        ),
    ],
)
def test_the_wrong_attention_is_refused_for_models_that_never_had_it(
    change: Callable[[GridSpec], GridSpec], message: str
):
    with pytest.raises(ConfigError, match=message):
        expand(change(load_grid("smoke")))


def test_a_grid_with_the_wrong_attention_gives_it_to_those_that_had_it():
    runs = expand(replace(load_grid("exp2"), reference_attention_bug=True))
    assert {run.backbone for run in runs if run.adapter and run.adapter.reference_attention_bug} == {
        "biomedclip",
        "uni",
    }


def test_a_preset_of_ones_own_is_a_yaml_file(tmp_path: Path):
    path = tmp_path / "mine.yaml"
    path.write_text("name: attention-alone\nreference_attention_bug: true\n")
    runs = expand(with_preset(load_grid("exp2"), load_preset(str(path))))
    assert {run.preset for run in runs} == {"attention-alone"}
    path.write_text("name: paper-code-2024\n")
    with pytest.raises(ConfigError, match="name of a shipped preset"):
        load_preset(str(path))
    path.write_text("name: mine\nmodell: {}\n")
    with pytest.raises(ConfigError, match="did you mean 'models'"):
        load_preset(str(path))


def test_a_second_preset_on_top_of_one_is_refused():
    once = with_preset(load_grid("exp2"), load_preset("paper-code-2024"))
    with pytest.raises(ConfigError, match="has the preset paper-code-2024 already"):
        with_preset(once, load_preset("paper-code-2025"))


@pytest.mark.slow
def test_runs_of_a_preset_train_on_its_views_and_are_named_in_the_report(drawn_cells: Path, tmp_path: Path):
    preset = PresetSpec(
        name="other-views",
        preprocess=PreprocessChange(mean=CLIP_MEAN, interpolation="bilinear"),
        augment=AugmentSpec(min_scale=0.3),
        augment_frozen=True,
        cosine_steps_frozen=2,
    )
    grid = tiny_grid(seeds=[1], learning_rates=[1e-2])
    for one in (grid, with_preset(grid, preset)):
        run_all(one, drawn_cells, tmp_path)
    found = read_settings(Store(tmp_path).runs())
    assert [(cell.method, cell.tested != ()) for cell in found] == [
        ("linear", True),
        ("linear (preset other-views)", True),
        ("lora", True),
        ("lora (preset other-views)", True),
    ]
    losses = {cell.method: cell.runs[0].metrics["train"]["final_loss"] for cell in found}
    assert len(set(losses.values())) == 4
    assert ["preset" in [mark.tag for mark in marks(cell)] for cell in found] == [False, True, False, True]
    mean = {cell.runs[0].spec["preprocess"] and cell.runs[0].spec["preprocess"]["mean"][0] for cell in found}
    assert mean == {None, CLIP_MEAN[0]}


def test_the_wrong_attention_is_marked_in_the_report_before_all_else():
    spec = RunSpec(
        dataset="herlev",
        backbone="uni",
        method="lora",
        adapter=replace(load_grid("exp2").methods["lora"].adapter, reference_attention_bug=True),  # pyright: ignore
        sampling=Sampling(shots=1),
        split=SplitSpec(),
        train=TrainSpec(budget=Budget(amount=1, unit="epochs", max_steps=2)),
        learning_rate=1e-3,
        seed=1,
        preset="paper-code-2024",
        preprocess=Preprocess(size_px=224, mean=CLIP_MEAN, std=(1, 1, 1)),
    )
    stored = StoredRun(
        path=Path(spec.run_id),
        spec=to_plain(spec),
        metrics={"val": None, "test": None, "train": {"num_steps": 2, "final_loss": 1.0}},
        provenance={"classes": ["normal", "severe_dysplastic"]},
    )
    setting = Setting(
        setting_id=spec.setting_id,
        spec=spec,
        variant=Variant(text="", division=""),
        name="",
        runs=(stored,),
        rate=None,
        facts=class_facts(spec, ["normal", "severe_dysplastic"]),
        evaluation=None,
        group_warnings={},
    )
    first, *_ = marks(setting)
    assert first.tag == "wrong attention"


def test_a_cell_with_repeated_images_is_marked(drawn_cells: Path, tmp_path: Path):
    grid = tiny_grid(methods=["linear"], shots=[2, 9], seeds=[1], learning_rates=[1e-2])
    with pytest.raises(ConfigError, match="fewer than the 9 shots asked for"):
        run_all(grid, drawn_cells, tmp_path / "refused")
    run_all(replace(grid, on_small_class="repeat"), drawn_cells, tmp_path / "runs")
    enough, repeated = read_settings(Store(tmp_path / "runs").runs())
    assert enough.worst("num_repeated") == 0
    assert repeated.worst("num_repeated") > 0
    assert ["repeated" in [mark.tag for mark in marks(cell)] for cell in (enough, repeated)] == [False, True]
