"""Classes that are their source are named by `check` and `run`, from labels and groups alone; no other class is."""

import csv
import json
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cytolora.cli.app import main
from cytolora.config.run import SplitSpec
from cytolora.data.manifest import Sample
from cytolora.data.quality.confounded import classes_that_are_their_source
from cytolora.training.resources import Inputs

Cells = Iterable[tuple[str, str | None]]
CLASSES: tuple[str, ...] = ("cancer", "normal", "reactive")


def _slides(of_slide: Callable[[int], list[str]], number: int = 12) -> list[tuple[str, str | None]]:
    return [(label, f"slide {slide}") for slide in range(number) for label in of_slide(slide)]


def cancer_apart(slide: int) -> list[str]:
    return ["cancer"] * 4 if slide % 3 == 0 else ["normal", "reactive"] * 2


def named(cells: Cells) -> list[tuple[str, ...]]:
    samples = [Sample(path=f"{at:04}.png", label=label, group=group) for at, (label, group) in enumerate(cells)]
    return [one.examples for one in classes_that_are_their_source(samples, CLASSES)]


TIED = {
    "one class on slides of its own": _slides(cancer_apart),
    "unequal slides": _slides(lambda slide: ["cancer"] * (2 + slide) if slide % 2 else ["normal", "reactive"] * 3),
    "some groups unknown": [*_slides(cancer_apart), ("normal", None), ("cancer", None), ("cancer", None)],
    "the rarest class": _slides(lambda slide: ["cancer"] * 2 if slide < 3 else ["normal", "reactive"] * 5, 20),
    "the most frequent class": _slides(
        lambda slide: ["cancer"] * 20 if slide % 2 else ["normal", "reactive"] * 2 + ["normal"], 20
    ),
    "one more class on mixed slides alone": _slides(
        lambda slide: ["cancer"] * 3 if slide % 2 else ["normal", "reactive", "normal"]
    ),
}
PLAIN = {
    "mixed slides": _slides(lambda slide: list(CLASSES) * 2),
    "no group known": [(label, None) for label in CLASSES * 8],
    "a diagnosis for each patient": _slides(lambda slide: [CLASSES[slide % 3]] * 4),
    "a patient for each cell": [(CLASSES[at % 3], f"patient {at}") for at in range(60)],
    "one slide": _slides(lambda slide: list(CLASSES) * 5, 1),
    "one slide of its own": _slides(lambda slide: ["cancer"] * 4 if slide == 0 else list(CLASSES) * 2),
    "a third of the slides mixed": _slides(
        lambda slide: ["cancer"] * 4 if slide % 3 else ["cancer", "normal", "reactive"] * 2
    ),
}


@pytest.mark.parametrize("cells", TIED.values(), ids=TIED)
def test_a_class_from_slides_of_its_own_is_named_and_no_other(cells: Cells):
    assert named(cells) == [("cancer",)]


@pytest.mark.parametrize("cells", PLAIN.values(), ids=PLAIN)
def test_ordinary_classes_are_not_named(cells: Cells):
    assert named(cells) == []


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Cells of three classes: cancer from slides of its own."""
    root = tmp_path_factory.mktemp("cells")
    rng, rows = np.random.default_rng(0), []
    for number, (label, group) in enumerate(_slides(cancer_apart, 24)):
        Image.fromarray(rng.integers(0, 256, (24, 24, 3), dtype=np.uint8)).save(root / f"{number:03}.png")
        rows.append((f"{number:03}.png", label, group))
    with (root / "manifest.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label", "group"), *rows])
    return root


def test_check_names_the_class_and_somebody_should_look(folder: Path, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as stop:
        main(["check", str(folder), "--quiet", "--json"])
    found = [one for one in json.loads(capsys.readouterr().out)["findings"] if one["code"] == "N841"]
    assert (stop.value.code, len(found), found[0]["examples"]) == (1, 1, ["cancer"])
    assert "cancer (alone in 8 of 8 groups)" in found[0]["text"]


def test_run_names_the_class_once_and_stores_it_with_the_numbers(folder: Path):
    found = Inputs(data={"csv": folder}).manifest("csv", SplitSpec()).findings
    assert [one.examples for one in found if one.code == "N841"] == [("cancer",)]
