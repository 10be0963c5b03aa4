"""What README.md and docs/labels.md say to do with own cells is executed, on drawn ones under the names they use."""

import shlex
import shutil
from pathlib import Path

import pytest
from page_blocks import ROOT, blocks, commands, run_command, run_page

import cytolora
from cytolora.data.synthetic.dataset import write_synthetic

README, LABELS = ROOT / "README.md", ROOT / "docs" / "labels.md"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder, on a machine that has no published backbone."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("cytolora.classifier.fit.config.find", lambda *arguments: None)
    return tmp_path


def write_class_folders(folder: Path, num_images: int) -> None:
    """Drawn cells as people have theirs: one folder a class, nothing known of slides."""
    write_synthetic(folder.with_suffix(".drawn"), num_images=num_images, num_slides=10, seed=0)
    for sample in cytolora.load_dataset(folder.with_suffix(".drawn")).samples:
        (folder / sample.label).mkdir(parents=True, exist_ok=True)
        shutil.copy(folder.with_suffix(".drawn") / sample.path, folder / sample.label / Path(sample.path).name)


@pytest.mark.slow
def test_the_readme_leads_from_a_folder_of_cells_to_a_classifier_and_a_report(here: Path):
    write_class_folders(here / "my_cells", 100)
    shutil.copytree(here / "my_cells" / "hsil", here / "new_cells")
    own = [line for line in commands(README) if "exp" not in line]
    assert [shlex.split(line)[1] for line in own] == ["check", "fit", "predict", "run", "report"]
    for line in own:
        run_command(line)
    assert {"predictions.csv", "review.html"} <= {path.name for path in here.iterdir()}
    assert (here / "model" / "report.html").is_file()
    assert (here / "report" / "index.html").is_file()


@pytest.mark.slow
def test_the_readmes_python_runs_as_it_stands(here: Path, capsys: pytest.CaptureFixture[str]):
    write_class_folders(here / "my_cells", 100)
    shutil.copytree(here / "my_cells" / "hsil", here / "new_cells")
    (code,) = [text for kind, text in blocks(README) if kind == "python"]
    exec(compile(code, str(README), "exec"), {})
    assert "nano" in capsys.readouterr().out
    assert (here / "report" / "index.html").is_file()


def test_the_readmes_lines_for_the_papers_experiments_are_plans_that_can_be_made(here: Path):
    lines = [line for line in commands(README) if "exp" in line]
    assert len(lines) == 4
    for line in lines:
        run_command(line.replace("cytolora run", "cytolora plan"))


@pytest.mark.slow
def test_every_block_of_the_page_on_labels_works(here: Path):
    write_synthetic(here / "my_cells", num_images=150, num_slides=15, seed=0)
    shutil.copytree(here / "my_cells", here / "new_cells")
    run_page(LABELS)
    assert len(commands(LABELS)) == 3
    assert [kind for kind, _ in blocks(LABELS)] == ["sh", "sh", "python"]
    assert {"labels.json", "labels.svg", "labels.png", "labels.csv"} <= {one.name for one in Path("curve").iterdir()}
    assert Path("new.parquet").is_file()
