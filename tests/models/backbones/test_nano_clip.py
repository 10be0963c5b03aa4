"""The built-in image and text encoder: small, whole, made by its script, and its text means what is drawn."""

import sys
from functools import cache
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from benchmark_files import load_script
from safetensors import safe_open
from safetensors.torch import load_file

from cytolora.data.synthetic.captions import CUES, vocabulary
from cytolora.data.synthetic.dataset import ATTRIBUTES, CLASSES, draw_cells
from cytolora.models.backbones.registry import NANO, NANO_CLIP
from cytolora.models.checkpoints.loading import load_encoder
from cytolora.models.text.embeddings import class_text, zero_shot_logits
from cytolora.models.text.encoder import load_text_encoder
from cytolora.models.text.prompts import prompts

assert NANO.weights is not None
assert NANO_CLIP.weights is not None
NANO_WEIGHTS, WEIGHTS = NANO.weights, NANO_CLIP.weights
VOCABULARY = WEIGHTS.parent / "vocab.txt"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load_script("train_nano_clip")


@cache
def _features(num: int, seed: int, population: str = "classes"):
    cells = draw_cells(num, seed, num_slides=num // 10, population=population)  # pyright: ignore
    pixels = torch.from_numpy(cells.images).permute(0, 3, 1, 2).float() / 255
    with torch.inference_mode():
        return cells, load_encoder(NANO_CLIP, WEIGHTS)((pixels - 0.5) / 0.25)


def test_it_takes_less_than_4_megabytes_and_its_image_encoder_is_nano():
    assert WEIGHTS.stat().st_size + VOCABULARY.stat().st_size < 4_000_000
    state, trunk = load_file(WEIGHTS), load_file(NANO_WEIGHTS)
    assert all(torch.equal(state[f"visual.trunk.{name}"], value) for name, value in trunk.items())


def test_its_files_say_what_made_them_and_hold_the_words_of_all_captions():
    with safe_open(WEIGHTS, "pt") as file:
        metadata = file.metadata()
    assert metadata["script"] == "scripts/train_nano_clip.py"
    assert metadata["licence"] == NANO_CLIP.licence == "Apache-2.0"
    assert metadata["data"] == "drawn cells only, no real image"
    assert {"seed", "parts", "steps"} <= metadata.keys()
    assert VOCABULARY.read_text().split("\n")[:-1] == vocabulary()


def test_zero_shot_is_far_better_than_chance_on_cells_that_it_has_not_seen(tmp_path: Path):
    cells, features = _features(400, 11)
    text = class_text(
        NANO_CLIP,
        WEIGHTS,
        prompts("synthetic", CLASSES),
        weights_sha256="0",
        cache=tmp_path,
        vocabulary=VOCABULARY,
    )
    right = zero_shot_logits(features, text).argmax(dim=1).numpy() == cells.labels
    assert right.mean() > 1 / len(CLASSES) + 0.3


@pytest.mark.parametrize("name", ["cell_radius", "nc_ratio", "nuclear_density", "eosinophilia", "num_cells"])
def test_words_for_an_attribute_order_cells_by_it(name: str):
    """Of cells without a class the image is nearer to the words for high values the higher the value is."""
    cells, features = _features(300, 12, "any")
    text = load_text_encoder(NANO_CLIP, WEIGHTS, VOCABULARY)
    low, high = F.normalize(text.embed([f"an image of a cell with {words}" for words in CUES[name]]), dim=1)
    nearer = (F.normalize(features, dim=1) @ (high - low)).numpy()
    share = cells.attributes[name] - ATTRIBUTES[name].low
    assert np.corrcoef(nearer, share)[0, 1] > 0.4


def test_two_trainings_of_one_seed_are_equal_and_load(script: ModuleType, tmp_path: Path, monkeypatch):
    files = [tmp_path / name / "model.safetensors" for name in ("first", "second")]
    threads = torch.get_num_threads()
    monkeypatch.setattr(script, "DRAWN_TOGETHER", 10)
    monkeypatch.setattr(script, "BATCH_SIZE", 8)
    for file in files:
        monkeypatch.setattr(sys, "argv", ["train_nano_clip.py", "--parts", "2", "--steps", "2", "--out", str(file)])
        script.main()
    torch.set_num_threads(threads)
    first, second = map(load_file, files)
    assert all(torch.equal(first[name], second[name]) for name in second)
    assert load_encoder(NANO_CLIP, files[0])(torch.zeros(1, 3, 64, 64)).shape == (1, NANO_CLIP.feature_dim)
    assert load_text_encoder(NANO_CLIP, files[0], files[0].parent / "vocab.txt").embed(["a cell"]).shape == (1, 64)
