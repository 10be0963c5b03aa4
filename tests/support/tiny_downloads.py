"""Tiny downloads in the exact layouts of the official ones; every source is tested on its own."""

import csv
import io
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import numpy as np
from PIL import Image

from cytolora.data.readers.bmcd import BMCD
from cytolora.data.readers.hicervix_tree import NODES

SIZES_PX = (6, 5)


def paint(path: Path, number: int, size: tuple[int, int] = SIZES_PX) -> Path:
    """Saves an image whose content no other number has."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (number % 256, number // 256, 99)).save(path)
    return path


def paint_all(root: Path, names: Iterable[str], suffix: str = "") -> Path:
    """Saves one image for each name."""
    for number, name in enumerate(names):
        paint(root / f"{name}{suffix}", number)
    return root


def make_sipakmed(root: Path, *, depth: int = 2) -> Path:
    """``im_<Class>/im_<Class>/CROPPED/001_01.bmp`` with contours beside, cluster images outside CROPPED."""
    numbers = count()
    for label in ("Dyskeratotic", "Koilocytotic", "Metaplastic", "Parabasal", "Superficial-Intermediate"):
        folder = root.joinpath(*[f"im_{label}"] * depth)
        for cell in ("001_01", "001_02", "002_01"):
            image = paint(folder / "CROPPED" / f"{cell}.bmp", next(numbers))
            for part in ("cyt", "nuc"):
                image.with_name(f"{cell}_{part}.dat").write_text("1,2\n3,4\n")
        for cluster in ("001", "002"):
            paint(folder / f"{cluster}.bmp", next(numbers), (60, 50))
            (folder / f"{cluster}_cyt01.dat").write_text("1,2\n")
    return root


MLCC_FOLDERS = {
    "HSIL": "High squamous intra-epithelial lesion",
    "LSIL": "Low squamous intra-epithelial lesion",
    "NL": "Negative for Intraepithelial malignancy",
    "SCC": "Squamous cell carcinoma",
}
MLCC_NAMES = {
    "HSIL": ("HSIL_1 (10)", "HSIL_1 (11)", "HSIL_2 (1)"),
    "LSIL": ("LSIL_4 (34)", "LSIL_1 (2)"),
    "NL": ("NL_9_ (8)", "NL_9_ (9)", "NL_43_ (1)"),
    "SCC": ("SCC_4 (5)", "scc_2 (15)"),
}


def make_mlcc(root: Path, *, short_names: bool = False) -> Path:
    """Full class names, blanks and brackets in the names, and ``scc_`` in lower case."""
    folders = {label: label for label in MLCC_FOLDERS} if short_names else MLCC_FOLDERS
    return paint_all(root, (f"{folders[label]}/{name}" for label in folders for name in MLCC_NAMES[label]), ".jpg")


def make_bcfc(root: Path) -> Path:
    """Where the class folders stand was not seen: here two folders down."""
    return paint_all(
        root, (f"cytology/images/{label}/{number}" for label in ("benign", "malignant") for number in range(3)), ".png"
    )


def make_hicervix(root: Path) -> Path:
    """One image of each of the 26 class names in each subset, with the columns of the official tables."""
    numbers = count()
    for subset in ("train", "val", "test"):
        with (root / f"{subset}.csv").open("w", encoding="utf-8", newline="") as file:
            table = csv.writer(file)
            table.writerow(["image_name", "class_name", "class_id", "level_1", "level_2", "level_3"])
            for class_id, (name, node) in enumerate(NODES.items()):
                number = next(numbers)
                image = paint(root / subset / f"6a7ed02d-7148-304f-907b-{number:012}.jpg", number)
                table.writerow([image.name, name, class_id, *node.levels, *[""] * (3 - len(node.levels))])
    return root


def make_apacc(root: Path) -> Path:
    """``train`` and ``test`` above the four classes."""
    classes = ("healthy", "unhealthy", "rubbish", "bothcells")
    names = (f"{subset}/{label}/{n}" for subset in ("train", "test") for label in classes for n in range(2))
    return paint_all(root, names, ".png")


def make_bmcd(root: Path) -> Path:
    """Folders of a thousand inside the classes, as on Kaggle, and the table of abbreviations beside."""
    (root / "abbreviations.csv").write_text("Abbreviation;Meaning\nABE;Abnormal eosinophil\n")
    names = (f"bone_marrow_cell_dataset/{label}/0001-1000/{label}_0000{n}" for label in BMCD.classes for n in (1, 2))
    return paint_all(root, names, ".jpg")


def make_bmt(root: Path) -> Path:
    """``NIL``, ``LSIL`` and ``HSIL``, with a blank in the names."""
    return paint_all(root, (f"{label}/{label} {n}" for label in ("NIL", "LSIL", "HSIL") for n in range(3)), ".png")


def make_fnac2019(root: Path) -> Path:
    """``B`` and ``M``."""
    return paint_all(root, (f"{label}/{label}_{n}" for label in "BM" for n in range(3)), ".jpg")


def bloodmnist_arrays(size_px: int = 28) -> dict[str, np.ndarray]:
    """Two images of each class for train, one for val and test."""
    arrays: dict[str, np.ndarray] = {}
    for part, (subset, repeats) in enumerate({"train": 2, "val": 1, "test": 1}.items()):
        labels = np.tile(np.arange(8, dtype=np.uint8), repeats)
        images = np.zeros((len(labels), size_px, size_px, 3), np.uint8)
        images[..., 0] = np.arange(len(labels))[:, None, None]
        images[..., 1] = part
        images[:, size_px // 2 :, :, 2] = 200
        arrays |= {f"{subset}_images": images, f"{subset}_labels": labels[:, None]}
    return arrays


def make_bloodmnist(root: Path) -> Path:
    """The smallest of the four files."""
    write_npz(root / "bloodmnist.npz", bloodmnist_arrays())
    return root


def write_npz(path: Path, arrays: Mapping[str, np.ndarray]) -> Path:
    """Writes a file as numpy does; what numpy would pickle is pickled here too."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, array in arrays.items():
            content = io.BytesIO()
            np.lib.format.write_array(content, array, allow_pickle=True)
            file.writestr(f"{name}.npy", content.getvalue())
    return path


CRIC_SYSTEMS = ("Negative for intraepithelial lesion", "ASC-US", "ASC-H", "LSIL", "HSIL", "SCC")


def make_cric(root: Path) -> Path:
    """Two fields of 160 x 140 px with a nucleus of each class, the last one at a corner."""
    rng = np.random.default_rng(0)
    rows = ["image_id,image_filename,image_doi,cell_id,bethesda_system,nucleus_x,nucleus_y"]
    (root / "images").mkdir(parents=True)
    for image in (1, 2):
        name = f"cric_image_00{image}_abc.png"
        Image.fromarray(rng.integers(0, 256, (140, 160, 3), np.uint8)).save(root / "images" / name)
        for number, system in enumerate(CRIC_SYSTEMS):
            x, y = (160, 140) if system == "SCC" else (70 + number, 65)
            rows.append(f"{image},{name},10.6084/m9.{image},{100 * image + number},{system},{x},{y}")
    (root / "classifications.csv").write_text("\n".join(rows) + "\n")
    return root


def make_herlev(root: Path) -> Path:
    """Photographs ``.BMP`` beside masks ``-d.bmp``."""
    pictures = root / "smear2005" / "New database pictures"
    numbers = count()
    for label in (
        *("normal_superficiel", "normal_intermediate", "normal_columnar"),
        *("light_dysplastic", "moderate_dysplastic", "severe_dysplastic", "carcinoma_in_situ"),
    ):
        first = next(numbers)
        for cell in (1, 2):
            image = paint(pictures / label / f"1539{first}-1540{first}-00{cell}.BMP", next(numbers))
            image.with_name(f"{image.stem}-d.bmp").write_bytes(image.read_bytes())
    return root


@dataclass(frozen=True, kw_only=True)
class Download:
    """How a tiny download is made, and what reading it must give."""

    make: Callable[[Path], Path]
    counts: Mapping[str, int]
    subsets: Mapping[str, int] = field(default_factory=dict)
    groups: frozenset[str] = frozenset()
    is_recognised: bool = True
    """Whether it is known without its name."""


DOWNLOADS = {
    "apacc": Download(
        make=make_apacc,
        counts=dict.fromkeys(("healthy", "unhealthy", "rubbish", "bothcells"), 4),
        subsets={"train": 8, "test": 8},
    ),
    "bcfc": Download(make=make_bcfc, counts={"malignant": 3, "benign": 3}, is_recognised=False),
    "bloodmnist": Download(
        make=make_bloodmnist,
        counts=dict.fromkeys(
            (
                *("basophil", "eosinophil", "erythroblast", "immature granulocyte"),
                *("lymphocyte", "monocyte", "neutrophil", "platelet"),
            ),
            4,
        ),
        subsets={"train": 16, "val": 8, "test": 8},
    ),
    "bmcd": Download(make=make_bmcd, counts=dict.fromkeys(BMCD.classes, 2)),
    "bmt": Download(make=make_bmt, counts={"NILM": 3, "LSIL": 3, "HSIL": 3}, is_recognised=False),
    "cric": Download(
        make=make_cric,
        counts=dict.fromkeys(("NILM", "ASC-US", "ASC-H", "LSIL", "HSIL", "SCC"), 2),
        groups=frozenset({"1", "2"}),
    ),
    "fnac2019": Download(make=make_fnac2019, counts={"benign": 3, "malignant": 3}, is_recognised=False),
    "herlev": Download(
        make=make_herlev,
        counts=dict.fromkeys(
            (
                *("normal_superficiel", "normal_intermediate", "normal_columnar"),
                *("light_dysplastic", "moderate_dysplastic", "severe_dysplastic", "carcinoma_in_situ"),
            ),
            2,
        ),
        groups=frozenset(f"1539{n}-1540{n}" for n in range(0, 21, 3)),
    ),
    "hicervix": Download(
        make=make_hicervix,
        counts={name: 3 for name in NODES if name != "AGC"},
        subsets={"train": 25, "val": 25, "test": 25},
    ),
    "mlcc": Download(
        make=make_mlcc,
        counts={"HSIL": 3, "LSIL": 2, "NL": 3, "SCC": 2},
        groups=frozenset({"HSIL_1", "HSIL_2", "LSIL_1", "LSIL_4", "NL_9", "NL_43", "SCC_4", "SCC_2"}),
    ),
    "sipakmed": Download(
        make=make_sipakmed,
        counts=dict.fromkeys(
            ("Dyskeratotic", "Koilocytotic", "Metaplastic", "Parabasal", "Superficial-Intermediate"), 3
        ),
        groups=frozenset(
            f"{label}_00{n}"
            for label in ("Dyskeratotic", "Koilocytotic", "Metaplastic", "Parabasal", "Superficial-Intermediate")
            for n in (1, 2)
        ),
    ),
}


def packed(root: Path, archive: Path) -> Path:
    """Packs a folder as a zip file, inside one folder of its own."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as file:
        for path in sorted(root.rglob("*")):
            if path.is_file():
                file.write(path, f"download/{path.relative_to(root).as_posix()}")
    archive.write_bytes(content.getvalue())
    return archive
