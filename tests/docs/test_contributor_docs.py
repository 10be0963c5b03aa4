"""The quick start for contributors is executed as it stands; its plug-in is one."""

import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from page_blocks import ROOT, all_blocks, run_page

from cytolora.data.datasets import DATASETS
from cytolora.models.adapters.methods import METHODS

PAGE = ROOT / "docs" / "contributor.md"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty current folder whose modules are imported; registries are as before afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for registry in (DATASETS, METHODS):
        list(registry)
        monkeypatch.setattr(registry, "_entries", dict(registry._entries))
    yield tmp_path
    for name in ("my_dataset", "my_method"):
        sys.modules.pop(name, None)


@pytest.mark.slow
def test_every_block_of_the_page_works(here: Path):
    run_page(PAGE)
    assert (here / "report" / "index.html").is_file()


def test_the_entry_points_of_the_page_are_groups_that_are_looked_into_and_objects_of_its_files():
    (text,) = [block.text for block in all_blocks(PAGE) if block.kind == "toml"]
    code = {block.text.partition("\n")[0].removeprefix("# "): block.text for block in all_blocks(PAGE)}
    groups = tomllib.loads(text)["project"]["entry-points"]
    assert set(groups) == {f"cytolora.{registry.kind}s" for registry in (DATASETS, METHODS)}
    for points in groups.values():
        for point in points.values():
            module, _, name = point.partition(":")
            assert f"\n{name} = " in code[f"{module}.py"]
