"""LoRA in the background of a labelling project: what it trains on, who answers, what is kept when it is stopped."""

import json
import math
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
from labelling_projects import label_next, make_project

from cytolora.data.datasets import load_manifest
from cytolora.data.synthetic.dataset import write_synthetic
from cytolora.errors import ConfigError, DataError
from cytolora.labelling import adapt as adapting
from cytolora.labelling import encoders
from cytolora.labelling.adapt import FOLDER, About, cells_to_train_on, load_adapted, write_adapted
from cytolora.labelling.features import Space, load_features, open_features, unit_rows
from cytolora.labelling.project import read_project
from cytolora.labelling.refit import Refit, refit
from cytolora.labelling.server import Background
from cytolora.labelling.session import Labelling, create_project
from cytolora.labelling.turns import UnderWayError


def test_too_few_labels_for_lora_are_refused_with_the_class_that_needs_more(tmp_path: Path) -> None:
    opened = Labelling(make_project(tmp_path, groups=8))
    project = opened._project
    cells = np.flatnonzero(~project.is_test).tolist()
    with pytest.raises(ConfigError, match="two classes or more"):
        opened.begin_lora()
    first = project.groups[cells[0]]
    beside = next(cell for cell in cells if project.groups[cell] != first)
    with pytest.raises(ConfigError, match="class 'HSIL' comes from one group only"):
        cells_to_train_on(project, {cells[0]: 0, beside: 0, cells[1]: 2, cells[2]: 2})
    label_next(opened, 30)
    kept = cells_to_train_on(project, opened._board.training())
    left_out = set(opened._board.training()) - set(kept)
    assert left_out
    assert {project.groups[cell] for cell in kept}.isdisjoint(project.groups[cell] for cell in left_out)


def test_an_encoder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    opened = Labelling(make_project(tmp_path, with_features=False))
    with pytest.raises(ConfigError, match="not trained"):
        opened.choose_encoder("lora")
    with pytest.raises(ConfigError, match="frozen"):
        opened.choose_encoder("lore")
    with pytest.raises(ConfigError, match="still being computed"):
        opened.begin_lora()
    assert opened.encoder == "frozen"


def test_features_of_a_lora_that_are_damaged_are_refused_with_what_to_do(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    (project / FOLDER).mkdir()
    about = {"model": "nano", "learning_rate": 0.001, "num_steps": 50, "trained_on": [0, 1]}
    for content in (b"{", b'{"model": 1}', json.dumps(about).encode()):
        (project / FOLDER / "about.json").write_bytes(content)
        with pytest.raises(DataError, match=r"lora is damaged: .*Remove it, and train LoRA again"):
            Labelling(project)


def _write_lora(project: Path, cells: list[int], seed: int) -> np.ndarray:
    """Writes made-up features of a LoRA that was trained on some cells; returns them."""
    opened = read_project(project)
    rows = unit_rows(np.random.default_rng(seed).normal(size=(len(opened.names), 16)).astype(np.float32))
    about = About(model="nano", learning_rate=0.001, num_steps=50, trained_on=tuple(cells))
    write_adapted(project / FOLDER, rows, about)
    return rows


def test_a_lora_of_another_server_answers_from_the_next_refit_on(tmp_path: Path) -> None:
    project = make_project(tmp_path, groups=8)
    _write_lora(project, [0], seed=1)
    opened = Labelling(project)
    label_next(opened, 30)
    opened.refit()
    before = opened._space
    assert before is not None
    assert before.encoder == "nano with LoRA of 1 label"
    assert not opened.is_lora_new
    rows = _write_lora(project, [0, 11], seed=2)
    assert opened.is_lora_new
    assert np.isfinite(before.features).all()  # still mapped: nothing was written to it
    opened.refit()
    after = opened._space
    assert after is not None
    assert opened.overview("ann")["classifier"]["name"] == "ridge on nano with LoRA of 2 labels"
    assert np.array_equal(after.features, rows)
    assert not opened.is_lora_new
    assert sorted(path.name for path in (project / FOLDER).iterdir()) == [".lock", "about.json", after.path.name]
    for path in (project / FOLDER).iterdir():
        path.unlink()
    opened.refit()
    assert opened.encoder == "frozen"
    assert opened.overview("ann")["classifier"]["name"] == "ridge on nano"


def test_features_that_are_replaced_while_a_refit_opens_them_are_opened_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make_project(tmp_path, groups=8)
    _write_lora(project, [0], seed=1)
    opened = Labelling(project)
    label_next(opened, 30)

    def fit(space: Space, *arguments: Any, **named: Any) -> Refit | None:
        if space.encoder == "nano with LoRA of 1 label":
            _write_lora(project, [0, 11], seed=2)
            open_features(space.path)  # as the process that fits does
        return plain_fit(space, *arguments, **named)

    plain_fit = opened._classifier.fit
    monkeypatch.setattr(opened._classifier, "fit", fit)
    assert opened.refit()["number"] == 1
    assert opened.overview("ann")["classifier"]["name"] == "ridge on nano with LoRA of 2 labels"


def test_description_and_features_are_of_one_training_however_often_it_is_replaced(tmp_path: Path) -> None:
    project = make_project(tmp_path, groups=8, each=3)
    of_seed = [_write_lora(project, [cell], seed=cell) for cell in range(4)]
    opened = read_project(project)
    writer = threading.Thread(target=lambda: [_write_lora(project, [n % 4], seed=n % 4) for n in range(12)])
    writer.start()
    num_read = 0
    while writer.is_alive():
        space = load_adapted(opened)
        assert space is not None
        (cell,) = (cell for cell in range(4) if np.array_equal(space.features, of_seed[cell]))
        assert cell in space.seen
        assert space.seen == {other for other in range(24) if opened.units[other] == opened.units[cell]}
        num_read += 1
    assert num_read


def test_penalty_and_temperature_are_chosen_on_cells_that_have_not_shaped_the_features() -> None:
    random, number = np.random.default_rng(0), 120
    labels = np.arange(number) % 3
    rows = random.normal(size=(number, 16))
    seen = frozenset(range(0, number, 2))
    for cell in seen:  # as an encoder leaves them that has learned their labels
        rows[cell, labels[cell]] += 50
    features = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    cells, units = list(range(number)), [f"group {cell // 6}" for cell in range(number)]
    given = features, np.ones(number, dtype=bool), cells, labels.tolist(), units, 3
    plain, careful = refit(*given), refit(*given, seen)
    assert plain is not None
    assert careful is not None
    assert sorted(careful.left_out.tolist()) == sorted(set(cells) - seen)
    new = sorted(set(cells) - seen)
    assert plain.probabilities[new].max(axis=1).mean() > 0.5  # a third of them is right by chance
    assert careful.probabilities[new].max(axis=1).mean() < 0.45


@pytest.fixture
def ready(tmp_path: Path) -> Labelling:
    """A project whose labels are enough for LoRA."""
    opened = Labelling(make_project(tmp_path, groups=8))
    label_next(opened, 30)
    return opened


def test_a_second_training_is_refused_from_the_moment_that_the_first_was_asked_for(ready: Labelling) -> None:
    train = ready.begin_lora()
    assert ready.overview("ann")["encoder"]["training"]["done"] == 0
    with pytest.raises(UnderWayError, match="being trained already"):
        ready.begin_lora()
    ready.stop_lora()
    assert not train()
    assert ready.overview("ann")["encoder"]["training"] is None
    ready.begin_lora()


def test_a_training_that_was_stopped_before_it_began_does_not_begin(
    ready: Labelling, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    monkeypatch.setattr(encoders, "adapt", lambda *_, **__: calls.append("adapt"))
    train = ready.begin_lora()
    ready.stop_lora()
    assert not train()
    assert calls == []

    def adapt(*_: object, on_progress: Callable[[int, int], None], **__: object) -> None:
        on_progress(1, 100)
        ready.stop_lora()  # with no process to end
        calls.append("stopped")
        on_progress(2, 100)
        calls.append("went on")

    monkeypatch.setattr(encoders, "adapt", adapt)
    assert not ready.train_lora()
    assert calls == ["stopped"]


@pytest.mark.parametrize(("loss", "rows", "told"), [
    (float("nan"), 0.0, "nano with LoRA gave a loss that is no finite number: its training diverged"),
    (0.5, float("nan"), "gave features that are no finite numbers, of 80 of 80 cells: its training diverged"),
    (0.5, float("inf"), "gave features that are no finite numbers, of 80 of 80 cells: its training diverged"),
])  # fmt: skip
def test_a_lora_that_diverged_is_one_sentence_and_the_encoder_before_answers(
    ready: Labelling, monkeypatch: pytest.MonkeyPatch, loss: float, rows: float, told: str
) -> None:
    trained = SimpleNamespace(diverged=not math.isfinite(loss), num_steps=50, state={})
    monkeypatch.setattr("cytolora.training.session.Session", MagicMock())
    monkeypatch.setattr("cytolora.training.adapt.train_adapter", lambda *_: trained)
    monkeypatch.setattr("cytolora.classifier.bundle.rebuild.rebuild", MagicMock())
    config = SimpleNamespace(backbone=SimpleNamespace(name="nano"), num_seen=int, run=MagicMock(), adapter=None, seed=0)
    monkeypatch.setattr(adapting, "encoder_of", lambda *_: (None, config))
    monkeypatch.setattr(adapting, "_features", lambda *_: np.full((80, 16), rows, np.float32))
    background = Background(ready)
    background.train_lora()
    ends = time.monotonic() + 60
    while background.lora_problem is None:
        assert time.monotonic() < ends
        time.sleep(0.01)
    assert told in background.lora_problem
    assert "\n" not in background.lora_problem
    assert ready.encoder == "frozen"
    assert ready.refit()["number"] == 1
    assert not (ready._project.folder / FOLDER).exists()


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of drawn cells with features, 36 of them labelled."""
    folder = tmp_path_factory.mktemp("drawn")
    write_synthetic(folder / "cells", num_images=80, num_slides=16)
    manifest = load_manifest(folder / "cells")
    label_of = {sample.path: sample.label for sample in manifest.samples}
    project = create_project(folder / "cells", folder / "project", classes=manifest.classes)
    opened = Labelling(project, cache=folder / "cache")
    opened.start_features()
    for one in opened.queue("ann", 36):
        opened.label("ann", [one["cell"]], label_of[one["name"]], client_id=f"{opened.last_entry} {one['cell']}")
    opened.close()
    return folder


@pytest.mark.slow
def test_a_lora_answers_once_it_is_trained_and_the_frozen_encoder_when_it_is_chosen(drawn: Path) -> None:
    opened = Labelling(drawn / "project", cache=drawn / "cache", refits_apart=True)
    opened.refit()
    frozen = opened.overview("ann")
    assert frozen["classifier"]["name"] == "ridge on nano"
    assert opened._fitted is not None
    before = opened._fitted.probabilities
    stopping = threading.Timer(4.0, opened.stop_lora)
    stopping.start()
    assert not opened.train_lora()
    assert opened.encoder == "frozen"
    assert not (drawn / "project" / FOLDER / "about.json").exists()
    told = []
    watching = threading.Thread(target=lambda: told.extend(_watch(opened)), daemon=True)
    watching.start()
    assert opened.train_lora()
    watching.join(60)
    assert 0 < told[0]["done"] <= told[-1]["done"] <= told[-1]["total"]
    opened.refit()
    overview = opened.overview("ann")
    assert overview["encoder"] == {"name": "lora", "has_lora": True, "training": None}
    assert overview["classifier"]["name"].startswith("ridge on nano with LoRA of ")
    assert not np.allclose(opened._fitted.probabilities, before, atol=0.01)
    assert np.isfinite(opened.points()["x"]).all()
    opened.choose_encoder("frozen")
    opened.refit()
    assert opened._fitted.encoder == "nano"
    assert np.array_equal(opened._fitted.probabilities, before)
    opened.close()
    again = Labelling(drawn / "project", cache=drawn / "cache")
    assert again.encoder == "lora"
    space, project = again._space, read_project(drawn / "project")
    assert space is not None
    assert not project.is_test[sorted(space.seen)].any()
    left = [cell for cell in again._board.training() if cell not in space.seen]
    groups = np.array(project.groups)
    assert left
    assert set(groups[left]).isdisjoint(groups[sorted(space.seen)])
    rows = open_features(space.path)
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    plain = load_features(project)
    assert plain is not None
    assert not np.allclose(rows, plain, atol=1e-3)
    again.close()


def _watch(opened: Labelling) -> list[dict[str, float]]:
    found, ends = list[dict[str, float]](), time.monotonic() + 120
    while time.monotonic() < ends:
        training = opened.overview("ann")["encoder"]["training"]
        if training is None and found:
            break
        if training is not None and training["done"]:
            found.append(training)
        time.sleep(0.05)
    return found
