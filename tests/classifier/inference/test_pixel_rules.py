"""Pixel rules of a classifier: kept in its bundle, equal in predict, service and ONNX; blank images are referred."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from small_bundle import CLASSES, rewrite, write_small_bundle

import cytolora
from cytolora.classifier.bundle.files import CONTENTS
from cytolora.classifier.decision.decide import decide
from cytolora.classifier.decision.rules import DecisionRules
from cytolora.classifier.inference.classifier import Classifier
from cytolora.classifier.inference.image_sources import find_images
from cytolora.classifier.inference.onnx_predictor import OnnxModel
from cytolora.classifier.inference.predictor import pixels_of
from cytolora.classifier.inference.table import look
from cytolora.config.reading import STANDARD, VERSION_1, Decoding
from cytolora.errors import BundleError, DataError


def noise(*shape: int, dtype: str = "uint8", top: int = 256, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, top, shape).astype(dtype)


def saved(folder: Path, decoding: Decoding | None) -> Classifier:
    return Classifier.load(write_small_bundle(folder, decoding=decoding))


def same(first: np.ndarray, second: np.ndarray) -> bool:
    return bool(np.abs(first - second).max() < 1e-6)


def test_a_bundle_without_rules_is_predicted_by_those_it_was_trained_with(tmp_path: Path):
    bundle = saved(tmp_path / "model", None)
    assert "decoding" not in json.loads((tmp_path / "model" / CONTENTS).read_text())
    assert bundle.decoding == VERSION_1
    planes = noise(3, 40, 40, 3)
    tifffile.imwrite(tmp_path / "stack.tif", planes, photometric="rgb")
    assert same(bundle.predict_proba(tmp_path / "stack.tif"), bundle.predict_proba([planes[0]]))


@pytest.mark.parametrize(
    "decoding", [Decoding(), Decoding(frame=1), Decoding(frame="max", value_range=4095), Decoding(icc="srgb")]
)
def test_a_bundle_keeps_its_rules(tmp_path: Path, decoding: Decoding):
    assert saved(tmp_path / "model", decoding).decoding == decoding


def test_rules_of_a_later_version_are_refused_by_name(tmp_path: Path):
    write_small_bundle(tmp_path / "model", decoding=Decoding())
    rewrite(tmp_path / "model", lambda plain: plain["decoding"].update(version=99))
    with pytest.raises(BundleError, match=r"rules of version 99.*Open it with the version that wrote it"):
        Classifier.load(tmp_path / "model")


def test_frames_are_chosen_as_in_training_from_files_folders_bytes_and_zip_alike(tmp_path: Path):
    bundle = saved(tmp_path / "model", Decoding(frame=2))
    planes = noise(3, 40, 40, 3)
    (tmp_path / "cells").mkdir()
    file = tmp_path / "cells" / "stack.tif"
    tifffile.imwrite(file, planes, photometric="rgb")
    expected = bundle.predict_proba([planes[2]])
    for given in (file, tmp_path / "cells", file.read_bytes()):
        assert same(bundle.predict_proba(given), expected)
    (batch,) = look(bundle, find_images(tmp_path / "cells"))
    assert same(np.array([batch[0].prediction.probabilities]), expected)


def test_several_frames_and_no_choice_are_a_row_with_an_error(tmp_path: Path):
    bundle = saved(tmp_path / "model", STANDARD)
    tifffile.imwrite(tmp_path / "stack.tif", noise(3, 40, 40, 3), photometric="rgb")
    (found,) = bundle.predict(tmp_path / "stack.tif")
    assert "it holds 3 frames, and nothing says which is meant" in found.error
    assert found.predicted is None


@pytest.mark.parametrize("mode", ["I;16", "L", "LA", "RGBA", "P", "CMYK"])
def test_an_image_that_pillow_opened_is_read_like_its_file(mode: str):
    picture = Image.fromarray(noise(9, 8, dtype="uint16", top=65536) if mode == "I;16" else noise(9, 8, 3))
    picture = picture if mode == "I;16" else picture.convert(mode)
    buffer = io.BytesIO()
    picture.save(buffer, "TIFF")
    np.testing.assert_array_equal(pixels_of(picture), pixels_of(buffer.getvalue()))


RANDOM = np.random.default_rng(0)
BLANK = {
    "white": np.full((50, 60, 3), 255, np.uint8),
    "black": np.zeros((50, 60, 3), np.uint8),
    "gray": np.full((50, 60, 3), 128, np.uint8),
    "pink": np.full((50, 60, 3), (230, 180, 200), np.uint8),
    "noise of a sensor": np.clip(RANDOM.normal(240, 2.5, (50, 60, 3)), 0, 255).astype(np.uint8),
    "one pixel": np.full((1, 1, 3), 200, np.uint8),
    "dead pixel": np.pad(np.zeros((1, 1, 3), np.uint8), ((99, 99), (99, 99), (0, 0)), constant_values=255),
}


@pytest.mark.parametrize("name", BLANK)
def test_an_image_of_one_colour_is_always_referred(tmp_path_factory: pytest.TempPathFactory, name: str):
    """With no rule that could refer it; an image of noise is not."""
    folder = tmp_path_factory.mktemp("open")
    bundle = Classifier.load(write_small_bundle(folder / "model", conformal=None, unfamiliar=None))
    blank, other = bundle.predict([BLANK[name], noise(50, 60, 3)])
    assert (blank.is_referred, other.is_referred) == (True, False)
    assert blank.predicted in CLASSES


@pytest.mark.slow
def test_the_export_refers_images_of_one_colour_and_keeps_the_rules(tmp_path: Path):
    pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
    pytest.importorskip("onnxscript", reason="onnxscript is not installed")
    choice = Decoding(frame=1, value_range=4095)
    folder = write_small_bundle(tmp_path / "model", conformal=None, unfamiliar=None, decoding=choice)
    cytolora.load(folder).export("onnx", tmp_path / "onnx")
    exported = OnnxModel.load(tmp_path / "onnx")
    assert exported.decoding == choice
    described = json.loads((tmp_path / "onnx" / "preprocessing.json").read_text())
    assert described["decoding"] == {"version": 2, "frame": 1, "icc": "ignore", "value_range": 4095}
    assert "frame 1" in described["steps"][0]
    assert [one.is_referred for one in exported.predict([*BLANK.values(), noise(50, 60, 3)])] == [True] * 7 + [False]
    planes = noise(3, 40, 40, dtype="uint16", top=4096)
    tifffile.imwrite(tmp_path / "stack.tif", planes, photometric="minisblack")
    eight = np.repeat(((planes[1].astype(int) * 255 + 2047) // 4095).astype(np.uint8)[:, :, None], 3, axis=2)
    found, expected = exported.predict_proba(tmp_path / "stack.tif"), exported.predict_proba([eight])
    assert same(found, expected)


def test_content_decides_nothing_where_it_is_not_known():
    rules = DecisionRules(classes=("a", "b"), temperature=1.0)
    logits = np.zeros((2, 2), np.float32)
    assert [one.is_referred for one in decide(rules, ["0", "1"], logits)] == [False, False]
    assert [one.is_referred for one in decide(rules, ["0", "1"], logits, has_content=[False, True])] == [True, False]


def test_fit_writes_the_rules_that_it_read_by(tmp_path: Path):
    for place, label in enumerate(("hsil", "nilm")):
        (tmp_path / "cells" / label).mkdir(parents=True)
        for seed in range(12):
            values = noise(24, 24, 3, dtype="uint16", top=2048 + 2000 * place, seed=seed + 50 * place)
            tifffile.imwrite(tmp_path / "cells" / label / f"{seed}.tif", values, photometric="rgb")
    reading = cytolora.ReadOptions(decoding=Decoding(value_range="used"))
    options = cytolora.FitOptions(max_steps=3, learning_rates=[0.01], cache=tmp_path / "cache", reading=reading)
    cytolora.fit(tmp_path / "cells", tmp_path / "model", model="nano", options=options)
    bundle = cytolora.load(tmp_path / "model")
    assert bundle.decoding == Decoding(value_range=4095)
    above = np.full((24, 24, 3), 5000, np.uint16)
    tifffile.imwrite(tmp_path / "above.tif", above, photometric="rgb")
    with pytest.raises(DataError, match="above the value range of 0 to 4,095"):
        bundle.predict_proba(tmp_path / "above.tif")
