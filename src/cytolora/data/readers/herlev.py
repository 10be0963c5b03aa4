"""Herlev: 917 single Pap-stained cells in seven classes, as downloaded (``smear2005``)."""

import re
from pathlib import Path

from cytolora.config.run import Subset
from cytolora.data.manifest import Manifest, Sample
from cytolora.data.readers.class_folders import plain, sub_folders, subset_folders
from cytolora.data.readers.layout import child_named, images_in, relative_path
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
    for parent, subset in _parents(root):
        for label in _EXPECTED_COUNTS:
            folder = _class_folders(parent)[label]
            photographs = [image for image in images_in(folder) if not _is_mask(image)]
            if not photographs:
                raise DataError(f"herlev: {folder} has no photographs; unpack the download again.")
            samples += [
                Sample(path=relative_path(image, root), label=label, subset=subset, group=_group(image.stem, label))
                for image in photographs
            ]
    return Manifest(
        name="herlev",
        root=root,
        classes=tuple(_EXPECTED_COUNTS),
        samples=tuple(samples),
        group_rule=_GROUP_RULE,
        split_rule="train, val and test as the folders say" if any(sample.subset for sample in samples) else "",
    )


def _pictures(path: Path) -> Path | None:
    """Finds the folder of the seven classes, or of train, val and test above these."""
    smear = child_named(path, "smear2005")
    inner = [child_named(parent, _PICTURES) for parent in (path, smear) if parent is not None]
    return next((root for root in (path, *inner) if root is not None and _parents(root)), None)


def _parents(root: Path) -> list[tuple[Path, Subset | None]]:
    """Lists the folders that hold the seven classes: this one, or train, val and test in it."""
    if len(_class_folders(root)) == len(_EXPECTED_COUNTS):
        return [(root, None)]
    return [one for one in subset_folders(root) if len(_class_folders(one[0])) == len(_EXPECTED_COUNTS)]


def _class_folders(root: Path) -> dict[str, Path]:
    labels = {plain(label): label for label in _EXPECTED_COUNTS}
    return {labels[plain(folder.name)]: folder for folder in sub_folders(root) if plain(folder.name) in labels}


def _is_mask(image: Path) -> bool:
    """Photographs are ``<id>.BMP``, masks ``<id>-d.bmp``; the case alone does not survive every unpacking."""
    return image.stem.lower().endswith("-d")


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
    companions=("*-d.*",),
    licence="none stated",
    citation="Jantzen, Norup, Dounias, Bjerregaard: Pap-smear Benchmark Data for Pattern Classification. NiSIS 2005.",
    page="http://mde-lab.aegean.gr/index.php/downloads",
    how_to_get="Download smear2005, unpack it, and point at the folder smear2005.",
)
