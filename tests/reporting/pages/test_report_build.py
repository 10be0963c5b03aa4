import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from blank_pdfs import blank_drawings
from fake_store import FakeData, write_runs
from PIL import Image

from cytolora.config.run import Budget, TrainSpec
from cytolora.data.datasets import load_manifest
from cytolora.errors import ConfigError, DataError, StoreError
from cytolora.experiments.store import Store
from cytolora.reporting.pages.build import build_report
from cytolora.reporting.pages.examples import pick_right, pick_wrong
from cytolora.reporting.results.predictions import read_test

CUT = TrainSpec(budget=Budget(amount=50, unit="steps_per_shot", plus_steps=50, max_steps=2))


@pytest.fixture(scope="session")
def page(report_dir: Path) -> str:
    return (report_dir / "index.html").read_text()


def visible(page: str) -> str:
    """The page's words, without tags."""
    return re.sub(r"\s+", " ", re.sub(r"<style.*?</style>|<[^>]+>", " ", page, flags=re.DOTALL)).replace("\xa0", " ")


def test_the_page_needs_nothing_from_a_network_or_another_file(page: str):
    addresses = re.findall(r"""(?:src|href)=["']([^"']+)""", page) + re.findall(r"url\(([^)]+)\)", page)
    assert addresses
    assert all(address.startswith(("#", "data:")) for address in addresses)
    assert "<script" not in page
    assert "@import" not in page


def test_links_inside_the_page_lead_somewhere(page: str):
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r"""href=["']#([^"']+)""", page)) <= set(ids)


def test_the_folder_holds_tables_and_every_figure_as_svg_png_and_csv(report_dir: Path):
    assert {path.name for path in report_dir.iterdir()} == {
        "index.html",
        "methods.md",
        "references.bib",
        "tables.csv",
        "tables.md",
        "tables.tex",
        "tables_without_intervals.tex",
        "rates.csv",
        "runs.csv",
        "gains.csv",
        "images.csv",
        "table1.csv",
        "table1.md",
        "table1.tex",
        "settings.csv",
        "classes.csv",
        "costs.csv",
        "costs.tex",
        "figures",
    }
    stems = {path.stem for path in (report_dir / "figures").glob("*.svg")}
    assert {"herlev_accuracy", "herlev_balanced_accuracy", "herlev_all_images"} <= stems
    kinds = (".svg", ".png", ".csv", ".tex", "_1col.pdf", "_2col.pdf")
    assert {path.name for path in (report_dir / "figures").iterdir()} == {f"{s}{kind}" for s in stems for kind in kinds}


@pytest.mark.slow
@pytest.mark.usefixtures("real_pdfs")
def test_every_pdf_holds_the_letters_of_its_text(runs_dir: Path, tmp_path: Path):
    pdfs = list((build_report(runs_dir, tmp_path / "report").parent / "figures").glob("*.pdf"))
    assert pdfs
    assert all(b"/FontFile2" in path.read_bytes() for path in pdfs)


def test_the_page_says_what_was_run(page: str):
    text = visible(page)
    assert "2 models, linear and lora, 1 dataset: 126 runs in 14 settings" in text
    assert "60/20/20 by group, stratified by class, seed 0" in text
    assert "50 × shots + 50 steps" in text
    assert "learning rates tried: 0.0001, 0.001, 0.01" in text
    assert "rank 2 on q, v of all blocks" in text


def test_the_page_explains_band_interval_rate_and_test_set(page: str):
    text = visible(page)
    assert "Standard deviation over 3 training seeds" in text
    assert "over whole groups where groups are known" in text
    assert "Korn-Graubard, or credible (beta-binomial)" in text
    assert "highest mean validation accuracy" in text
    assert "Scored once, for the chosen rate only." in text


def test_the_page_without_data_says_that_examples_are_missing_and_how_to_get_them(page: str):
    assert "Example cells are not shown" in visible(page)
    assert "--data herlev=PATH" in page


def test_the_page_lists_every_run(page: str, runs_dir: Path):
    assert all(run.run_id in page for run in Store(runs_dir).runs())


@pytest.mark.usefixtures("real_drawings")
def test_class_names_and_rules_cannot_inject_markup(store: Store, tmp_path: Path):
    data = FakeData(classes=("<script>alert(1)</script>", "b"))
    provenance = {"group_rule": "<b>bold</b>", "split_rule": "<img src=x>"}
    write_runs(store, data=data, methods=("lora",), shots=(1,), seeds=(1,), rates=(1e-3,), provenance=provenance)
    text = build_report(store.root, tmp_path / "out").read_text()
    assert "<script>" not in text
    assert "<img src=x>" not in text
    assert "<b>bold</b>" not in text


@pytest.mark.slow
def test_a_dry_run_says_so_before_any_number(store: Store, tmp_path: Path):
    write_runs(store, models=("uni",), methods=("lora",), train=CUT)
    text = visible(build_report(store.root, tmp_path / "out").read_text())
    assert "N803 3 of 3 settings: budget cut: a dry run." in text
    assert text.index("Caution") < text.index("accuracy on test of the setting")


def test_a_store_whose_test_sets_are_not_scored_still_gives_a_page_that_says_so(store: Store, tmp_path: Path):
    write_runs(store, models=("uni",), methods=("lora",), tested=False)
    text = visible(build_report(store.root, tmp_path / "out").read_text())
    assert "N814 3 of 3 settings: no test score yet" in text
    assert "No test set has been scored yet. Run the grid again" in text


def test_an_empty_store_says_what_to_do(tmp_path: Path):
    with pytest.raises(StoreError, match=r"No finished runs in .*runs\. .*cytolora run smoke --data NAME=PATH"):
        build_report(tmp_path / "runs", tmp_path / "out")


def test_a_refused_report_leaves_the_old_one_as_it_was(report_dir: Path, store: Store, tmp_path: Path):
    out = tmp_path / "report"
    shutil.copytree(report_dir, out)
    write_runs(store, models=("uni",), methods=("lora",), shots=(1,))
    write_runs(store, models=("uni",), methods=("lora",), shots=(4,), provenance={"data_fingerprint": "0ther"})
    with pytest.raises(StoreError, match=r"disagree in the data_fingerprint of dataset herlev: .*0ther"):
        build_report(store.root, out)
    assert (out / "index.html").read_bytes() == (report_dir / "index.html").read_bytes()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".staging")] == []


@pytest.mark.slow
def test_an_old_report_is_replaced_whole(report_dir: Path, store: Store, tmp_path: Path):
    out = tmp_path / "report"
    shutil.copytree(report_dir, out)
    write_runs(store, data=FakeData(name="mlcc"), models=("uni",), methods=("lora",), shots=(1,))
    build_report(store.root, out)
    assert not any(path.name.startswith("herlev") for path in (out / "figures").iterdir())


def test_a_folder_with_other_files_is_not_touched(runs_dir: Path, tmp_path: Path):
    (tmp_path / "thesis.docx").write_text("years of work")
    with pytest.raises(ConfigError, match=r"holds 'thesis.docx', which is no part of a report"):
        build_report(runs_dir, tmp_path)
    assert (tmp_path / "thesis.docx").read_text() == "years of work"


@pytest.mark.parametrize("name", ["figures/mine.svg", "images.csv"])
def test_files_that_are_called_like_those_of_a_report_are_none_without_its_page(
    name: str, runs_dir: Path, tmp_path: Path
):
    mine = tmp_path / "paper" / name
    mine.parent.mkdir(parents=True)
    mine.write_text("years of work")
    with pytest.raises(ConfigError, match="which is no part of a report; name a new or empty folder"):
        build_report(runs_dir, tmp_path / "paper")
    assert mine.read_text() == "years of work"


@pytest.fixture(scope="module")
def one_setting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runs of a single setting, whose drawings the reports of several tests share; not to be changed."""
    store = Store(tmp_path_factory.mktemp("one") / "runs")
    write_runs(store, data=FakeData(name="mlcc"), models=("uni",), methods=("lora",), shots=(1,))
    return store.root


@pytest.fixture(scope="module")
def one_report(one_setting: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the report of ``one_setting``, its drawings blank; not to be changed."""
    with blank_drawings():
        return build_report(one_setting, tmp_path_factory.mktemp("one") / "report").parent


@pytest.mark.slow
def test_a_report_of_before_with_cells_csv_is_replaced_and_not_refused(
    one_setting: Path, one_report: Path, tmp_path: Path
):
    out = shutil.copytree(one_report, tmp_path / "report")
    (out / "settings.csv").rename(out / "cells.csv")
    build_report(one_setting, out)
    assert (out / "settings.csv").exists()
    assert not (out / "cells.csv").exists()


@pytest.mark.parametrize(
    "name", [".DS_Store", "Thumbs.db", "desktop.ini", ".ipynb_checkpoints/settings-checkpoint.csv"]
)
def test_a_report_folder_that_a_file_manager_or_notebook_opened_is_replaced(
    one_setting: Path, one_report: Path, tmp_path: Path, name: str
):
    out = shutil.copytree(one_report, tmp_path / "report")
    (out / name).parent.mkdir(exist_ok=True)
    (out / name).write_bytes(b"litter")
    build_report(one_setting, out)
    assert not (out / name).exists()


def test_a_place_that_cannot_be_written_is_one_error(runs_dir: Path, tmp_path: Path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(StoreError, match=r"Cannot write to .*file/report: a file is in the way\. Choose another --out"):
        build_report(runs_dir, tmp_path / "file" / "report")


@pytest.mark.usefixtures("real_drawings")
def test_equal_runs_give_an_equal_page(report_dir: Path, runs_dir: Path, tmp_path: Path):
    assert build_report(runs_dir, tmp_path / "again").read_bytes() == (report_dir / "index.html").read_bytes()


def test_the_runs_of_a_dataset_that_is_not_in_the_store_get_a_did_you_mean(runs_dir: Path, tmp_path: Path):
    with pytest.raises(ConfigError, match=r"Did you mean 'herlev'\?"):
        build_report(runs_dir, tmp_path / "out", {"herlef": tmp_path})


@pytest.mark.slow  # the command that does the same is tried in tests/cli/test_cli.py
def test_reporting_imports_no_torch(store: Store, tmp_path: Path):
    write_runs(store, models=("uni",), methods=("lora",), shots=(1,), seeds=(1,), rates=(1e-3,))
    code = (
        "import sys; from pathlib import Path; from cytolora.reporting.pages.build import build_report; "
        "import cytolora.reporting.pages.examples; "
        f"build_report(Path({str(store.root)!r}), Path({str(tmp_path / 'out')!r})); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.fixture
def pictured(store: Store, tmp_path: Path) -> Path:
    """A store of runs on real pictures; returns the pictures' folder."""
    data = FakeData(name="folder", classes=("hsil", "lsil", "nilm"), num_groups=6, groups_known=False)
    folder = tmp_path / "cells"
    for index, path in enumerate(data.paths):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (300, 150), (index * 7 % 255, 90, 160)).save(folder / path)
    fingerprint = load_manifest(folder, "folder").fingerprint
    write_runs(
        store, data=data, models=("uni",), methods=("lora",), shots=(1,), provenance={"data_fingerprint": fingerprint}
    )
    return folder


def test_with_data_the_page_shows_cells_rightly_and_wrongly_classified(store: Store, pictured: Path, tmp_path: Path):
    page = build_report(store.root, tmp_path / "out", {"folder": pictured}).read_text()
    text = visible(page)
    assert "Correct predictions: of each class the cell of median confidence" in text
    assert "Errors: highest confidence first" in text
    assert re.search(r"predicted (hsil|lsil|nilm)", text)
    assert page.count('src="data:image/webp;base64,') >= 4
    assert "Example cells are not shown" not in text


def test_images_that_are_not_those_of_the_runs_are_refused(store: Store, pictured: Path, tmp_path: Path):
    Image.new("RGB", (8, 8)).save(next(pictured.rglob("*.png")))
    with pytest.raises(DataError, match=r"is not the folder that the runs were computed from.*leave it out"):
        build_report(store.root, tmp_path / "out", {"folder": pictured})


def test_right_examples_are_typical_and_wrong_ones_the_surest(store: Store):
    write_runs(store, models=("uni",), methods=("lora",), shots=(1,), rates=(1e-3,), seeds=(1,))
    rows = read_test(next(iter(store.runs())))
    certainty = rows.probabilities.max(axis=1)
    right, wrong = pick_right(rows), pick_wrong(rows)
    assert all(rows.predicted[index] == rows.labels[index] for index in right)
    assert all(rows.predicted[index] != rows.labels[index] for index in wrong)
    assert len(wrong) <= 12
    assert [certainty[index] for index in wrong] == sorted((certainty[index] for index in wrong), reverse=True)
    assert max(list(rows.labels[wrong]).count(label) for label in range(len(rows.classes))) <= 3
    surest = max(certainty[index] for index in range(len(certainty)) if rows.predicted[index] != rows.labels[index])
    assert certainty[wrong[0]] == surest
