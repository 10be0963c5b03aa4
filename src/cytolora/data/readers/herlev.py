"""Herlev: 917 single Pap-stained cells in seven classes, as downloaded (``smear2005``)."""

import re
from pathlib import Path

from cytolora.data.manifest import Manifest, Sample
from cytolora.data.readers.layout import images_in, relative_path
from cytolora.data.readers.spec import DatasetSpec
from cytolora.errors import DataError

_PICTURES = "New database pictures"

_EXPECTED_COUNTS = {
    "normal_superficiel": 74,  # spelt so in the download
    "normal_intermediate": 70,
    "normal_columnar": 98,
    "light_dysplastic": 182,
    "moderate_dysplastic": 146,
    "severe_dysplastic": 197,
    "carcinoma_in_situ": 150,
}
"""Jantzen et al. 2005, in their order: from normal cells to carcinoma in situ."""

_GROUP = re.compile(r"(\d+-\d+)-\d+")

_GROUP_RULE = (
    "first two numbers of the file name, taken to mean cells of one micrograph; "
    "this is an inference from the names, nobody documents it, and patients cannot be known"
)


def read_herlev(path: Path) -> Manifest:
    """Reads the photographs of ``smear2005``, of its parent, or of ``New database pictures``.

    Paths are relative to ``New database pictures`` wherever one points, so that equal images give equal draws.

    Raises:
        DataError: If one of the seven class folders is missing or empty.
    """
    root = _pictures(path)
    if root is None:
        raise DataError(
            f"{path} is not Herlev: expected the folder smear2005, or {_PICTURES!r} in it, with the seven class "
            f"folders {', '.join(_EXPECTED_COUNTS)}."
        )
    samples: list[Sample] = []
    for label in _EXPECTED_COUNTS:
        photographs = [image for image in images_in(root / label) if _is_photograph(image)]
        if not photographs:
            raise DataError(f"herlev: {root / label} has no .BMP photographs; unpack the download again.")
        samples += [
            Sample(path=relative_path(image, root), label=label, group=_group(image.stem, label))
            for image in photographs
        ]
    return Manifest(
        name="herlev", root=root, classes=tuple(_EXPECTED_COUNTS), samples=tuple(samples), group_rule=_GROUP_RULE
    )


def _pictures(path: Path) -> Path | None:
    for root in (path, path / _PICTURES, path / "smear2005" / _PICTURES):
        if all((root / label).is_dir() for label in _EXPECTED_COUNTS):
            return root
    return None


def _is_photograph(image: Path) -> bool:
    """Photographs are ``<id>.BMP``, masks ``<id>-d.bmp``; the case alone does not survive every unpacking."""
    return image.suffix.lower() == ".bmp" and not image.stem.endswith("-d")


def _group(stem: str, _: str) -> str | None:
    match = _GROUP.fullmatch(stem)
    return match.group(1) if match else None


HERLEV = DatasetSpec(
    name="herlev",
    title="Herlev (smear2005)",
    read=read_herlev,
    looks_like=lambda path: _pictures(path) is not None,
    description="917 single cells, cervix, Papanicolaou stain, BMP of 32 to 768 px, each cut to its cell.",
    classes=tuple(_EXPECTED_COUNTS),
    expected_counts=_EXPECTED_COUNTS,
    group_rule=_GROUP_RULE,
    group_of=_group,
    licence="none stated",
    citation="Jantzen, Norup, Dounias, Bjerregaard: Pap-smear Benchmark Data for Pattern Classification. NiSIS 2005.",
    page="http://mde-lab.aegean.gr/index.php/downloads",
    how_to_get="Download smear2005, unpack it, and point at the folder smear2005.",
)
