"""OME-XML in TIFF files: bounds on what it states, before tifffile makes a list of so many planes."""

from xml.etree import ElementTree

_MAX_PLANES = 1_000_000
"""Stated by all images of a file; a stack of a microscope has thousands."""


def parse_ome(description: str) -> ElementTree.Element | None:
    """Returns the root of OME-XML; None where a description is none, or cannot be read.

    Raises:
        ValueError: If it declares entities, which OME-XML has no use for and which may grow without bound.
    """
    text = description.strip().rstrip("\0").rstrip()
    if not text.endswith("OME>"):
        return None
    if "<!" in text.replace("<!--", "").replace("<![CDATA[", ""):
        raise ValueError("its OME-XML declares entities or a document type, which no microscope writes")
    try:
        return ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError):
        return None


def check_planes(description: str) -> None:
    """Raises a ValueError where OME-XML states more planes than any file has."""
    root = parse_ome(description)
    if root is None:
        return
    total = 0
    for pixels in root.iterfind(".//{*}Pixels"):
        planes = 1
        for axis in "ZCT":
            size = pixels.get(f"Size{axis}", "1").strip()
            planes *= max(1, int(size)) if size.isdecimal() and len(size) < 20 else _MAX_PLANES + 1
        total += planes
    if total > _MAX_PLANES:
        raise ValueError(f"its OME-XML states {min(total, 10**18):,} planes, at most {_MAX_PLANES:,} are read")
