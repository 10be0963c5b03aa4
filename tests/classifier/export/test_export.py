import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from small_bundle import CLASSES, write_small_bundle

from cytolora.classifier.export import export as exporting
from cytolora.classifier.export.export import Agreement, export
from cytolora.classifier.inference.classifier import Classifier
from cytolora.classifier.inference.onnx_predictor import EXPORT
from cytolora.cli.app import main
from cytolora.errors import BundleError, ConfigError
from cytolora.models.backbones.registry import NANO


@pytest.fixture(scope="module")
def lora(tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    return Classifier.load(write_small_bundle(tmp_path_factory.mktemp("lora") / "model", "lora"))


@pytest.fixture(scope="module")
def linear(tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    return Classifier.load(write_small_bundle(tmp_path_factory.mktemp("linear") / "model"))


def under(bundle: Classifier, **facts: Any) -> Classifier:
    """The same bundle with other facts said of its backbone."""
    used = replace(bundle.contents.backbone, spec=replace(bundle.backbone, **facts))
    changed = replace(bundle.contents, backbone=used)
    return Classifier(changed, bundle.files, name="changed", checkpoint=NANO.weights, device="cpu")


def agrees(found: Agreement) -> bool:
    return found.num_flips == 0 and found.logit < 1e-4 and found.num_images == 24


def test_a_merged_lora_opens_with_timm_alone(lora: Classifier, tmp_path: Path):
    assert agrees(export(lora, "timm", tmp_path / "out"))
    model: Any = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True)
    assert "qkv" in dict(model.blocks[0].attn.named_children())
    assert model.pretrained_cfg["label_names"] == list(CLASSES)


def test_a_lora_opens_with_stock_peft_on_stock_timm(lora: Classifier, tmp_path: Path):
    assert agrees(export(lora, "peft", tmp_path / "out"))
    assert {path.name for path in (tmp_path / "out" / "timm").iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
    }


def test_a_projection_becomes_part_of_the_head_that_timm_opens(tmp_path: Path, linear: Classifier):
    from cytolora.classifier.export.timm import _head
    from cytolora.models.encoder import Encoder
    from cytolora.models.encoder_with_head import EncoderWithHead

    trunk = linear.classifier().encoder.trunk
    projection = torch.nn.Linear(96, 32)
    classifier = EncoderWithHead(Encoder(trunk, "mean_patch", projection=projection), 4)
    folded = dict(_head(classifier))
    pooled = torch.randn(5, 96)
    expected = classifier.head(projection(pooled))
    found = pooled @ folded["head.weight"].T + folded["head.bias"]
    assert torch.allclose(found, expected, atol=1e-5)


def test_a_bundle_without_an_adapter_has_nothing_for_peft(linear: Classifier, tmp_path: Path):
    with pytest.raises(ConfigError, match="has no adapter"):
        export(linear, "peft", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("to", ["onnx", "timm"])
def test_weights_under_a_no_derivatives_licence_are_not_exported(lora: Classifier, to: Any, tmp_path: Path):
    strict = under(lora, redistributable=False, licence="CC-BY-NC-ND-4.0")
    with pytest.raises(ConfigError, match=r"nano are under CC-BY-NC-ND-4\.0.*--force-licence"):
        export(strict, to, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_what_was_trained_here_is_exported_whatever_the_licence_and_the_rest_by_force(lora: Classifier, tmp_path: Path):
    strict = under(lora, redistributable=False)
    assert agrees(export(strict, "peft", tmp_path / "peft"))
    assert agrees(export(strict, "timm", tmp_path / "timm", force_licence=True))


def test_an_export_that_answers_differently_is_thrown_away(lora: Classifier, tmp_path: Path, monkeypatch):
    def wrong(bundle: Classifier, to: str, folder: Path):
        return [lambda images: (bundle.logits(images)[:, ::-1], None)]

    monkeypatch.setattr(exporting, "_reopened", wrong)
    with pytest.raises(BundleError, match=r"answers differently: .* It was thrown away"):
        export(lora, "peft", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_an_export_replaces_an_older_one_and_nothing_else(lora: Classifier, tmp_path: Path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("years of work")
    with pytest.raises(ConfigError, match="would be lost"):
        export(lora, "peft", tmp_path / "out")
    assert (tmp_path / "out" / "thesis.txt").read_text() == "years of work"
    for _ in range(2):
        export(lora, "peft", tmp_path / "new")
    (tmp_path / "new" / "thesis.txt").write_text("years of work")
    with pytest.raises(ConfigError, match="would be lost"):
        export(lora, "peft", tmp_path / "new")
    assert json.loads((tmp_path / "new" / EXPORT).read_text())["classes"] == list(CLASSES)


def test_images_that_cannot_be_read_are_left_out_and_counted(lora: Classifier, tmp_path: Path):
    (tmp_path / "bad.png").write_bytes(b"no image")
    Image.fromarray(np.zeros((30, 40, 3), np.uint8)).save(tmp_path / "good.png")
    found = export(lora, "peft", tmp_path / "out", images=[tmp_path / "bad.png", tmp_path / "good.png"])
    assert (found.num_images, found.num_unreadable) == (1, 1)


def test_a_pooling_that_timm_does_not_have_is_refused_with_the_way_out(lora: Classifier):
    from cytolora.classifier.export.timm import _architecture

    with pytest.raises(ConfigError, match=r"timm has no pooling like 'cls\+mean'.*--to onnx"):
        _architecture(under(lora, pool="cls+mean"))


def test_flags_and_sets_that_differ_are_counted_though_the_class_is_the_same(linear: Classifier, tmp_path: Path):
    """A threshold on an image's own score is what no fitted bundle has; logits move by 1e-5 here."""
    random = np.random.default_rng(0)
    images = [tmp_path / f"{number}.png" for number in range(4)]
    for path in images:
        Image.fromarray(random.integers(0, 255, (30, 40, 3), dtype=np.uint8)).save(path)
    chosen, point = linear.predict(images)[2], linear.contents.operating_point
    assert point is not None
    score = sum((chosen.probabilities or ())[CLASSES.index(label)] for label in point.positive)
    bundle = under(linear)
    bundle.contents = replace(linear.contents, operating_point=replace(point, threshold=score), conformal=None)

    def ask(paths: Any) -> Any:
        logits = bundle.logits(paths)
        logits[:, [CLASSES.index(label) for label in point.positive]] -= 1e-5
        return logits, None

    found = exporting.compare(bundle, ask, images)
    assert (found.num_flips, found.num_other_flags) == (0, 1)
    assert exporting.compare(bundle, lambda paths: (bundle.logits(paths), None), images).num_other_flags == 0


def exported(capsys: pytest.CaptureFixture[str], *options: object) -> tuple[int, str]:
    with pytest.raises(SystemExit) as ended:
        main(["export", *map(str, options)])
    said = capsys.readouterr()
    return int(ended.value.code or 0), said.out + said.err


@pytest.mark.slow
def test_the_command_says_which_images_it_was_compared_on(lora: Classifier, tmp_path: Path, capsys):
    Image.fromarray(np.zeros((30, 40, 3), np.uint8)).save(tmp_path / "a.png")
    _, said = exported(capsys, lora.name, "--to", "peft", "--out", tmp_path / "one")
    assert "on 24 drawn cells\n" in said
    assert "! drawn cells are not yours" in said
    _, said = exported(capsys, lora.name, "--to", "peft", "--out", tmp_path / "two", "--images", tmp_path / "a.png")
    assert f"on 1 image of {tmp_path / 'a.png'}\n" in said
    assert "drawn" not in said
    options = ("--out", tmp_path / "three", "--images", tmp_path / "a.png", "--json", "--quiet")
    _, said = exported(capsys, lora.name, "--to", "peft", *options)
    assert json.loads(said)["compared_on"] == [str(tmp_path / "a.png")]


@pytest.mark.parametrize("out", ["afile", "afile/sub", "/proc/export"])
def test_a_place_that_cannot_be_written_is_said_in_one_line(lora: Classifier, tmp_path: Path, capsys, monkeypatch, out):
    monkeypatch.chdir(tmp_path)
    Path("afile").write_text("hours of work")
    code, said = exported(capsys, lora.name, "--to", "peft", "--out", out)
    assert code == 2
    assert "Choose another --out" in said
    assert said.count("\n") == 1
