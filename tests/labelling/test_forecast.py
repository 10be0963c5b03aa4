"""Forecast with twice the labels: parts of the labels, what it lacks, and what twice the labels gave."""

from itertools import pairwise
from pathlib import Path
from threading import Event, RLock, Thread
from typing import Any

import numpy as np
import pytest
from labelling_projects import make_project

from cytolora.labelling.apart import Apart
from cytolora.labelling.forecast import MIN_TEST, MIN_TRAINING, parts_of, too_few, with_twice_the_labels
from cytolora.labelling.refit import refit
from cytolora.labelling.session import Labelling
from cytolora.labelling.turns import UnderWayError

NUM_CLASSES, NUM_FEATURES = 3, 64


def test_parts_are_nested_and_hold_every_class() -> None:
    labels = [0] * 100 + [1] * 25 + [2] * 3
    parts = parts_of(labels, seed=1)
    assert [len(part) for part in parts] == [7 + 2 + 1, 13 + 4 + 1, 25 + 7 + 1, 50 + 13 + 2, 128]
    for small, large in pairwise(parts):
        assert set(small) < set(large)
    assert {labels[at] for at in parts[0]} == {0, 1, 2}


def test_too_few_labels_are_told_with_both_numbers(tmp_path: Path) -> None:
    assert too_few(MIN_TRAINING, MIN_TEST) is None
    found = Labelling(make_project(tmp_path)).forecast()
    assert found["expected"] is None
    assert f"A forecast takes {MIN_TRAINING} training labels and {MIN_TEST} labels" in found["sentence"]
    assert "there are 0 and 0" in found["sentence"]


def test_a_forecast_has_a_process_of_its_own_and_a_second_one_at_once_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Labelling(make_project(tmp_path, groups=8), refits_apart=True)
    begun, may_end, given = Event(), Event(), list[Apart | None]()

    def forecast(_: RLock, apart: Apart | None) -> dict[str, Any]:
        given.append(apart)
        begun.set()
        may_end.wait(60)
        return {}

    monkeypatch.setattr(opened._running, "forecast", forecast)
    first = Thread(target=opened.forecast)
    first.start()
    begun.wait(60)
    with pytest.raises(UnderWayError, match="being made already"):
        opened.forecast()
    may_end.set()
    first.join()
    opened.forecast()
    assert None not in given
    assert opened._classifier.apart not in given
    opened.close()


@pytest.mark.slow
def test_twice_the_labels_are_as_accurate_as_forecast(tmp_path: Path) -> None:
    draws, sizes = np.random.default_rng(3), (240, 480, 1200)
    labels = np.arange(sum(sizes)) % NUM_CLASSES
    rows = draws.normal(size=(NUM_CLASSES, NUM_FEATURES))[labels] * 0.35 + draws.normal(
        size=(len(labels), NUM_FEATURES)
    )
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    np.save(tmp_path / "features.npy", rows)
    given = [(cell, int(label), f"group {cell // 3}") for cell, label in enumerate(labels)]
    training, test = given[: sizes[0]], given[sizes[0] + sizes[1] :]
    found = with_twice_the_labels(tmp_path / "features.npy", training, test, NUM_CLASSES, groups_known=True)
    assert found["expected"] is not None, found["sentence"]
    value, low, high = found["expected"]
    assert found["labels"] == 2 * sizes[0]
    assert low < value < high
    cells, codes, units = (list(column) for column in zip(*given[: 2 * sizes[0]], strict=True))
    fitted = refit(rows, np.ones(len(rows), bool), cells, codes, units, NUM_CLASSES)
    assert fitted is not None
    tested = np.array([cell for cell, _, _ in test])
    measured = (fitted.predictions[tested] == labels[tested]).mean()
    assert low <= measured <= high
    assert value == pytest.approx(measured, abs=0.03)
    assert measured > found["now"]
    assert f"With {2 * sizes[0]} training labels, twice those there are" in found["sentence"]
