"""The built-in backbone: small, whole, made by its script, and better than chance weights."""

import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from benchmark_files import load_script
from safetensors import safe_open
from safetensors.torch import load_file
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from cytolora.data.synthetic.dataset import CLASSES, DrawnCells, draw_cells
from cytolora.models.backbones.registry import NANO
from cytolora.models.checkpoints.building import build_trunk
from cytolora.models.checkpoints.loading import load_encoder
from cytolora.models.encoder import Encoder

assert NANO.weights is not None
WEIGHTS = NANO.weights


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load_script("train_nano")


def test_it_has_at_most_3_million_parameters_in_6_megabytes():
    assert sum(value.numel() for value in load_file(WEIGHTS).values()) <= 3_000_000
    assert WEIGHTS.stat().st_size <= 6_000_000


def test_its_file_says_what_made_it():
    with safe_open(WEIGHTS, "pt") as file:
        metadata = file.metadata()
    assert metadata["script"] == "scripts/train_nano.py"
    assert metadata["licence"] == NANO.licence == "Apache-2.0"
    assert metadata["data"] == "drawn cells only, no real image"
    assert {"seed", "steps"} <= metadata.keys()


@pytest.mark.slow
def test_it_separates_drawn_classes_far_better_than_chance_weights():
    cells = draw_cells(600, 0, num_slides=12)
    torch.manual_seed(0)
    trained = _accuracy(load_encoder(NANO, WEIGHTS), cells)
    chance = _accuracy(Encoder(build_trunk(NANO), NANO.pool).eval(), cells)
    assert trained > chance + 0.15
    assert chance > 1 / len(CLASSES)


@pytest.mark.slow
def test_two_trainings_of_one_seed_are_equal_and_load(script: ModuleType, tmp_path: Path, monkeypatch):
    files = [tmp_path / "first.safetensors", tmp_path / "second.safetensors"]
    threads = torch.get_num_threads()
    monkeypatch.setattr(script, "BATCH_SIZE", 8)
    for file in files:
        monkeypatch.setattr(sys, "argv", ["train_nano.py", "--steps", "2", "--out", str(file)])
        script.main()
    torch.set_num_threads(threads)
    first, second = map(load_file, files)
    assert all(torch.equal(first[name], second[name]) for name in second)
    assert load_encoder(NANO, files[0])(torch.zeros(1, 3, 64, 64)).shape == (1, NANO.feature_dim)


def test_the_training_sees_no_class(script: ModuleType):
    batch = next(script.batches(1, seed=0))
    assert {name: tuple(value.shape[1:]) for name, value in vars(batch).items()} == {
        "images": (3, 64, 64),
        "attributes": (17,),
        "dyes": (64, 6),
    }


@torch.inference_mode()
def _accuracy(encoder: nn.Module, cells: DrawnCells) -> float:
    """Of a linear classifier on 16 cells per class of eight slides, measured on the other four."""
    pixels = torch.from_numpy(cells.images).permute(0, 3, 1, 2).float() / 255
    images = (pixels - NANO.preprocess.mean[0]) / NANO.preprocess.std[0]
    features = torch.cat([encoder(part) for part in images.split(100)]).numpy()
    seen = np.flatnonzero(cells.slides < 8)
    train = np.concatenate([seen[cells.labels[seen] == label][:16] for label in range(len(CLASSES))])
    test = np.flatnonzero(cells.slides >= 8)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
    return model.fit(features[train], cells.labels[train]).score(features[test], cells.labels[test])
