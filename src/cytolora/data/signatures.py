"""Image formats by content: first bytes, arrays of pixels, and either inside a compressed file."""

import bz2
import gzip
import io
import lzma
import re
import zipfile
import zlib
from typing import BinaryIO

SIGNATURE_BYTES = 132
"""As many of a file tell what it is."""
COMPRESSED_SUFFIXES = frozenset((".gz", ".bz2", ".xz", ".lzma", ".zst", ".lz4", ".br", ".z"))
"""Files of one compressed file each, in lower case; the suffix before says what it is."""

_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0\x08\0", "TIFF"),
    (b"MM\0+\0\x08", "TIFF"),
    (b"GIF8", "GIF"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"\0\0\0\x0cJXL ", "JPEG XL"),
    (b"\xff\x0a", "JPEG XL"),  # the codestream alone
    (b"II\xbc\x01", "JPEG XR"),
    (b"8BPS", "PSD"),
    (b"gimp xcf", "XCF"),
    (b"v/1\x01", "OpenEXR"),
    (b"SIMPLE  =", "FITS"),
    (b"NRRD000", "NRRD"),
    (b"ObjectType = Image", "MetaImage"),
    (b"qoif", "QOI"),
    (b"ZISRAWFILE", "CZI"),
    (b"\xda\xce\xbe\x0a", "ND2"),
    *((head, "camera") for head in (b"FUJIFILMCCD-RAW", b"IIRO", b"IIRS", b"MMOR", b"IIU\0", b"FOVb", b"\0MRM")),
)
_BRANDS = {
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"), "HEIF"),
    **dict.fromkeys((b"avif", b"avis"), "AVIF"),
    b"crx ": "camera",
}
"""Of ISO base media files that hold images, not films."""
_PNM = re.compile(rb"P[56]\s+(#[^\n]*\n\s*)*\d+\s+\d+\s+\d+\s")
_BMP_HEADERS = (12, 40, 52, 56, 64, 108, 124)
_NPY = re.compile(
    rb"\x93NUMPY.{2,6}\{.*'descr': '[<>|=]?(?P<kind>[a-z])\d+'.*'shape': \((?P<shape>[\d, ]*)\)", re.DOTALL
)
_NPY_BYTES = 256
_LEAST_EDGE = 8
"""Pixels of the shorter edge of an array that is taken for an image."""


def signature(head: bytes) -> str:
    """Returns the image format that the first bytes of a file tell; empty if none."""
    if head[128:132] == b"DICM" or _is_bare_dicom(head):
        return "DICOM"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WebP"
    if head[4:8] == b"ftyp":
        return _BRANDS.get(head[8:12], "")
    if head[:2] == b"BM" and head[6:10] == bytes(4) and int.from_bytes(head[14:18], "little") in _BMP_HEADERS:
        return "BMP"
    if _PNM.match(head):
        return "PNM"
    return next((name for sign, name in _SIGNATURES if head.startswith(sign)), "")


def content_of(file: BinaryIO) -> str:
    """Returns the image format of a file, also of one that is compressed or an array; empty if it is no image.

    Raises:
        OSError: If the file cannot be read.
    """
    head = file.read(SIGNATURE_BYTES)
    if head.startswith(b"\x93NUMPY"):
        return _array(head + file.read(_NPY_BYTES - len(head)))
    if head.startswith(b"PK\x03\x04") and head[30:130].partition(b".npy")[1]:
        file.seek(0)
        return _arrays(file)
    inner = _unpacked(head, file)
    return signature(head) if inner is None else signature(inner[:SIGNATURE_BYTES]) or _array(inner)


def _is_bare_dicom(head: bytes) -> bool:
    """Whether a file begins with an element of group 2 or 8, as DICOM without preamble does."""
    tag, kind = head[:4], head[4:6]
    return tag in (b"\x02\0\0\0", b"\x08\0\0\0", b"\x08\0\x05\0", b"\x08\0\x08\0") and kind in (b"UL", b"CS")


def _array(head: bytes) -> str:
    """Tells an array of pixels from one of features: whole numbers in two dimensions, or three and more."""
    match = _NPY.match(head)
    if match is None:
        return ""
    shape = [int(part) for part in match["shape"].split(b",") if part.strip()]
    num_edges = sum(edge >= _LEAST_EDGE for edge in shape)
    is_image = num_edges >= 2 and (len(shape) > 2 or (len(shape) == 2 and match["kind"] == b"u"))
    return "NumPy array" if is_image else ""


def _arrays(file: BinaryIO) -> str:
    try:
        with zipfile.ZipFile(file) as packed:
            for name in packed.namelist():
                if name.endswith(".npy"):
                    with packed.open(name) as member:
                        if _array(member.read(_NPY_BYTES)):
                            return "NumPy arrays"
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError, NotImplementedError):
        pass
    return ""


def _unpacked(head: bytes, file: BinaryIO) -> bytes | None:
    """Returns the first bytes inside a compressed file; empty where it is damaged, None where it is none."""
    readers = ((b"\x1f\x8b", gzip.open), (b"BZh", bz2.open), (b"\xfd7zXZ\0", lzma.open))
    opened = next((reader for magic, reader in readers if head.startswith(magic)), None)
    if opened is None:
        return None
    file.seek(0)
    try:
        with opened(file, "rb") as inside:
            return inside.read(_NPY_BYTES)
    except (OSError, EOFError, zlib.error, lzma.LZMAError, io.UnsupportedOperation):
        return b""
