"""LoRA in the background of a labelling project: what it trains on, who answers, what is kept when it is stopped."""

import json
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from labelling_projects import label_next, make_project

from cytolora.data.datasets import load_manifest
from cytolora.data.synthetic.dataset import write_synthetic
from cytolora.errors import ConfigError, DataError
from cytolora.labelling.adapt import FOLDER, cells_to_train_on
from cytolora.labelling.features import load_features, open_features
from cytolora.labelling.project import FEATURES, read_project
from cytolora.labelling.refit import refit
from cytolora.labelling.session import Labelling, create_project


def test_too_few_labels_for_lora_are_refused_with_the_class_that_needs_more(tmp_path: Path) -> None:
    opened = Labelling(make_project(tmp_path, groups=8))
    project = opened._project
    cells = np.flatnonzero(~project.is_test).tolist()
    with pytest.raises(ConfigError, match="two classes or more"):
        opened.check_lora()
    first = project.groups[cells[0]]
    beside = next(cell for cell in cells if project.groups[cell] != first)
    with pytest.raises(ConfigError, match="class 'HSIL' comes from one group only"):
        cells_to_train_on(project, {cells[0]: 0, beside: 0, cells[1]: 2, cells[2]: 2})
    label_next(opened, 30)
    opened.check_lora()
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
        opened.check_lora()
    assert opened.encoder == "frozen"


def test_features_of_a_lora_that_are_damaged_are_refused_with_what_to_do(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    (project / FOLDER).mkdir()
    about = {"model": "nano", "learning_rate": 0.001, "num_steps": 50, "trained_on": [0, 1]}
    for content in (b"{", b'{"model": 1}', json.dumps(about).encode()):
        (project / FOLDER / "about.json").write_bytes(content)
        with pytest.raises(DataError, match=r"lora is damaged: .*Remove it, and train LoRA again"):
            Labelling(project)


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
    assert not (drawn / "project" / FOLDER).exists()
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
    rows = open_features(drawn / "project" / FOLDER / FEATURES)
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
