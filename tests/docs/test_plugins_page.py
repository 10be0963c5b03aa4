"""docs/plugins.md: the package that stands there, installed as a user installs it, takes part in one run."""

import importlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from page_blocks import ROOT, all_blocks

from cytolora.cli.app import main
from cytolora.config.run import method_kind
from cytolora.core.registry import plugin_names
from cytolora.data.datasets import DATASETS
from cytolora.data.readers.synthetic import read_synthetic
from cytolora.experiments.engines.registry import ENGINES
from cytolora.experiments.store import Store
from cytolora.models.adapters.methods import METHODS
from cytolora.models.backbones.registry import BACKBONES
from cytolora.training.heads.fitted import HEADS

EXAMPLE, PAGE = ROOT / "examples" / "plugin", ROOT / "docs" / "plugins.md"
NAMES = {
    DATASETS: {"flat-cells"},
    BACKBONES: {"nano-cls"},
    METHODS: {"gaussian-lora", "nearest-median"},
    HEADS: {"nearest-median"},
    ENGINES: {"one-by-one"},
}


def cli(*arguments: str | Path) -> int | None:
    with pytest.raises(SystemExit) as stop:
        main([*map(str, arguments)])
    return stop.value.code  # pyright: ignore[reportReturnType]


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The package in a folder of its own, which this process sees for the time of a test."""
    source, target = tmp_path / "source", tmp_path / "site"
    shutil.copytree(EXAMPLE, source)
    options = ("--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--disable-pip-version-check")
    subprocess.run(
        [sys.executable, "-m", "pip", "install", *options, "--target", str(target), str(source)],
        check=True,
        timeout=120,
    )
    monkeypatch.syspath_prepend(str(target))
    for registry in NAMES:
        for name in ("_entries", "_packages", "_problems"):
            monkeypatch.setattr(registry, name, type(getattr(registry, name))(getattr(registry, name)))
        monkeypatch.setattr(registry, "_plugins_loaded", False)
    importlib.invalidate_caches()
    plugin_names.cache_clear()
    yield target
    plugin_names.cache_clear()
    for name in [name for name in sys.modules if name.partition(".")[0] == "cytolora_example"]:
        del sys.modules[name]


def flat_cells(drawn: Path, folder: Path) -> Path:
    """Copies drawn cells into the layout of the example's dataset."""
    folder.mkdir()
    (folder / "flat-cells.txt").write_text("")
    for number, sample in enumerate(read_synthetic(drawn).samples):
        group = str(sample.group).replace("-", "_")
        shutil.copy(drawn / sample.path, folder / f"{sample.label.replace('-', '_')}--{group}--{number}.png")
    return folder


@pytest.mark.slow
def test_every_plug_in_of_the_example_takes_part_in_one_run_and_stands_in_its_provenance(
    installed: Path, drawn_cells: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    for registry, names in NAMES.items():
        assert names <= {entry.name for entry in registry}
        assert {name for entry in registry for name in registry.package_of(entry.name)} == {"cytolora-example"}
        assert registry.problems() == ()
    cells, out = flat_cells(drawn_cells, tmp_path / "cells"), tmp_path / "runs"
    given = ("--data", f"flat-cells={cells}", "--out", out, "--engine", "one-by-one", "--device", "cpu")
    assert cli("run", EXAMPLE / "grid.yaml", *given) == 0
    assert "job 1 of 1" in capsys.readouterr().err
    runs = {run.spec["method"]: run for run in Store(out).runs()}
    assert runs.keys() == {"nearest-median", "gaussian-lora"}
    for run in runs.values():
        assert run.provenance["plugins"] == {"cytolora-example": "1.0"}
        assert run.metrics["test"] is not None
    assert (runs["nearest-median"].spec["backbone"], runs["nearest-median"].spec["adapter"]) == ("nano-cls", None)

    assert cli("report", out, "--out", tmp_path / "report") == 0
    assert "nearest-median" in (tmp_path / "report" / "index.html").read_text("utf-8")

    # a second package that is broken is named once, and hides nothing
    broken = installed / "broken_example-1.0.dist-info"
    broken.mkdir()
    (broken / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-example\nVersion: 1.0\n")
    (broken / "entry_points.txt").write_text("[cytolora.engines]\nmine = absent_module:ENGINE\n")
    ENGINES._plugins_loaded = False
    ENGINES._entries.pop("one-by-one")
    importlib.invalidate_caches()
    capsys.readouterr()
    assert cli("ls", "engines", "--json") == 1
    printed = capsys.readouterr()
    assert printed.err.count("broken-example") == 1
    assert {"inline", "one-by-one"} <= {row["name"] for row in json.loads(printed.out)}


def test_the_page_shows_the_package_as_it_is():
    files = [*(EXAMPLE / "src").rglob("*.py"), EXAMPLE / "pyproject.toml"]
    shown = [block.text.strip() for block in all_blocks(PAGE) if block.kind in ("python", "toml")]
    assert sorted(shown) == sorted(path.read_text("utf-8").strip() for path in files if path.name != "__init__.py")


def test_a_built_in_entry_is_of_no_plug_in():
    assert (METHODS.package_of("lora"), HEADS.package_of("knn")) == ({}, {})
    assert (method_kind("knn"), method_kind("lora"), method_kind("unknown")) == ("head", "adapter", "adapter")
