"""Folders of photograph-like images, masks and text files, by their names."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

SIZE_PX = (24, 20)


def photograph(path: Path, seed: int, size: tuple[int, int] = SIZE_PX) -> Path:
    """Saves coloured noise; no two seeds give equal images."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    kind = {"jpe": "jpeg", "jfif": "jpeg", "jif": "jpeg", "jp2": "jpeg2000"}.get(path.suffix[1:].lower())
    Image.fromarray(pixels).save(path, kind)
    return path


def photographs(root: Path, names: Iterable[str]) -> Path:
    """Saves one image for each name."""
    for seed, name in enumerate(names):
        photograph(root / name, seed)
    return root


def mask(path: Path, size: tuple[int, int] = SIZE_PX, *, mode: str = "L") -> Path:
    """Saves a mask: a bright disc on black."""
    path.parent.mkdir(parents=True, exist_ok=True)
    y, x = np.mgrid[: size[1], : size[0]]
    disc = np.hypot(x - size[0] / 2, y - size[1] / 2) < 6
    Image.fromarray((disc * 255).astype(np.uint8)).convert(mode).save(path)
    return path


def texts(root: Path, **files: str) -> Path:
    """Writes text files; ``__`` in a name stands for ``/`` and a last ``_`` for the dot of the suffix."""
    for name, text in files.items():
        stem, _, suffix = name.replace("__", "/").rpartition("_")
        file = root / f"{stem}.{suffix}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root


def tree(folder: Path) -> list[str]:
    """Lists all files below a folder."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
