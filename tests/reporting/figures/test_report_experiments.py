"""The paper's Table 1 and figures, from a store of all its settings."""

import csv
from dataclasses import replace
from itertools import product
from pathlib import Path
from statistics import fmean, stdev

import numpy as np
import pytest
from blank_pdfs import blank_pdfs
from fake_store import FakeData, fake_run, write_runs

from cytolora.config.run import AdapterSpec, Budget, Sampling, SplitSpec, TrainSpec
from cytolora.data.datasets import find_dataset
from cytolora.display.column import WIDTHS, Columns, for_columns, to_pdf
from cytolora.display.figure import look, save
from cytolora.experiments.store import Store
from cytolora.metrics.intervals import metric_intervals
from cytolora.reporting.figures.confusion import confusion_matrix
from cytolora.reporting.figures.few_shot import few_shot_figures
from cytolora.reporting.figures.fractions import Fractions
from cytolora.reporting.figures.labels import Labels
from cytolora.reporting.figures.reliability import reliability_diagram
from cytolora.reporting.pages.build import build_report
from cytolora.reporting.results.paper import is_of_paper
from cytolora.reporting.results.settings import Setting, read_predictions, read_settings
from cytolora.reporting.tables import table1

pytestmark = pytest.mark.usefixtures("real_drawings")

MODELS = ("uni", "vit-b16")
CUT = TrainSpec(budget=Budget(amount=100, unit="epochs", plus_steps=50, max_steps=2))
RANK_16 = AdapterSpec(rank=16, targets=("q", "k", "v", "o"))


def fake(name: str) -> FakeData:
    return FakeData(name=name, classes=find_dataset(name).classes, num_groups=20)


@pytest.fixture(scope="module")
def paper_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two of the paper's models on two of its datasets, and its third experiment with a cut budget."""
    store = Store(tmp_path_factory.mktemp("paper") / "runs")
    one_rate = {"rates": (1e-3,), "seeds": (1, 2)}
    for name in ("sipakmed", "hicervix:25"):
        write_runs(store, data=fake(name), models=MODELS, methods=("linear",), shots=(None,), **one_rate)
        write_runs(store, data=fake(name), models=MODELS, methods=("lora",), shots=(1, 4), **one_rate)
    for share in (0.1, 1.0):
        fraction = {"sampling": Sampling(fraction=share), "train": CUT, "adapter": RANK_16}
        clip = {"models": ("clip-vit-l14",), "methods": ("lora",), "shots": (None,)}
        write_runs(store, data=fake("hicervix:25"), **clip, **one_rate, **fraction)
    return store.root


@pytest.fixture(scope="module")
def paper_settings(paper_runs: Path) -> list[Setting]:
    return read_settings(Store(paper_runs).runs())


@pytest.fixture(scope="module")
def paper_report(paper_runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of their report; not to be changed."""
    with blank_pdfs():
        return build_report(paper_runs, tmp_path_factory.mktemp("out") / "report").parent


def hicervix(settings: list[Setting]) -> Fractions:
    return Fractions(
        dataset="hicervix:25", settings=[setting for setting in settings if setting.dataset == "hicervix:25"]
    )


def test_table_1_has_the_papers_order_its_values_and_the_difference(paper_settings: list[Setting]):
    (table,) = table1.tables1(paper_settings)
    assert (table.datasets, table.models) == (("sipakmed", "hicervix:25"), ("uni", "vit-b16"))
    entry = table.entries["sipakmed", "uni"]
    assert entry.spread is not None
    assert (entry.published, entry.published_std) == (0.9333, 0.0016)
    assert entry.difference == pytest.approx(entry.spread.mean - 0.9333)
    assert ("published", ["93.33 ± 0.16", "89.71 ± 0.49"]) in table1.lines_of(table)


def test_the_average_row_averages_ours_and_the_published_rows(paper_settings: list[Setting]):
    (table,) = table1.tables1(paper_settings)
    entry = table.entries[table1.AVERAGE, "uni"]
    assert entry.published == pytest.approx((0.9333 + 0.6407) / 2)
    assert entry.spread is not None
    spreads = [table.entries[name, "uni"].spread for name in table.datasets]
    assert entry.spread.mean == pytest.approx(sum(spread.mean for spread in spreads if spread) / 2)


def test_an_average_over_fewer_datasets_than_the_table_has_is_not_printed(paper_settings: list[Setting]):
    part = [setting for setting in paper_settings if (setting.dataset, setting.model) != ("sipakmed", "uni")]
    (table,) = table1.tables1(part)
    assert table1.lines_of(table)[-3] == ("average", ["–", table1.lines_of(table)[-3][1][1]])


def test_figure_1_has_a_panel_per_dataset_and_a_level_per_model(paper_settings: list[Setting]):
    (figure,) = few_shot_figures(paper_settings, str)
    with look():
        panels = [axes for axes in figure.plot().axes if axes.get_visible()]
    assert [panel.get_title(loc="left") for panel in panels] == ["sipakmed", "hicervix:25"]
    levels = {row["model"]: row["mean"] for row in figure.frame().to_pylist() if row["shots"] is None}
    assert set(levels) == set(MODELS)
    assert "linear classifier on all images" in figure.caption


def test_figure_2_scores_the_same_runs_on_the_23_classes_of_the_published_model(paper_settings: list[Setting]):
    figure = hicervix(paper_settings)
    rows = figure.frame().to_pylist()
    assert {(row["scored_on"], row["num_classes"]) for row in rows} == {("hicervix:25", 25), ("hicervix:23", 23)}
    assert [row["published"] for row in rows if row["model"] == "HierSwin"] == [0.7835]
    assert [row["fraction"] for row in rows if row["published"] == 0.8023] == [1.0]
    assert "78.35 % on 23 classes as published" in figure.caption


def test_a_cut_budget_is_said_in_the_caption_in_the_picture_and_beside_the_number(paper_settings: list[Setting]):
    figure = hicervix(paper_settings)
    with look():
        texts = [text.get_text() for text in figure.plot().texts]
    assert any("budget cut: a dry run" in text for text in texts)
    assert "2 of 2 settings: budget cut: a dry run" in figure.caption
    assert {row["flags"] for row in figure.frame().to_pylist()} == {"cut; few groups; few mistakes", None}


def test_labels_count_distinct_images_over_all_datasets(paper_settings: list[Setting]):
    rows = Labels(settings=paper_settings).frame().to_pylist()
    chosen = {row["num_labels"] for row in rows if (row["dataset"], row["method"]) == ("sipakmed", "lora")}
    assert chosen == {5, 20}
    assert {row["dataset"] for row in rows} == {"sipakmed", "hicervix:25"}


def test_the_confusion_matrix_of_hicervix_follows_its_tree(paper_settings: list[Setting]):
    setting = next(setting for setting in paper_settings if setting.dataset == "hicervix:25")
    frame = confusion_matrix(setting, "h").frame().to_pylist()
    names = list(dict.fromkeys(row["true"] for row in frame))
    assert names[names.index("AGC-NOS") : names.index("AGC-NOS") + 3] == ["AGC-NOS", "AGC-ECC-NOS", "AGC-EMC-NOS"]


def test_the_reliability_plot_prints_every_bin_and_both_scores(paper_settings: list[Setting]):
    figure = reliability_diagram(paper_settings[0], "r")
    assert len(figure.frame()) == 15
    assert "Expected calibration error" in figure.caption
    assert "Brier score" in figure.caption


@pytest.mark.parametrize("columns", [1, 2])
def test_figures_of_several_panels_fit_a_paper(paper_settings: list[Setting], columns: Columns):
    for figure in (*few_shot_figures(paper_settings, str), hicervix(paper_settings)):
        with look(), for_columns(columns):
            drawing = figure.plot()
            pdf = to_pdf(drawing, columns)
            assert drawing.get_tightbbox().width <= WIDTHS[columns]
        assert b"/FontFile2" in pdf


def test_a_report_holds_only_what_its_settings_give(paper_report: Path, report_dir: Path):
    folder = paper_report
    stems = {path.stem for path in (folder / "figures").iterdir() if path.suffix != ".pdf"}
    assert {"figure1", "figure2", "labels"} <= stems
    assert all((folder / "figures" / f"{name}.tex").is_file() for name in stems)
    rows = list(csv.DictReader((folder / "tree.csv").open()))
    assert all(float(row["level_1"]) >= float(row["level_3"]) - 0.1 for row in rows)
    classes = list(csv.DictReader((folder / "classes.csv").open()))
    assert all(int(row["found"]) <= int(row["of_class"]) for row in classes)
    assert not (report_dir / "figures" / "figure2.svg").exists()
    assert not (report_dir / "tree.csv").exists()


def test_a_drawing_is_kept_and_a_damaged_one_drawn_again(paper_settings: list[Setting], tmp_path: Path):
    figure = Labels(settings=paper_settings)
    first = save(figure, tmp_path / "a", tmp_path / "cache")
    (kept,) = (tmp_path / "cache").iterdir()
    whole = (kept / "drawing.svg").read_bytes()
    (kept / "drawing.svg").write_text("half a pict")
    assert save(figure, tmp_path / "b", tmp_path / "cache") == first
    assert (kept / "drawing.svg").read_bytes() == whole


def test_intervals_go_wherever_the_numbers_go(paper_report: Path, paper_settings: list[Setting]):
    folder = paper_report
    found = {setting.setting_id: setting.intervals["accuracy"] for setting in paper_settings}
    wanted = {(round(one.low, 6), round(one.high, 6)) for one in found.values()}
    for name in ("figure1", "figure2", "labels", "sipakmed_accuracy"):
        rows = list(csv.DictReader((folder / "figures" / f"{name}.csv").open()))
        numbers = [row for row in rows if row["mean"]]
        assert all(float(row["low"]) <= float(row["mean"]) <= float(row["high"]) for row in numbers), name
        assert {row["n_seeds"] for row in numbers} == {"2"}
        whole = [row for row in numbers if row.get("num_classes", "25") == "25"]
        assert {(round(float(row["low"]), 6), round(float(row["high"]), 6)) for row in whole} <= wanted, name
    first = next(setting for setting in paper_settings if setting.method == "linear" and setting.model == "uni")
    low, high = (100 * end for end in (first.intervals["accuracy"].low, first.intervals["accuracy"].high))
    for name, dash in (("table1.md", "–"), ("table1.tex", "--"), ("index.html", "–")):
        assert f"{low:.2f}{dash}{high:.2f}" in (folder / name).read_text(), name
    said = " credible" if first.intervals["accuracy"].kind == "credible" else ""
    assert f"({low:.1f}–{high:.1f}{said})" in (folder / "tables.md").read_text()
    assert f"({low:.1f}--{high:.1f}{said})" in (folder / "tables.tex").read_text()


def test_the_interval_on_the_23_classes_is_that_of_their_images_alone(paper_settings: list[Setting]):
    figure = hicervix(paper_settings)
    row = next(row for row in figure.frame().to_pylist() if row["scored_on"] == "hicervix:23" and row["fraction"])
    setting = next(setting for setting in paper_settings if setting.fraction == row["fraction"])
    truth, images, groups = [], [], []
    for rows in read_predictions(setting):
        kept = np.asarray(setting.facts.restrictions["hicervix:23"])
        for place in np.flatnonzero(np.isin(rows.labels, kept)):
            said = kept[rows.probabilities[place, kept].argmax()]
            truth.append(int(said != rows.labels[place]))
            images.append(rows.paths[place])
            groups.append(rows.groups[place])
    expected = metric_intervals([0] * len(truth), truth, images=images, groups=groups, num_classes=2)["accuracy"]
    assert (row["low"], row["high"]) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert row["mean"] == pytest.approx(1 - np.mean(truth))


def _rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.open()))


def test_every_file_of_a_report_holds_the_means_of_the_stored_runs(paper_report: Path, paper_settings: list[Setting]):
    """Table 1, costs, tree and figures, each held against metrics.json and provenance.json."""
    folder = paper_report
    means = {
        setting.setting_id: fmean(run.metrics["test"]["accuracy"] for run in setting.tested)
        for setting in paper_settings
    }
    by_id = {setting.setting_id: setting for setting in paper_settings}
    settings_of_table = [row for row in _rows(folder / "table1.csv") if row["setting_id"]]
    assert len(settings_of_table) == 4
    assert all(
        float(row["accuracy_mean"]) == pytest.approx(means[row["setting_id"]], abs=1e-6) for row in settings_of_table
    )
    costs = _rows(folder / "costs.csv")
    assert {row["setting_id"] for row in costs} == set(by_id)
    for row in costs:
        runs = by_id[row["setting_id"]].tested
        assert int(row["num_trainable"]) == runs[0].metrics["num_trainable"]
        assert float(row["seconds"]) == pytest.approx(fmean(run.provenance["seconds"] for run in runs), abs=1e-3)
    trees = _rows(folder / "tree.csv")
    assert {row["setting_id"] for row in trees} == {
        name for name, setting in by_id.items() if setting.dataset == "hicervix:25"
    }
    assert all(float(row["level_3"]) == pytest.approx(means[row["setting_id"]], abs=1e-6) for row in trees)
    stored = {
        (setting.dataset, setting.model, setting.spec.sampling.amount, setting.method): setting
        for setting in paper_settings
    }
    labels = _rows(folder / "figures" / "labels.csv")
    assert len(labels) == len(stored)
    for row in labels:
        setting = stored[row["dataset"], row["model"], row["amount"], row["method"]]
        assert float(row["mean"]) == pytest.approx(means[setting.setting_id], abs=1e-9)
    for row in _rows(folder / "figures" / "figure1.csv"):
        amount = f"{row['shots']}-shot" if row["shots"] else "all"
        setting = stored[row["dataset"], row["model"], amount, row["method"]]
        assert float(row["mean"]) == pytest.approx(means[setting.setting_id], abs=1e-9)
    for row in (row for row in _rows(folder / "figures" / "figure2.csv") if row["num_classes"] == "25"):
        amount = "100pct" if float(row["fraction"]) == 1 else "10pct"
        setting = stored[row["dataset"], row["model"], amount, row["method"]]
        assert float(row["mean"]) == pytest.approx(means[setting.setting_id], abs=1e-9)


def test_the_dotted_line_of_several_divisions_is_their_mean_on_the_classes_of_the_published_model(tmp_path: Path):
    store = Store(tmp_path / "runs")
    for place, seed in product((0, 1), (1, 2)):
        run = fake_run(
            fake("hicervix:25"), "clip-vit-l14", "lora", None, 1e-3, seed, 0.5 + 2 * place, True,
            sampling=Sampling(fraction=0.5), train=CUT, adapter=RANK_16, split=SplitSpec(seed=place),
        )  # fmt: skip
        rows = run.predictions
        paths = [f"{place}/{path}" for path in rows["path"].to_pylist()]
        store.write(replace(run, predictions=rows.set_column(rows.column_names.index("path"), "path", [paths])))
    settings = read_settings(store.runs())
    figure = Fractions(dataset="hicervix:25", settings=settings, of_paper=is_of_paper(settings[0].spec))
    dotted = [row for row in figure.frame().to_pylist() if row["scored_on"] != "hicervix:25" and row["mean"]]
    assert dotted
    for row in dotted:
        means = [fmean(one.evaluation.restricted[row["scored_on"]]) for one in settings if one.evaluation]  # pyright: ignore
        assert means[0] != means[1]
        assert (row["mean"], row["std"]) == (pytest.approx(fmean(means)), pytest.approx(stdev(means)))
        assert (row["n_divisions"], row["n_seeds"], row["low"]) == (2, 4, None)
    figure.plot()
