"""The three experiments from end to end: every setting, on generated data, two steps a run.

Experiments 1 and 3 try their lowest and their highest rate with all seeds, experiment 2 its lowest with one seed: the
others, and with them most of the time of these tests, would only show again that rates and seeds are tried.
"""

import csv
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from statistics import fmean
from xml.etree import ElementTree

import pytest
from blank_pdfs import blank_pdfs
from dry_run import DryRun, dry_run
from PIL import Image

from cytolora.cli.app import main
from cytolora.config.yaml import load_grid
from cytolora.experiments.select import by_setting
from cytolora.experiments.store import Store
from cytolora.experiments.stored_run import StoredRun
from cytolora.reporting.results.settings import read_settings

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

RATES = {"exp1": (1e-4, 0.3), "exp2": (1e-4,), "exp3": (1e-4, 1e-2)}
NUM_SEEDS = {"exp1": 3, "exp2": 1, "exp3": 3}
NUM_RUNS = {"exp1": 120, "exp2": 120, "exp3": 66}
NUM_SETTINGS = 20 + 120 + 11
FIGURES = (
    "figure1",
    "figure2",
    "labels",
    *(f"{name}_accuracy" for name in ("bcfc", "mlcc", "sipakmed", "hicervix-25")),
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DryRun]:
    with dry_run(tmp_path_factory.mktemp("dry_run")) as found:
        yield found


def _call(*arguments: str) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 0, arguments


def _run(grid: str, made: DryRun, runs: Path) -> None:
    spec = load_grid(grid)
    options = made.options(*spec.datasets)
    options += ["--learning-rates", *map(str, RATES[grid])]
    options += ["--seeds", *map(str, spec.seeds[: NUM_SEEDS[grid]])]
    _call("run", grid, *options, "--steps", "2", "--threads", "1", "--quiet", "--out", str(runs))


@pytest.fixture(scope="module")
def runs(made: DryRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All runs of the three grids, in one store."""
    folder = tmp_path_factory.mktemp("store") / "runs"
    for grid in NUM_RUNS:
        _run(grid, made, folder)
    return folder


def _experiment(members: Sequence[StoredRun]) -> str:
    if members[0].spec["method"] == "linear":
        return "exp1"
    return "exp2" if members[0].spec["sampling"].get("shots") else "exp3"


def test_every_setting_of_the_three_experiments_is_filled(runs):
    stored = list(Store(runs).runs())
    assert len(stored) == sum(NUM_RUNS.values())
    found = by_setting(stored)
    assert len(found) == NUM_SETTINGS
    for name, members in found.items():
        num_seeds = NUM_SEEDS[_experiment(members)]
        assert len(members) == num_seeds * len(RATES[_experiment(members)]), name
        tested = [run for run in members if run.metrics["test"] is not None]
        assert len({run.spec["learning_rate"] for run in tested}) == 1, name
        assert sorted(run.spec["seed"] for run in tested) == [1, 2, 3][:num_seeds], name
        assert all(run.metrics["train"]["num_steps"] == 2 for run in members), name


@pytest.fixture(scope="module")
def report(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page") / "report"
    with blank_pdfs():
        _call("report", str(runs), "--out", str(folder))
    return folder


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_number_of_the_table_is_the_mean_of_stored_runs(runs, report):
    rows = {row["setting_id"]: row for row in _rows(report / "settings.csv")}
    found = by_setting(Store(runs).runs())
    assert rows.keys() == found.keys()
    for name, members in found.items():
        tested = [run for run in members if run.metrics["test"] is not None]
        row = rows[name]
        assert float(row["learning_rate"]) == tested[0].spec["learning_rate"]
        for metric in ("accuracy", "balanced_accuracy"):
            mean = fmean(run.metrics["test"][metric] for run in tested)
            assert float(row[f"{metric}_mean"]) == pytest.approx(mean, abs=1e-6), name


def test_every_row_says_that_its_budget_was_cut(report):
    rows = _rows(report / "settings.csv")
    assert len(rows) == NUM_SETTINGS
    assert all("cut" in "; ".join(row.values()) for row in rows)
    assert "dry run" in (report / "index.html").read_text(encoding="utf-8")


def test_every_figure_is_a_picture_of_more_than_paper_and_a_drawing(report):
    """What is drawn in it: tests/reporting/figures."""
    figures = report / "figures"
    assert {f"{name}.png" for name in FIGURES} <= {path.name for path in figures.iterdir()}
    for path in figures.glob("*.png"):
        with Image.open(path) as image:
            assert len(image.convert("RGB").getcolors(2**24) or ()) > 20, path.name
        ElementTree.parse(path.with_suffix(".svg"))


def _points(rows: Iterable[dict[str, str]], amount: Callable[[dict[str, str]], str]) -> Counter[tuple[str, ...]]:
    return Counter((row["dataset"], row["model"], amount(row), f"{float(row['mean']):.6f}") for row in rows)


def test_figures_show_every_setting_once_with_the_mean_of_its_runs_and_nothing_else(runs, report):
    few_shot, fractions, labels = (
        _rows(report / "figures" / f"{name}.csv") for name in ("figure1", "figure2", "labels")
    )
    on_all_classes = [row for row in fractions if row["num_classes"] == "25" and row["mean"]]
    stored: dict[str, Counter[tuple[str, ...]]] = {"shots": Counter(), "fraction": Counter(), "all": Counter()}
    for setting in read_settings(Store(runs).runs()):
        mean = fmean(run.metrics["test"]["accuracy"] for run in setting.tested)
        kind = "shots" if setting.shots else "fraction" if setting.fraction else "all"
        stored[kind][setting.dataset, setting.model, setting.spec.sampling.amount, f"{mean:.6f}"] += 1
    assert [found.total() for found in stored.values()] == [120, 11, 20]
    assert _points(few_shot, lambda row: f"{row['shots']}-shot" if row["shots"] else "all") == (
        stored["shots"] + stored["all"]
    )
    assert _points(on_all_classes, lambda row: f"{round(100 * float(row['fraction']))}pct") == stored["fraction"]
    assert _points(labels, lambda row: row["amount"]) == stored["shots"] + stored["fraction"] + stored["all"]
