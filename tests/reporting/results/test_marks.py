"""Marks are findings with codes, and travel with every number."""

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from fake_store import RATES, FakeData, fake_run, score_of, write_runs

from cytolora.config.run import Budget, SplitSpec, TrainSpec
from cytolora.core.finding_kinds import KINDS
from cytolora.experiments.store import Store
from cytolora.experiments.stored_run import RunResult
from cytolora.reporting.comparison.compare import compare, notes, to_rows
from cytolora.reporting.pages.build import build_report
from cytolora.reporting.results.flags import GRAVE, flags, notices
from cytolora.reporting.results.marks import marks
from cytolora.reporting.results.rates import runner_up
from cytolora.reporting.results.settings import Setting, best, highest, read_settings

ONE: dict[str, Any] = {"models": ("uni",), "methods": ("lora",), "shots": (4,)}
"""A single setting."""


def tags(setting: Setting) -> set[str]:
    return {mark.tag for mark in marks(setting)}


def only_setting(store: Store) -> Setting:
    (found,) = read_settings(store.runs())
    return found


def with_train(run: RunResult, **changes: Any) -> RunResult:
    return replace(run, metrics={**run.metrics, "train": {**run.metrics["train"], **changes}})


def a_run(rate: float = 1e-3, *, skill: float = 1.0, tested: bool = True, shots: int = 4, **spec: Any) -> RunResult:
    return fake_run(spec.pop("data", FakeData()), "uni", "lora", shots, rate, 1, skill=skill, tested=tested, **spec)


@pytest.mark.parametrize(
    ("budget", "warmup", "steps"),
    [
        (Budget(amount=2, unit="epochs"), 50, 2),
        (Budget(amount=8, unit="epochs"), 50, 8),
        (Budget(amount=50, unit="epochs"), 50, 50),
        (Budget(amount=1, unit="epochs"), 50, 1),
        (Budget(amount=1, unit="steps_per_shot", plus_steps=3), 50, 7),
        (Budget(amount=50, unit="steps_per_shot", plus_steps=50, max_steps=10), 50, 10),
        (Budget(amount=300, unit="epochs"), 400, 300),
    ],
)
def test_a_budget_that_ends_inside_its_warm_up_is_marked_however_it_was_set(
    store: Store, budget: Budget, warmup: int, steps: int
):
    store.write(with_train(a_run(train=TrainSpec(budget=budget, warmup_steps=warmup)), num_steps=steps))
    setting = only_setting(store)
    assert "ends in warm-up" in flags(setting)
    assert any(f"within its warm-up of {warmup}" in mark.text for mark in marks(setting))
    assert not setting.is_result


@pytest.mark.parametrize(("warmup", "steps"), [(50, 51), (0, 1), (50, 100), (10, 250)])
def test_a_budget_beyond_its_warm_up_is_not_marked(store: Store, warmup: int, steps: int):
    train = TrainSpec(budget=Budget(amount=steps, unit="epochs"), warmup_steps=warmup)
    store.write(with_train(a_run(train=train), num_steps=steps))
    assert "ends in warm-up" not in tags(only_setting(store))


def named(run: RunResult, label: str) -> RunResult:
    """The run, with one class the most probable of every image."""
    table, data = run.predictions, FakeData()
    width = len(data.classes)
    for name in data.classes:
        share = 0.5 if name == label else 0.5 / (width - 1)
        place = table.schema.get_field_index(name)
        table = table.set_column(place, name, pa.array(np.full(len(table), share, dtype=np.float32)))
    scores = {subset: score_of(table.filter(pc.field("subset") == subset), data) for subset in ("val", "test")}
    return replace(run, predictions=table, metrics={**run.metrics, **scores})


@pytest.mark.parametrize("label", FakeData().classes)
def test_a_classifier_that_names_one_class_is_marked(store: Store, label: str):
    store.write(named(a_run(), label))
    setting = only_setting(store)
    assert "one class named" in flags(setting)
    assert setting.evaluation is not None
    assert sum(column > 0 for column in np.sum(setting.evaluation.confusion, axis=0)) == 1


def test_a_classifier_that_names_two_classes_is_not_marked(store: Store):
    store.write(a_run(skill=0.5))
    assert "one class named" not in tags(only_setting(store))


@pytest.mark.parametrize("loss", [1.9460, 2.0, 3.5, 40.0])
def test_a_loss_that_did_not_fall_below_guessing_seven_classes_is_marked(store: Store, loss: float):
    store.write(with_train(a_run(), final_loss=loss))
    assert "loss did not fall" in flags(only_setting(store))
    assert any("guessing all classes alike has 1.946" in mark.text for mark in marks(only_setting(store)))


@pytest.mark.parametrize("loss", [None, 0.0, 0.2, 1.9])
def test_a_loss_below_guessing_and_a_method_without_one_are_not_marked(store: Store, loss: float | None):
    store.write(with_train(a_run(), final_loss=loss))
    assert "loss did not fall" not in tags(only_setting(store))


@pytest.mark.parametrize(
    ("skills", "side"),
    [
        ({1e-4: 0.1, 1e-3: 4.0}, "highest"),
        ({1e-4: 4.0, 1e-3: 0.1}, "lowest"),
        ({1e-4: 0.1, 1e-3: 0.5, 1e-2: 4.0}, "highest"),
        ({1e-4: 4.0, 1e-3: 0.5, 1e-2: 0.1}, "lowest"),
        ({1e-4: 0.1, 1e-3: 4.0, 1e-2: 0.5}, None),
        ({1e-3: 4.0}, None),
    ],
)
def test_a_chosen_rate_at_the_edge_is_marked_with_two_rates_too(
    store: Store, skills: dict[float, float], side: str | None
):
    top = max(skills, key=lambda rate: skills[rate])
    for rate, skill in skills.items():
        store.write(a_run(rate, skill=skill, tested=rate == top))
    setting = only_setting(store)
    assert ("rate at the edge" in flags(setting)) == (side is not None)
    assert side is None or any(f"the {side} of the {len(skills)} tried" in mark.text for mark in marks(setting))


def of_source(run: RunResult, group_of: Any) -> RunResult:
    """The run, with other groups."""
    table = run.predictions
    rows = zip(table["path"].to_pylist(), table["label"].to_pylist(), strict=True)
    groups = [group_of(int(path.split("/")[1][:4]), label) for path, label in rows]
    return replace(run, predictions=table.set_column(3, "group", pa.array(groups, pa.string())))


def own_slides(place: int, label: str) -> str:
    """Carcinoma comes from slides of its own, every other class from mixed ones."""
    return f"cancer {place % 8}" if label == "carcinoma in situ" else f"mixed {place % 30}"


def test_a_class_whose_slides_hold_no_other_class_is_named(store: Store):
    store.write(of_source(a_run(), own_slides))
    (found,) = [mark for mark in marks(only_setting(store)) if mark.tag == "class confounded with source"]
    assert found.code == "N841"
    assert "of carcinoma in situ hold no other class" in found.text
    assert "class confounded with source" in flags(only_setting(store))


@pytest.mark.parametrize(
    "group_of",
    [
        lambda place, label: f"slide {place // 5}",
        lambda place, label: f"{label} {place % 8}",  # one diagnosis a patient: no class stands out
        lambda place, label: f"cell {place}",
        lambda place, label: None,
        lambda place, label: "one slide",
        lambda place, label: f"slide {place % 3}",
    ],
    ids=["mixed", "every class alone", "single cells", "unknown", "one", "three"],
)
def test_classes_of_mixed_slides_are_not_called_confounded(store: Store, group_of: Any):
    store.write(of_source(a_run(), group_of))
    assert "class confounded with source" not in tags(only_setting(store))


@pytest.mark.parametrize(
    ("name", "code", "tag"),
    [
        ("copies-torn", "D507", "copies torn"),
        ("corrected-test-labels", "D510", "corrected test labels"),
        ("class-is-its-source", "N841", "class confounded with source"),
    ],
)
def test_findings_of_the_data_that_a_number_cannot_be_read_without_travel_with_it(
    store: Store, name: str, code: str, tag: str
):
    found = {"code": code, "name": name, "severity": "warning", "text": "As found.", "count": 3, "examples": []}
    write_runs(store, **ONE, provenance={"findings": [found]})
    assert flags(only_setting(store)) == (tag,)
    assert notices([only_setting(store)])[0][0] == code


def test_every_mark_is_a_finding_of_the_list_and_every_grave_tag_has_words(store: Store):
    few = FakeData(num_groups=8, group_size=10, groups_known=False)
    write_runs(store, data=few, **ONE, rates=(1e-3, 1e-2), provenance={"num_repeated": 12}, preset="paper-code-2024")
    found = marks(only_setting(store))
    assert len(found) > 3
    assert all(mark.code in KINDS and str(mark.finding) == mark.text for mark in found)
    assert {mark.tag for mark in found} <= set(GRAVE)


def test_plain_runs_bear_no_mark(settings: list[Setting]):
    assert [tags(setting) for setting in settings if tags(setting)] == []


def test_marks_stand_on_both_sides_of_a_comparison_and_in_its_notes(store: Store):
    warm = TrainSpec(budget=Budget(amount=8, unit="epochs"), warmup_steps=50)
    store.write(with_train(a_run(train=warm), num_steps=8))
    write_runs(store, models=("uni",), methods=("linear",), shots=(4,), seeds=(1,), rates=(1e-3, 1e-2))
    compared = compare(read_settings(store.runs()), "method")
    (row,) = to_rows(compared)
    by_name = {row["first"].split(" ")[0]: row["first_flags"], row["second"].split(" ")[0]: row["second_flags"]}
    assert "ends in warm-up" in by_name["lora"]
    assert by_name["linear"] == "rate at the edge"
    assert any("cannot have learned" in note for note in notes(compared))


@pytest.mark.slow
def test_marks_stand_at_the_top_of_the_page_and_in_every_file_of_numbers(store: Store, tmp_path):
    warm = TrainSpec(budget=Budget(amount=8, unit="epochs"), warmup_steps=50)
    write_runs(store, models=("uni",), methods=("lora", "linear"), shots=(1, 4), rates=(1e-3, 1e-2), train=warm)
    for run in list(store.runs()):
        steps = {**run.metrics["train"], "num_steps": 8}
        store.write(replace(_again(run), metrics={**run.metrics, "train": steps}))
    page = build_report(store.root, tmp_path / "report")
    head = page.read_text(encoding="utf-8").partition("<section")[0]
    for code in ("N804", "N808"):
        assert f"<code>{code}</code>" in head
    for name in ("tables.csv", "settings.csv", "classes.csv", "costs.csv", "figures/herlev_accuracy.csv"):
        with (page.parent / name).open(encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        assert rows
        assert all("ends in warm-up" in row["flags"] and "rate at the edge" in row["flags"] for row in rows), name
    for name in ("tables.md", "tables.tex"):
        assert "ends in warm-up" in (page.parent / name).read_text(encoding="utf-8")


def _again(run: Any) -> RunResult:
    from cytolora.config.run import RunSpec
    from cytolora.config.yaml import parse_spec

    spec = parse_spec(run.spec, RunSpec, "a run")
    return RunResult(
        spec=spec,
        metrics=run.metrics,
        predictions=run.predictions(),
        weights=run.weights(),
        provenance=run.provenance,
    )


def with_val(run: RunResult, accuracy: float) -> RunResult:
    """The run with another validation score, and without the predictions that contradict it."""
    tested = run.predictions.filter(pc.field("subset") == "test")
    changed = {**run.metrics["val"], "accuracy": accuracy}
    return replace(run, metrics={**run.metrics, "val": changed}, predictions=tested)


def test_the_best_setting_is_chosen_by_validation_and_never_by_test(store: Store):
    store.write(with_val(a_run(skill=3.0, shots=1), 0.5))
    store.write(with_val(a_run(skill=1.0, shots=4), 0.9))
    settings = read_settings(store.runs())
    found, top = best(settings), highest(settings)
    assert found is not None
    assert top is not None
    assert (found.shots, top.shots) == (4, 1)


def test_of_equal_validation_accuracies_the_one_on_more_images_is_the_best(store: Store):
    for run in (a_run(shots=1), a_run(shots=4)):
        store.write(with_val(run, 0.9))
    found = best(read_settings(store.runs()))
    assert found is not None
    assert found.shots == 4


def with_hits(run: RunResult, hits: int) -> RunResult:
    """The run with so many validation images predicted rightly, the others as the next class."""
    data, val = FakeData(), run.predictions.filter(pc.field("subset") == "val")
    width, truth = len(data.classes), [data.classes.index(label) for label in val["label"].to_pylist()]
    shares = np.full((len(val), width), 0.01, np.float32)
    for row, label in enumerate(truth):
        shares[row, label if row < hits else (label + 1) % width] = 1 - 0.01 * (width - 1)
    for column, name in enumerate(data.classes):
        val = val.set_column(val.schema.get_field_index(name), name, pa.array(shares[:, column]))
    others = run.predictions.filter(pc.field("subset") != "val")
    metrics = {**run.metrics, "val": score_of(val, data)}
    return replace(run, metrics=metrics, predictions=pa.concat_tables([val, others]))


@pytest.mark.parametrize(
    ("first", "second", "is_close"), [(23, 22, True), (23, 15, False), (28, 28, True), (26, 25, True)]
)
def test_a_runner_up_within_one_standard_error_is_said(store: Store, first: int, second: int, is_close: bool):
    store.write(with_hits(a_run(RATES[1]), first))
    store.write(with_hits(a_run(RATES[0], tested=False), second))
    found = runner_up(only_setting(store))
    assert found is not None
    number = only_setting(store).runs[0].metrics["val"]["n"]
    assert number == 28
    share = (first + 1) / 30
    assert found.standard_error == pytest.approx((share * (1 - share) / 28) ** 0.5)
    assert found.difference == pytest.approx((first - second) / 28)
    assert found.is_close == is_close


def test_suspected_groups_are_marked_beside_every_number_of_page_and_files(tmp_path: Path):
    """Wherever an accuracy of the setting is printed, its mark stands in the same cell or row."""
    found = {
        "code": "D511",
        "name": "groups-suspected",
        "severity": "warning",
        "text": "Names name slides.",
        "count": 1,
    }
    own = Store(tmp_path / "runs")
    data = FakeData(groups_known=False, metadata={"site": ("A", "B")})
    for seed in range(2):
        write_runs(
            own, data=replace(data, num_groups=40 + 10 * seed), models=("uni",), methods=("linear", "lora"),
            shots=(4,), split=SplitSpec(seed=seed), provenance={"findings": [found]},
        )  # fmt: skip
    page = build_report(own.root, tmp_path / "report")
    text, mark = page.read_text(), '<span class="mark">groups suspected</span>'
    for title in (
        "Several divisions</h3>",
        "By site</h3>",
        "Per-class results of the best setting</h3>",
        "All results",
    ):
        section = text[text.index(title) :]
        assert mark in section[: section.index("</table>")], title
    for path in sorted(page.parent.rglob("*.csv")):
        rows = list(csv.DictReader(path.open()))
        if "images" in path.name or path.parent.name == "splits":
            continue
        flags = [value for row in rows for name, value in row.items() if name.endswith("flags")]
        assert flags, path.name
        assert all("groups suspected" in value for value in flags), path.name
    assert "groups suspected" in (page.parent / "tables.md").read_text()
    assert "groups suspected" in (page.parent / "tables.tex").read_text()
