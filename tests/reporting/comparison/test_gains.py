"""Adapters stand beside the linear head at equal shots, paired and with intervals, without being asked for."""

import csv
from pathlib import Path

import numpy as np
import pytest
from fake_store import FakeData, write_runs

from cytolora.config.run import Sampling, SplitSpec
from cytolora.display.figure import look
from cytolora.experiments.store import Store
from cytolora.reporting.comparison.compare import compare
from cytolora.reporting.comparison.gains import gains, to_rows
from cytolora.reporting.figures.gains import Gains
from cytolora.reporting.results.settings import Setting, read_settings

pytestmark = pytest.mark.usefixtures("real_drawings")


def test_every_pair_of_lora_and_linear_at_equal_shots_is_there_and_no_other(settings: list[Setting]):
    found = gains(settings)
    assert [(one.adapted.model, one.adapted.shots) for one in found] == [
        (model, shots) for model in ("clip-vit-b16", "uni") for shots in (1, 4, 16)
    ]
    assert {(one.adapted.method, one.linear.method) for one in found} == {("lora", "linear")}
    for one in found:
        assert (one.adapted.dataset, one.adapted.model, one.adapted.shots) == (
            one.linear.dataset,
            one.linear.model,
            one.linear.shots,
        )


def test_differences_are_lora_minus_linear_and_those_of_compare(settings: list[Setting]):
    rows = {(row["model"], row["amount"]): row for row in to_rows(gains(settings))}
    for pair in compare(settings, "method").pairs:
        row = rows[pair.settings[0].model, pair.setting.split(", ")[-1]]
        sign = 1 if pair.settings[0].spec.kind == "adapter" else -1
        assert row["difference"] == pytest.approx(sign * pair.estimate.value, abs=1e-6)
        ends = sorted((sign * pair.estimate.interval.low, sign * pair.estimate.interval.high))
        assert (row["low"], row["high"]) == pytest.approx(tuple(ends), abs=2e-3)
        means = {setting.spec.kind: setting.test("accuracy") for setting in pair.settings}
        assert means["adapter"] is not None
        assert means["linear"] is not None
        assert row["difference"] == pytest.approx(means["adapter"].mean - means["linear"].mean, abs=1e-6)


def test_the_difference_of_each_seed_averages_to_the_difference(settings: list[Setting]):
    for one in gains(settings):
        assert len(one.by_seed) == 3
        assert np.mean(one.by_seed) == pytest.approx(one.estimate.value)


@pytest.mark.parametrize(
    "other",
    [
        {"shots": (8,)},
        {"models": ("vit-b16",)},
        {"split": SplitSpec(by="image")},
        {"sampling": Sampling(fraction=0.5)},
        {"preset": "paper-code-2024"},
        {"tested": False},
    ],
    ids=["shots", "model", "division", "amount", "preset", "untested"],
)
def test_settings_that_differ_in_more_than_the_method_are_no_pair(store: Store, other: dict):
    write_runs(store, models=("uni",), methods=("lora",), shots=(4,), rates=(1e-3,))
    given = {"models": ("uni",), "shots": (4,), "rates": (1e-3,)} | other
    write_runs(store, methods=("linear",), **given)
    assert gains(read_settings(store.runs())) == []


def test_the_report_has_the_panel_the_table_and_the_file(report_dir: Path):
    with (report_dir / "gains.csv").open(encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) == 6
    page = (report_dir / "index.html").read_text(encoding="utf-8")
    assert "Adapter minus linear head at equal training images" in page
    for suffix in ("svg", "png", "csv", "tex"):
        assert (report_dir / "figures" / f"gains.{suffix}").is_file()


def test_the_panel_draws_what_the_table_prints(settings: list[Setting]):
    figure = Gains(gains=gains(settings))
    with look():
        (axes,) = figure.plot().axes
    drawn = {round(float(y), 6) for line in axes.get_lines() for y in np.asarray(line.get_ydata(), dtype=float)}
    assert {round(row["difference"], 6) for row in figure.frame().to_pylist()} <= drawn
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "4", "16"]


def test_a_report_without_pairs_has_neither_panel_nor_file(store: Store, tmp_path: Path):
    from cytolora.reporting.pages.build import build_report

    write_runs(store, data=FakeData(num_groups=12), models=("uni",), methods=("linear",), shots=(4,), rates=(1e-3,))
    out = build_report(store.root, tmp_path / "report").parent
    assert not (out / "gains.csv").exists()
    assert not (out / "figures" / "gains.svg").exists()
