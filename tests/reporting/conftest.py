"""A store of plausible runs and the report of it, each made once."""

from pathlib import Path

import pytest
from blank_pdfs import blank_pdfs
from fake_store import write_runs

from cytolora.experiments.store import Store
from cytolora.reporting.pages.build import build_report
from cytolora.reporting.results.settings import Setting, read_settings


@pytest.fixture(scope="session")
def runs_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """2 models x 2 methods x 3 shots x 3 seeds x 3 rates, and linear on all images; not to be changed."""
    store = Store(tmp_path_factory.mktemp("store") / "runs")
    write_runs(store)
    write_runs(store, methods=("linear",), shots=(None,))
    return store.root


@pytest.fixture(scope="session")
def settings(runs_dir: Path) -> list[Setting]:
    return read_settings(Store(runs_dir).runs())


@pytest.fixture(scope="session")
def report_dir(runs_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the report, its PDFs blank; not to be changed."""
    with blank_pdfs():
        return build_report(runs_dir, tmp_path_factory.mktemp("out") / "report").parent


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    return Store(tmp_path / "runs")
