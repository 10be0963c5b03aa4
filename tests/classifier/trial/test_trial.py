"""Whole trials of weights in official layouts, and planted faults in what comes after the features."""

import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import official
import official_timm
import pytest
import torch
from official import SMALL, Official, Size
from timm.models.vision_transformer import VisionTransformer

from cytolora.api.trial import try_weights
from cytolora.classifier.inference.classifier import Classifier
from cytolora.classifier.trial import training
from cytolora.classifier.trial.facts import private_paths, without_personal_details
from cytolora.classifier.trial.trial import Trial
from cytolora.core.progress import SILENT
from cytolora.data.synthetic.dataset import write_synthetic
from cytolora.models.backbones.registry import BACKBONES
from cytolora.models.checkpoints import loading

WRITERS: dict[str, Callable[[Path, Size], Official]] = {
    "CLIP, transformers": official.hf_clip,
    "QuiltNet": partial(official.open_clip_vit, name="quiltnet-b16", quick_gelu=False),
    "BiomedCLIP": official.biomedclip,
    "ViT, transformers": official.hf_vit,
    "DINOv2's code": partial(official_timm.dinov2_code, name="dinov2-b14"),
    "UNI": partial(official_timm.timm_native, name="uni"),
}
ALL = ["loading", "preprocessing", "features", "LoRA fp32", "LoRA bf16", "bundle", "ONNX export", "speed"]


def tried(made: Official, monkeypatch: pytest.MonkeyPatch, **options) -> Trial:
    monkeypatch.setitem(BACKBONES._entries, "tried", replace(made.spec, name="tried"))
    return try_weights("tried", made.weights, progress=SILENT, **options)


def verdicts(trial: Trial) -> dict[str, str]:
    return {part.name: part.verdict for part in trial.parts}


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", WRITERS)
def test_official_layouts_pass_every_part(name: str, tmp_path: Path, monkeypatch):
    """One of each family of encoders; more layouts of the same encoders: test_trial_parity.py."""
    if name == "BiomedCLIP":  # open_clip builds timm's trunk as published, of which two blocks are as good as twelve
        build = VisionTransformer.__init__
        monkeypatch.setattr(
            VisionTransformer, "__init__", lambda self, *values, **named: build(self, *values, **(named | {"depth": 2}))
        )
    trial = tried(WRITERS[name](tmp_path, SMALL), monkeypatch, steps=2 if name == "BiomedCLIP" else 12)
    found = verdicts(trial)
    assert list(found) == ALL
    possible = set(ALL) - ({"preprocessing"} if name == "DINOv2's code" else set())
    assert {part for part, verdict in found.items() if verdict == "passed"} == possible, trial.parts
    assert not trial.has_failed
    rates = trial.parts[-1].figures["images_per_second"]
    assert set(rates) == {"embed fp32", "embed bf16", "LoRA fp32", "LoRA bf16"}
    assert all(rate > 0 for rate in rates.values())


@pytest.mark.slow
def test_query_and_key_in_each_others_place_fail_the_features_and_nothing_else(tmp_path: Path, monkeypatch):
    rename = loading.to_encoder_names

    def swapped(state, layout, *, splits_qkv):
        named = rename(state, layout, splits_qkv=splits_qkv)
        for key, tensor in named.items():
            if ".attn.qkv." in key:
                query, keys, value = tensor.chunk(3)
                named[key] = torch.cat([keys, query, value])
        return named

    monkeypatch.setattr(loading, "to_encoder_names", swapped)
    trial = tried(WRITERS["UNI"](tmp_path, SMALL), monkeypatch, steps=4)
    assert [name for name, verdict in verdicts(trial).items() if verdict == "failed"] == ["features"]
    assert trial.plain()["verdict"] == "failed"


@pytest.mark.slow
def test_a_bundle_that_answers_differently_fails_by_name_and_is_not_exported(tmp_path: Path, monkeypatch):
    outputs = Classifier.outputs

    def wrong(self, views):
        logits, features = outputs(self, views)
        return logits + np.arange(logits.shape[1], dtype=np.float32) / 100, features

    monkeypatch.setattr(Classifier, "outputs", wrong)
    found = verdicts(tried(WRITERS["UNI"](tmp_path, SMALL), monkeypatch, steps=4))
    assert (found["bundle"], found["ONNX export"]) == ("failed", "not possible")


@pytest.mark.slow
def test_a_training_that_learns_nothing_fails_by_name(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(training, "_LEARNING_RATE", 1e-12)
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    trial = try_weights("nano", steps=1, progress=SILENT)
    failed = {part.name: part.text for part in trial.parts if part.verdict == "failed"}
    assert set(failed) == {"LoRA fp32", "LoRA bf16"}
    assert "expected to fall" in failed["LoRA fp32"]


def test_a_file_of_another_model_fails_to_load_and_the_rest_says_why(tmp_path: Path, monkeypatch):
    made = WRITERS["ViT, transformers"](tmp_path, SMALL)
    trial = try_weights("uni", made.weights, progress=SILENT)
    assert verdicts(trial) == {"loading": "failed", **dict.fromkeys(ALL[1:], "not possible")}
    assert "config.json beside the weights names another" in trial.parts[0].text
    assert trial.parts[-1].text == "The checkpoint was not loaded."
    assert str(tmp_path) not in str(trial.plain())


def test_a_configuration_that_contradicts_the_entry_fails_the_loading(tmp_path: Path, monkeypatch):
    made = official.hf_clip(tmp_path, SMALL)
    gelu = replace(made, spec=replace(made.spec, architecture="vit_base_patch16_clip_224"))
    trial = tried(gelu, monkeypatch)
    assert trial.parts[0].verdict == "failed"
    assert "hidden_act" in trial.parts[0].text


@pytest.mark.slow
def test_a_datasets_accuracy_stands_beside_the_published_one(tmp_path: Path, monkeypatch):
    """The name decides which figure is published: here that of CLIP on SIPaKMeD, 91.09 +- 0.55 %, on drawn cells."""
    from cytolora.data.datasets import DATASETS
    from cytolora.reporting.results.published import find_published

    published = find_published(dataset="sipakmed", model="clip-vit-b16", method="linear")
    assert published is not None
    write_synthetic(tmp_path / "cells", num_images=60, num_slides=10)
    drawn = replace(DATASETS.get("synthetic"), name="sipakmed")
    monkeypatch.setitem(DATASETS._entries, "sipakmed", drawn)
    made = WRITERS["CLIP, transformers"](tmp_path / "weights", SMALL)
    monkeypatch.setitem(BACKBONES._entries, "clip-vit-b16", made.spec)
    trial = try_weights("clip-vit-b16", made.weights, data={"sipakmed": tmp_path / "cells"}, steps=2, progress=SILENT)
    part = trial.parts[-1]
    assert (part.name, part.verdict) == ("linear, sipakmed", "passed"), part.text
    assert part.figures["published"] == published.accuracy
    assert 0 <= part.figures["accuracy"] <= 1
    assert f"published {published.accuracy:.2%}" in part.text


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("Cannot read /home/jane/weights/uni.bin.", "Cannot read [path]"),
        (r"C:\Users\jane\uni.bin is damaged", "[path] is damaged"),
        ("~/models/uni.bin: no", "[path]: no"),
        (r"\\server\share\uni.bin", r"\[path]"),
        ("in '/scratch/p123/x y.pt' and", "in '[path] y.pt' and"),
        ("found by jane on box17.example", "found by [name] on [name]"),
        ("https://huggingface.co/MahmoodLab/UNI", "https://huggingface.co/MahmoodLab/UNI"),
        ("images/s: 3, 4 of 5, and/or 6", "images/s: 3, 4 of 5, and/or 6"),
        ("janet and jane-like stay", "janet and jane-like stay"),
    ],
)
def test_paths_and_names_are_taken_out_of_texts(text: str, left: str):
    assert without_personal_details({"a": [text]}, ["box17.example", "jane"]) == {"a": [left]}


def test_known_paths_are_taken_out_whole_even_with_spaces(tmp_path: Path):
    weights = tmp_path / "Jane Doe" / "uni best.bin"
    text = f"{weights} is damaged; {weights.parent}; {weights.as_posix()}"
    found = without_personal_details(text, (), private_paths(weights))
    assert found == "[path] is damaged; [path]; [path]"
