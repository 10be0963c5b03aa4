"""Text files are UTF-8 and line ends are ours, whatever the locale of the machine says."""

import ast
import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from blank_pdfs import program_without_pdfs
from PIL import Image

from cytolora.cli.app import main

SOURCES = sorted((Path(__file__).resolve().parents[2] / "src" / "cytolora").rglob("*.py"))
OPENS_TEXT = {"open": 1, "read_text": 0, "write_text": 1, "fdopen": 2, "TextIOWrapper": 1, "NamedTemporaryFile": 3}
"""Calls that use the locale's encoding unless told, with the index of the argument that tells, if given by position."""
ASCII = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C", "OMP_NUM_THREADS": "1"}


def opens_without_encoding(source: str) -> list[int]:
    """Lines where a text file is read or written in the locale's encoding."""
    tree = ast.parse(source)
    ours = {
        name.asname or name.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "cytolora.core.files"
        for name in node.names
    }
    return [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Call) and _is_bare(node, ours)]


def _is_bare(call: ast.Call, ours: set[str]) -> bool:
    function = call.func
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    if name not in OPENS_TEXT or (isinstance(function, ast.Name) and name in ours | {"write_text", "read_text"}):
        return False
    if isinstance(function, ast.Attribute) and getattr(function.value, "id", "") in ("os", "Image", "webbrowser"):
        return False
    if any(word.arg == "encoding" for word in call.keywords) or len(call.args) > OPENS_TEXT[name] + (name != "open"):
        return False
    given = [*call.args, *(word.value for word in call.keywords if word.arg in ("mode", "opener"))]
    texts = [str(value.value) for value in given if isinstance(value, ast.Constant)]
    return not any("b" in text and len(text) <= 3 for text in texts)


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("path.read_text()", [1]),
        ("path.write_text('é')", [1]),
        ("open(name)", [1]),
        ("with path.open('w', newline='') as file: pass", [1]),
        ("path.read_text(encoding='utf-8')", []),
        ("path.open('rb')", []),
        ("from cytolora.core.files import write_text\nwrite_text(path, 'é')", []),
    ],
)
def test_a_text_file_opened_in_the_encoding_of_the_locale_is_recognised(source: str, lines: list[int]):
    assert opens_without_encoding(source) == lines


def test_no_module_opens_a_text_file_in_the_encoding_of_the_locale():
    archives = {(f"{name}.py", "packed") for name in ("archive", "unpacked_archive", "zip_members", "signatures")} | {
        *(("bloodmnist.py", "archive"), ("arrays.py", "self._archive")),
        *(("image_sources.py", "remote"), ("remote.py", "self"), ("remote.py", ")")),
        *(("registry.py", "self.tracker"), ("track.py", "target"), ("track.py", "self.target")),
    }  # zip members and files behind URLs are bytes, and trackers no files
    found = {}
    for path in SOURCES:
        text = path.read_text(encoding="utf-8")
        if not any(name in text for name in OPENS_TEXT):
            continue  # few are parsed
        for line in opens_without_encoding(text):
            if not any(path.name == name and f"{of}.open(" in text.splitlines()[line - 1] for name, of in archives):
                found[f"{path.name}:{line}"] = text.splitlines()[line - 1].strip()
    assert found == {}


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_names_that_the_locale_cannot_write_are_printed_all_the_same(
    encoding: str, tmp_path: Path, drawn_cells: Path, monkeypatch: pytest.MonkeyPatch
):
    for subset, label in (("a", "Zellen_μ"), ("b", "naïve")):
        (tmp_path / "cells" / label).mkdir(parents=True)
        for image in sorted(drawn_cells.rglob("*.png"))[:3]:
            (tmp_path / "cells" / label / f"{subset}{image.name}").write_bytes(image.read_bytes())
    out = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdout", out)
    with pytest.raises(SystemExit):
        main(["check", "cells", "--quiet"])
    out.flush()
    assert b"Zellen_" in out.buffer.getvalue()  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.slow
def test_commands_read_shipped_files_and_write_reports_under_an_ascii_locale(drawn_cells: Path, tmp_path: Path):
    data = ("--data", f"synthetic={drawn_cells}")
    grid = (
        "run",
        "smoke",
        "--shots",
        "2",
        "--seeds",
        "1",
        "--learning-rates",
        "0.01",
        "--steps",
        "2",
        "--method",
        "linear",
    )
    commands = [("ls", "presets"), (*grid, "--quiet", *data), ("report", "runs", "--out", "report", *data)]
    warned = [
        sys.executable,
        "-X",
        "warn_default_encoding",
        "-W",
        "error::EncodingWarning:cytolora",
        "-c",
        program_without_pdfs(commands),
    ]
    done = subprocess.run(warned, cwd=tmp_path, env={**os.environ, **ASCII}, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode("ascii", "replace")
    assert (tmp_path / "report" / "index.html").read_bytes().decode("utf-8")


@pytest.mark.slow
def test_names_of_a_table_are_utf_8_in_every_file_under_an_ascii_locale_and_names_of_files_are_named(tmp_path: Path):
    """Names of classes that ASCII lacks, from a table; then the same in folders, which this Python cannot read."""
    rng, rows = np.random.default_rng(0), ["path,label,group"]
    for level, label in ((0, "Čelij µ – 癌"), (90, "naïve")):
        (tmp_path / "folders" / label).mkdir(parents=True)
        for number in range(20):
            pixels = Image.fromarray((rng.integers(0, 120, (40, 40, 3)) + level).astype(np.uint8))
            pixels.save(tmp_path / f"{level}_{number}.png")
            pixels.save(tmp_path / "folders" / label / f"{number}.png")
            rows.append(f"{level}_{number}.png,{label},pät{number % 10}")
    (tmp_path / "cells.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    few = ("--steps", "3", "--learning-rates", "0.01", "--cache", "cache", "--quiet")
    commands = [
        ("fit", "cells.csv", "--out", "model", *few),
        ("predict", "model", "0_1.png", "90_1.png", "--out", "p.csv", "--page", "p.html", "--quiet"),
        ("split", "cells.csv", "--out", "s.csv", "--quiet"),
        ("check", "folders", "--quiet"),
    ]
    program = f"""
from cytolora.cli.app import main
for command in {commands!a}:
    try:
        main(command)
    except SystemExit as stop:
        print("ended", command[0], stop.code, flush=True)
"""
    environment = {**os.environ, **ASCII, "PYTHONIOENCODING": "ascii", "PYTHONWARNDEFAULTENCODING": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, check=False
    )
    said = done.stderr.decode("ascii")
    assert "Traceback" not in said
    codes = [line for line in done.stdout.decode("ascii").splitlines() if line.startswith("ended ")]
    assert codes == ["ended fit 0", "ended predict 0", "ended split 0", "ended check 2"]
    assert "this Python reads names as ascii. Set PYTHONUTF8=1" in said
    for name in ("p.csv", "s.csv", "model/card.md", "model/report.html"):
        assert "Čelij µ – 癌" in (tmp_path / name).read_text(encoding="utf-8"), name
