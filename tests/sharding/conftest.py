"""A bundle, cells with one that is no image, and what a whole command makes of them."""

import shutil
from pathlib import Path

import pytest
from small_bundle import write_small_bundle


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_bundle(tmp_path_factory.mktemp("sharding") / "bundle")


@pytest.fixture(scope="session")
def cells(drawn_cells: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """70 images, ten of them copies, and a file that is called like one: two shards, of 64 and 7."""
    folder = tmp_path_factory.mktemp("sharding") / "cells"
    shutil.copytree(drawn_cells, folder)
    shutil.copytree(drawn_cells / "slide_00", folder / "slide_99")
    (folder / "slide_99" / "aaa.png").write_text("no image")
    return folder
