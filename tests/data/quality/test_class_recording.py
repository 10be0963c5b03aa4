"""Classes recorded in another way than the rest (P109): what a classifier could learn in place of the cell."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from cytolora.core.findings import finding
from cytolora.data.datasets import load_manifest
from cytolora.data.quality.audit import audit

Write = Callable[[Path, np.ndarray], None]


def picture(seed: int, size: tuple[int, int] = (40, 40)) -> np.ndarray:
    return np.random.default_rng(seed).integers(60, 256, (*size, 3)).astype(np.uint8)


def pillow(suffix: str, mode: str = "RGB") -> Write:
    return lambda path, pixels: Image.fromarray(pixels).convert(mode).save(path.with_suffix(suffix))


def with_copies(number: int) -> Write:
    def write(path: Path, pixels: np.ndarray) -> None:
        with tifffile.TiffWriter(path.with_suffix(".tif")) as file:
            file.write(pixels, photometric="rgb", metadata=None)
            for step in (2, 4)[:number]:
                file.write(pixels[::step, ::step], photometric="rgb", metadata=None, subfiletype=1)

    return write


def planar(path: Path, pixels: np.ndarray) -> None:
    deep = pixels.transpose(2, 0, 1)
    tifffile.imwrite(path.with_suffix(".tif"), deep, photometric="rgb", planarconfig="separate")


def further(path: Path, pixels: np.ndarray) -> None:
    tifffile.imwrite(
        path.with_suffix(".tif"),
        np.dstack([pixels, pixels[..., :1]]),
        photometric="rgb",
        extrasamples=["unspecified"],
    )


def texts(root: Path, *classes: tuple[Write, Callable[[int], np.ndarray]]) -> list[str]:
    for place, (write, draw) in enumerate(classes):
        (root / "ab"[place]).mkdir(parents=True)
        for seed in range(6):
            write(root / "ab"[place] / f"{seed}", draw(seed + 100 * place))
    return [one.text for one in audit(load_manifest(root)).findings() if one.code == "P109"]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (with_copies(1), with_copies(0)),
        (with_copies(1), with_copies(2)),
        (planar, pillow(".tif")),
        (further, pillow(".tif")),
        (pillow(".png", "RGBA"), pillow(".png")),
        (pillow(".tif", "RGBA"), with_copies(1)),
        (pillow(".bmp"), pillow(".tif")),
    ],
)
def test_classes_of_the_same_colours_are_not_said_to_differ(tmp_path: Path, first: Write, second: Write):
    assert texts(tmp_path, (first, picture), (second, picture)) == []


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        (pillow(".jpg"), pillow(".png"), "a: JPEG compression; b: lossless compression"),
        (pillow(".bmp"), pillow(".jpg"), "a: lossless compression; b: JPEG compression"),
        (pillow(".webp"), pillow(".jpg"), "a: WEBP compression; b: JPEG compression"),
        (pillow(".png", "L"), pillow(".png"), "a: gray, repeated in three channels (PNG); b: plain 8-bit RGB (PNG)"),
    ],
)
def test_a_class_of_another_compression_or_colour_is_named(tmp_path: Path, first: Write, second: Write, words: str):
    (text,) = texts(tmp_path, (first, picture), (second, picture))
    assert words in text


def test_a_class_of_another_size_is_named(tmp_path: Path):
    (text,) = texts(tmp_path, (pillow(".png"), picture), (pillow(".png"), lambda seed: picture(seed, (30, 50))))
    assert "a: 40 x 40 px; b: 50 x 30 px" in text


def test_sizes_that_vary_within_the_classes_are_not_named(tmp_path: Path):
    def small(seed: int) -> np.ndarray:
        return picture(seed, (20 + seed % 100, 30))

    assert texts(tmp_path, (pillow(".png"), small), (pillow(".png"), lambda seed: picture(seed, (60, 40 + seed)))) == []


def test_a_hot_pixel_does_not_make_dark_images_blank(tmp_path: Path):
    def dark(path: Path, pixels: np.ndarray) -> None:
        deep = pixels[..., 0].astype(np.uint16) * 16
        deep[0, 0] = 65535
        tifffile.imwrite(path.with_suffix(".tif"), deep, photometric="minisblack")

    assert texts(tmp_path, (dark, picture), (dark, picture)) == []
    codes = {one.code: one.count for one in audit(load_manifest(tmp_path)).findings()}
    assert codes["P102"] == 12
    assert "P105" not in codes


@pytest.mark.parametrize("sign", ["\n", "\r", "\t", "\x1b", "\u2028", "\x85"])
def test_a_finding_is_one_line_whatever_a_file_is_called(sign: str):
    assert finding("P105", f"a{sign}b").text.splitlines() == [f"a{sign!r}b".replace("'", "")]
