"""Axes in percent: a label says the value of its tick, in every figure."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_store import FakeData, write_runs
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure as Drawing

import cytolora
from cytolora.config.run import Sampling
from cytolora.data.datasets import find_dataset
from cytolora.display import lines
from cytolora.experiments.store import Store
from cytolora.reporting.pages.build import build_report

pytestmark = pytest.mark.usefixtures("real_drawings")

SHARES = st.floats(0, 1, allow_nan=False)


def labelled(axis: Axis) -> list[tuple[float, str]]:
    """Every tick in view of a drawn axis with its label."""
    low, high = sorted(axis.get_view_interval())
    ticks = [(float(tick.get_loc()), tick.label1.get_text()) for tick in axis.get_major_ticks()]
    return [(share, label) for share, label in ticks if low <= share <= high]


def check(axis: Axis) -> int:
    """Checks the labels of an axis in percent; returns how many it has, 0 for another axis."""
    found = [(tick, label) for tick, label in labelled(axis) if label.endswith("%")]
    for tick, label in found:
        assert float(label.removesuffix("%").strip()) == pytest.approx(100 * tick, abs=1e-6), label
    assert len({label for _, label in found}) == len(found)
    return len(found)


def axes_of(kind: str, low: float, high: float) -> Axes:
    axes = Drawing(figsize=(4, 4)).subplots()
    axes.plot([low, high], [low, high])
    if kind == "percent_axis":
        lines.percent_axis(axes, [low, high])
    else:
        lines.percent_ticks(axes.yaxis)
    return drawn(axes)


def drawn(axes: Axes) -> Axes:
    """Draws the figure of these axes: only then do ticks have labels."""
    axes.get_figure(root=True).draw_without_rendering()  # pyright: ignore[reportOptionalMemberAccess]
    return axes


@pytest.mark.parametrize("kind", ["percent_axis", "percent_ticks"])
@given(low=SHARES, high=SHARES)
@settings(max_examples=60)
@pytest.mark.slow
def test_a_label_in_percent_is_its_tick_over_any_range(kind: str, low: float, high: float):
    low, high = min(low, high), max(low, high)
    high = max(high, low + 1e-5)
    assert check(axes_of(kind, low, high).yaxis) > 1


@given(ticks=st.lists(SHARES.map(lambda share: round(share, 7)), min_size=1, max_size=9, unique=True))
@settings(max_examples=60)
@pytest.mark.slow
def test_shares_that_were_trained_on_are_written_out_whole(ticks: list[float]):
    axes = Drawing().subplots()
    lines.plain_ticks(axes, sorted(ticks), log=False, share=True)
    assert check(drawn(axes).xaxis) == len(ticks)


def test_accuracies_from_6_6_to_17_5_percent_have_ticks_at_whole_percents():
    ticks = [round(100 * tick, 6) for tick, _ in labelled(axes_of("percent_axis", 0.066, 0.175).yaxis)]
    assert ticks
    assert all(tick.is_integer() for tick in ticks)


@pytest.mark.slow
def test_every_figure_of_a_report_labels_its_percents_rightly(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    counts: list[int] = []

    def render(drawing: Drawing, *_: object, **__: object) -> bytes:
        drawing.draw_without_rendering()
        counts.append(sum(check(axis) for axes in drawing.axes for axis in (axes.xaxis, axes.yaxis)))
        return b"<svg>"

    monkeypatch.setattr("cytolora.display.figure._render", render)
    one = {"data": FakeData(name="hicervix:25", classes=find_dataset("hicervix:25").classes), "rates": (1e-3,)}
    write_runs(store, **one, models=("clip-vit-b16",), shots=(1, 2))
    for share in (0.025, 0.05):
        write_runs(store, **one, models=("clip-vit-b16",), shots=(None,), sampling=Sampling(fraction=share))
    write_runs(store, data=FakeData(num_groups=20), methods=("linear",), shots=(None,), rates=(1e-3,))
    build_report(store.root, tmp_path / "out")
    assert sum(count > 0 for count in counts) >= 2 * 9  # as PNG and SVG: figures 1 and 2, labels, curves, levels, bins


def test_no_figure_has_a_percent_formatter_of_its_own():
    assert list(_users("PercentFormatter")) == []


def _users(word: str) -> Iterator[Path]:
    for path in Path(cytolora.__file__).parent.rglob("*.py"):
        if word in path.read_text(encoding="utf-8"):
            yield path
