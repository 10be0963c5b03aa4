"""Pool of datasets: the name that its runs bear. It is read by data/pooling.py, from the folders of its members."""

from pathlib import Path

from cytolora.data.manifest import Manifest
from cytolora.data.readers.spec import DatasetSpec
from cytolora.errors import ConfigError


def _read(path: Path) -> Manifest:
    raise ConfigError(
        f"A pool has no folder of its own, got {path}. Name its datasets and the label map: --data herlev=PATH "
        "sipakmed=PATH --pool bethesda."
    )


POOL = DatasetSpec(
    name="pool",
    title="Datasets pooled under one label map",
    read=_read,
    looks_like=lambda path: False,
    description="Several datasets with the categories of one system of reporting: --data A=PATH B=PATH --pool MAP.",
    group_rule="the groups of each dataset",
    licence="those of the datasets",
    generic=True,
)
