"""Choices about pixels act wherever images are decoded, or are refused: cut fields, tensors, features, evaluation."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms
from small_bundle import write_small_bundle
from tiny_downloads import make_cric

import cytolora
from cytolora.cli.app import main
from cytolora.config.reading import Decoding, ReadOptions
from cytolora.data.datasets import load_manifest
from cytolora.data.imaging.decode import decode
from cytolora.errors import ConfigError
from cytolora.training.embed import read_embedding, unlabelled

SHAPE = (140, 160, 3)


def noise(*shape: int, top: int = 256, dtype: str = "uint8", seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, top, shape).astype(dtype)


def stack(path: Path) -> None:
    tifffile.imwrite(path, noise(3, *SHAPE), photometric="rgb")


def twelve_bits(path: Path) -> None:
    tifffile.imwrite(path, noise(*SHAPE, top=4096, dtype="uint16"), photometric="rgb")


def with_profile(path: Path) -> None:
    colours = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(noise(*SHAPE)).save(path, "TIFF", icc_profile=colours)


CHOICES: dict[str, tuple[Callable[[Path], None], dict[str, Any]]] = {
    "frame 0": (stack, {"frame": 0}),
    "frame 2": (stack, {"frame": 2}),
    "middle": (stack, {"frame": "middle"}),
    "max": (stack, {"frame": "max"}),
    "4095": (twelve_bits, {"value_range": 4095}),
    "used": (twelve_bits, {"value_range": "used"}),
    "full": (twelve_bits, {"value_range": "full"}),
    "srgb": (with_profile, {"icc": "srgb"}),
}


@pytest.fixture
def cric(tmp_path: Path) -> Path:
    """The download of CRIC with fields of another kind, ``write(fields)``."""
    return make_cric(tmp_path / "cric")


def _replace_fields(cric: Path, write: Callable[[Path], None]) -> Path:
    for field in (cric / "images").iterdir():
        field.unlink()
        write(field)  # what is inside decides how it is read
    return cric / "images" / "cric_image_001_abc.png"


@pytest.mark.parametrize("name", CHOICES)
def test_cells_are_cut_from_fields_as_the_choices_read_them(name: str, cric: Path):
    write, choice = CHOICES[name]
    field = _replace_fields(cric, write)
    manifest = load_manifest(cric, reading=ReadOptions(decoding=Decoding(**choice)))
    known: dict[str, Any] = {"value_range": 4095} if choice == {"value_range": "used"} else choice
    whole = decode(field, decoding=Decoding(**known))
    np.testing.assert_array_equal(decode(manifest.root / "NILM/1_100.png"), whole[14:114, 19:119])


def test_other_choices_cut_the_cells_anew_and_the_same_ones_do_not(cric: Path):
    field = _replace_fields(cric, stack)
    planes = noise(3, *SHAPE)
    seen = []
    for frame in (1, 1, 2, 1):
        manifest = load_manifest(cric, reading=ReadOptions(decoding=Decoding(frame=frame)))
        np.testing.assert_array_equal(decode(manifest.root / "NILM/1_100.png"), planes[frame][14:114, 19:119])
        seen.append((manifest.root / "NILM/1_100.png").stat().st_ino)
    assert seen[0] == seen[1] != seen[2]
    assert field.is_file()


def test_plain_fields_keep_the_fingerprint_of_their_cells(cric: Path):
    plain = load_manifest(cric).fingerprint
    assert load_manifest(cric, reading=ReadOptions(decoding=Decoding(frame="max"))).fingerprint == plain
    assert load_manifest(cric).fingerprint == plain


@pytest.mark.parametrize("name", [name for name in CHOICES if name != "used"])
def test_load_images_reads_by_the_choices(name: str, tmp_path: Path):
    write, choice = CHOICES[name]
    write(tmp_path / "1.tif")
    decoding = Decoding(**choice)
    found = cytolora.load_images(tmp_path / "1.tif", "nano", decoding=decoding)
    expected = cytolora.load_images(decode(tmp_path / "1.tif", decoding=decoding), "nano")
    np.testing.assert_array_equal(found.numpy(), expected.numpy())


def test_load_images_refuses_a_range_that_only_a_dataset_has(tmp_path: Path):
    twelve_bits(tmp_path / "1.tif")
    with pytest.raises(ConfigError, match="measured on a dataset; name the highest value here"):
        cytolora.load_images(tmp_path / "1.tif", "nano", decoding=Decoding(value_range="used"))


@pytest.mark.parametrize("name", CHOICES)
def test_embed_without_labels_reads_by_the_choices(name: str, tmp_path: Path):
    write, choice = CHOICES[name]
    write(tmp_path / "1.tif")
    manifest = unlabelled(tmp_path, Decoding(**choice))
    known: dict[str, Any] = {"value_range": 4095} if choice == {"value_range": "used"} else choice
    assert manifest.decoding == Decoding(**known)


def test_the_command_embed_takes_the_choices_without_labels(tmp_path: Path):
    planes = noise(3, 40, 40, 3)
    for folder, values in (("stack", planes), ("plane", planes[1])):
        (tmp_path / folder).mkdir()
        tifffile.imwrite(tmp_path / folder / "1.tif", values, photometric="rgb")
    for folder, more in (("stack", ["--frame", "1"]), ("plane", [])):
        out = ["--out", str(tmp_path / f"{folder}.parquet"), "--cache", str(tmp_path / "cache")]
        with pytest.raises(SystemExit, match="0"):
            main(["embed", str(tmp_path / folder), "--unlabelled", "--model", "nano", "--quiet", *out, *more])
    first, second = (read_embedding(tmp_path / f"{one}.parquet").features for one in ("stack", "plane"))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("more", [["--group-column", "patient"], ["--groups-from", "names"], ["--dataset", "folder"]])
def test_embed_without_labels_refuses_what_would_not_act(more: list[str], tmp_path: Path, capsys: Any):
    stack(tmp_path / "1.tif")
    with pytest.raises(SystemExit, match="2"):
        main(["embed", str(tmp_path), "--unlabelled", "--model", "nano", "--out", str(tmp_path / "o.parquet"), *more])
    assert "--unlabelled reads neither labels, groups nor subsets" in " ".join(capsys.readouterr().err.split())


def test_embed_of_a_manifest_refuses_choices_that_would_not_act(cric: Path, tmp_path: Path):
    with pytest.raises(ConfigError, match="was read already"):
        cytolora.embed(load_manifest(cric), tmp_path / "o.parquet", reading=ReadOptions(group_column="patient"))


@pytest.mark.parametrize(
    ("trained", "chosen", "words"),
    [
        (Decoding(), Decoding(frame=1), r"--frame 1, .* \(--frame None\)"),
        (Decoding(frame=1), Decoding(frame=2), r"--frame 2, .* \(--frame 1\)"),
        (Decoding(), Decoding(icc="srgb"), r"--icc srgb, .* \(--icc ignore\)"),
        (Decoding(value_range=4095), Decoding(value_range=1023), r"--value-range 1023, .* \(--value-range 4095\)"),
        (Decoding(frame=1), Decoding(frame=1), ""),
        (Decoding(frame=1), Decoding(), ""),
    ],
)
def test_evaluate_refuses_choices_other_than_those_of_training(
    trained: Decoding, chosen: Decoding, words: str, tmp_path: Path
):
    for label in ("hsil", "nilm"):
        (tmp_path / "cells" / label).mkdir(parents=True)
        for seed in range(2):
            planes = noise(3, 40, 40, 3, seed=seed + 5 * (label == "nilm"))
            values = planes if trained.frame is not None else planes[0]
            tifffile.imwrite(tmp_path / "cells" / label / f"{seed}.tif", values, photometric="rgb")
    bundle = cytolora.load(write_small_bundle(tmp_path / "model", decoding=trained))
    if words:
        with pytest.raises(ConfigError, match=words):
            bundle.evaluate(tmp_path / "cells", reading=ReadOptions(decoding=chosen))
    else:
        assert bundle.evaluate(tmp_path / "cells", reading=ReadOptions(decoding=chosen)).num_images == 4
