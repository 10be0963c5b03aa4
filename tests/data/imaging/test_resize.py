"""A view that is resized to more than the encoder takes and then cut; whoever does not say so has what they had."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from cytolora.classifier.inference.onnx_predictor import resized
from cytolora.config.run import Preprocess, PreprocessChange, to_plain
from cytolora.core.files import canonical_json, sha256_text
from cytolora.data.imaging.cache import PixelCache
from cytolora.data.imaging.views import evaluation_view, kept_evaluation_view
from cytolora.data.manifest import Sample
from cytolora.errors import ConfigError
from cytolora.models.backbones.registry import BACKBONES

PLAIN = Preprocess(size_px=32, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
CUT = replace(PLAIN, resize_px=40)


@pytest.fixture(params=[(90, 61), (61, 90), (20, 31), (40, 40)])
def cell(request: pytest.FixtureRequest) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*request.param, 3), dtype=np.uint8)


def test_the_centre_is_cut_out_of_the_larger_view(cell: np.ndarray):
    image = v2.functional.to_pil_image(cell)
    larger = v2.Resize(40, interpolation=v2.InterpolationMode.BICUBIC)(image)
    expected = v2.functional.pil_to_tensor(v2.CenterCrop(32)(larger))
    assert torch.equal(evaluation_view(cell, CUT), expected)
    assert not torch.equal(evaluation_view(cell, CUT), evaluation_view(cell, PLAIN))


def test_onnx_resizes_as_torch_does(cell: np.ndarray):
    assert np.array_equal(resized(cell, CUT), evaluation_view(cell, CUT).permute(1, 2, 0).numpy())


def test_the_two_views_of_one_image_are_kept_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    names: list[str] = []

    def view(self: PixelCache, sample: Sample, name: str, make: object) -> np.ndarray:
        names.append(name)
        return np.zeros((32, 32, 3), np.uint8)

    monkeypatch.setattr(PixelCache, "view", view)
    for preprocess in (PLAIN, CUT):
        kept_evaluation_view(PixelCache(tmp_path, tmp_path), Sample(path="a.png", label="a"), preprocess)
    before = sha256_text(canonical_json(["evaluation", 32, "bicubic", "shortest"]))[:16]
    assert names[0] == before  # what was kept by earlier versions is still found
    assert names[1] != before


def test_who_does_not_use_it_has_the_plain_data_of_before():
    """Features, bundles and cross-validation are named by it."""
    assert "resize_px" not in to_plain(PLAIN)
    assert to_plain(CUT)["resize_px"] == 40
    assert "resize_px" not in to_plain({"own": PLAIN}["own"])


@pytest.mark.parametrize(("resize", "resize_px"), [("shortest", 31), ("shortest", 32), ("squash", 40)])
def test_a_resize_that_does_nothing_or_too_little_is_refused(resize, resize_px: int):
    with pytest.raises(ConfigError, match="resize_px is the shorter edge before a crop of 32 px"):
        replace(PLAIN, resize=resize, resize_px=resize_px)


def test_a_preset_that_says_how_to_resize_says_all_of_it():
    assert PreprocessChange(resize="shortest").apply(CUT) == PLAIN
    assert PreprocessChange(resize="squash").apply(CUT) == replace(PLAIN, resize="squash")
    assert PreprocessChange(interpolation="bilinear").apply(CUT).resize_px == 40


def test_prov_gigapath_is_resized_to_256_and_cut_to_224_as_published():
    preprocess = BACKBONES.get("prov-gigapath").preprocess
    assert (preprocess.resize_px, preprocess.size_px, preprocess.interpolation) == (256, 224, "bicubic")
