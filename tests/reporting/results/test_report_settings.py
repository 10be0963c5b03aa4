import shutil
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fake_store import RATES, FakeData, fake_run, write_runs

from cytolora.config.run import AdapterSpec, Budget, SplitSpec, TrainSpec
from cytolora.errors import StoreError
from cytolora.experiments.store import Store
from cytolora.experiments.stored_run import RunResult
from cytolora.reporting.pages.protocol import describe_rates
from cytolora.reporting.results.checks import refuse_mixed
from cytolora.reporting.results.marks import marks
from cytolora.reporting.results.published import find_published
from cytolora.reporting.results.settings import MeanStd, Setting, best, read_settings
from cytolora.reporting.tables.tables import to_row

ONE = {"models": ("uni",), "methods": ("lora",), "shots": (4,)}
"""A single setting."""


def tags(setting: Setting) -> list[str]:
    return [mark.tag for mark in marks(setting)]


def only_setting(store: Store) -> Setting:
    (found,) = read_settings(store.runs())
    return found


def test_std_divides_by_n_minus_1_as_the_papers_98_72_pm_0_28_on_209_images_does():
    spread = MeanStd.of([206 / 209, 206 / 209, 207 / 209])
    assert spread.std is not None
    assert (round(100 * spread.mean, 2), round(100 * spread.std, 2)) == (98.72, 0.28)


def test_a_single_seed_has_no_spread():
    assert MeanStd.of([0.5]).std is None


def test_a_setting_tells_mean_interval_and_chosen_rate(settings: list[Setting]):
    assert len(settings) == 14
    for setting in settings:
        accuracy, interval = setting.test("accuracy"), setting.intervals["accuracy"]
        assert setting.rate == RATES[1]
        assert len(setting.tested) == len(setting.seeds) == 3
        assert accuracy is not None
        assert interval.low < accuracy.mean < interval.high
        assert (interval.unit, interval.num_units) == ("group", 60)
        assert tags(setting) == []


def test_settings_come_by_model_then_method_then_amount_with_all_images_last(settings: list[Setting]):
    linear = [setting.shots for setting in settings if (setting.model, setting.method) == ("uni", "linear")]
    assert linear == [1, 4, 16, None]


def test_best_is_a_dry_run_only_where_there_is_nothing_else(store: Store):
    cut = TrainSpec(budget=Budget(amount=50, unit="steps_per_shot", plus_steps=50, max_steps=2))
    write_runs(store, models=("uni",), methods=("lora",), shots=(16,), train=cut)
    dry_run = best(read_settings(store.runs()))
    assert dry_run is not None
    assert tags(dry_run) == ["cut"]
    write_runs(store, models=("uni",), methods=("lora",), shots=(1,))
    found = best(read_settings(store.runs()))
    assert found is not None
    assert found.shots == 1


def test_settings_of_one_name_are_told_apart_by_their_budget(store: Store):
    write_runs(store, **ONE)
    write_runs(store, **ONE, train=TrainSpec(budget=Budget(amount=10, unit="steps_per_shot", plus_steps=50)))
    names = [setting.method for setting in read_settings(store.runs())]
    assert names == ["lora (10 × shots + 50 steps)", "lora (50 × shots + 50 steps)"]


def test_a_setting_without_test_score_is_listed_with_its_validation_accuracy(store: Store):
    write_runs(store, **ONE, tested=False)
    setting = only_setting(store)
    assert setting.test("accuracy") is None
    assert tags(setting) == ["validation only"]
    assert "validation accuracy at the chosen rate is" in marks(setting)[0].text


def test_a_setting_whose_rates_lack_seeds_is_marked_missing(store: Store):
    write_runs(store, **ONE, seeds=(1,), rates=(1e-3,))
    write_runs(store, **ONE, seeds=(2,), rates=(1e-2,))
    assert only_setting(store).rate is None
    assert tags(only_setting(store)) == ["missing"]


def test_a_test_score_for_some_seeds_only_is_marked_incomplete(store: Store):
    write_runs(store, **ONE, seeds=(1, 2))
    write_runs(store, **ONE, seeds=(3,), tested=False)
    assert tags(only_setting(store)) == ["incomplete"]


def test_a_test_set_scored_at_another_rate_too_is_marked(store: Store):
    write_runs(store, **ONE)
    store.write(fake_run(FakeData(), "uni", "lora", 4, RATES[0], 1, skill=0, tested=True))
    assert tags(only_setting(store)) == ["retested"]


def test_a_rate_at_the_edge_of_its_grid_is_marked(store: Store):
    data = FakeData()
    for rate, skill in ((1e-4, 0.1), (1e-3, 0.5), (1e-2, 4)):
        store.write(fake_run(data, "uni", "lora", 4, rate, 1, skill=skill, tested=rate == 1e-2))
    assert "the highest of the 3 tried" in marks(only_setting(store))[0].text


def test_rates_that_differ_between_presets_are_said_of_each_apart(store: Store):
    write_runs(store, models=("uni",), methods=("linear",), shots=(4,), rates=(1e-3, 1e-2, 1e-1))
    write_runs(store, models=("uni",), methods=("linear",), shots=(4,), rates=(1e-3, 1e-2), preset="paper-code-2024")
    write_runs(store, models=("uni",), methods=("lora",), shots=(1, 4), rates=(1e-3,))
    assert describe_rates(read_settings(store.runs())) == {
        "linear": ["0.001, 0.01, 0.1", "preset paper-code-2024: 0.001, 0.01"],
        "lora": ["0.001"],
    }


def test_repeated_images_image_splits_and_few_groups_are_marked(store: Store):
    few = FakeData(num_groups=8, group_size=10)
    write_runs(store, data=few, **ONE, provenance={"num_repeated": 12}, split=SplitSpec(by="image"))
    assert tags(only_setting(store)) == ["split by image", "repeated", "few groups"]
    assert "12 training images drawn again" in marks(only_setting(store))[1].text


def test_a_rate_that_diverged_is_marked_and_not_chosen(store: Store):
    write_runs(store, **ONE)
    run = fake_run(FakeData(), "uni", "lora", 4, 1.0, 1, skill=0, tested=False)
    metrics = {**run.metrics, "val": None}
    store.write(type(run)(**{**{n: getattr(run, n) for n in run.__dataclass_fields__}, "metrics": metrics}))
    assert only_setting(store).rate == RATES[1]
    assert tags(only_setting(store)) == ["diverged"]


def test_without_groups_the_interval_draws_images(store: Store):
    write_runs(store, data=FakeData(groups_known=False), **ONE)
    assert only_setting(store).intervals["accuracy"].unit == "image"


def test_runs_under_a_label_map_are_a_dataset_of_their_own(store: Store):
    write_runs(store, **ONE)
    two = FakeData(classes=("normal", "abnormal"))
    write_runs(store, data=two, **ONE, label_map_sha256="1a2b3c4d5e", provenance={"data_fingerprint": "other"})
    refuse_mixed(store.runs())
    assert [setting.dataset for setting in read_settings(store.runs())] == ["herlev", "herlev (label map 1a2b3c4d)"]


@pytest.mark.parametrize("field", ["data_fingerprint", "weights_sha256", "split_fingerprint"])
def test_runs_that_disagree_in_what_they_were_computed_from_are_refused_with_both_values(store: Store, field: str):
    write_runs(store, models=("uni",), methods=("lora",), shots=(1,), seeds=(1,))
    write_runs(store, models=("uni",), methods=("linear",), shots=(1,), seeds=(1,), provenance={field: "0ther"})
    here = {run.provenance[field] for run in store.runs()}
    with pytest.raises(StoreError) as caught:
        refuse_mixed(store.runs())
    assert all(value in str(caught.value) for value in (*here, field))


def test_predictions_that_do_not_fit_the_classes_are_refused_by_folder(store: Store):
    write_runs(store, **ONE, rates=(1e-3,), seeds=(1,))
    run = fake_run(FakeData(), "uni", "lora", 4, 1e-3, 1, skill=1, tested=True)
    strange = run.predictions.set_column(1, "label", pa.array(["no such class"] * len(run.predictions)))
    folder = store.root / run.spec.run_id
    (folder / "sha256sums.txt").unlink()
    pq.write_table(strange, folder / "predictions.parquet")
    with pytest.raises(StoreError, match=r"is damaged: its predictions do not fit its classes .* run again"):
        _ = only_setting(store).intervals


def test_table_1_of_the_paper_is_found_for_its_twenty_settings_and_no_other():
    models = ("clip-vit-b16", "quiltnet-b16", "biomedclip", "uni", "vit-b16")
    datasets = ("bcfc", "mlcc", "sipakmed", "hicervix:25")
    found = [find_published(dataset=d, model=m, method="linear") for d in datasets for m in models]
    assert len([entry for entry in found if entry]) == 20
    uni = find_published(dataset="hicervix", model="uni", method="linear")
    assert uni is not None
    assert (uni.accuracy, uni.std, uni.source) == (0.6407, 0.0025, "Dausort et al. 2025, Table 1")
    assert find_published(dataset="hicervix:21", model="uni", method="linear") is None
    assert find_published(dataset="bcfc", model="uni", method="lora") is None


def test_published_values_are_those_of_the_papers_table(shared_data):
    rows = (shared_data / "paper" / "table1_linear.csv").read_text().splitlines()[1:]
    ours = {"CLIP": "clip-vit-b16", "QUILT": "quiltnet-b16", "BiomedCLIP": "biomedclip", "UNI": "uni", "ViT": "vit-b16"}
    for dataset, model, accuracy, std in (row.split(",") for row in rows):
        found = find_published(dataset=dataset.lower(), model=ours[model], method="linear")
        assert found is not None
        assert (found.accuracy, found.std) == pytest.approx((float(accuracy) / 100, float(std) / 100))


def test_wrong_attention_never_stands_for_the_best_setting_where_there_is_another(store: Store):
    wrong = AdapterSpec(reference_attention_bug=True)
    write_runs(store, models=("uni",), methods=("lora",), shots=(1,), rates=(1e-3,))
    runs = [replace(run, spec=replace(run.spec, adapter=wrong)) for run in _uni(skill=9.0)]
    for run in runs:
        store.write(run)
    right, mistaken = read_settings(store.runs())
    assert (right.shots, mistaken.shots) == (1, 4)
    here, there = right.test("accuracy"), mistaken.test("accuracy")
    assert here is not None
    assert there is not None
    assert there.mean > here.mean
    assert best([right, mistaken]) is right
    assert best([mistaken]) is mistaken


def _uni(skill: float) -> list[RunResult]:
    return [fake_run(FakeData(), "uni", "lora", 4, 1e-3, seed, skill=skill, tested=True) for seed in (1, 2, 3)]


def test_a_setting_is_a_value_that_reads_nothing_once_it_is_made(store: Store):
    write_runs(store, models=("uni",), methods=("lora",), shots=(1,), seeds=(1, 2))
    setting = only_setting(store)
    shutil.rmtree(store.root)
    row = to_row(setting)
    assert row["accuracy_low"] <= row["accuracy_mean"] <= row["accuracy_high"]
    assert tags(setting) == []
    assert not store.root.exists()
