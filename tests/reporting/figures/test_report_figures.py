from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pyarrow.csv as pa_csv
import pytest
from fake_store import FakeData, write_runs
from matplotlib.figure import Figure as Drawing
from PIL import Image

from cytolora.config.run import Sampling
from cytolora.display.figure import look, save
from cytolora.display.lines import line
from cytolora.experiments.store import Store
from cytolora.reporting.figures.confusion import confusion_matrix
from cytolora.reporting.figures.curves import Curves
from cytolora.reporting.figures.levels import Levels
from cytolora.reporting.results.settings import Setting, read_settings

pytestmark = pytest.mark.usefixtures("real_drawings")


def curves(settings: list[Setting], **changes) -> Curves:
    return Curves(
        **{"dataset": "herlev", "settings": settings, "metric": "accuracy", "axis": "shots", "slug": "h"} | changes
    )


def test_the_curve_draws_what_its_frame_prints(settings: list[Setting]):
    figure = curves(settings)
    with look():
        (axes,) = figure.plot().axes
    drawn = {round(float(y), 9) for line in axes.get_lines() for y in np.asarray(line.get_ydata(), dtype=float)}
    printed = {round(row["mean"], 9) for row in figure.frame().to_pylist()}
    assert printed <= drawn
    assert len(figure.frame()) == 14


def test_the_curve_has_a_log_axis_with_the_shots_as_plain_numbers(settings: list[Setting]):
    with look():
        (axes,) = curves(settings).plot().axes
    assert axes.get_xscale() == "log"
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "4", "16"]


def test_linear_on_all_images_is_a_dashed_horizontal_line_in_its_models_colour(settings: list[Setting]):
    with look():
        (axes,) = curves(settings).plot().axes
    flat = [line for line in axes.get_lines() if np.ptp(np.asarray(line.get_ydata(), dtype=float)) == 0]
    levels = [line for line in flat if line.get_linestyle() == "--"]
    means = [setting.test("accuracy") for setting in settings if setting.shots is None]
    assert sorted(np.asarray(line.get_ydata())[0] for line in levels) == sorted(m.mean for m in means if m)
    assert {line.get_color() for line in levels} == {"#0072b2", "#d55e00"}


def test_a_single_seed_draws_no_band_and_says_none(store: Store):
    write_runs(store, models=("uni",), methods=("lora",), seeds=(1,))
    figure = curves(read_settings(store.runs()))
    assert "Bands" not in figure.caption
    assert figure.frame()["std"].null_count == 3


def test_settings_without_test_scores_are_not_drawn(store: Store):
    write_runs(store, models=("uni",), methods=("lora",), tested=False)
    assert not curves(read_settings(store.runs())).drawable


def test_a_model_keeps_its_colour_when_others_are_missing(settings: list[Setting]):
    only = [setting for setting in settings if setting.model == "uni"]
    part = curves([*only, *settings[:1]], all_models=["biomedclip", "clip-vit-b16", "uni"])
    with look():
        legend = part.plot().legends[0]
    colours = {
        text.get_text(): line.get_color() for text, line in zip(legend.get_texts(), legend.get_lines(), strict=True)
    }
    assert (colours["clip-vit-b16"], colours["uni"]) == ("#d55e00", "#009e73")


def test_twenty_models_get_a_panel_each(store: Store):
    models = [f"model-{index:02}" for index in range(20)]
    small = FakeData(num_groups=6)
    write_runs(store, data=small, models=models, methods=("lora",), shots=(1,), seeds=(1,), rates=(1e-3,))
    with look():
        panels = [axes for axes in curves(read_settings(store.runs())).plot().axes if axes.get_visible()]
    assert sorted(panel.get_title(loc="left") for panel in panels) == models


def test_fractions_have_a_figure_of_their_own_in_percent(store: Store):
    for share in (0.05, 0.5, 1.0):
        write_runs(store, models=("uni",), methods=("lora",), shots=(None,), sampling=Sampling(fraction=share))
    found = read_settings(store.runs())
    assert not curves(found).drawable
    with look():
        (axes,) = curves(found, axis="fraction").plot().axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["5 %", "50 %", "100 %"]


def test_rows_of_the_confusion_matrix_add_up_to_one_and_counts_to_all_test_images(settings: list[Setting]):
    frame = confusion_matrix(settings[0], "c").frame().to_pylist()
    assert sum(row["count"] for row in frame) == 3 * settings[0].tested[0].metrics["test"]["n"]
    for name in {row["true"] for row in frame}:
        assert sum(row["share_of_true"] for row in frame if row["true"] == name) == pytest.approx(1)


def test_levels_print_the_published_value_with_its_source(store: Store):
    data = FakeData(name="sipakmed")
    write_runs(store, data=data, models=("uni", "nano"), methods=("linear",), shots=(None,), rates=(1e-3,))
    figure = Levels(dataset="sipakmed", settings=read_settings(store.runs()), slug="s")
    rows = {row["model"]: row for row in figure.frame().to_pylist()}
    assert (rows["uni"]["published"], rows["uni"]["source"]) == (0.9333, "Dausort et al. 2025, Table 1")
    assert rows["nano"]["published"] is None
    assert "measured on other splits" in figure.caption


def test_a_saved_figure_is_svg_png_and_csv_and_the_same_bytes_each_time(settings: list[Setting], tmp_path: Path):
    figure = curves(settings)
    first, second = (save(figure, tmp_path / name) for name in ("a", "b"))
    assert first == second
    for suffix in ("svg", "png", "csv"):
        assert (tmp_path / f"a/h_accuracy.{suffix}").read_bytes() == (tmp_path / f"b/h_accuracy.{suffix}").read_bytes()
    ElementTree.parse(tmp_path / "a/h_accuracy.svg")
    with Image.open(tmp_path / "a/h_accuracy.png") as image:
        assert image.width > 1000
    assert pa_csv.read_csv(tmp_path / "a/h_accuracy.csv").num_rows == 14


def test_class_names_are_text_in_the_svg_whatever_they_contain(store: Store, tmp_path: Path):
    data = FakeData(classes=("a<b", "$5", 'c"&d'))
    write_runs(store, data=data, models=("uni",), methods=("lora",), shots=(1,), seeds=(1,), rates=(1e-3,))
    svg = save(confusion_matrix(read_settings(store.runs())[0], "c"), tmp_path)
    texts = {node.text for node in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")}
    assert {"a<b", "$5", 'c"&d'} <= texts


def test_two_methods_on_all_images_have_lines_that_are_told_apart(store: Store):
    write_runs(store, shots=(4, None), rates=(1e-3,), seeds=(1,))
    with look():
        drawing = curves(read_settings(store.runs())).plot()
    (legend,) = drawing.legends
    patterns = {
        line.get_label(): line._unscaled_dash_pattern  # pyright: ignore[reportAttributeAccessIssue]
        for line in legend.get_lines()
        if str(line.get_label()).endswith("all images")
    }
    assert set(patterns) == {"linear, all images", "lora, all images"}
    assert len(set(map(str, patterns.values()))) == 2


def test_a_single_point_shows_its_spread_as_a_bar_and_several_as_a_band():
    one, several = Drawing().subplots(), Drawing().subplots()
    rows = [{"shots": 4, "mean": 0.5, "std": 0.1}, {"shots": 8, "mean": 0.6, "std": None}]
    line(one, rows[:1], "shots", colour="black")
    bar: Any = one.containers[0]
    assert bar.lines[2][0].get_segments()[0][:, 1] == pytest.approx([0.4, 0.6])
    line(several, rows, "shots", colour="black")
    assert (len(several.containers), len(several.collections)) == (0, 1)
    line(one, rows[1:], "shots", colour="black")  # one seed: nothing to show, and no warning
