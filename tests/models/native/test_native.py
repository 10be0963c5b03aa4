"""Native libraries as the package opens them, against the libraries' own way from a folder to a feature."""

import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import official
import official_timm
import pytest
import torch
from official import SMALL, Official, Size
from PIL import Image
from small_encoders import relative

from cytolora.errors import ConfigError, WeightsError
from cytolora.models.native.library import open_native

WRITERS: dict[str, Callable[[Path, Size], Official]] = {
    "open_clip, CLIP": partial(official.open_clip_vit, name="clip-vit-b16", quick_gelu=True),
    "open_clip, QuiltNet": partial(official.open_clip_vit, name="quiltnet-b16", quick_gelu=False),
    "transformers CLIP": official.hf_clip,
    "transformers ViT": official.hf_vit,
    "transformers ViT, names of v5": partial(official.hf_vit, names="v5"),
    "transformers DINOv2": official.hf_dinov2,
    "transformers DINOv2 with registers": partial(official.hf_dinov2, registers=True),
    "transformers SigLIP": official.hf_siglip,
    "timm, UNI": partial(official_timm.timm_native, name="uni"),
    "timm, Virchow2": partial(official_timm.timm_native, name="virchow2", mlp_ratio=5.375),
    "timm, EVA-02 CLIP": official_timm.eva02_clip,
}


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("picture") / "cell.png"
    pixels = np.random.default_rng(0).integers(0, 256, (95, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.mark.parametrize("name", WRITERS)
def test_an_opened_library_gives_what_it_gives_when_it_opens_the_folder_itself(
    name: str, picture: Path, tmp_path: Path
):
    made = WRITERS[name](tmp_path, SMALL)
    native = open_native(made.spec, made.weights)
    assert native.view is not None
    with torch.inference_mode():
        found = native.features(native.view(Image.open(picture).convert("RGB"))[None])[0]
        assert relative(found, made.native(picture)) < 1e-6


@pytest.mark.slow
def test_biomedclip_is_opened_without_its_text_half(picture: Path, tmp_path: Path):
    made = official.biomedclip(tmp_path, SMALL)
    native = open_native(made.spec, made.weights)
    assert native.view is not None
    with torch.inference_mode():
        found = native.features(native.view(Image.open(picture).convert("RGB"))[None])[0]
        assert relative(found, made.native(picture)) < 1e-6


@pytest.mark.parametrize(
    ("writer", "package", "named"),
    [(official.hf_clip, "transformers", "transformers"), (WRITERS["open_clip, CLIP"], "open_clip", "open_clip")],
)
def test_a_library_that_is_not_installed_is_named_with_the_extra(writer, package, named, tmp_path, monkeypatch):
    made = writer(tmp_path, SMALL)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError, match=rf"{named}, which is not installed\. Install the extra `text`"):
        open_native(made.spec, made.weights)


@pytest.mark.parametrize("name", ["transformers CLIP", "open_clip, CLIP"])
def test_a_library_without_its_configuration_says_which_file_is_missing(name: str, tmp_path: Path):
    made = WRITERS[name](tmp_path, SMALL)
    file = "open_clip_config.json" if name.startswith("open_clip") else "config.json"
    (tmp_path / file).unlink()
    with pytest.raises(ConfigError, match=rf"from {file}, which is not beside the weights"):
        open_native(made.spec, made.weights)


@pytest.mark.parametrize("name", ["transformers ViT", "open_clip, QuiltNet", "timm, UNI"])
def test_a_checkpoint_that_lacks_a_tensor_is_no_reference(name: str, tmp_path: Path):
    """Libraries draw what is missing at random; a comparison with that would say nothing."""
    made = WRITERS[name](tmp_path, SMALL)
    state = torch.load(made.weights, weights_only=True)
    del state[next(key for key in state if "visual" in key or "blocks" in key or "layer.1" in key)]
    torch.save(state, made.weights)
    with pytest.raises(WeightsError):
        open_native(made.spec, made.weights)


def test_a_configuration_that_names_something_to_fetch_is_refused(tmp_path: Path):
    made = WRITERS["timm, UNI"](tmp_path, SMALL)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "architecture": "hf-hub:someone/else"}))
    with pytest.raises(ConfigError, match="might load something else"):
        open_native(made.spec, made.weights)
