"""Different settings never stand in one row, on one line or in one pair as if they were alike."""

from pathlib import Path
from typing import Any

import pytest
from fake_store import FakeData, write_runs

from cytolora.config.run import AdapterSpec, AugmentSpec, Budget, Preprocess, Sampling, SplitSpec, TrainSpec
from cytolora.experiments.store import Store
from cytolora.reporting.comparison.compare import COLUMNS, Comparison, compare, to_rows
from cytolora.reporting.figures.few_shot import few_shot_figures
from cytolora.reporting.pages.build import build_report
from cytolora.reporting.pages.protocol import describe_dataset, describe_methods
from cytolora.reporting.results.settings import Setting, read_settings
from cytolora.reporting.tables.tables import pivot

ONE: dict[str, Any] = {"methods": ("lora",), "seeds": (1, 2), "rates": (1e-3,)}
SMALL = FakeData(num_groups=12)
SHORT = TrainSpec(budget=Budget(amount=10, unit="steps_per_shot", plus_steps=50))
CUT = TrainSpec(budget=Budget(amount=50, unit="steps_per_shot", plus_steps=50, max_steps=2))
EPOCHS = TrainSpec(budget=Budget(amount=100, unit="epochs"))


def write(store: Store, **options: Any) -> None:
    """Stores settings of small test sets."""
    write_runs(store, **{"data": SMALL, **ONE, **options})


def names(settings: list[Setting]) -> dict[tuple[str, int | None], set[str]]:
    found: dict[tuple[str, int | None], set[str]] = {}
    for setting in settings:
        found.setdefault((setting.model, setting.shots), set()).add(setting.method)
    return found


def pairs(found: Comparison) -> set[tuple[str, str, str]]:
    return {(pair.setting, pair.first, pair.second) for pair in found.pairs}


def test_two_ranks_at_different_shots_are_two_rows_and_no_pair_of_shots(store: Store):
    write(store, models=("uni",), shots=(1, 4))
    write(store, models=("uni",), shots=(16,), adapter=AdapterSpec(rank=16))
    settings = read_settings(store.runs())
    assert names(settings) == {
        ("uni", 1): {"lora (rank 2)"},
        ("uni", 4): {"lora (rank 2)"},
        ("uni", 16): {"lora (rank 16)"},
    }
    assert len(pivot(settings)) == 2
    found = compare(settings, "shots", replicates=50)
    assert pairs(found) == {("uni, lora (rank 2)", "1 shot", "4 shots")}
    (said,) = found.skipped
    assert said.startswith("herlev: uni, lora (rank 16), 16 shots has no rival; uni, lora (rank 2), ")
    assert said.endswith("differs in adapter rank too.")


def test_another_split_is_a_row_of_its_own_and_the_page_tells_both(store: Store):
    write(store, models=("uni",), shots=(1, 4))
    other = {"split": SplitSpec(seed=5), "provenance": {"split_rule": "60/20/20 by group, seed 5"}}
    write(store, data=FakeData(num_groups=9), models=("uni",), shots=(16,), **other)
    settings = read_settings(store.runs())
    assert {setting.method for setting in settings} == {"lora (split seed 0)", "lora (split seed 5)"}
    facts = describe_dataset(settings)
    assert "stratified by class, seed 0; 60/20/20 by group, seed 5" in facts.split_rule
    assert "2 different test sets (60 and 45 images" in facts.warnings[0]


@pytest.fixture
def two_budgets(store: Store) -> Store:
    """One model at six numbers of shots with a short budget, and at four with the paper's; another at four alone."""
    write(store, models=("uni",), shots=(1, 2, 4, 8, 16, 50), train=SHORT)
    write(store, models=("uni", "vit-b16"), shots=(4,))
    return store


def test_equal_budgets_are_called_the_same_of_every_model(two_budgets: Store):
    settings = read_settings(two_budgets.runs())
    found = names(settings)
    assert found["uni", 4] == {"lora (10 × shots + 50 steps)", "lora (50 × shots + 50 steps)"}
    assert found["vit-b16", 4] == {"lora (50 × shots + 50 steps)"}
    assert pairs(compare(settings, "model", replicates=50)) == {
        ("lora (50 × shots + 50 steps), 4 shots", "uni", "vit-b16")
    }
    figures = few_shot_figures(settings, lambda name: name)
    assert [{row["model"] for row in figure.frame().to_pylist()} for figure in figures] == [{"uni", "vit-b16"}, {"uni"}]


@pytest.mark.slow
def test_two_budgets_in_one_store_give_a_report_with_both(two_budgets: Store, tmp_path: Path):
    folder = build_report(two_budgets.root, tmp_path / "report").parent
    table = (folder / "tables.md").read_text().splitlines()
    assert sum("10 × shots + 50 steps" in line for line in table) == 2  # accuracy and balanced accuracy
    assert [path.name for path in (folder / "figures").glob("figure1*.svg")] == ["figure1.svg"]
    assert len(list((folder / "figures").glob("few_shot_*.svg"))) == 1


def test_a_clash_in_one_dataset_names_equal_settings_alike_in_all(store: Store):
    write(store, models=("uni",), shots=(4,), train=SHORT)
    write(store, models=("uni",), shots=(4,))
    write(store, data=FakeData(name="mlcc", num_groups=12), models=("uni",), shots=(4,))
    found = {(setting.dataset, setting.method) for setting in read_settings(store.runs())}
    assert ("mlcc", "lora (50 × shots + 50 steps)") in found


def test_a_cut_model_and_a_whole_one_are_no_pair(store: Store):
    write(store, models=("uni",), shots=(4,), train=CUT)
    write(store, models=("vit-b16",), shots=(4,))
    settings = read_settings(store.runs())
    assert len({setting.method for setting in settings}) == 2
    found = compare(settings, "model", replicates=50)
    assert found.pairs == ()
    assert (
        "has no rival; vit-b16, lora (50 × shots + 50 steps), 4 shots differs in train budget too."
        in (found.skipped[0])
    )


def test_experiments_2_and_3_side_by_side_keep_their_plain_names(store: Store):
    """They share a method and a dataset, and differ in rank, budget, model and in what their amounts are told in."""
    write(store, models=("uni", "vit-b16"), shots=(1, 4))
    write(store, models=("clip-vit-l14",), shots=(None,), sampling=Sampling(fraction=0.1), train=EPOCHS)
    settings = read_settings(store.runs())
    assert {setting.method for setting in settings} == {"lora"}


def test_a_view_of_each_models_own_leaves_models_comparable(store: Store):
    own = Preprocess(size_px=224, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    write(store, models=("uni",), shots=(4,), preset="mine", preprocess=own)
    write(store, models=("vit-b16",), shots=(4,), preset="mine")
    found = compare(read_settings(store.runs()), "model", replicates=50)
    assert pairs(found) == {("lora (preset mine), 4 shots", "uni", "vit-b16")}


def test_methods_are_compared_with_all_that_belongs_to_them_but_not_across_presets(store: Store):
    write(store, methods=("linear", "lora"), models=("uni",), shots=(4,))
    write(store, models=("uni",), shots=(4,), preset="mine", train=SHORT)
    found = compare(read_settings(store.runs()), "method", replicates=50)
    assert pairs(found) == {("uni, 4 shots", "linear", "lora"), ("uni, 4 shots", "lora", "lora (preset mine)")}


def test_a_pair_of_cut_settings_is_flagged_in_its_files(store: Store):
    write(store, models=("uni", "vit-b16"), shots=(4,), train=CUT)
    (row,) = to_rows(compare(read_settings(store.runs()), "model", replicates=50))
    assert (row["first_flags"], row["second_flags"]) == ("cut; few groups", "cut; few groups")
    assert {"first_flags", "second_flags"} <= set(COLUMNS)


def test_a_preset_without_a_linear_classifier_of_its_own_is_shown_beside_the_papers(store: Store):
    one = {"models": ("uni",), "rates": (1e-3,), "seeds": (1, 2), "data": FakeData(num_groups=12)}
    write_runs(store, methods=("linear",), shots=(None,), **one)
    write_runs(store, methods=("lora",), shots=(1, 4), preset="attention-alone", **one)
    (figure,) = few_shot_figures(read_settings(store.runs()), str)
    assert [row["shots"] for row in figure.frame().to_pylist()] == [1, 4, None]
    assert "linear classifier on all images (preset paper, where this one has none of its own)" in figure.caption
    write_runs(store, methods=("linear",), shots=(None,), preset="attention-alone", **one)
    (figure,) = few_shot_figures(read_settings(store.runs()), str)
    assert [row["method"] for row in figure.frame().to_pylist()][-1] == "linear (preset attention-alone)"
    assert "preset paper" not in figure.caption


def test_what_a_preset_changes_is_told_in_the_settings_of_each_method(store: Store):
    one = {"models": ("uni",), "rates": (1e-3,), "seeds": (1,), "shots": (4,), "data": FakeData(num_groups=12)}
    budget = Budget(amount=100, unit="epochs")
    write_runs(store, methods=("linear", "lora"), **one, train=TrainSpec(budget=budget, augment=None))
    changed = TrainSpec(budget=budget, cosine_steps=50, augment=AugmentSpec(min_scale=0.08, interpolation="bicubic"))
    view = Preprocess(size_px=224, mean=(0.48, 0.46, 0.41), std=(0.27, 0.26, 0.28))
    other = {"preset": "paper-code-2024", "train": changed, "preprocess": view}
    write_runs(store, methods=("linear",), **one, **other)
    write_runs(store, methods=("lora",), **one, **other, adapter=AdapterSpec(reference_attention_bug=True))
    found = describe_methods(read_settings(store.runs()))
    assert [len(settings) for settings in found.values()] == [2, 2]
    plain, preset = found["linear"]
    assert "; trained on evaluation views; each model's own view; fp32" in plain
    assert preset.startswith("preset paper-code-2024: 100 epochs; ")
    assert (
        "cosine that turns every 50 steps; crops of 8 to 100 % of the area, flip 0.5, crops resized bicubic" in preset
    )
    assert "view: shortest, bicubic, mean 0.48, 0.46, 0.41, standard deviation 0.27, 0.26, 0.28" in preset
    assert "the wrong attention of the paper's public code" in found["lora"][1]
    assert "the wrong attention" not in found["lora"][0]
