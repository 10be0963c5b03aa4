import csv
import io
import re
from pathlib import Path

import pytest
from fake_store import FakeData, write_runs

from cytolora.config.run import Sampling
from cytolora.display import format as words
from cytolora.experiments.store import Store
from cytolora.reporting.results.settings import Setting, read_settings
from cytolora.reporting.tables.tables import COLUMNS, to_csv, to_latex, to_markdown, to_row


def test_tables_csv_has_the_promised_columns_in_their_order(report_dir: Path):
    header = (report_dir / "tables.csv").read_text().splitlines()[0]
    assert header == (
        "dataset,model,method,shots,fraction,learning_rate,n_seeds,accuracy_mean,accuracy_std,"
        "balanced_accuracy_mean,balanced_accuracy_std,published_accuracy,preset,flags"
    )


def test_every_setting_is_a_row_of_tables_csv_with_the_numbers_of_the_store(report_dir: Path, settings: list[Setting]):
    rows = list(csv.DictReader((report_dir / "tables.csv").open()))
    assert len(rows) == len(settings)
    for row, setting in zip(rows, settings, strict=True):
        tested = [run.metrics["test"]["accuracy"] for run in setting.tested]
        assert float(row["accuracy_mean"]) == pytest.approx(sum(tested) / 3, abs=1e-6)
        assert (row["model"], row["learning_rate"], row["n_seeds"]) == (setting.model, "0.001", "3")
        assert row["shots"] == ("all" if setting.shots is None else str(setting.shots))


def test_settings_csv_adds_intervals_trainable_parameters_and_remarks(report_dir: Path):
    rows = list(csv.DictReader((report_dir / "settings.csv").open()))
    assert tuple(rows[0])[: len(COLUMNS)] == COLUMNS
    assert float(rows[0]["accuracy_low"]) < float(rows[0]["accuracy_mean"]) < float(rows[0]["accuracy_high"])
    assert (rows[0]["interval_unit"], rows[0]["num_trainable"]) == ("group", "1351")
    assert {row["interval_kind"] for row in rows} <= {"korn-graubard", "credible"}
    for name in ("tables.md", "tables.tex"):
        assert "Korn-Graubard, or credible (beta-binomial)" in (report_dir / name).read_text()


def test_the_papers_number_stands_beside_linear_on_all_images_only(store: Store):
    write_runs(store, data=FakeData(name="sipakmed"), models=("uni",), shots=(4, None), rates=(1e-3,))
    rows = [to_row(setting) for setting in read_settings(store.runs())]
    published = {(row["method"], row["shots"]): row["published_accuracy"] for row in rows}
    assert published == {("linear", 4): None, ("linear", "all"): 0.9333, ("lora", 4): None, ("lora", "all"): None}


def test_a_fraction_stands_in_its_own_column(store: Store):
    write_runs(store, models=("uni",), methods=("linear",), shots=(None,), sampling=Sampling(fraction=0.05))
    row = to_row(read_settings(store.runs())[0])
    assert (row["shots"], row["fraction"]) == (None, 0.05)


def test_a_setting_without_test_score_has_empty_fields_not_zeros(store: Store):
    write_runs(store, models=("uni",), methods=("linear",), shots=(1,), tested=False)
    text = to_csv([to_row(read_settings(store.runs())[0])], COLUMNS)
    assert text.splitlines()[1] == "herlev,uni,linear,1,,0.001,0,,,,,,paper,"


def test_a_preset_is_a_column_and_a_repeated_setting_is_marked_in_the_tables_themselves(store: Store):
    one = {"models": ("uni",), "methods": ("lora",), "shots": (4,), "rates": (1e-3,)}
    write_runs(store, **one, provenance={"num_repeated": 12})
    write_runs(store, **one, preset="paper-code-2025")
    settings = read_settings(store.runs())
    rows = list(csv.DictReader(io.StringIO(to_csv([to_row(setting) for setting in settings], COLUMNS))))
    assert [(row["preset"], row["flags"]) for row in rows] == [("paper", "repeated"), ("paper-code-2025", "preset")]
    for text in (to_markdown(settings), to_latex(settings)):
        lines = [line for line in text.splitlines() if "uni" in line]
        assert ["[repeated]" in line for line in lines] == [True, False, True, False]
        assert ["[preset]" in line for line in lines] == [False, True, False, True]


def test_markdown_prints_mean_and_spread_by_amount(settings: list[Setting]):
    lines = to_markdown(settings).splitlines()
    assert "| model | method | 1 shot | 4 shots | 16 shots | all |" in lines
    spread = settings[0].test("accuracy")
    assert spread is not None
    assert spread.std is not None
    assert f"{words.percent(spread.mean)} ± {words.percent(spread.std)}" in lines[4]


def test_latex_escapes_what_latex_would_read(store: Store):
    write_runs(store, data=FakeData(name="my_settings_50%"), models=("my_model",), methods=("linear",), shots=(1,))
    text = to_latex(read_settings(store.runs()))
    assert r"my\_settings\_50\%" in text
    assert r"my\_model & linear & " in text
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") == 2


def test_csv_fields_with_commas_come_back_whole():
    text = to_csv([{"model": 'a,"b"', "shots": None}], ("model", "shots"))
    assert next(csv.DictReader(io.StringIO(text))) == {"model": 'a,"b"', "shots": ""}


def test_latex_tables_are_centred_labelled_once_each_and_print_intervals_or_not(settings: list[Setting]):
    with_intervals, without = to_latex(settings), to_latex(settings, intervals=False)
    for text in (with_intervals, without):
        labels = re.findall(r"\\label\{([^}]*)\}", text)
        assert labels == ["tab:herlev-accuracy", "tab:herlev-balanced-accuracy"]
        assert text.count(r"\centering") == text.count(r"\begin{table}") == 2
        assert len([line for line in text.splitlines() if r"\label" in line or r"\centering" in line]) == 4
    assert "(95 % interval)" in with_intervals.replace(r"\%", "%")
    accuracy, interval = settings[0].test("accuracy"), settings[0].intervals["accuracy"]
    assert accuracy is not None
    mean = words.percent(accuracy.mean)
    assert mean in without
    assert words.interval(interval).replace("–", "--") in with_intervals
    assert words.interval(interval).replace("–", "--") not in without
    assert "interval" not in without
