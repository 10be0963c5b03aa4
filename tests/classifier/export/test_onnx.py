import csv
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from prediction_files import mutate_images, rows_of
from small_bundle import CLASSES, HEAVY, rewrite, shortest

from cytolora.classifier.inference.classifier import Classifier
from cytolora.classifier.inference.image_sources import find_images
from cytolora.classifier.inference.onnx_predictor import EXPORT, MODEL, OnnxModel, is_export, normalised, resized
from cytolora.classifier.inference.table import predict_table
from cytolora.config.run import Preprocess
from cytolora.data.imaging.views import evaluation_view, to_batch
from cytolora.errors import BundleError
from cytolora.models.backbones.registry import NANO

pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")


def drawn(count: int) -> list[np.ndarray]:
    random = np.random.default_rng(1)
    return [random.integers(0, 255, (30 + 7 * number, 90, 3), dtype=np.uint8) for number in range(count)]


@pytest.mark.parametrize("resize", ["shortest", "squash"])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_resizing_without_torch_gives_the_same_bytes(resize, interpolation):
    preprocess = Preprocess(
        size_px=56, mean=(0.1, 0.5, 0.6), std=(0.2, 0.3, 0.25), resize=resize, interpolation=interpolation
    )
    random = np.random.default_rng(0)
    shapes = [
        (56, 56),
        (56, 200),
        (1, 1),
        (3, 400),
        (57, 55),
        (113, 112),
        (300, 201),
        *random.integers(1, 260, (40, 2)),
    ]
    for height, width in shapes:
        pixels = random.integers(0, 255, (height, width, 3), dtype=np.uint8)
        ours, theirs = resized(pixels, preprocess), evaluation_view(pixels, preprocess)
        assert np.array_equal(ours, theirs.permute(1, 2, 0).numpy()), (height, width)
        assert np.array_equal(normalised([ours], preprocess), to_batch([theirs], preprocess).numpy())


@pytest.mark.slow
def test_an_export_says_the_same_of_an_image_alone_and_among_others(onnx_export: tuple[Classifier, Path]):
    bundle, folder = onnx_export
    images, model = drawn(9), OnnxModel.load(folder)
    for ours, theirs in zip(bundle.predict(images), model.predict(images), strict=True):
        (alone,) = model.predict([images[int(ours.name)]])
        np.testing.assert_allclose(theirs.probabilities or (), ours.probabilities or (), atol=1e-5)
        np.testing.assert_allclose(alone.probabilities or (), ours.probabilities or (), atol=1e-5)
        assert (
            theirs.predicted,
            theirs.positive,
            theirs.prediction_set,
            theirs.is_referred,
            theirs.is_out_of_distribution,
        ) == (
            ours.predicted,
            ours.positive,
            ours.prediction_set,
            ours.is_referred,
            ours.is_out_of_distribution,
        )


def test_a_damaged_image_is_one_prediction_with_an_error_without_torch_too(onnx_export: tuple[Classifier, Path]):
    bad, good = OnnxModel.load(onnx_export[1]).predict([b"no image", drawn(1)[0]])
    assert "Cannot read" in bad.error
    assert good.predicted in CLASSES


def test_a_strip_of_pixels_is_one_row_without_torch_too(onnx_export: tuple[Classifier, Path], tmp_path: Path):
    """A few hundred bytes that would become 250 GB, were the shorter edge scaled to the model's input."""
    model = OnnxModel.load(onnx_export[1])
    model.contents = shortest(model.contents)
    Image.fromarray(drawn(1)[0]).save(tmp_path / "a.png")
    Image.new("RGB", (1, 300_000)).save(tmp_path / "b.png")
    predict_table(model, find_images([tmp_path]), tmp_path / "out.csv")
    good, strip = rows_of(tmp_path / "out.csv")
    assert good["predicted"] in CLASSES
    assert "1 x 300000 pixels is too long and narrow" in strip["error"]


@pytest.mark.parametrize("number", [50, pytest.param(1000, marks=pytest.mark.slow)])
def test_every_mutated_image_is_one_row_without_torch_too(
    onnx_export: tuple[Classifier, Path], tmp_path: Path, number: int
):
    mutate_images(tmp_path, number)
    found = predict_table(OnnxModel.load(onnx_export[1]), find_images([tmp_path / "damaged"]), tmp_path / "out.csv")
    rows = rows_of(tmp_path / "out.csv")
    assert len(rows) == found.num_images == number
    assert all(bool(row["error"]) != bool(row["predicted"]) for row in rows)


def test_the_command_predicts_where_torch_cannot_be_imported(onnx_export: tuple[Classifier, Path], tmp_path: Path):
    (tmp_path / "cells").mkdir()
    for number, pixels in enumerate(drawn(3)):
        Image.fromarray(pixels).save(tmp_path / "cells" / f"{number}.png")
    (tmp_path / "cells" / "bad.png").write_bytes(b"no image")
    program = (
        "import sys\n"
        f"for name in {(*HEAVY, 'sklearn', 'pyarrow', 'jinja2')}:\n"
        "    sys.modules[name] = None\n"
        "from cytolora.cli.app import main\n"
        "main(sys.argv[1:])\n"
    )
    out = tmp_path / "out.csv"
    words = ["predict", str(onnx_export[1]), str(tmp_path / "cells"), "--out", str(out), "--quiet"]
    subprocess.run([sys.executable, "-c", program, *words], capture_output=True, check=True)
    *found, bad = csv.DictReader(out.open(newline=""))
    for row, expected in zip(found, onnx_export[0].predict(drawn(3)), strict=True):
        assert row["predicted"] == expected.predicted
        np.testing.assert_allclose([float(row[name]) for name in CLASSES], expected.probabilities or (), atol=1e-5)
    assert "Cannot read" in bad["error"]


def test_the_file_itself_says_how_images_are_prepared_and_holds_no_path_of_its_maker(
    onnx_export: tuple[Classifier, Path],
):
    import json

    import onnx

    model = onnx.load(onnx_export[1] / MODEL)
    said = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(said["classes"]) == list(CLASSES)
    assert json.loads(said["mean"]) == list(NANO.preprocess.mean)
    assert float(said["temperature"]) == 1.5
    assert not any(tensor.external_data for tensor in model.graph.initializer)
    content = (onnx_export[1] / MODEL).read_bytes()
    assert b"site-packages" not in content
    assert str(Path.cwd()).encode() not in content


@pytest.mark.parametrize("name", ["model.onnx", "export.json", "unfamiliar.safetensors"])
def test_a_changed_byte_of_an_export_is_refused_by_name(
    onnx_export: tuple[Classifier, Path], name: str, tmp_path: Path
):
    copied = Path(shutil.copytree(onnx_export[1], tmp_path / "copy"))
    assert is_export(copied)
    content = bytearray((copied / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copied / name).write_bytes(content)
    with pytest.raises(BundleError, match=name):
        OnnxModel.load(copied)
    (copied / name).unlink()
    with pytest.raises(BundleError, match=name):
        OnnxModel.load(copied)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda plain: plain.update(classes=list(CLASSES[:3]), operating_point=None),
            "4 classes apart, and .* names 3",
        ),
        (lambda plain: plain["files"].pop("unfamiliar.safetensors"), r"unfamiliar\.safetensors is missing"),
        (lambda plain: plain["files"].pop(MODEL), r"names no model\.onnx"),
    ],
)
def test_an_export_whose_files_are_not_those_it_speaks_of_is_refused(
    onnx_export: tuple[Classifier, Path], change: Any, words: str, tmp_path: Path
):
    copied = Path(shutil.copytree(onnx_export[1], tmp_path / "copy"))
    rewrite(copied, change, EXPORT)
    with pytest.raises(BundleError, match=words):
        OnnxModel.load(copied)
