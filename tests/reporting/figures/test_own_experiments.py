"""The paper's section holds the paper's methods and settings; one's own have another; a method has one line."""

import csv
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from fake_store import FakeData, write_runs

from cytolora.config.run import AdapterSpec, Budget, HeadSpec, RunSpec, Sampling, SplitSpec, TrainSpec
from cytolora.display.figure import look
from cytolora.experiments.store import Store
from cytolora.reporting.figures.curves import Curves
from cytolora.reporting.figures.few_shot import few_shot_figures
from cytolora.reporting.figures.fractions import Fractions
from cytolora.reporting.pages.build import build_report
from cytolora.reporting.results.paper import is_of_paper
from cytolora.reporting.results.settings import read_settings

pytestmark = pytest.mark.usefixtures("real_drawings")

RANK_16 = AdapterSpec(rank=16, targets=("q", "k", "v", "o"))
CUT = Budget(amount=50, unit="steps_per_shot", plus_steps=50, max_steps=2)
STEPS = Budget(amount=50, unit="steps_per_shot", plus_steps=50)
EPOCHS = Budget(amount=100, unit="epochs")
EXP3 = Budget(amount=100, unit="epochs", plus_steps=50)
ONE = {"models": ("uni",), "seeds": (1, 2), "rates": (1e-3,)}


def spec(method: str, sampling: Sampling, budget: Budget, adapter: AdapterSpec | None = None, **more: Any) -> RunSpec:
    rate = 0.0 if method == "gda" else 1e-3
    return RunSpec(
        dataset="herlev", backbone="uni", method=method, sampling=sampling, split=SplitSpec(), seed=1, adapter=adapter,
        train=TrainSpec(budget=budget), learning_rate=rate, **more,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("run", "is_paper"),
    [
        (spec("linear", Sampling(), EPOCHS), True),
        (spec("lora", Sampling(shots=4), STEPS, AdapterSpec()), True),
        (spec("lora", Sampling(shots=4), CUT, AdapterSpec()), True),
        (spec("lora", Sampling(fraction=0.1), EXP3, RANK_16), True),
        (spec("lora", Sampling(fraction=0.1), EXP3, AdapterSpec()), False),
        (spec("lora", Sampling(shots=4), STEPS, RANK_16), False),
        (spec("lora", Sampling(shots=4), STEPS, AdapterSpec(dropout=0.0)), False),
        (spec("lora", Sampling(shots=4), Budget(amount=10, unit="steps_per_shot"), AdapterSpec()), False),
        (spec("linear", Sampling(shots=4), EPOCHS), False),
        (spec("linear", Sampling(), Budget(amount=10, unit="epochs")), False),
        (spec("gda", Sampling(), EPOCHS, head=HeadSpec(shrinkage=0.5)), False),
        (spec("dora", Sampling(shots=4), STEPS, AdapterSpec()), False),
        (spec("lora", Sampling(shots=4), STEPS, AdapterSpec(), preset="reference-code"), True),
    ],
)  # fmt: skip
def test_the_papers_settings_are_those_of_its_grids(run: RunSpec, is_paper: bool):
    assert is_of_paper(run) == is_paper


@pytest.mark.slow
def test_a_rank_that_the_paper_lacks_has_a_section_of_its_own(tmp_path: Path):
    store = Store(tmp_path / "runs")
    write_runs(store, methods=("lora",), shots=(1, 4), **ONE)
    write_runs(store, methods=("lora",), shots=(1, 4), adapter=RANK_16, **ONE)
    write_runs(store, methods=("linear",), shots=(None,), **ONE)
    page = build_report(store.root, tmp_path / "report")
    text = page.read_text()
    paper, own, rest = (text.index(f'id="{name}"') for name in ("experiments", "own-experiments", "herlev"))
    assert paper < own < rest
    assert "Figure 1: accuracy on the test set of lora (rank 2 on q, v)" in text[paper:own]
    assert "rank 16" not in text[paper:own]
    assert "Accuracy on the test set of lora (rank 16 on q, k, v, o)" in text[own:rest]
    assert "Figure 1" not in text[own:rest]
    with (page.parent / "figures" / "figure1.csv").open() as file:
        assert {row["method"] for row in csv.DictReader(file)} == {"lora (rank 2 on q, v)", "linear"}


def test_a_published_number_stands_beside_the_same_rank_only(tmp_path: Path):
    store, data = Store(tmp_path / "runs"), FakeData(name="hicervix:25", classes=("a", "b"), num_groups=20)
    many = {"models": ("clip-vit-l14",), "methods": ("lora",), "shots": (None,), "seeds": (1,), "rates": (1e-3,)}
    for adapter in (AdapterSpec(), RANK_16):
        write_runs(
            store, data=data, sampling=Sampling(fraction=1.0), train=TrainSpec(budget=EXP3), adapter=adapter, **many
        )
    found = {one.spec.adapter: one.published for one in read_settings(store.runs())}
    assert found[AdapterSpec()] is None
    published = found[RANK_16]
    assert published is not None
    assert published.accuracy == 0.8023


@pytest.fixture(scope="module")
def divided(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """LoRA at two amounts and a linear head, on three divisions with other test cells each."""
    store = Store(tmp_path_factory.mktemp("divided") / "runs")
    for seed in range(3):
        data = FakeData(num_groups=40 + 5 * seed)
        split = SplitSpec(seed=seed)
        write_runs(store, data=data, methods=("lora",), shots=(1, 4), split=split, **ONE)
        write_runs(store, data=data, methods=("linear",), shots=(1, 4, None), split=split, **ONE)
        share = {"sampling": Sampling(fraction=0.5), "train": TrainSpec(budget=EXP3), "adapter": RANK_16}
        write_runs(store, data=data, methods=("lora",), shots=(None,), split=split, **share, **ONE)
    return store


def test_several_divisions_are_one_line_with_every_seed(divided: Store):
    settings = read_settings(divided.runs())
    curves = Curves(dataset="herlev", settings=settings, metric="accuracy", axis="shots", slug="herlev")
    paper = next(figure for figure in few_shot_figures(settings, str) if figure.of_paper)
    shares = Curves(dataset="herlev", settings=settings, metric="accuracy", axis="fraction", slug="herlev")
    for figure, amount in ((curves, "amount"), (paper, "shots"), (shares, "amount")):
        rows = figure.frame().to_pylist()
        keys = [(row["model"], row["method"], row[amount]) for row in rows]
        assert len(keys) == len(set(keys))
        assert {row["n_divisions"] for row in rows} == {3}
        assert {row["n_seeds"] for row in rows} == {6}
        assert not any("split seed" in row["method"] for row in rows)
        assert "Points over 3 divisions" in figure.caption
        for row in rows:
            values = [float(value) for value in row["by_seed"].split("; ")]
            assert len(values) == 6
            assert row["mean"] == pytest.approx(fmean(values), abs=1e-5)


def test_twelve_methods_of_one_model_are_told_apart_by_a_panel_each(tmp_path: Path):
    store = Store(tmp_path / "runs")
    for rank in range(1, 13):
        write_runs(store, methods=("lora",), shots=(1, 4), adapter=AdapterSpec(rank=rank), **ONE)
    figure = Curves(
        dataset="herlev", settings=read_settings(store.runs()), metric="accuracy", axis="shots", slug="herlev"
    )
    with look():
        drawing = figure.plot()
        drawing.canvas.draw()
    shown = [one for one in drawing.axes if one.get_visible()]
    assert {one.get_title(loc="left") for one in shown} == {f"lora (rank {rank})" for rank in range(1, 13)}
    assert all(one.get_window_extent().height > 0.7 * drawing.dpi for one in shown), "inches"


def test_figure_2_of_own_methods_is_another_file(divided: Store):
    settings = read_settings(divided.runs())
    names = [Fractions(dataset="herlev", settings=settings, slug="x", of_paper=one).name for one in (True, False)]
    assert names == ["figure2_x", "fractions_x"]
