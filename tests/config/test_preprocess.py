"""Preprocessing values: what no encoder was trained with is refused with the value that was probably meant."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from cytolora.config.preset import load_preset
from cytolora.config.run import Preprocess, PreprocessChange
from cytolora.config.yaml import parse_spec
from cytolora.errors import ConfigError
from cytolora.models.backbones.registry import BACKBONES, read_backbone_file

IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
IMAGENET_255 = {"mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375]}


def backbone_file(folder: Path, **preprocess: Any) -> Path:
    described = {"name": "own", "architecture": "vit_tiny_patch16_224", "weights": "w.safetensors", "pool": "cls"}
    path = folder / "own.yaml"
    path.write_text(yaml.safe_dump({**described, "licence": "x", "preprocess": {"size_px": 64, **preprocess}}))
    return path


def test_a_backbone_file_in_units_of_255_is_refused_with_the_values_divided_by_255(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"mean .*of pixels in 0\.\.1.*0\.\.255") as caught:
        read_backbone_file(backbone_file(tmp_path, **IMAGENET_255))
    message = str(caught.value)
    assert "mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225]" in message
    assert "\n" not in message
    advised = yaml.safe_load("{" + message.partition("divide by 255: ")[2].rstrip(".") + "}")
    assert read_backbone_file(backbone_file(tmp_path, **advised)).preprocess.mean == tuple(IMAGENET["mean"])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"mean": [123.675, 116.28, 103.53]}, r"divide by 255: mean: \[0\.485, 0\.456, 0\.406\]"),
        ({"std": [58.395, 57.12, 57.375]}, r"divide by 255: std: \[0\.229, 0\.224, 0\.225\]"),
        ({"mean": [127.5] * 3, "std": [127.5] * 3}, r"divide by 255: mean: \[0\.5, 0\.5, 0\.5\], std: \[0\.5, 0\.5, "),
        ({"mean": [104, 117, 123], "std": [1, 1, 1]}, r"mean: \[0\.407843, 0\.458824, 0\.482353\], std: \[0\.00392157"),
        ({"mean": [0, 0, 0], "std": [255, 255, 255]}, r"divide by 255: std: \[1, 1, 1\]"),
        ({"mean": [0.5, 0.5, 1.2]}, r"each in \[0, 1\], got \[0\.5, 0\.5, 1\.2\]"),
        ({"mean": [-0.1, 0.5, 0.5]}, r"each in \[0, 1\], got \[-0\.1, 0\.5, 0\.5\]\. Write those that"),
        ({"mean": [32768, 32768, 32768]}, r"got \[32768, 32768, 32768\]\. Write those that"),
        ({"std": [0, 0.2, 0.2]}, r"each in \[0\.001, 1\], got \[0, 0\.2, 0\.2\]\. Write those that"),
        ({"std": [-0.2, 0.2, 0.2]}, r"each in \[0\.001, 1\]"),
        ({"mean": [float("nan"), 0.5, 0.5]}, r"got \[nan, 0\.5, 0\.5\]"),
        ({"std": [float("inf"), 1, 1]}, r"got \[inf, 1, 1\]"),
        ({"size_px": 0}, "size_px is an edge in pixels, from 1 to 4096, got 0"),
        ({"size_px": 224_000}, "size_px is an edge in pixels, from 1 to 4096, got 224000"),
        ({"interpolation": "lanczos"}, "interpolation.*'bilinear' or 'bicubic'.*got 'lanczos'"),
        ({"resize_px": 10**6}, "at most 8192"),
    ],
    ids=str,
)
def test_values_that_no_encoder_was_trained_with_are_refused(values: dict[str, Any], message: str, tmp_path: Path):
    with pytest.raises(ConfigError, match=message) as caught:
        read_backbone_file(backbone_file(tmp_path, **{**IMAGENET, **values}))
    assert "\n" not in str(caught.value)


@given(st.lists(st.floats(1.001, 255), min_size=3, max_size=3), st.sampled_from(["mean", "std"]))
def test_every_value_above_1_is_refused_wherever_a_preprocess_is_made(values: list[float], field: str):
    channels = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5), field: tuple(values)}
    for make in (
        lambda: Preprocess(size_px=8, **channels),
        lambda: PreprocessChange(**{field: channels[field]}),
        lambda: PreprocessChange().apply(Preprocess(size_px=8, **channels)),
        lambda: parse_spec({"size_px": 8, **channels}, Preprocess, "bundle.json"),
    ):
        with pytest.raises(ConfigError, match=r"divide by 255"):
            make()


def test_a_preset_in_units_of_255_is_refused(tmp_path: Path):
    (tmp_path / "own.yaml").write_text(yaml.safe_dump({"name": "own", "preprocess": IMAGENET_255}))
    with pytest.raises(ConfigError, match=r"mean: \[0\.485, 0\.456, 0\.406\]"):
        load_preset(str(tmp_path / "own.yaml"))


@pytest.mark.parametrize("name", ["nearest", "area", "Bicubic", ""])
def test_an_interpolation_of_another_name_is_refused_in_python_too(name: Any):
    with pytest.raises(ConfigError, match="interpolation is one of bilinear, bicubic"):
        Preprocess(size_px=8, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), interpolation=name)
    with pytest.raises(ConfigError, match="interpolation is one of bilinear, bicubic"):
        PreprocessChange(interpolation=name)


def test_mean_0_and_std_1_leave_pixels_as_they_are_and_are_allowed():
    assert Preprocess(size_px=8, mean=(0, 0, 0), std=(1, 1, 1)).std == (1, 1, 1)
    assert all(max(spec.preprocess.mean) <= 1 for spec in BACKBONES)
