"""Dataset: cells in one folder, named ``CLASS--SLIDE--NUMBER.png``; a file ``flat-cells.txt`` says that it is one."""

import re
from pathlib import Path

from cytolora.data.manifest import Manifest, Sample
from cytolora.data.readers.spec import DatasetSpec
from cytolora.errors import DataError

_MARKER = "flat-cells.txt"
_NAME = re.compile(r"(?P<label>[^-]+)--(?P<slide>[^-]+)--\d+")
_GROUP_RULE = "slide: the second part of the file name"


def read(path: Path) -> Manifest:
    """Reads the folder; a group is a slide."""
    if not _looks_like(path):
        raise DataError(f"{path} holds no {_MARKER}. Name the folder that was unpacked.")
    samples = []
    for image in sorted(path.glob("*.png")):
        named = _NAME.fullmatch(image.stem)
        if named is None:
            raise DataError(f"{image} is not named CLASS--SLIDE--NUMBER.png. Unpack the download again.")
        samples.append(Sample(path=image.name, label=named["label"], subset=None, group=named["slide"]))
    return Manifest(
        name="flat-cells",
        root=path,
        classes=tuple(sorted({sample.label for sample in samples})),
        samples=tuple(samples),
        group_rule=_GROUP_RULE,
        split_rule="",
    )


def _looks_like(path: Path) -> bool:
    return (path / _MARKER).is_file()


FLAT_CELLS = DatasetSpec(
    name="flat-cells",
    title="Cells in one folder",
    read=read,
    looks_like=_looks_like,
    description="Cells in one folder, class and slide in the file name.",
    companions=(_MARKER,),
    group_rule=_GROUP_RULE,
    licence="CC0-1.0",
)
