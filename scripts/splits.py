"""Table of canonical divisions: `python scripts/splits.py --herlev smear2005 --hicervix CSVS` prints it."""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from cytolora.config.run import SUBSETS
from cytolora.data.datasets import find_dataset, load_manifest
from cytolora.data.manifest import Manifest, Sample
from cytolora.data.readers.hicervix import LABEL_SETS, read_table
from cytolora.data.readers.hicervix_tree import NODES
from cytolora.data.splitting.canonical import canonical_division, division_sha256


def hicervix(tables: Path, label_set: str) -> Manifest:
    """Reads the official label files alone: the division is theirs, and images are not opened for it."""
    spec = find_dataset(f"hicervix:{label_set}")
    samples = [
        Sample(path=f"{subset}/{name}", label=label, subset=subset)
        for subset in SUBSETS
        for name, class_name in read_table(tables / f"{subset}.csv").items()
        if (label := LABEL_SETS[label_set][1](NODES[class_name]))
    ]
    return Manifest(name=spec.name, root=tables, classes=spec.classes, samples=tuple(samples))


def row(manifest: Manifest) -> str:
    """Returns the line of one dataset in docs/splits/README.md."""
    divided = canonical_division(manifest)
    counts = " | ".join(f"{len(divided.subset(subset)):,}" for subset in SUBSETS)
    groups = len({sample.group for sample in divided.samples} - {None}) or "–"
    return f"| {divided.name} | {len(divided.samples):,} | {groups} | {counts} | `sha256:{division_sha256(divided)}` |"


def rows(herlev: Path | None, tables: Path | None) -> Iterator[str]:
    """Yields the lines of the datasets that are at hand."""
    if herlev is not None:
        yield row(load_manifest(herlev, "herlev"))
    if tables is not None:
        yield from (row(hicervix(tables, label_set)) for label_set in LABEL_SETS)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--herlev", type=Path)
    parser.add_argument("--hicervix", type=Path, help="Folder of the official train.csv, val.csv and test.csv.")
    given = parser.parse_args()
    sys.stdout.writelines(f"{line}\n" for line in rows(given.herlev, given.hicervix))
