"""Figures show single seeds, and tell the spread over seeds from the sampling interval."""

from typing import Any

import numpy as np
import pytest
from fake_store import write_runs
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure as Drawing

from cytolora.config.run import Sampling
from cytolora.display.figure import look
from cytolora.display.lines import extent, in_text, line, seed_values
from cytolora.experiments.store import Store
from cytolora.reporting.figures.curves import Curves
from cytolora.reporting.figures.few_shot import FewShot
from cytolora.reporting.figures.fractions import Fractions
from cytolora.reporting.figures.labels import Labels
from cytolora.reporting.results.settings import Setting, read_settings

pytestmark = pytest.mark.usefixtures("real_drawings")


def dots(axes: Axes) -> set[tuple[float, float]]:
    found = [np.asarray(one.get_offsets()) for one in axes.collections if isinstance(one, PathCollection)]
    return {(round(float(x), 6), round(float(y), 5)) for offsets in found for x, y in offsets}


def bars(axes: Axes) -> set[tuple[float, float, float]]:
    """Place and ends of every thin bar."""
    found = [one for one in axes.containers if isinstance(one, ErrorbarContainer)]
    segments = [segment for one in found for bar in one.lines[2] for segment in bar.get_segments()]
    return {(round(float(s[0][0]), 6), round(float(s[0][1]), 5), round(float(s[1][1]), 5)) for s in segments}


def figures(settings: list[Setting]) -> list[Any]:
    return [
        Curves(dataset="herlev", settings=settings, metric="accuracy", axis="shots", slug="h"),
        FewShot(settings=settings, method="lora"),
        Labels(settings=settings),
    ]


@pytest.mark.parametrize("index", range(3))
def test_every_seed_is_a_dot_and_every_interval_a_bar(settings: list[Setting], index: int):
    figure = figures(settings)[index]
    with look():
        panels = figure.plot().axes
    drawn, ends = set[Any]().union(*map(dots, panels)), set[Any]().union(*map(bars, panels))
    lora = [one for one in settings if one.method == "lora" and one.shots]
    assert len(lora) == 6
    for setting in lora:
        place = round(float(setting.num_labels if index == 2 else setting.shots or 0), 6)
        values = [run.metrics["test"]["accuracy"] for run in setting.tested]
        assert len(values) == 3
        assert {(place, round(value, 5)) for value in values} <= drawn
        interval = setting.intervals["accuracy"]
        assert any(
            (x, low, high) == (place, pytest.approx(interval.low, abs=1e-5), pytest.approx(interval.high, abs=1e-5))
            for x, low, high in ends
        )
    assert "small dots: single seeds" in figure.caption
    assert "standard deviation over seeds (training)" in figure.caption
    assert "thin bars with caps: 95 % sampling interval" in figure.caption


@pytest.mark.parametrize("index", range(3))
def test_the_numbers_of_every_seed_are_printed_beside_the_figure(settings: list[Setting], index: int):
    rows = [row for row in figures(settings)[index].frame().to_pylist() if row["method"] == "lora"]
    expected = sorted(
        [run.metrics["test"]["accuracy"] for run in one.tested] for one in settings if one.method == "lora"
    )
    assert np.allclose(sorted(seed_values(row) for row in rows), expected, atol=1e-6)


def test_figure_2_shows_seeds_and_intervals_of_the_solid_line_too(store: Store):
    from fake_store import FakeData

    from cytolora.data.datasets import find_dataset

    data = FakeData(name="hicervix:25", classes=tuple(find_dataset("hicervix:25").classes), num_groups=12)
    for share in (0.05, 0.5):
        given = Sampling(fraction=share)
        write_runs(store, data=data, models=("uni",), methods=("lora",), shots=(None,), sampling=given, rates=(1e-3,))
    (figure,) = [Fractions(dataset="hicervix:25", settings=read_settings(store.runs()), of_paper=False)]
    assert figure.drawable
    with look():
        (axes,) = figure.plot().axes
    assert len(dots(axes)) >= 4
    assert len(bars(axes)) == 2


def test_a_single_seed_has_no_dot_beside_its_point(store: Store):
    write_runs(store, models=("uni",), methods=("lora",), seeds=(1,))
    figure = figures(read_settings(store.runs()))[0]
    with look():
        (axes,) = figure.plot().axes
    assert dots(axes) == set()
    assert "single seeds" not in figure.caption


@pytest.mark.parametrize("values", [[], [0.5], [0.1, 0.25, 1.0], [1 / 3, 2 / 3], [0.0, 0.0], [0.999999]])
def test_values_of_seeds_come_back_from_their_text(values: list[float]):
    assert seed_values({"by_seed": in_text(values)}) == pytest.approx(values, abs=1e-6)


def test_the_axis_holds_dots_bands_and_bars():
    rows = [{"x": 1, "mean": 0.5, "std": 0.1, "by_seed": "0.35; 0.65", "low": 0.3, "high": 0.62}]
    assert (min(extent(rows)), max(extent(rows))) == (0.3, 0.65)
    axes = Drawing().subplots()
    line(axes, rows, "x", colour="black")
    assert dots(axes) == {(1.0, 0.35), (1.0, 0.65)}
    assert (1.0, 0.3, 0.62) in bars(axes)
