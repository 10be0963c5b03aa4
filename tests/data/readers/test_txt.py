"""Lists of a split (train.txt, val.txt, test.txt) are read whatever system wrote them."""

import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from cytolora.data.readers.txt import read_txt
from cytolora.errors import DataError

IMAGES = {"train": "Träger/a 1.png", "val": "nilm/b.png", "test": "Träger/c.png"}


def write(root: Path, rewrite: Callable[[str], str] = str, encoding: str = "utf-8", end: str = "\n") -> Path:
    """One image for each subset; the lists name them as ``rewrite`` does."""
    (root / "splits").mkdir(exist_ok=True)
    for number, (subset, name) in enumerate(IMAGES.items()):
        (root / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (number, 0, 0)).save(root / "images" / name)
        line = f"{rewrite(name)} {int(name.startswith('nilm'))}{end}"
        (root / "splits" / f"{subset}.txt").write_bytes(line.encode(encoding))
    return root


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(
    ("rewrite", "codes"),
    [
        (str, []),
        (lambda name: name.replace("/", "\\"), []),
        (lambda name: f"./{name}", []),
        (lambda name: unicodedata.normalize("NFD", name), ["T302"]),
        (str.upper, ["T302"]),
    ],
)
def test_lists_name_images_in_any_dialect(
    tmp_path: Path, rewrite: Callable[[str], str], codes: list[str], encoding: str, end: str
):
    manifest = read_txt(write(tmp_path, rewrite, encoding, end))
    assert {one.subset: one.path for one in manifest.samples} == IMAGES
    assert {one.subset: one.label for one in manifest.samples} == {"train": "Träger", "val": "nilm", "test": "Träger"}
    assert [one.code for one in manifest.findings] == codes


def test_a_list_of_another_encoding_is_refused_with_the_line(tmp_path: Path):
    with pytest.raises(DataError, match=r"line 1 has the byte 0xe4, which is no UTF-8"):
        read_txt(write(tmp_path, encoding="cp1252"))


@pytest.mark.parametrize("name", ["..\\a\\b.png", "C:\\a\\b.png", "/a/b.png", "b.png"])
def test_a_file_outside_the_class_folders_is_refused(tmp_path: Path, name: str):
    with pytest.raises(DataError, match=r"line 1: .* is not a file in a class folder"):
        read_txt(write(tmp_path, lambda _: name))
