"""Drawn cells in the layouts of Herlev and SIPaKMeD: datasets to pool, with no real cell in them."""

from collections.abc import Mapping
from pathlib import Path

from PIL import Image

from cytolora.data.synthetic.dataset import draw_cells
from cytolora.data.synthetic.names import CLASSES

HERLEV = {
    "normal_superficiel": "normal",
    "normal_intermediate": "normal",
    "normal_columnar": "normal",
    "light_dysplastic": "lsil",
    "moderate_dysplastic": "hsil",
    "severe_dysplastic": "hsil",
    "carcinoma_in_situ": "hsil",
}
"""By class of Herlev, the drawn class that stands for it."""
SIPAKMED = {
    "Superficial-Intermediate": "normal",
    "Parabasal": "normal",
    "Metaplastic": "normal",
    "Koilocytotic": "koilocytic",
    "Dyskeratotic": "hsil",
}


def herlev_like(root: Path, *, per_class: int, seed: int = 11) -> Path:
    """``smear2005`` with ``per_class`` drawn cells of each class, two of a group."""
    pictures = root / "smear2005" / "New database pictures"
    for place, (label, images) in enumerate(_drawn(HERLEV, per_class, seed).items()):
        for number, image in enumerate(images):
            group = f"1539{place:02}-1540{number // 2:02}"
            _save(image, pictures / label / f"{group}-{number:03}.BMP")
    return root / "smear2005"


def sipakmed_like(root: Path, *, per_class: int, seed: int = 12) -> Path:
    """``im_<Class>/CROPPED`` with ``per_class`` drawn cells of each class, two of a cluster image."""
    for label, images in _drawn(SIPAKMED, per_class, seed).items():
        for number, image in enumerate(images):
            _save(image, root / f"im_{label}" / "CROPPED" / f"{number // 2:03}_{number:02}.bmp")
    return root


def _drawn(classes: Mapping[str, str], per_class: int, seed: int) -> dict[str, list]:
    """Deals drawn cells to classes; those of one drawn class are different cells."""
    wanted = max(list(classes.values()).count(one) for one in CLASSES) * per_class
    cells = draw_cells(wanted * len(CLASSES), seed, num_slides=wanted)
    stock = {one: iter(cells.images[cells.labels == place]) for place, one in enumerate(CLASSES)}
    return {label: [next(stock[one]) for _ in range(per_class)] for label, one in classes.items()}


def _save(image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)
