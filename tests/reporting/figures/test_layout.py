"""Nothing in a figure lies upon something else, however many methods, amounts and marks there are."""

from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import pytest
from fake_store import FakeData, write_runs
from matplotlib.figure import Figure as Drawing
from matplotlib.text import Text

from cytolora.config.run import AdapterSpec
from cytolora.display.column import for_columns, lay_out
from cytolora.display.figure import MARKERS, Figure, look
from cytolora.experiments.store import Store
from cytolora.reporting.comparison.gains import gains
from cytolora.reporting.figures.curves import Curves
from cytolora.reporting.figures.gains import Gains
from cytolora.reporting.figures.labels import Labels
from cytolora.reporting.results.settings import Setting, read_settings

pytestmark = pytest.mark.usefixtures("real_drawings")

SHOTS = (1, 2, 4, 8, 16, 50)
RANKS = (1, 2, 4, 8, 16, 32, 64)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> list[Setting]:
    """One model with seven ranks of LoRA and a linear head at six amounts; marked: few groups."""
    store = Store(tmp_path_factory.mktemp("many") / "runs")
    given = {"data": FakeData(num_groups=12), "models": ("uni",), "seeds": (1, 2), "rates": (1e-3,)}
    for rank in RANKS:
        write_runs(store, methods=("lora",), shots=SHOTS, adapter=AdapterSpec(rank=rank), **given)
    write_runs(store, methods=("linear",), shots=(*SHOTS, None), **given)
    return read_settings(store.runs())


def figures(settings: list[Setting]) -> dict[str, Figure]:
    return {
        "curves": Curves(dataset="herlev", settings=settings, metric="accuracy", axis="shots", slug="herlev"),
        "labels": Labels(settings=settings),
        "gains": Gains(gains=gains(settings)),
    }


def overlapping(drawing: Drawing) -> list[tuple[str, str]]:
    """Pairs of drawn texts whose boxes share more than a hair."""
    lay_out(drawing)
    drawing.draw_without_rendering()  # gives legends their place
    boxes = [(one.get_text(), one.get_window_extent()) for one in texts_of(drawing) if one.get_text().strip()]
    return [
        (name, other)
        for (name, box), (other, beside) in combinations(boxes, 2)
        if min(box.x1, beside.x1) - max(box.x0, beside.x0) > 2 and min(box.y1, beside.y1) - max(box.y0, beside.y0) > 2
    ]


def texts_of(drawing: Drawing) -> Iterator[Text]:
    """What stands around the panels, in legends, and at the ticks within the axes."""
    yield from drawing.texts
    for legend in drawing.legends:
        yield from legend.get_texts()
    for panel in (one for one in drawing.axes if one.get_visible()):
        yield from (panel.title, panel._left_title, panel.xaxis.label, panel.yaxis.label)  # pyright: ignore[reportAttributeAccessIssue]
        for axis in (panel.xaxis, panel.yaxis):
            low, high = sorted(axis.get_view_interval())
            for tick in axis.get_major_ticks():
                if low <= tick.get_loc() <= high and tick.label1.get_visible():
                    yield tick.label1


@pytest.mark.parametrize("columns", [1, 2])
@pytest.mark.parametrize("name", ["curves", "labels", "gains"])
def test_no_text_lies_upon_another(many: list[Setting], name: str, columns: int):
    with look(), for_columns(columns):  # pyright: ignore[reportArgumentType]
        assert overlapping(figures(many)[name].plot()) == []


def test_one_model_with_many_methods_has_a_panel_for_each(many: list[Setting]):
    with look():
        drawing = figures(many)["curves"].plot()
    titles = [panel.get_title(loc="left").replace("\n", " ") for panel in drawing.axes if panel.get_visible()]
    assert titles == [*sorted(f"lora (rank {rank})" for rank in RANKS), "linear"]
    for panel in drawing.axes[: len(titles)]:
        drawn = [line for line in panel.get_lines() if line.get_marker() in MARKERS]
        assert len(drawn) == 1, "its own line, and the others faint"


def test_the_figure_of_labels_tells_methods_apart_by_colour_where_there_is_one_dataset(many: list[Setting]):
    with look():
        (axes,) = figures(many)["labels"].plot().axes
    lines = [line for line in axes.get_lines() if line.get_marker() in MARKERS]
    assert len({(line.get_color(), line.get_marker()) for line in lines}) == len(RANKS) + 1


def test_a_few_methods_keep_their_bands(store: Store, tmp_path: Path):
    write_runs(store, models=("uni",), methods=("lora", "linear"), shots=(1, 4), rates=(1e-3,))
    figure = Labels(settings=read_settings(store.runs()))
    assert "bands" in figure.caption
    with look():
        (axes,) = figure.plot().axes
    assert len(axes.collections) > 0
