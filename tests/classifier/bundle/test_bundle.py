import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_bundle import CLASSES, write_small_bundle

from cytolora.classifier.bundle.files import CARD, CONTENTS
from cytolora.classifier.bundle.manifest import check_harmless
from cytolora.classifier.inference.classifier import Classifier
from cytolora.errors import BundleError, ConfigError, WeightsError
from cytolora.models.backbones.registry import BACKBONES


@pytest.fixture(scope="module")
def linear(tmp_path_factory) -> Path:
    return write_small_bundle(tmp_path_factory.mktemp("bundle") / "model")


@pytest.fixture
def copied(linear, tmp_path) -> Path:
    return Path(shutil.copytree(linear, tmp_path / "model"))


def drawn_images(number: int = 3) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 255, (40 + 10 * place, 50, 3), dtype=np.uint8) for place in range(number)]


def test_paths_pillow_images_bytes_and_pixels_are_the_same_image(linear, tmp_path):
    bundle, pixels = Classifier.load(linear), drawn_images(1)[0]
    Image.fromarray(pixels).save(tmp_path / "a.png")
    path = tmp_path / "a.png"
    found = bundle.predict([path, str(path), path.read_bytes(), Image.fromarray(pixels), pixels])
    assert len({prediction.probabilities for prediction in found}) == 1
    assert [prediction.name for prediction in found] == [str(path), str(path), "2", "3", "4"]


def test_probabilities_are_the_softmax_of_the_logits_over_the_temperature(linear):
    bundle, images = Classifier.load(linear), drawn_images()
    powers = np.exp(bundle.logits(images).astype(np.float64) / bundle.contents.temperature)
    expected = powers / powers.sum(axis=1, keepdims=True)
    found = [prediction.probabilities or () for prediction in bundle.predict(images)]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_a_damaged_image_is_one_prediction_with_an_error(linear, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no image")
    first, bad, last = Classifier.load(linear).predict([drawn_images()[0], tmp_path / "bad.png", drawn_images()[1]])
    assert "bad.png" in bad.error
    assert bad.probabilities is None
    assert bad.predicted is None
    assert not first.error
    assert not last.error


def test_a_zip_of_the_bundle_predicts_the_same_without_being_unpacked(linear, tmp_path):
    write_small_bundle(tmp_path / "model.zip")
    shutil.make_archive(str(tmp_path / "wrapped"), "zip", linear.parent, linear.name)
    expected = Classifier.load(linear).logits(drawn_images())
    for name in ("model.zip", "wrapped.zip"):
        np.testing.assert_array_equal(Classifier.load(tmp_path / name).logits(drawn_images()), expected)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.zip", "wrapped.zip"]


@pytest.mark.parametrize("method", ["lora", "vera", "pissa", "randlora", "miss", "vpt", "last_blocks"])
def test_an_adapter_written_is_the_adapter_read(method, tmp_path):
    folder = write_small_bundle(tmp_path / "model", method)
    bundle, plain = Classifier.load(folder), Classifier.load(write_small_bundle(tmp_path / "plain"))
    again = Classifier.load(folder)
    np.testing.assert_array_equal(bundle.logits(drawn_images()), again.logits(drawn_images()))
    assert np.abs(bundle.outputs([bundle.view(drawn_images()[0])])[1]).sum() > 0
    assert not np.allclose(
        bundle.outputs([bundle.view(drawn_images()[0])])[1], plain.outputs([plain.view(drawn_images()[0])])[1]
    )


def test_stock_peft_reads_the_two_adapter_files(tmp_path):
    from peft import PeftModel

    from cytolora.models.adapters.split_qkv import split_qkv
    from cytolora.models.backbones.registry import NANO
    from cytolora.models.checkpoints.loading import load_encoder

    folder = write_small_bundle(tmp_path / "model", "lora")
    assert NANO.weights is not None
    encoder = load_encoder(NANO, NANO.weights)
    split_qkv(encoder.trunk)
    encoder.trunk = PeftModel.from_pretrained(encoder.trunk, str(folder / "adapter")).merge_and_unload()
    bundle = Classifier.load(folder)
    view = bundle.view(drawn_images()[0])
    from cytolora.data.imaging.views import to_batch

    features = encoder.eval()(to_batch([view], NANO.preprocess)).detach().numpy()
    np.testing.assert_allclose(features, bundle.outputs([view])[1], atol=1e-5)


@pytest.mark.slow
def test_a_fresh_process_gives_the_same_bytes(linear):
    program = (
        "import sys, numpy as np; from cytolora.classifier.inference.classifier import Classifier\n"
        "rng = np.random.default_rng(0)\n"
        "images = [rng.integers(0, 255, (40 + 10 * place, 50, 3), dtype=np.uint8) for place in range(3)]\n"
        "sys.stdout.buffer.write(Classifier.load(sys.argv[1]).logits(images).tobytes())"
    )
    found = subprocess.run([sys.executable, "-c", program, str(linear)], capture_output=True, check=True).stdout
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    assert found == Classifier.load(linear).logits(drawn_images()).tobytes()
    torch.set_num_threads(threads)


def test_the_card_may_be_edited(copied):
    (copied / CARD).write_text("Ask the cytology department.")
    assert Classifier.load(copied).classes == CLASSES


def test_another_checkpoint_is_refused_by_name(linear, tmp_path):
    (tmp_path / "nano.safetensors").write_bytes(b"other")
    with pytest.raises(BundleError, match=r"was trained on nano with SHA-256 .*, and .*nano\.safetensors has"):
        Classifier.load(linear, weights=tmp_path / "nano.safetensors")


def test_a_backbone_of_ones_own_is_opened_with_its_weights_alone(tmp_path):
    from dataclasses import replace

    from cytolora.classifier.bundle.manifest import UsedBackbone
    from cytolora.core.files import sha256_file
    from cytolora.models.backbones.registry import NANO

    assert NANO.weights is not None
    own = replace(NANO, name="mine", weights=None)
    used = UsedBackbone(name="mine", sha256=sha256_file(NANO.weights), spec=own)
    folder = write_small_bundle(tmp_path / "model", backbone=used)
    with pytest.raises(WeightsError, match=r"No weights of mine.*--weights mine=PATH"):
        Classifier.load(folder).classifier()
    expected = Classifier.load(write_small_bundle(tmp_path / "plain")).logits(drawn_images())
    np.testing.assert_array_equal(Classifier.load(folder, weights=NANO.weights).logits(drawn_images()), expected)


def test_every_known_backbone_can_be_bundled():
    for spec in BACKBONES:
        check_harmless(spec)


def test_a_folder_with_other_things_in_it_is_not_overwritten(tmp_path):
    (tmp_path / "thesis.docx").write_bytes(b"five years")
    with pytest.raises(ConfigError, match=r"thesis\.docx, which would be lost"):
        write_small_bundle(tmp_path)
    assert (tmp_path / "thesis.docx").is_file()


@pytest.mark.parametrize("name", ["corrections.csv", "notes/monday.txt", ".git/config"])
def test_what_somebody_put_into_a_bundle_is_not_lost_with_it(copied, name):
    (copied / name).parent.mkdir(exist_ok=True)
    (copied / name).write_text("hours of work")
    with pytest.raises(ConfigError, match="would be lost"):
        write_small_bundle(copied)
    assert (copied / name).read_text() == "hours of work"


@pytest.mark.parametrize(
    "name", [".DS_Store", "Thumbs.db", "desktop.ini", "._card.md", ".ipynb_checkpoints/card-checkpoint.md"]
)
def test_what_file_managers_leave_in_a_bundle_is_in_nobodys_way(copied, name):
    (copied / name).parent.mkdir(exist_ok=True)
    (copied / name).write_bytes(b"litter")
    Classifier.load(copied)
    write_small_bundle(copied)
    assert not (copied / name).exists()


def test_a_folder_of_another_program_with_a_bundle_json_is_not_overwritten(tmp_path):
    (tmp_path / CONTENTS).write_text('{"files": 3}')
    with pytest.raises(ConfigError, match="would be lost"):
        write_small_bundle(tmp_path)


def test_a_zip_file_that_is_no_bundle_is_not_overwritten(tmp_path):
    with zipfile.ZipFile(tmp_path / "cells.zip", "w") as packed:
        packed.writestr("hsil/a.png", b"an image")
    before = (tmp_path / "cells.zip").read_bytes()
    with pytest.raises(ConfigError, match="no bundle; it would be lost"):
        write_small_bundle(tmp_path / "cells.zip")
    assert (tmp_path / "cells.zip").read_bytes() == before
    for _ in range(2):
        write_small_bundle(tmp_path / "model.zip")
    with zipfile.ZipFile(tmp_path / "model.zip", "a") as packed:
        packed.writestr("notes.txt", "months of work")
    with pytest.raises(ConfigError, match="no bundle; it would be lost"):
        write_small_bundle(tmp_path / "model.zip")


def test_a_zip_file_of_the_folder_of_a_bundle_is_replaced(copied, tmp_path):
    with zipfile.ZipFile(tmp_path / "model.zip", "w") as packed:
        for file in (one for one in sorted(copied.rglob("*")) if one.is_file()):
            packed.write(file, f"model/{file.relative_to(copied).as_posix()}")
    write_small_bundle(tmp_path / "model.zip")
