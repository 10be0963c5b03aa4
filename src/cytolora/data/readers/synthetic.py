"""Synthetic dataset reader: drawn cells of five made-up classes, no download needed."""

from dataclasses import replace
from pathlib import Path

from cytolora.data.manifest import Manifest
from cytolora.data.readers.csv import read_csv
from cytolora.data.readers.spec import DatasetSpec
from cytolora.data.synthetic.names import CLASSES, MARKER
from cytolora.errors import DataError


def read_synthetic(path: Path) -> Manifest:
    """Reads drawn cells; a folder that is absent or empty is first filled with 1,500 cells on 30 slides, seed 0.

    Raises:
        DataError: If the folder holds anything else.
    """
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        from cytolora.data.synthetic.dataset import write_synthetic  # not when the list of datasets is loaded

        write_synthetic(path)
    if not _looks_like(path):
        raise DataError(f"{path} holds no drawn cells ({MARKER} is absent); name a new or an empty folder.")
    return replace(read_csv(path), name="synthetic", classes=CLASSES, group_rule=SYNTHETIC.group_rule)


def _looks_like(path: Path) -> bool:
    return (path / MARKER).is_file()


SYNTHETIC = DatasetSpec(
    name="synthetic",
    title="Drawn cells",
    read=read_synthetic,
    looks_like=_looks_like,
    description="Drawn Pap-like cells, five made-up classes named after real ones: for demos and tests.",
    classes=CLASSES,
    group_rule="a slide is a drawn stain, focus and background; the folder's name",
    licence="Apache-2.0",
    drawn=True,
)
