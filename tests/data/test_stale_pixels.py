"""Stored runs whose images are read otherwise today are stale by the name of the rule, and no others."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import tifffile
from class_folders import write_classes

from cytolora.config.run import SplitSpec
from cytolora.core.identity import Identity
from cytolora.experiments.plan import Stale
from cytolora.training.resources import Inputs


@pytest.fixture
def cells(tmp_path: Path) -> Path:
    return write_classes(tmp_path / "cells", hsil=10, normal=10)


def changed(cells: Path, stored: str | None = None) -> tuple[str, ...]:
    run = cast(Any, SimpleNamespace(dataset="folder", split=SplitSpec()))
    inputs = Inputs(data={"folder": cells})
    return inputs.changed_pixels(run, stored or inputs.manifest("folder", SplitSpec()).fingerprint_before)


def test_a_run_of_deep_colour_is_stale_by_the_name_of_the_rule(cells: Path):
    values = np.random.default_rng(0).integers(0, 65536, (20, 20, 3)).astype(np.uint16)
    tifffile.imwrite(cells / "hsil" / "deep.tif", values, photometric="rgb")
    rules = changed(cells)
    assert rules == ("1 image: 16-bit RGB, divided by 257",)
    identities = [Identity(weights_sha256="w", data_fingerprint=name, split_fingerprint="s") for name in "ab"]
    text = str(Stale(run_id="run", stored=identities[0], today=identities[1], pixel_rules=rules))
    assert "images are read by other rules since (1 image: 16-bit RGB, divided by 257)" in text


def test_a_run_of_plain_images_names_no_rule(cells: Path):
    assert changed(cells) == ()


def test_a_run_of_other_images_names_no_rule(cells: Path):
    values = np.random.default_rng(0).integers(0, 65536, (20, 20, 3)).astype(np.uint16)
    tifffile.imwrite(cells / "hsil" / "deep.tif", values, photometric="rgb")
    assert changed(cells, stored="0" * 64) == ()


@pytest.mark.parametrize("options", [[], ["--frame", "max"], ["--value-range", "4095"], ["--icc", "srgb"]])
def test_the_command_takes_the_choices(cells: Path, options: list[str], capsys: pytest.CaptureFixture[str]):
    from cytolora.cli.app import main

    with pytest.raises(SystemExit) as left:
        main(["check", str(cells), *options])
    assert left.value.code == 0
    assert "No problems found" in capsys.readouterr().out


@pytest.mark.parametrize("options", [["--frame", "last"], ["--value-range", "12"], ["--frame", "-2"]])
def test_the_command_refuses_other_choices_in_one_line(cells: Path, options: list[str], capsys):
    from cytolora.cli.app import main

    with pytest.raises(SystemExit) as left:
        main(["check", str(cells), *options])
    assert left.value.code == 2
    assert capsys.readouterr().err.count("\n") <= 12
