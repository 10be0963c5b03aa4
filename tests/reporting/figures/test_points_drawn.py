"""The paper's figures: what is drawn is what their tables print, each number once, at its place and nothing besides."""

from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest
from fake_store import FakeData, write_runs
from matplotlib.figure import Figure as Drawing

from cytolora.config.run import AdapterSpec, Budget, Sampling, TrainSpec
from cytolora.data.datasets import find_dataset
from cytolora.display.figure import MARKERS, Figure, look
from cytolora.experiments.store import Store
from cytolora.reporting.figures.few_shot import few_shot_figures
from cytolora.reporting.figures.fractions import Fractions
from cytolora.reporting.figures.labels import Labels
from cytolora.reporting.results.settings import Setting, read_settings

pytestmark = pytest.mark.usefixtures("real_drawings")

Point = tuple[float, float]
FINE = 9
"""Digits."""


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> list[Setting]:
    """Two models on two datasets at two numbers of shots and on all images, and three shares of one dataset."""
    store = Store(tmp_path_factory.mktemp("points") / "runs")
    given = {"rates": (1e-3,), "seeds": (1, 2)}
    for name in ("sipakmed", "hicervix:25"):
        data = FakeData(name=name, classes=find_dataset(name).classes, num_groups=6)
        write_runs(store, data=data, models=("uni", "vit-b16"), methods=("linear",), shots=(None,), **given)
        write_runs(store, data=data, models=("uni", "vit-b16"), methods=("lora",), shots=(1, 4), **given)
    of_paper = TrainSpec(budget=Budget(amount=100, unit="epochs", plus_steps=50))
    rank_16 = AdapterSpec(rank=16, targets=("q", "k", "v", "o"))
    for share in (0.1, 0.5, 1.0):
        part = {"sampling": Sampling(fraction=share), "adapter": rank_16, "train": of_paper, "shots": (None,)}
        write_runs(store, data=data, models=("clip-vit-l14",), methods=("lora",), **given, **part)
    return read_settings(store.runs())


def figure_of(name: str, settings: list[Setting]) -> tuple[Figure, str]:
    """A figure, and the column of its table that is drawn to the right."""
    if name == "figure1":
        (figure,) = few_shot_figures(settings, str)
        return figure, "shots"
    if name == "labels":
        return Labels(settings=settings), "num_labels"
    own = [setting for setting in settings if setting.dataset == "hicervix:25"]
    return Fractions(dataset="hicervix:25", settings=own), "fraction"


def marked(drawing: Drawing) -> Iterator[tuple[str, Point]]:
    """The points of lines with markers, by panel."""
    for panel in (axes for axes in drawing.axes if axes.get_visible()):
        for line in panel.get_lines():
            if line.get_marker() in MARKERS:
                for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True):  # pyright: ignore[reportArgumentType]
                    yield (
                        panel.get_title() or panel.get_title(loc="left"),
                        (round(float(x), FINE), round(float(y), FINE)),
                    )


def levels(drawing: Drawing) -> Iterator[float]:
    """Heights of the lines from edge to edge."""
    for panel in (axes for axes in drawing.axes if axes.get_visible()):
        for line in panel.get_lines():
            if list(np.asarray(line.get_xdata())) == [0, 1] and line.get_marker() not in MARKERS:
                yield round(float(np.asarray(line.get_ydata())[0]), FINE)


@pytest.mark.parametrize(("name", "panel"), [("figure1", "dataset"), ("labels", "model"), ("figure2", None)])
def test_a_figure_draws_each_mean_of_its_table_once_in_its_panel_and_no_other(
    name: str, panel: str | None, settings: list[Setting]
):
    figure, column = figure_of(name, settings)
    rows = [row for row in figure.frame().to_pylist() if row["mean"] is not None]
    with look():
        drawing = figure.plot()
    expected = Counter(
        (row[panel] if panel else "", (round(row[column], FINE), round(row["mean"], FINE)))
        for row in rows
        if row[column] is not None
    )
    assert expected.total() == {"figure1": 8, "labels": 15, "figure2": 6}[name]
    diamonds = [("", (row[column], row["published"])) for row in rows if row.get("published")]
    assert Counter(marked(drawing)) == expected + Counter(diamonds)
    across = [row["mean"] for row in rows if row[column] is None]
    across += [0.7835] if name == "figure2" else []  # the published model's
    assert sorted(levels(drawing)) == sorted(round(mean, FINE) for mean in across)


@pytest.mark.parametrize("name", ["figure1", "labels", "figure2"])
def test_the_dots_of_a_figure_are_the_accuracies_of_the_single_seeds(name: str, settings: list[Setting]):
    figure, column = figure_of(name, settings)
    rows = [row for row in figure.frame().to_pylist() if row["by_seed"] and row[column] is not None]
    expected = Counter(
        (round(row[column], 4), round(float(one), 4)) for row in rows for one in row["by_seed"].split("; ")
    )
    with look():
        drawing = figure.plot()
    drawn = Counter(
        (round(float(x), 4), round(float(y), 4))
        for panel in drawing.axes
        for dots in panel.collections
        if len(dots.get_offsets()) > 1  # pyright: ignore[reportArgumentType]
        for x, y in np.asarray(dots.get_offsets())
    )
    assert drawn == expected
