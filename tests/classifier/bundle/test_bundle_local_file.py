"""A bundle of a backbone of one's own finds its checkpoint again, and what is handed on names no path."""

import json
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from blank_pdfs import blank_drawings
from small_bundle import rewrite

from cytolora.classifier.bundle.files import CONTENTS
from cytolora.classifier.export.export import export
from cytolora.classifier.inference.classifier import Classifier
from cytolora.cli.app import main
from cytolora.errors import BundleError, WeightsError
from cytolora.models.backbones.registry import BACKBONES, NANO

FORMAT_1 = Path(__file__).parent / "data" / "format1.zip"
"""A bundle of a backbone ``mine`` (the weights of ``nano``), written before ``local_file`` was there."""
YAML = """\
name: mine
architecture: vit_tiny_patch16_224
arguments: {img_size: 64, patch_size: 8, embed_dim: 96, depth: 4, num_heads: 3, num_classes: 0}
weights: mine.safetensors
pool: mean_patch
preprocess: {size_px: 64, mean: [0.5, 0.5, 0.5], std: [0.25, 0.25, 0.25], resize: squash, interpolation: bilinear}
licence: Apache-2.0
"""


def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (40, 50, 3), dtype=np.uint8)


@contextmanager
def other_process() -> Iterator[None]:
    """Forgets the backbones that were added within, as the end of a process does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BACKBONES, "_entries", dict(BACKBONES._entries))
        yield


def command(*arguments: object) -> int:
    with other_process(), pytest.raises(SystemExit) as stop:
        main([*map(str, arguments)])
    return int(stop.value.code or 0)


@pytest.fixture(scope="module")
def fitted_once(drawn_cells: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder ``model``, a file ``model.zip`` and their backbone in ``mine``; read only."""
    assert NANO.weights is not None
    home = tmp_path_factory.mktemp("home")
    (home / "mine").mkdir()
    (home / "mine" / "mine.yaml").write_text(YAML)
    shutil.copy(NANO.weights, home / "mine" / "mine.safetensors")
    for name in ("model", "model.zip"):
        options = ("--steps", 20, "--learning-rates", 0.01, "--cache", home / "cache", "--device", "cpu", "--quiet")
        own = ("--backbone-file", home / "mine" / "mine.yaml")
        with blank_drawings():
            assert command("fit", drawn_cells, "--out", home / name, *own, *options) == 0
    return home


@pytest.fixture
def home(fitted_once: Path, tmp_path: Path) -> Path:
    """A copy whose checkpoint may be moved: the bundle is told of the copy."""
    copied = Path(shutil.copytree(fitted_once, tmp_path / "home", ignore=shutil.ignore_patterns("cache")))
    where = str(copied / "mine" / "mine.safetensors")
    rewrite(copied / "model", lambda plain: plain["backbone"]["local_file"].update(path=where))
    return copied


@pytest.mark.slow
def test_the_next_command_finds_the_checkpoint_of_a_backbone_of_ones_own(
    fitted_once: Path, drawn_cells: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    model = fitted_once / "model"
    assert command("predict", model, drawn_cells / "slide_00", "--out", tmp_path / "p.csv", "--quiet") == 0
    assert len((tmp_path / "p.csv").read_text().splitlines()) == 11
    assert command("evaluate", model, drawn_cells, "--seen", "mark", "--json", "--quiet") == 0
    assert json.loads(capsys.readouterr().out)["num_images"] == 60
    assert command("export", model, "--to", "timm", "--out", tmp_path / "timm") == 0


def test_a_folder_remembers_path_and_size_and_a_zip_file_neither(fitted_once: Path):
    checkpoint = fitted_once / "mine" / "mine.safetensors"
    folder = json.loads((fitted_once / "model" / CONTENTS).read_bytes())["backbone"]
    assert folder["local_file"] == {"path": str(checkpoint), "num_bytes": checkpoint.stat().st_size}
    with zipfile.ZipFile(fitted_once / "model.zip") as packed, zipfile.ZipFile(FORMAT_1) as before:
        new, old = (json.loads(one.read(CONTENTS))["backbone"] for one in (packed, before))
        assert all(str(fitted_once).encode() not in packed.read(name) for name in packed.namelist())
    assert new.keys() == old.keys()
    with pytest.raises(WeightsError, match=r"^No weights of mine on this machine\. Name the file: --weights mine=PATH"):
        Classifier.load(fitted_once / "model.zip").checkpoint()


@pytest.mark.parametrize("to", ["timm", "onnx"])
@pytest.mark.slow
def test_an_export_names_no_path_of_this_machine(fitted_once: Path, tmp_path: Path, to):
    if to == "onnx":
        pytest.importorskip("onnxscript", reason="onnxscript is not installed")
    bundle = Classifier.load(fitted_once / "model")
    assert bundle.contents.backbone.local_file is not None
    export(bundle, to, tmp_path / "out")
    for path in (one for one in (tmp_path / "out").rglob("*") if one.is_file()):
        assert str(fitted_once).encode() not in path.read_bytes(), path


def test_a_folder_packed_by_hand_opens_and_finds_the_checkpoint(home: Path, tmp_path: Path):
    packed = shutil.make_archive(str(tmp_path / "by_hand"), "zip", home, "model")
    expected = Classifier.load(home / "model").logits(pixels())
    np.testing.assert_array_equal(Classifier.load(packed).logits(pixels()), expected)
    (home / "mine" / "mine.safetensors").unlink()
    assert Classifier.load(packed).classes == Classifier.load(home / "model").classes


def test_a_checkpoint_that_moved_or_changed_is_looked_for_as_before_and_the_error_says_where(home: Path):
    checkpoint = home / "mine" / "mine.safetensors"
    content = checkpoint.read_bytes()
    for changed, why in ((content[:-1], "has changed"), (content[:-1] + b"x", "has changed"), (None, "is not there")):
        checkpoint.unlink() if changed is None else checkpoint.write_bytes(changed)
        message = rf"No weights of mine on this machine \(training read {checkpoint}, which {why}.*--weights mine=PATH"
        with pytest.raises(WeightsError, match=message):
            Classifier.load(home / "model").logits(pixels())


def test_weights_that_are_named_win_over_those_remembered(home: Path, tmp_path: Path):
    checkpoint, other = home / "mine" / "mine.safetensors", tmp_path / "other.safetensors"
    other.write_bytes(b"other")
    with pytest.raises(BundleError, match=r"other\.safetensors has"):
        Classifier.load(home / "model", weights=other)
    shutil.move(checkpoint, other)
    assert Classifier.load(home / "model", weights=other).checkpoint() == other


@pytest.mark.parametrize("change", [{"path": "mine.safetensors"}, {"num_bytes": -1}, {"mtime": 3}, {"path": 3}])
def test_a_place_that_is_none_is_refused(home: Path, change: dict[str, object]):
    rewrite(home / "model", lambda plain: plain["backbone"]["local_file"].update(change))
    with pytest.raises(BundleError, match=r"local_file|mtime"):
        Classifier.load(home / "model")


@pytest.mark.parametrize("path", ["/" + "x" * 5000, "/dev/zero", "/a\0b"])
def test_a_place_that_no_file_can_be_at_is_not_there(home: Path, path: str):
    rewrite(home / "model", lambda plain: plain["backbone"]["local_file"].update(path=path))
    with pytest.raises(WeightsError, match=r"No weights of mine on this machine \(training read"):
        Classifier.load(home / "model").checkpoint()


@pytest.mark.parametrize("is_folder", [False, True])
def test_a_bundle_of_format_1_without_later_keys_opens_and_predicts_as_before(tmp_path: Path, is_folder: bool):
    path = FORMAT_1
    if is_folder:
        path = tmp_path / "model"
        with zipfile.ZipFile(FORMAT_1) as packed:
            packed.extractall(path)
    with pytest.raises(WeightsError, match=r"^No weights of mine on this machine\. Name the file: --weights mine=PATH"):
        Classifier.load(path).checkpoint()
    bundle = Classifier.load(path, weights=NANO.weights)
    assert bundle.classes == ("normal", "koilocytic", "lsil", "hsil", "glandular")
    (found,) = bundle.predict(pixels())
    expected = (0.849377, 0.051349, 0.034276, 0.000857, 0.064141)
    np.testing.assert_allclose(np.array(found.probabilities), expected, atol=1e-5)
    assert found.prediction_set == ("normal", "koilocytic", "lsil", "glandular")
    assert (found.positive, found.is_referred, found.is_out_of_distribution) == (False, True, True)
