"""Draws the pictures of docs/images from drawn cells: the cells, the page of a classifier, the page for review.

    .venv/bin/python scripts/pictures.py

The pages are photographed by Chromium, which has to be installed.
"""

import os
import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

import cytolora
from cytolora.classifier.inference.image_sources import find_images
from cytolora.classifier.inference.table import predict_table
from cytolora.data.synthetic.dataset import write_synthetic

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
_PER_CLASS = 6
_EDGE_PX = 64
_GAP_PX = 4
_COLOURS = 96


def draw_cells(folder: Path) -> Image.Image:
    """Some cells of each class, a row a class."""
    dataset = cytolora.load_dataset(folder)
    step = _EDGE_PX + _GAP_PX
    sheet = Image.new("RGB", (_PER_CLASS * step - _GAP_PX, len(dataset.classes) * step - _GAP_PX), "white")
    for row, label in enumerate(dataset.classes):
        cells = [sample for sample in dataset.samples if sample.label == label][:_PER_CLASS]
        for column, sample in enumerate(cells):
            cell = Image.open(sample.file_in(dataset.root)).resize((_EDGE_PX, _EDGE_PX))
            sheet.paste(cell, (column * step, row * step))
    return sheet


def photograph(page: Path, width: int, height: int) -> Image.Image:
    """A page of HTML as a browser shows its upper part."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        raise SystemExit("Chromium is not installed; install the package `chromium`.")
    target = page.with_suffix(".png")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--window-size={width},{height}"]
    command = [browser, *options, f"--screenshot={target}", page.absolute().as_uri()]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return Image.open(target)


def save(picture: Image.Image, name: str) -> None:
    """Writes a picture in few colours."""
    path = IMAGES / f"{name}.png"
    picture.convert("RGB").quantize(_COLOURS).save(path, optimize=True)
    print(f"{path.name}: {picture.width} x {picture.height} px, {path.stat().st_size / 1e3:.0f} kB")


def main() -> None:
    """Draws, fits, predicts and writes the pictures."""
    with TemporaryDirectory() as folder:
        os.chdir(folder)  # pages name files by the path that they were asked for
        write_synthetic("my_cells", num_images=600, num_slides=60, seed=0)
        write_synthetic("new_cells", num_images=60, num_slides=6, seed=1)
        save(draw_cells(Path("my_cells")), "cells")
        options = cytolora.FitOptions(sensitivity=0.9, cache="cache")
        classifier = cytolora.fit("my_cells", "model1", model="nano", positive="hsil", options=options)
        images = find_images("new_cells")
        predict_table(classifier, images, "predictions.csv", page="review.html")
        save(photograph(Path("model1/report.html"), 900, 1000), "classifier")
        save(photograph(Path("review.html"), 900, 640), "review")
        os.chdir("/")


if __name__ == "__main__":
    main()
