"""Images without content: smooth light is none, whatever its form; cells, however pale, and fine patterns are."""

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from small_bundle import write_small_bundle

import cytolora
from cytolora.data.datasets import load_manifest
from cytolora.data.imaging.content import has_content
from cytolora.data.imaging.decode import decode
from cytolora.data.quality.audit import audit
from cytolora.data.synthetic.dataset import Population, draw_cells

Y, X = np.mgrid[-1:1:120j, -1:1:140j]
R2 = X**2 + Y**2
SMOOTH = {
    "ramp from black to white": 127 * (X + 1),
    "diagonal ramp": 140 + 55 * X + 55 * Y,
    "ramp of a few levels": 200 + 20 * X,
    "vignette": 250 - 80 * R2,
    "vignette of a lens": 250 * np.cos(np.arctan(0.5 * np.sqrt(R2))) ** 4,
    "strong vignette of a lens": 250 * np.cos(np.arctan(0.8 * np.sqrt(R2))) ** 4,
    "lamp out of the centre": 250 - 12 * ((X + 1) ** 2 + (Y + 1) ** 2),
    "light from one corner": 80 + 60 * (X + 1) * (Y + 1) / 2,
    "spot of light": 60 + 180 * np.exp(-R2 / 1.0),
    "soft shadow": 60 + 180 / (1 + np.exp(-4 * X)),
    "one colour": np.full_like(X, 231.0),
}
"""Brightness of an empty field, 0 to 255."""


def coloured(brightness: np.ndarray, noise: float, seed: int = 0) -> np.ndarray:
    noisy = brightness[..., None] * (1.0, 0.9, 0.95) + np.random.default_rng(seed).normal(0, noise, (*X.shape, 3))
    return np.clip(noisy.round(), 0, 255).astype(np.uint8)


def with_cell(brightness: np.ndarray, contrast: float = 0.4) -> np.ndarray:
    inside = np.where((X - 0.1) ** 2 + Y**2 < 0.15, 1 - contrast / 2, 1.0) * np.where(R2 < 0.03, 1 - contrast / 2, 1.0)
    return brightness * inside


@pytest.mark.parametrize("noise", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("name", SMOOTH)
def test_smooth_light_is_no_content(name: str, noise: float):
    assert not has_content(coloured(SMOOTH[name], noise))


@pytest.mark.parametrize("quality", [60, 90])
@pytest.mark.parametrize("name", SMOOTH)
def test_smooth_light_is_no_content_after_jpeg(name: str, quality: int):
    file = io.BytesIO()
    Image.fromarray(coloured(SMOOTH[name], 1.0)).save(file, "JPEG", quality=quality)
    assert not has_content(decode(file, name))


@settings(max_examples=20)
@given(
    st.tuples(*[st.floats(-1, 1)] * 5), st.floats(0, 2), st.integers(24, 300), st.integers(24, 300), st.floats(60, 200)
)
def test_any_smooth_surface_is_no_content(slopes, noise: float, width: int, height: int, middle: float):
    """Of the second degree, at any size."""
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    a, b, c, d, e = slopes
    surface = middle + 18 * (a * x + b * y + c * x * x + d * y * y + e * x * y)
    noisy = surface[..., None] + np.random.default_rng(0).normal(0, noise, (height, width, 3))
    assert not has_content(np.clip(noisy.round(), 0, 255).astype(np.uint8))


@pytest.mark.parametrize("name", SMOOTH)
def test_a_cell_in_smooth_light_is_content(name: str):
    assert has_content(coloured(with_cell(np.maximum(SMOOTH[name], 110)), 1.0))


FINE = {
    "noise": np.random.default_rng(0).integers(0, 256, X.shape).astype(float),
    "noise of a smooth field": 150 + 60 * X + np.random.default_rng(0).normal(0, 30, X.shape),
    "checkerboard": 255.0 * (np.indices(X.shape).sum(axis=0) % 2),
    "lines": 255.0 * (np.indices(X.shape)[0] % 4 < 2),
    "thin line": np.where(np.abs(X - Y) < 0.02, 90.0, 230.0),
    "half black": np.where(X < 0, 0.0, 255.0),
    "small cell": np.where(R2 < 0.02, 120.0, 230.0),
    "edge of a cover slip": np.where(X + 0.3 * Y < 0.6, 230.0, 190.0),
}


@pytest.mark.parametrize("name", FINE)
def test_edges_and_fine_patterns_are_content(name: str):
    assert has_content(coloured(FINE[name], 1.0))


def test_a_large_field_of_fine_noise_is_content_although_it_is_even_when_reduced():
    noise = np.random.default_rng(0).normal(128, 25, (1200, 1300, 3))
    assert has_content(np.clip(noise, 0, 255).astype(np.uint8))


def test_small_drawings_are_content():
    """Below 16 pixels a smooth image is not told from a cell."""
    ramp = np.repeat(np.linspace(50, 200, 12)[None, :, None], 12, axis=0).repeat(3, axis=2)
    assert has_content(ramp.astype(np.uint8))


@pytest.mark.parametrize("population", ["classes", "any"])
def test_drawn_cells_are_content(population: Population):
    for pixels in draw_cells(200, 0, population=population).images:
        assert has_content(pixels)


@pytest.mark.slow
def test_all_917_cells_of_herlev_are_content_whole_and_as_encoders_see_them(herlev_dir: Path):
    manifest = load_manifest(herlev_dir, "herlev")
    for sample in manifest.samples:
        image = Image.fromarray(decode(sample.file_in(manifest.root)))
        across, edge = image.resize((224, 224)), min(image.size)
        left, top = (image.width - edge) // 2, (image.height - edge) // 2
        centre = image.crop((left, top, left + edge, top + edge)).resize((224, 224))
        assert all(has_content(np.array(one)) for one in (image, across, centre)), sample.path


def test_check_names_smooth_fields_and_predict_refers_them(tmp_path: Path):
    bundle = cytolora.load(write_small_bundle(tmp_path / "model", conformal=None, unfamiliar=None))
    (tmp_path / "cells" / "a").mkdir(parents=True)
    for name, brightness in SMOOTH.items():
        Image.fromarray(coloured(brightness, 1.0)).save(tmp_path / "cells" / "a" / f"{name}.png")
    (tmp_path / "cells" / "b").mkdir()
    Image.fromarray(coloured(with_cell(SMOOTH["vignette"]), 1.0)).save(tmp_path / "cells" / "b" / "cell.png")
    (found,) = [one for one in audit(load_manifest(tmp_path / "cells")).findings() if one.code == "P105"]
    assert found.count == len(SMOOTH)
    assert all(one.is_referred and one.is_blank for one in bundle.predict(tmp_path / "cells" / "a"))
    assert not any(one.is_referred for one in bundle.predict(tmp_path / "cells" / "b"))
