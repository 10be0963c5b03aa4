"""File formats by name: images that are read, images that are not, whole slides, tables, and what is passed over."""

import os
import re
from pathlib import PurePath

from cytolora.core.litter import is_litter
from cytolora.data.signatures import COMPRESSED_SUFFIXES, signature

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
        *(
            ".jp2",
            ".j2k",
            ".jph",
            ".jpm",
            ".jpx",
            ".jpf",
            ".jpc",
            ".j2c",
            ".jxl",
            ".jxr",
            ".wdp",
            ".hdp",
            ".avif",
            ".heic",
            ".heif",
        ),
        *(".hif", ".gif", ".apng", ".dcm", ".dicom", ".dib", ".btf", ".tf8", ".tf2", ".flif", ".qoi", ".mpo"),
        *(".lif", ".nd2", ".oib", ".oif", ".lsm", ".zvi", ".stk", ".ets", ".flex", ".ims", ".sld"),
        *(".psd", ".psb", ".xcf", ".kra", ".ora", ".svg", ".ico", ".icns", ".tga", ".pcx", ".sgi", ".exr", ".hdr"),
        *(".pbm", ".pgm", ".ppm", ".pnm", ".pam", ".eps", ".wmf", ".emf"),
        *(".raw", ".dng", ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".srf", ".sr2", ".orf", ".rw2", ".rwl"),
        *(".raf", ".pef", ".srw", ".x3f", ".3fr", ".fff", ".iiq", ".erf", ".kdc", ".dcr", ".mrw", ".mef", ".mos"),
        *(".nii", ".mha", ".mhd", ".nrrd", ".fits", ".fit", ".dm3", ".dm4", ".mrc"),
    )
)
"""Images, in lower case, of formats that are not read."""

WORKBOOK_SUFFIXES = frozenset((".xlsx", ".xlsm", ".xlsb", ".xls", ".ods", ".numbers"))
"""Workbooks, which have to be saved as CSV."""
TABLE_SUFFIXES = WORKBOOK_SUFFIXES | frozenset((".csv", ".tsv", ".tab"))
"""Tables, which may say what the images beside them show."""
TEXT_SUFFIXES = TABLE_SUFFIXES | frozenset((".json", ".jsonl", ".geojson", ".xml", ".txt"))
"""Tables and files of labels, in lower case, which hold no pixels."""

_WORDS_ABOUT = re.compile(
    r"(read[-_ ]?me|licen[cs]e|copying|citation|notice|authors|changelog|source|checksums?|md5sums?|sha256sums?)\b.*"
    r"|.*\.(md5|sha1|sha256)",
    re.IGNORECASE,
)
"""Files that accompany any download."""

_READ = ("PNG", "JPEG", "BMP", "TIFF", "WebP")
"""Formats that are read, as ``signature`` names them."""

_CONFLICT = re.compile(r"\.sync-conflict-\d{8}-\d{6}|\(.*conflicted copy.*\)|\.(tmp|part|crdownload)$", re.IGNORECASE)
"""Left by Syncthing, Dropbox, OneDrive and browsers, beside the file itself."""


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


def is_unread_name(name: str) -> bool:
    """Says by name alone whether a file is an image of a format that is not read, or one that is compressed."""
    suffix = suffix_of(name)
    if suffix in COMPRESSED_SUFFIXES:
        inner = name[: -len(suffix)]
        return suffix_of(inner) in IMAGE_SUFFIXES or is_unread_name(inner)
    return suffix in UNREAD_SUFFIXES


def kind_of_unread(name: str, content: str) -> str:
    """Names the kind of an image that is not read, for a count: ``.jp2``, ``.tif.gz``, ``.bak (PNG)``.

    Args:
        content: Its format as ``content_of`` tells; empty where that was not asked.
    """
    suffix = suffix_of(name)
    if suffix in COMPRESSED_SUFFIXES and is_unread_name(name):
        return suffix_of(name[: -len(suffix)]) + suffix
    is_number = suffix[1:].isdigit()  # the end of an identifier of DICOM
    shown = "without a suffix" if is_number or not suffix else suffix
    return f"{shown} ({content})" if content and suffix not in UNREAD_SUFFIXES else shown


def what_it_is(head: bytes) -> str:
    """Says what a file is that is called like an image and that no reader knows, by its first bytes."""
    if not head.strip(b"\0"):
        return "it is empty"
    if head.startswith(b"version https://git-lfs"):
        return "it is a pointer of Git LFS, not the image; fetch it with `git lfs pull`"
    kind = signature(head)
    if kind in _READ:
        return f"its {kind} data are damaged"
    return f"it is {kind} inside, which is not read; save it as PNG" if kind else "none of PNG, JPEG, BMP, TIFF, WebP"


def why_unread(name: str) -> str:
    """Says why an image of this name is not read, and what to do."""
    suffix = suffix_of(name)
    if suffix in SLIDE_SUFFIXES:
        return f"{suffix} is a whole slide; predict it alone, with the positions of its cells: --cells FILE"
    if suffix in COMPRESSED_SUFFIXES:
        return f"{suffix} is a compressed file; unpack it"
    if not suffix:
        return "an image without a suffix; call it .png, .jpg or .tif, as it is"
    if suffix not in UNREAD_SUFFIXES:
        return f"an image under the suffix {suffix}; save it as PNG, JPEG, BMP, TIFF or WebP"
    return f"{suffix} is not read; save it as PNG, JPEG, BMP, TIFF or WebP"
