"""The quick start for deployers is executed as it stands."""

import json
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_bundle import CLASSES, HEAVY, write_small_bundle

from cytolora.cli.app import main

PAGE = Path(__file__).resolve().parents[2] / "docs" / "deploy.md"


def commands() -> list[str]:
    blocks = re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the page takes for granted: a bundle, cells with labels and without, a slide with positions."""
    tifffile = pytest.importorskip("tifffile", reason="tifffile is not installed")
    monkeypatch.chdir(tmp_path)
    write_small_bundle(tmp_path / "model1")
    write_small_bundle(tmp_path / "model2", drawn=1)
    random = np.random.default_rng(0)
    for number in range(12):
        label = tmp_path / "my_cells" / CLASSES[number % 4]
        label.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 255, (40, 40, 3), dtype=np.uint8)).save(label / f"{number}.png")
    shutil.copytree(tmp_path / "my_cells", tmp_path / "new_cells")
    shutil.copy(tmp_path / "my_cells" / CLASSES[0] / "0.png", tmp_path / "cell.png")
    slide = random.integers(0, 255, (512, 512, 3), dtype=np.uint8)
    options = {"photometric": "rgb", "tile": (128, 128), "resolution": (2e4, 2e4), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(tmp_path / "slide.tiff", slide, **options)
    point = {"type": "Feature", "geometry": {"type": "Point", "coordinates": [100, 100]}}
    (tmp_path / "cells.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": [point]}))
    (tmp_path / "cells.csv").write_text("x,y\n100,100\n")
    return tmp_path


@pytest.fixture
def served() -> Iterator[list[subprocess.Popen[str]]]:
    running: list[subprocess.Popen[str]] = []
    yield running
    for process in running:
        process.kill()


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def asked(words: list[str]) -> str:
    """Runs the page's curl; where there is none, sends the same form by httpx."""
    if shutil.which("curl") is not None:
        return subprocess.run(words, capture_output=True, check=True, text=True).stdout
    httpx = pytest.importorskip("httpx", reason="neither curl nor httpx is on this machine")
    assert words[:3] == ["curl", "-sS", "-F"]
    field, _, path = words[3].partition("=@")
    return httpx.post(words[4], files={field: Path(path).read_bytes()}, timeout=60).raise_for_status().text


@pytest.mark.slow
def test_every_command_of_the_page_works(folder: Path, served: list[subprocess.Popen[str]]):
    ports, lines = {"8000": free_port(), "8001": free_port()}, commands()
    assert len(lines) == 11
    for line in lines:
        words = shlex.split(re.sub("800[01]", lambda port: ports[port[0]], line))
        if words[:2] == ["cytolora", "serve"]:
            starts = [sys.executable, "-c", "import sys; from cytolora.cli.app import main; main(sys.argv[1:])"]
            served.append(subprocess.Popen([*starts, *words[1:]], stderr=subprocess.PIPE, text=True))
            said = served[-1].stderr
            assert said is not None
            assert f"http://127.0.0.1:{words[words.index('--port') + 1]}" in said.readline()
        elif words[0] == "curl":
            answer = json.loads(asked(words))
            for one in answer.get("models", {"model": answer}).values():
                assert one["predictions"][0]["predicted"] in CLASSES
        else:
            with pytest.raises(SystemExit) as ended:
                main(words[1:])
            assert ended.value.code == 0, line
    for process in served:
        process.send_signal(signal.SIGTERM)
    assert [process.wait(20) for process in served] == [0, 0]
    made = {"model1-onnx", "model1-timm", "predictions.csv", "review.html", "predictions.geojson", "slide.csv"}
    assert made <= {path.name for path in folder.iterdir()}


def test_the_page_installs_all_but_what_the_test_without_torch_blocks():
    """tests/classifier/export/test_onnx.py predicts with HEAVY blocked; the page has to name every other dependency."""
    project = tomllib.loads((PAGE.parents[1] / "pyproject.toml").read_text())["project"]
    needed = {re.split(r"[><=]", entry)[0].lower() for entry in project["dependencies"]}
    line = re.search(r"^pip install (cyclopts .*)$", PAGE.read_text(), re.MULTILINE)
    assert line is not None
    assert set(line[1].split()) == needed - set(HEAVY) - {"scikit-learn", "threadpoolctl"} | {"onnxruntime"}
