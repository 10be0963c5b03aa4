"""Bundles whose every checksum fits and whose values are made to do harm: each is refused in one line by its field."""

import json
import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load, save
from small_bundle import CLASSES, rewrite, write_small_bundle

from cytolora.classifier.bundle.files import CONTENTS
from cytolora.classifier.inference.classifier import Classifier
from cytolora.cli.app import main
from cytolora.errors import BundleError, CytoloraError

BIG = 10**12


@pytest.fixture(scope="module")
def lora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_bundle(tmp_path_factory.mktemp("bundle") / "model", "lora")


@pytest.fixture
def copied(lora: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(lora, tmp_path / "model"))


def put(plain: dict[str, Any], where: str, value: Any) -> None:
    *way, last = where.split(".")
    for key in way:
        plain = plain[key]
    plain[last] = value


def both(plain: dict[str, Any], field: str, value: Any) -> None:
    """Preprocessing stands twice in a bundle, and both must agree."""
    plain["preprocess"][field] = plain["backbone"]["spec"]["preprocess"][field] = value


HOSTILE: list[tuple[str, Any, str]] = [
    ("format", True, "format"),
    ("classes", ["ascus", "hsil", "lsil", ""], "classes"),
    ("classes", ["ascus", "hsil", "lsil", " \t"], "classes"),
    ("classes", ["ascus", "hsil", "lsil", "a\nb"], "classes"),
    ("classes", ["ascus", "hsil", "lsil", "\x1b[2J"], "classes"),
    ("classes", ["ascus", "hsil", "lsil", "n\0"], "classes"),
    ("classes", ["ascus", "hsil", "lsil", "\ud800"], "classes"),
    ("classes", ["ascus", "hsil", "lsil", "x" * 10_000], "classes"),
    ("classes", [f"c{number}" for number in range(20_000)], "classes"),
    ("classes", ["ascus", "hsil", "lsil", 7], "classes"),
    ("temperature", 0, "temperature"),
    ("temperature", 1e-300, "temperature"),
    ("temperature", 1e300, "temperature"),
    ("temperature", -1.5, "temperature"),
    ("temperature", "1.5", "temperature"),
    ("temperature", True, "temperature"),
    ("temperature", None, "temperature"),
    ("seed", -1, "seed"),
    ("seed", 2**63, "seed"),
    ("seed", "0", "seed"),
    ("method", "lora\n", "method"),
    ("method", "rm -rf", "method"),
    ("operating_point.asked", 0, "asked"),
    ("operating_point.asked", 95, "asked"),
    ("operating_point.promised", -0.1, "promised"),
    ("operating_point.threshold", -3, "threshold"),
    ("operating_point.threshold", 30, "threshold"),
    ("operating_point.sensitivity", 96, "sensitivity"),
    ("operating_point.specificity_low", -1e308, "specificity_low"),
    ("operating_point.specificity_low", 0.99, "specificity_low"),
    ("operating_point.num_positive", -50, "num_positive"),
    ("operating_point.num_groups", 0, "num_groups"),
    ("operating_point.positive", [], "positive"),
    ("operating_point.positive", ["hsil", "hsil"], "positive"),
    ("operating_point.positive", ["scc"], "scc"),
    ("operating_point.positive", list(CLASSES), "operating point names every class"),
    ("conformal.coverage", 1.5, "coverage"),
    ("conformal.quantile", -1, "quantile"),
    ("conformal.quantile", 1e9, "quantile"),
    ("conformal.num_groups", -40, "num_groups"),
    ("conformal.is_folded", 1, "is_folded"),
    ("unfamiliar.neighbours", 0, "neighbours"),
    ("unfamiliar.neighbours", -5, "neighbours"),
    ("unfamiliar.neighbours", BIG, "neighbours"),
    ("unfamiliar.threshold", -1, "threshold"),
    ("unfamiliar.threshold", 1e300, "threshold"),
    ("unfamiliar.quantile", 99, "quantile"),
    ("adapter.rank", BIG, "rank"),
    ("adapter.rank", True, "rank"),
    ("adapter.alpha", 1e300, "alpha"),
    ("adapter.dropout", 1.0, "dropout"),
    ("adapter.prompts", BIG, "prompts"),
    ("adapter.blocks", [-1], "blocks"),
    ("adapter.blocks", [BIG], "blocks"),
    ("adapter.last_blocks", BIG, "last_blocks"),
    ("adapter.targets", [], "targets"),
    ("backbone.name", "", "name"),
    ("backbone.name", "nano\r", "name"),
    ("backbone.sha256", "abc", "sha256"),
    ("backbone.sha256", "Z" * 64, "sha256"),
    ("backbone.revision", "\0", "revision"),
    ("backbone.spec.weights", "/etc/hostname", "weights"),
    ("backbone.spec.feature_dim", -1, "feature_dim"),
    ("backbone.spec.feature_dim", BIG, "feature_dim"),
    ("backbone.spec.projection", BIG, "projection"),
    ("backbone.spec.pool_width", BIG, "pool_width"),
    ("backbone.spec.licence", "MIT\n\n# Free", "licence"),
    ("backbone.spec.hub", {"repo": "../../etc", "filename": "x", "revision": None}, "repo"),
    ("backbone.spec.hub", {"repo": "a/b", "filename": "../../x", "revision": None}, "filename"),
    ("backbone.spec.hub", {"repo": "a/b", "filename": "/etc/passwd", "revision": None}, "filename"),
    ("backbone.spec.arguments.depth", BIG, "depth"),
    ("backbone.spec.arguments.depth", 100_000, "depth"),
    ("backbone.spec.arguments.embed_dim", BIG, "embed_dim"),
    ("backbone.spec.arguments.img_size", 10**6, "img_size"),
    ("backbone.spec.arguments.img_size", [64, 10**6], "img_size"),
    ("backbone.spec.arguments.mlp_ratio", 1e300, "mlp_ratio"),
    ("backbone.spec.arguments.patch_size", -BIG, "patch_size"),
    ("backbone.spec.arguments.block_fn", {"a": {}}, "block_fn"),
    ("metrics.test", [], "test"),
    ("metrics.test.accuracy", "high", "accuracy"),
    ("metrics.test.accuracy", 50, "accuracy"),
    ("metrics.test.balanced_accuracy", -0.5, "balanced_accuracy"),
    ("metrics.test.n", -1, "n"),
    ("metrics.test.intervals", {"balanced_accuracy": {"low": "a", "high": 1}}, "intervals"),
    ("versions.cytolora", 2, "versions"),
    ("training.x", "\udfff", "training"),
    ("decoding", {"version": 2, "frame": None, "icc": "ignore", "value_range": BIG}, "value_range"),
    ("decoding", {"version": 2, "frame": -BIG, "icc": "ignore", "value_range": "full"}, "frame"),
]


@pytest.mark.parametrize(("where", "value", "named"), HOSTILE, ids=lambda value: str(value)[:30])
def test_a_hostile_value_is_refused_in_one_line_that_names_file_and_field(
    copied: Path, where: str, value: Any, named: str
):
    rewrite(copied, lambda plain: put(plain, where, value))
    with pytest.raises(CytoloraError, match=named) as caught:
        Classifier.load(copied).predict(np.zeros((40, 40, 3), np.uint8))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 700
    assert str(copied) in str(caught.value)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("size_px", 0),
        ("size_px", BIG),
        ("size_px", 64.5),
        ("mean", [0.5, 0.5, 1e9]),
        ("mean", [0.5]),
        ("std", [1e-300, 1, 1]),
        ("std", [0, 1, 1]),
        ("std", [-1, 1, 1]),
        ("std", [True, 1, 1]),
        ("interpolation", "lanczos"),
        ("resize", "none"),
        ("resize_px", 1),
        ("resize_px", BIG),
    ],
)
def test_hostile_preprocessing_is_refused_by_its_field(copied: Path, field: str, value: Any):
    rewrite(copied, lambda plain: both(plain, field, value))
    with pytest.raises(BundleError, match=field):
        Classifier.load(copied)


def test_an_image_cut_into_a_million_tokens_is_refused_before_any_is_computed(copied: Path):
    def change(plain: dict[str, Any]) -> None:
        both(plain, "size_px", 4096)
        plain["backbone"]["spec"]["arguments"].update(dynamic_img_size=True, img_size=4096)
        plain["backbone"]["spec"]["resamples_positions"] = True

    rewrite(copied, change)
    with pytest.raises(CytoloraError, match=r"size_px 4096 in patches of 8 x 8 px makes 262,144 tokens"):
        Classifier.load(copied).classifier()


def retensor(folder: Path, file: str, change: Callable[[np.ndarray], object]) -> None:
    """Changes every tensor of a file, and the checksums with it."""
    tensors = load((folder / file).read_bytes())
    for values in tensors.values():
        change(values)
    content = save(tensors)
    (folder / file).write_bytes(content)
    rewrite(folder, lambda plain: plain["files"].update({file: sha256(content).hexdigest()}))


def _first(value: float) -> Callable[[np.ndarray], object]:
    return lambda values: values.reshape(-1).__setitem__(0, value)


@pytest.mark.parametrize("file", ["head.safetensors", "unfamiliar.safetensors", "adapter/adapter_model.safetensors"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_no_numbers_are_refused_by_their_file(copied: Path, file: str, value: float):
    retensor(copied, file, _first(value))
    with pytest.raises(BundleError, match=rf"{file}.*holds numbers that are not finite"):
        Classifier.load(copied)


@pytest.mark.parametrize("file", ["head.safetensors", "adapter/adapter_model.safetensors"])
def test_finite_weights_that_make_infinite_logits_predict_nothing(copied: Path, file: str):
    retensor(copied, file, lambda values: values.__setitem__(..., 3e38))
    with pytest.raises(BundleError, match=r"logits that are not finite"):
        Classifier.load(copied).predict(np.zeros((40, 40, 3), np.uint8))


@pytest.mark.parametrize(
    "rows", [np.ones((20, 96), np.float16), np.ones((20, 96), np.int32), 9 * np.ones((20, 96), np.float32)]
)
def test_a_bank_of_other_numbers_than_features_of_length_one_is_refused(copied: Path, rows: np.ndarray):
    content = save({"features": rows})
    (copied / "unfamiliar.safetensors").write_bytes(content)
    rewrite(copied, lambda plain: plain["files"].update({"unfamiliar.safetensors": sha256(content).hexdigest()}))
    with pytest.raises(BundleError, match=r"unfamiliar\.safetensors"):
        Classifier.load(copied)


def test_a_hostile_bundle_is_one_line_and_exit_code_2(copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    rewrite(copied, lambda plain: put(plain, "temperature", 1e-300))
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(tmp_path / "x.png")
    with pytest.raises(SystemExit) as stop:
        main(["predict", str(copied), str(tmp_path / "x.png"), "--out", str(tmp_path / "p.csv"), "--quiet"])
    said = capsys.readouterr().err.strip()
    assert stop.value.code == 2
    assert "bundle.json" in said
    assert "temperature is a number in [0.001, 1,000], got 1e-300" in said
    assert len(said.splitlines()) == 1
    assert not (tmp_path / "p.csv").exists()


def test_the_writer_is_held_to_the_same_ranges_as_the_reader(tmp_path: Path):
    hostile: list[dict[str, Any]] = [
        {"temperature": 1e-300},
        {"seed": -1},
        {"classes": ("ascus", "hsil", "lsil", "a\0")},
    ]
    for changes in hostile:
        with pytest.raises(CytoloraError):
            write_small_bundle(tmp_path / "model", **changes)


def test_values_at_the_ends_of_their_ranges_open_as_before(copied: Path):
    def change(plain: dict[str, Any]) -> None:
        put(plain, "operating_point.threshold", 0)
        put(plain, "conformal.quantile", 1)
        put(plain, "temperature", 20)
        put(plain, "unfamiliar.neighbours", 4096)
        put(plain, "classes", ["ASC-US (>2)", "hsil", "lsil", "Čelij µ – 癌"])
        put(plain, "operating_point.positive", ["hsil"])

    rewrite(copied, change)
    (found,) = Classifier.load(copied).predict(np.zeros((40, 40, 3), np.uint8))
    assert sum(found.probabilities or ()) == pytest.approx(1)
    assert json.loads((copied / CONTENTS).read_bytes())["classes"][3] == "Čelij µ – 癌"
