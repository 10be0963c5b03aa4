"""Folders of images, and what `predict` wrote of them."""

import csv
import random
from pathlib import Path

import numpy as np
from PIL import Image
from small_bundle import mutated


def write_images(folder: Path, number: int, kinds: tuple[str, ...] = ("png",)) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(0)
    paths = [folder / f"{place:03}.{kinds[place % len(kinds)]}" for place in range(number)]
    for path in paths:
        Image.fromarray(noise.integers(0, 255, (24, 30, 3), dtype=np.uint8)).save(path)
    return paths


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def mutate_images(folder: Path, number: int) -> None:
    """Writes images of five formats and damages every one of them."""
    moment = random.Random(0)
    sources = [path.read_bytes() for path in write_images(folder / "whole", 10, ("png", "jpg", "bmp", "tif", "webp"))]
    names = [path.name for path in sorted((folder / "whole").iterdir())]
    (folder / "damaged").mkdir()
    for place in range(number):
        content = sources[place % len(sources)]
        for _ in range(moment.randrange(1, 5)):
            content = mutated(content, moment) or b" "
        (folder / "damaged" / f"{place:04}_{names[place % len(names)]}").write_bytes(content)
