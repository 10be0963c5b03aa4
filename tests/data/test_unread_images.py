"""Images that are not read: known by their suffix or their content, counted and named; other files stay quiet."""

import bz2
import gzip
import io
import lzma
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from folders import photographs
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cytolora.classifier.inference.image_sources import Source, find_images, left_out
from cytolora.core.findings import problems
from cytolora.data.datasets import load_manifest
from cytolora.data.formats import IMAGE_SUFFIXES, is_passed_over, kind_of_unread
from cytolora.data.signatures import content_of
from cytolora.errors import DataError
from cytolora.training.embed import unlabelled

OWN = ["hsil/1.png", "hsil/2.png", "normal/1.png", "normal/2.png"]


def _saved(kind: str) -> bytes:
    content = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 24, 3), np.uint8)).save(content, kind)
    return content.getvalue()


def _array(*shape: int, dtype: str = "u1") -> bytes:
    content = io.BytesIO()
    np.save(content, np.zeros(shape, dtype))
    return content.getvalue()


def _arrays(**arrays: np.ndarray) -> bytes:
    content = io.BytesIO()
    np.savez(content, allow_pickle=False, **arrays)
    return content.getvalue()


DICOM = bytes(128) + b"DICM\2\0\0\0UL\4\0"
HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"
UNREAD: dict[str, tuple[bytes, str]] = {
    "a.tif.gz": (gzip.compress(_saved("tiff")), ".tif.gz"),
    "a.PNG.GZ": (b"cut off", ".png.gz"),
    "scan.gz": (gzip.compress(_saved("png")), ".gz (PNG)"),
    "scan.xz": (lzma.compress(_saved("bmp")), ".xz (BMP)"),
    "scan.bz2": (bz2.compress(_saved("jpeg")), ".bz2 (JPEG)"),
    "a.svs.zst": (b"x", ".svs.zst"),
    "cells.npy": (_array(20, 30, 3), ".npy (NumPy array)"),
    "stack.npy": (_array(5, 20, 30, dtype="<f4"), ".npy (NumPy array)"),
    "gray.npy": (_array(20, 30, dtype="<u2"), ".npy (NumPy array)"),
    "cells.npz": (_arrays(labels=np.zeros(3), images=np.zeros((3, 28, 28), np.uint8)), ".npz (NumPy arrays)"),
    "a.npy.gz": (gzip.compress(_array(20, 30, 3)), ".gz (NumPy array)"),
    "1.png.bak": (_saved("png"), ".bak (PNG)"),
    "1.jpg~": (_saved("jpeg"), ".jpg~ (JPEG)"),
    "1.tif.orig": (_saved("tiff"), ".orig (TIFF)"),
    "1.png.1": (_saved("png"), "without a suffix (PNG)"),
    "1.txt": (_saved("webp"), ".txt (WebP)"),
    "1.2.840.113619.2.55.3": (DICOM, "without a suffix (DICOM)"),
    "IM0001": (b"\x08\0\x05\0CS\x0a\0ISO_IR 100\x08\0\x16\0UI", "without a suffix (DICOM)"),
    "slide.svs": (b"a slide", ".svs"),
    "P1.CR2": (b"a camera's own", ".cr2"),
    "P1.nrw": (b"a camera's own", ".nrw"),
    "P1.3fr": (b"a camera's own", ".3fr"),
    "P1.camera": (b"FUJIFILMCCD-RAW 0201", ".camera (camera)"),
    "IMG_1.HEIC": (HEIC, ".heic"),
    "IMG_1.photo": (HEIC, ".photo (HEIF)"),
    "IMG_2.photo": (b"\0\0\0\x1cftypavif\0\0\0\0", ".photo (AVIF)"),
    "a.dat": (b"P6\n# made\n24 20\n255\n" + bytes(9), ".dat (PNM)"),
    "a.codestream": (b"\xff\x4f\xff\x51\0\x2f", ".codestream (JPEG 2000)"),
}


def _beside(root: Path, name: str, content: bytes) -> Path:
    photographs(root, OWN)
    (root / "hsil" / name).write_bytes(content)
    return root


@pytest.mark.parametrize("name", UNREAD)
def test_an_image_that_is_not_read_is_a_warning_with_its_number_and_name(name: str, tmp_path: Path):
    content, kind = UNREAD[name]
    cells = _beside(tmp_path, name, content)
    expected = f"1 file is passed over: 1 {kind}, namely hsil/{name}. Images of this format are not read."
    for findings in (load_manifest(cells).findings, unlabelled(cells).findings):
        found = problems(findings)
        assert [(one.code, str(one), one.count, one.examples) for one in found] == [
            ("F201", expected, 1, (f"hsil/{name}",))
        ]


@pytest.mark.parametrize("name", UNREAD)
def test_such_an_image_is_a_row_with_an_error_in_predict_also_inside_a_zip_file(name: str, tmp_path: Path):
    cells = _beside(tmp_path / "cells", name, UNREAD[name][0])
    with zipfile.ZipFile(tmp_path / "cells.zip", "w") as packed:
        for path in sorted(cells.rglob("*.*" if "." in name else "*")):
            if path.is_file():
                packed.write(path, path.relative_to(cells).as_posix())
    for place in (cells, tmp_path / "cells.zip"):
        with_error = [one for one in find_images([place]) if not _is_read(one)]
        assert [one.name.rpartition("/")[2] for one in with_error] == [name]


def _is_read(source: Source) -> bool:
    try:
        source.pixels()
    except DataError:
        return False
    return True


QUIET: dict[str, bytes] = {
    "README": b"These are cells.",
    "notes.txt": b"P5 was a woman of 60. BM aspirate.",
    "boxes.json": b"{}",
    "1.xml": b"<annotation/>",
    "log": b"",
    "features.npy": _array(500, 384, dtype="<f4"),
    "labels.npy": _array(500, dtype="<i8"),
    "features.npz": _arrays(x=np.zeros((9, 384), np.float32)),
    "notes.txt.gz": gzip.compress(b"words"),
    "cut.gz": gzip.compress(_saved("png"))[:12],
    "film.mp4": b"\0\0\0\x18ftypisom\0\0\0\0",
    "BM.txt": b"BM aspirates of 2021, in two parts",
    "contour.dat": b"1,2\n3,4\n",
    "archive.zip": b"PK\x03\x04" + bytes(40),
    "model.bin": bytes(400),
    "MM.doc": b"MM of 2019",
}


@pytest.mark.parametrize("name", QUIET)
def test_a_file_that_is_no_image_is_no_problem(name: str, tmp_path: Path):
    cells = _beside(tmp_path, name, QUIET[name])
    assert problems(load_manifest(cells).findings) == [] == problems(left_out([cells]))


_NAMES = st.from_regex(r"[a-z0-9_]{1,8}(\.[a-z0-9~]{1,5}){0,3}", fullmatch=True)
_PACKED: list[Callable[[bytes], bytes]] = [bytes, gzip.compress, bz2.compress, lzma.compress]


@settings(max_examples=20)
@given(_NAMES, st.sampled_from(["png", "jpeg", "tiff", "bmp", "webp", "gif"]), st.sampled_from(_PACKED))
def test_no_folder_with_an_image_of_any_name_is_without_problem(
    tmp_path_factory: pytest.TempPathFactory, name: str, kind: str, pack: Callable[[bytes], bytes]
):
    if is_passed_over(name) or Path(name).suffix in IMAGE_SUFFIXES:
        return
    cells = _beside(tmp_path_factory.mktemp("cells"), name, pack(_saved(kind)))
    assert [one.code for one in problems(load_manifest(cells).findings)] == ["F201"]


@given(st.text(max_size=300))
def test_no_text_is_taken_for_an_image(text: str):
    assert content_of(io.BytesIO(text.encode("utf-8", "ignore"))) == ""


def test_of_many_kinds_each_is_counted():
    names = ["a.tif.gz", "b.tif.gz", "c.bak", "1.2.3"]
    assert [kind_of_unread(name, "PNG") for name in names] == [
        ".tif.gz",
        ".tif.gz",
        ".bak (PNG)",
        "without a suffix (PNG)",
    ]
