"""Where tests find real data, and the little that every room's tests share."""

import os
import sys
import tarfile
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
import shape_checks
from blank_pdfs import blank_pdfs
from hypothesis import HealthCheck, settings
from thin_slices import mark_rest_slow, read_slices

shape_checks.install(["cytolora.metrics", "cytolora.models", "cytolora.training"])

settings.register_profile(
    "cytolora",
    deadline=None,  # a busy machine is no fault of the code
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    derandomize=True,  # the same examples for everybody, as nothing else here is left to chance
    database=None,
)
settings.load_profile("cytolora")


def pytest_configure(config: pytest.Config) -> None:
    """One thread a process, before torch is loaded: test processes of several threads stand in each other's way."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves thin slices of long tables to the fast tests."""
    mark_rest_slow(items, read_slices(Path(__file__).with_name("thin_slices.txt")))


@pytest.fixture
def real_pdfs() -> None:
    """Figures of a report are rendered as PDF in this test."""


@pytest.fixture(autouse=True)
def _pdfs(request: pytest.FixtureRequest) -> Iterator[None]:
    """Spares tests the PDFs, half of a report's time, but where they ask for ``real_pdfs``.

    Fixtures of wider scope draw them. Matplotlib is loaded here for slow tests only, which may report first of all.
    """
    can_report = "cytolora.display.figure" in sys.modules or request.node.get_closest_marker("slow")
    with blank_pdfs() if can_report and "real_pdfs" not in request.fixturenames else nullcontext():
        yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data and weights; skips where it is absent."""
    default = Path(__file__).resolve().parents[1].parent / "shared"
    folder = Path(os.environ.get("CYTOLORA_TEST_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set CYTOLORA_TEST_DATA")
    return folder


@pytest.fixture(scope="session")
def herlev_dir(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder ``smear2005`` of the real Herlev download."""
    archive = shared_data / "data" / "herlev.tar.xz"
    if not archive.is_file():
        pytest.skip(f"no {archive}")
    target = tmp_path_factory.mktemp("herlev")
    with tarfile.open(archive) as tar:
        tar.extractall(target, filter="data")
    return target / "herlev" / "smear2005"


@pytest.fixture(scope="session")
def drawn_cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 drawn cells of 6 slides; read only."""
    from cytolora.data.synthetic.dataset import write_synthetic

    folder = tmp_path_factory.mktemp("drawn") / "cells"
    write_synthetic(folder, num_images=60, num_slides=6, seed=0)
    return folder
