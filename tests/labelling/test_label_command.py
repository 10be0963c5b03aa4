"""The command `label`: what it prints, and what it refuses in one line."""

import re
import socket
from pathlib import Path
from queue import Queue

import pytest
import torch

pytest.importorskip("fastapi", reason="FastAPI is not installed")
from cytolora.cli.app import main

CLASSES = ("--classes", "normal", "hsil")
ADDRESS = re.compile(r"http://127\.0\.0\.1:\d+/\?token=[\w-]{32} ")


def code_of(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["label", *arguments])
    return int(ended.value.code or 0)


def test_the_address_with_its_token_is_printed_and_opened_and_a_project_goes_on(
    drawn_cells: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    opened: Queue[str] = Queue()
    monkeypatch.setattr("webbrowser.open", opened.put)
    monkeypatch.setattr("cytolora.cli.label.run_service", lambda *arguments: None)
    project = str(tmp_path / "project")
    assert code_of(str(drawn_cells), "--out", project, *CLASSES, "--no-browser") == 0
    printed = capsys.readouterr().err
    assert ADDRESS.search(printed)
    assert f"Go on: cytolora label {project}" in printed
    assert opened.empty()
    assert code_of(project) == 0
    assert opened.get(timeout=60) in capsys.readouterr().err


def test_what_a_user_can_change_is_one_line(drawn_cells: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    cells, project = str(drawn_cells), str(tmp_path / "project")
    absent = "mps" if torch.cuda.is_available() else "cuda"  # no machine has both
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for arguments, why in (
            ((cells, *CLASSES), "is no labelling project yet; name the folder of one: --out project."),
            ((cells, "--out", cells, *CLASSES), "exists and is no labelling project."),
            ((cells, "--out", project, "--classes", "normal", "normal"), "normal"),
            ((cells, "--out", project, *CLASSES, "--weights", "uni"), "--weights expects NAME=PATH"),
            ((str(tmp_path / "none"), "--out", project, *CLASSES), "none"),
            ((cells, "--out", project, *CLASSES, "--device", absent), f"No {absent} device on this machine"),
            ((cells, "--out", project, *CLASSES, "--port", port, "--no-browser"), "Choose another --port."),
        ):
            assert code_of(*arguments) == 2
            printed = capsys.readouterr().err
            assert why in printed
            assert printed.count("\n") == 1, printed
