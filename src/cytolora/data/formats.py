"""File formats by name: images that are read, images that are not, whole slides, tables, and what is passed over."""

import os
import re
from pathlib import PurePath

from cytolora.core.litter import is_litter

IMAGE_SUFFIXES = frozenset(
    (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".bmp", ".tif", ".tiff", ".webp"),
)
"""Images that are read, in lower case; what is inside decides how (a PNG called .jpg is read as PNG)."""

SLIDE_SUFFIXES = frozenset(
    (
        *(".svs", ".svslide", ".ndpi", ".ndpis", ".mrxs", ".scn", ".vms", ".vmu", ".bif", ".czi", ".qptiff"),
        *(".kfb", ".sdpc", ".isyntax", ".isx", ".tmap", ".dyqx", ".mds", ".vsi"),
    )
)
"""Whole slides, in lower case, which are read with their cells alone: the formats of OpenSlide
(https://openslide.org/formats/), and vendors' own."""

UNREAD_SUFFIXES = SLIDE_SUFFIXES | frozenset(
    (
        *(".jp2", ".j2k", ".jpx", ".jpf", ".jpc", ".j2c", ".jxl", ".jxr", ".wdp", ".hdp", ".avif", ".heic", ".heif"),
        *(".hif", ".gif", ".apng", ".dcm", ".dicom", ".dib", ".btf", ".tf8", ".tf2", ".flif", ".qoi", ".mpo"),
        *(".lif", ".nd2", ".oib", ".oif", ".lsm", ".zvi", ".stk", ".ets", ".flex", ".ims", ".sld"),
        *(".psd", ".psb", ".xcf", ".kra", ".ora", ".svg", ".ico", ".icns", ".tga", ".pcx", ".sgi", ".exr", ".hdr"),
        *(".pbm", ".pgm", ".ppm", ".pnm", ".pam", ".eps", ".wmf", ".emf"),
        *(".raw", ".dng", ".cr2", ".cr3", ".crw", ".nef", ".arw", ".orf", ".rw2", ".raf", ".pef", ".srw"),
        *(".nii", ".mha", ".mhd", ".nrrd", ".fits", ".fit", ".dm3", ".dm4", ".mrc"),
    )
)
"""Images, in lower case, of formats that are not read."""

TABLE_SUFFIXES = frozenset((".csv", ".tsv", ".tab", ".xlsx", ".xls", ".ods"))
"""Tables, which may say what the images beside them show."""

_WORDS_ABOUT = re.compile(
    r"(read[-_ ]?me|licen[cs]e|copying|citation|notice|authors|changelog|source|checksums?|md5sums?|sha256sums?)\b.*"
    r"|.*\.(md5|sha1|sha256)",
    re.IGNORECASE,
)
"""Files that accompany any download."""

_CONFLICT = re.compile(r"\.sync-conflict-\d{8}-\d{6}|\(.*conflicted copy.*\)|\.(tmp|part|crdownload)$", re.IGNORECASE)
"""Left by Syncthing, Dropbox, OneDrive and browsers, beside the file itself."""

_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"GIF8", "GIF"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
)
SIGNATURE_BYTES = 132
"""As many of a file tell what it is."""


def suffix_of(name: str) -> str:
    """Returns the suffix of a file name in lower case, with its dot; empty where there is none."""
    return os.path.splitext(name)[1].lower()  # noqa: PTH122  (asked of every file several times)


def is_passed_over(name: str) -> bool:
    """Whether a path is known by name to hold no data: hidden, or left there by a system or a program."""
    parts = name.replace(os.sep, "/").split("/")
    return any(part.startswith(".") for part in parts) or is_litter(name) or bool(_CONFLICT.search(parts[-1]))


def is_about(name: str) -> bool:
    """Whether a file is called like one that accompanies any download: README, licence, checksums."""
    return bool(_WORDS_ABOUT.fullmatch(name))


def is_image(path: PurePath) -> bool:
    """Says by name alone whether a file is an image that is meant to be read."""
    return is_image_name(path.name)


def is_image_name(name: str) -> bool:
    """Like ``is_image``, of a file name."""
    return suffix_of(name) in IMAGE_SUFFIXES and not name.startswith(".")


def signature(head: bytes) -> str:
    """Returns the image format that the first bytes of a file tell; empty if none."""
    if head[128:132] == b"DICM":
        return "DICOM"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WebP"
    return next((name for sign, name in _SIGNATURES if head.startswith(sign)), "")


def why_unread(name: str) -> str:
    """Says why an image of this name is not read, and what to do."""
    suffix = suffix_of(name)
    if suffix in SLIDE_SUFFIXES:
        return f"{suffix} is a whole slide; predict it alone, with the positions of its cells: --cells FILE"
    if not suffix:
        return "an image without a suffix; call it .png, .jpg or .tif, as it is"
    return f"{suffix} is not read; save it as PNG, JPEG, BMP, TIFF or WebP"
