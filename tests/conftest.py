"""Where tests find real data, and the little that every room's tests share."""

import gc
import os
import re
import sys
import tarfile
from collections.abc import Iterator
from contextlib import nullcontext
from itertools import count
from pathlib import Path

import pytest
import shape_checks
from blank_pdfs import blank_drawings, blank_pdfs
from hypothesis import HealthCheck, settings
from thin_slices import mark_rest_slow, read_slices

shape_checks.install(["cytolora.metrics", "cytolora.models", "cytolora.training"])

settings.register_profile(
    "cytolora",
    deadline=None,  # a busy machine is no fault of the code
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    derandomize=True,  # the same examples for everybody, as nothing else here is left to chance
    database=None,
    max_examples=50,  # half of Hypothesis's own number: these are fast tests
)
settings.load_profile("cytolora")


def pytest_configure(config: pytest.Config) -> None:
    """One thread a process, before torch is loaded: test processes of several threads stand in each other's way."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves thin slices of long tables to the fast tests."""
    mark_rest_slow(items, read_slices(Path(__file__).with_name("thin_slices.txt")))


def pytest_collection_finish() -> None:
    """Takes what is there before the first test out of the collector's reach, which would look through it again."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    """Gives it back: libraries tell at the end of what nobody collected."""
    gc.unfreeze()


_FOLDERS = count()


@pytest.fixture
def tmp_path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new folder; pytest's own looks for a free number among the folders of all tests before."""
    name = re.sub(r"\W", "_", request.node.name)[:30]
    return tmp_path_factory.mktemp(f"{name}{next(_FOLDERS)}", numbered=False)


@pytest.fixture
def real_pdfs() -> None:
    """Figures of a report are rendered as PDF in this test."""


@pytest.fixture
def real_drawings() -> None:
    """Figures of a report are drawn in this fast test, all but their PDFs."""


@pytest.fixture(autouse=True)
def _drawings(request: pytest.FixtureRequest) -> Iterator[None]:
    """Spares fast tests the drawings of reports and slow ones their PDFs, but where they ask for ``real_drawings``,
    or for ``real_pdfs``.

    They are most of a report's time. Fixtures of wider scope draw them. Matplotlib is loaded here for slow tests only,
    which may report first of all.
    """
    is_slow = request.node.get_closest_marker("slow") is not None
    if "real_pdfs" in request.fixturenames or not (is_slow or "cytolora.display.figure" in sys.modules):
        spared = nullcontext()
    else:
        spared = blank_pdfs() if is_slow or "real_drawings" in request.fixturenames else blank_drawings()
    with spared:
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
