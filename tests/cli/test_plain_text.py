"""Text of plug-ins, datasets and folders is printed as it is: brackets and colons are no markup."""

import ast
import json
from dataclasses import replace
from pathlib import Path

import pytest

import cytolora
from cytolora.cli.app import main
from cytolora.data.datasets import DATASETS
from cytolora.experiments.engines.registry import ENGINES
from cytolora.models.adapters.methods import METHODS
from cytolora.models.backbones.registry import BACKBONES

HOSTILE = "[ray] [/] [red]x :warning:"
GRID = "[ray] [bold] [red]x"
"""As hostile as the name of a grid may be: it holds no slash and no colon."""
MAY_IMPORT_RICH = {"progress.py", "log_lines.py", "console.py"}


def printed(*arguments: str, capture: pytest.CaptureFixture[str]) -> tuple[int, str]:
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    said = capture.readouterr()
    return int(stop.value.code or 0), said.out + said.err


@pytest.fixture
def hostile(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plug-ins of every kind whose texts look like markup; a terminal wide enough to hold them."""
    monkeypatch.setenv("COLUMNS", "400")
    nano = replace(BACKBONES.get("nano"), name="[bold]b", licence=HOSTILE, description=HOSTILE)
    sipakmed = replace(DATASETS.get("sipakmed"), name="[bold]d", title=HOSTILE, licence=HOSTILE)
    entries = (
        (BACKBONES, nano),
        (DATASETS, sipakmed),
        (ENGINES, replace(ENGINES.get("ray"), name="[bold]e", description=HOSTILE)),
        (METHODS, replace(METHODS.get("lora"), name="[bold]m", description=HOSTILE)),
    )
    for registry, entry in entries:
        monkeypatch.setitem(registry._entries, entry.name, entry)


@pytest.mark.parametrize(
    "arguments",
    [
        "ls models",
        "ls datasets",
        "ls engines",
        "ls methods",
        "weights list",
        "doctor --offline",
        "data download [bold]d --to x",
    ],
)
def test_text_of_a_plug_in_is_listed_as_it_is(arguments, hostile, capsys):
    code, said = printed(*arguments.split(), capture=capsys)
    assert (code, HOSTILE in said) == (0, True)
    assert arguments.startswith("data") or "[bold]" in said


def test_ls_engines_names_the_extra_that_ray_needs(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")
    _, listed = printed("ls", "engines", "--json", capture=capsys)
    _, said = printed("ls", "engines", capture=capsys)
    assert all(entry["description"] in said for entry in json.loads(listed))


@pytest.mark.slow
def test_a_grid_and_folders_named_in_brackets_are_planned_run_and_reported_as_they_are(
    drawn_cells, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    grid, runs = tmp_path / "[grid].yaml", "[bold]runs :warning:"
    smoke = (Path(cytolora.__file__).parent / "config" / "grids" / "smoke.yaml").read_text()
    grid.write_text(smoke.replace("name: smoke", f"name: '{GRID}'"))
    options = (str(grid), "--data", f"synthetic={drawn_cells}", "--out", runs, "--shots", "1", "--seeds", "1")
    cut = ("--learning-rates", "0.01", "--steps", "1")
    _, said = printed("plan", *options, *cut, capture=capsys)
    assert said.startswith(f"{GRID}: 2 runs")
    _, said = printed("run", *options, *cut, capture=capsys)
    assert f"2 runs in {runs}. Next: cytolora report {runs} --out report" in said
    _, said = printed("report", runs, "--out", "[b]report", capture=capsys)
    assert said == "[b]report/index.html\n"


def test_a_folder_of_cells_and_classes_named_in_brackets_are_checked_as_they_are(tmp_path, drawn_cells, capsys):
    cells = tmp_path / "[bold]cells"
    for number, image in enumerate(sorted(drawn_cells.rglob("*.png"))[:6]):
        (cells / ("[red]x", "[b]y")[number % 2]).mkdir(parents=True, exist_ok=True)
        (cells / ("[red]x", "[b]y")[number % 2] / image.name).write_bytes(image.read_bytes())
    _, said = printed("check", str(cells), capture=capsys)
    assert all(name in said for name in ("[red]x", "[b]y"))


def test_no_other_module_can_print_markup_because_none_imports_rich():
    source = Path(cytolora.__file__).parent
    importing = {
        path.name
        for path in source.rglob("*.py")
        if "rich" in (text := path.read_text())  # few are parsed
        for node in ast.walk(ast.parse(text))
        if (isinstance(node, ast.Import) and any(name.name.split(".")[0] == "rich" for name in node.names))
        or (isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "rich")
    }
    assert importing == MAY_IMPORT_RICH
