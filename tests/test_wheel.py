"""The wheel and the source distribution: all of the package, small, and at work in an empty folder elsewhere."""

import os
import signal
import socket
import subprocess
import sys
import sysconfig
import tarfile
import time
import urllib.request
import venv
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[1]
_MOST_BYTES = 12_000_000
PROGRAM = """
import sys
from functools import partial
from pathlib import Path
import cytolora
from cytolora.cli import experiments
from cytolora.cli.app import main
from cytolora.cli.options import AxisOptions

assert Path(cytolora.__file__).is_relative_to(sys.prefix), cytolora.__file__
cells = sys.argv[1]
few = AxisOptions(shots=("1",), seeds=(1,), learning_rates=(0.03,), steps=2)  # of the demo's 90 runs 2, cut to 2 steps
experiments.run = partial(experiments.run, axes=few)
for line in (
    "ls models", "ls presets", "plan exp1", f"check {cells} --page check.html",
    "demo --out demo --quiet", "report demo/runs --out report",
    f"fit {cells} --out model --model nano --steps 20 --learning-rates 0.01 --cache cache --threads 1 --quiet",
    f"predict model {cells}/slide_00 --out predictions.csv --page review.html --quiet",
    f"export model --to onnx --out model-onnx --images {cells}/slide_00",
    f"predict model-onnx {cells}/slide_00 --out exported.csv --quiet",
):
    try:
        main(line.split())
    except SystemExit as stop:
        assert stop.code in ((0, 1) if line.startswith("check") else (0,)), line  # 1: duplicates among drawn cells
"""


class Built(NamedTuple):
    wheel: Path
    source: Path


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Both distributions, as hatchling builds them from the clone."""
    if find_spec("hatchling") is None:
        pytest.skip("hatchling is not installed")
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-d", str(folder)], cwd=ROOT, check=True, timeout=300)
    (wheel,), (source,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return Built(wheel, source)


@pytest.fixture(scope="module")
def python(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python of a fresh environment: the wheel in it, dependencies seen where they are installed here."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False, symlinks=True)
    paths = {"base": str(folder), "platbase": str(folder)}
    own = Path(sysconfig.get_path("purelib", vars=paths))
    own.joinpath("dependencies.pth").write_text(
        "\n".join({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})
    )
    found = Path(sysconfig.get_path("scripts", vars=paths)) / "python"
    install = ["install", "--quiet", "--no-deps", "--no-index", "--ignore-installed", str(built.wheel)]
    subprocess.run([sys.executable, "-m", "pip", "--python", str(found), *install], check=True, timeout=120)
    return found


def environment() -> dict[str, str]:
    """The variables here, but those that would lead to the clone."""
    return {**{name: value for name, value in os.environ.items() if name != "PYTHONPATH"}, "OMP_NUM_THREADS": "1"}


def files_of_the_package() -> set[str]:
    sources = ROOT / "src"
    return {
        path.relative_to(sources).as_posix()
        for path in (sources / "cytolora").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_the_wheel_holds_every_file_of_the_package_and_is_small(built: Built):
    with zipfile.ZipFile(built.wheel) as packed:
        held = {name for name in packed.namelist() if name.startswith("cytolora/")}
    assert held == files_of_the_package()
    assert built.wheel.stat().st_size < _MOST_BYTES


def test_the_source_distribution_gives_the_same_wheel(built: Built, tmp_path: Path):
    with tarfile.open(built.source) as packed:
        packed.extractall(tmp_path, filter="data")
    (clone,) = tmp_path.iterdir()
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "dist")]
    subprocess.run(command, cwd=clone, check=True, timeout=300)
    (wheel,) = (tmp_path / "dist").iterdir()
    with zipfile.ZipFile(built.wheel) as first, zipfile.ZipFile(wheel) as second:
        assert {one.filename: one.CRC for one in first.infolist()} == {
            one.filename: one.CRC for one in second.infolist()
        }


@pytest.fixture(scope="module")
def used(python: Path, drawn_cells: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty folder in which commands of the wheel worked one after the other."""
    folder = tmp_path_factory.mktemp("empty")
    command = [str(python), "-c", PROGRAM, str(drawn_cells)]
    done = subprocess.run(
        command, cwd=folder, env=environment(), capture_output=True, text=True, check=False, timeout=550
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_check_demo_report_fit_predict_and_export_work_from_the_wheel(used: Path):
    for made in ("check.html", "demo/report/index.html", "report/index.html", "model/report.html", "review.html"):
        assert (used / made).is_file(), made
    assert (used / "model-onnx/model.onnx").is_file()
    classes = [[row.split(",")[1] for row in (used / name).read_text().splitlines()] for name in _TABLES]
    assert len(classes[0]) == 11
    assert classes[0] == classes[1]


_TABLES = ("predictions.csv", "exported.csv")


@contextmanager
def served(python: Path, folder: Path) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    command = [str(python.with_name("cytolora")), "serve", "model-onnx", "--port", port]
    process = subprocess.Popen(command, cwd=folder, env=environment(), stderr=subprocess.DEVNULL)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def test_the_installed_command_serves_an_export(python: Path, used: Path):
    with served(python, used) as address:
        for _ in range(300):
            try:
                with urllib.request.urlopen(f"{address}/ready", timeout=5) as answer:
                    assert answer.status == 200
                    break
            except OSError:
                time.sleep(0.1)
        else:
            pytest.fail("no answer in 30 s")
