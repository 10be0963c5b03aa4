"""No false alarms: ordinary data and official downloads have no finding but those that are expected of each."""

import csv
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from folders import photographs
from tiny_downloads import DOWNLOADS

from cytolora.core.findings import problems
from cytolora.data.datasets import load_manifest

_COUNTS_OF_A_PART = frozenset({"F215"})
"""A tiny download has fewer images than published."""


def _classes(root: Path) -> Path:
    return photographs(root, [f"{label}/{n}.png" for label in ("HSIL", "LSIL", "NILM") for n in range(4)])


def _subsets(root: Path) -> Path:
    names = [f"{s}/{c}/{s}{n}.png" for s in ("train", "test") for c in ("HSIL", "NILM") for n in "123"]
    return photographs(root, names)


def _table(root: Path) -> Path:
    _classes(root)
    rows = [(f"{c}/{n}.png", c, f"p{n}", "test" if n == 3 else "train") for c in ("HSIL", "NILM") for n in range(4)]
    rows += [(f"LSIL/{n}.png", "LSIL", f"p{n}", "test" if n == 3 else "train") for n in range(4)]
    with (root / "manifest.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label", "group", "subset"), *rows])
    return root


def _described(root: Path) -> Path:
    _classes(root)
    for name in ("README.md", "LICENSE.txt", ".DS_Store", "Thumbs.db", "images.sha256"):
        (root / name).write_text("words")
    return root


def _cells_of_a_slide(root: Path) -> Path:
    """As `cut` programs name them: by slide and position."""
    return photographs(root, [f"{c}/slide01_x{n}_y{7 * n}.png" for c in ("cell", "debris") for n in range(5)])


ORDINARY: dict[str, Callable[[Path], Path]] = {
    "class folders": _classes,
    "train and test": _subsets,
    "a table with groups and subsets": _table,
    "readme, licence and leftovers beside": _described,
    "cells of a slide": _cells_of_a_slide,
}


@pytest.mark.parametrize("name", ORDINARY)
def test_ordinary_data_have_no_finding_but_the_layout(name: str, tmp_path: Path):
    assert [one.code for one in load_manifest(ORDINARY[name](tmp_path / "cells")).findings] == ["F210"]


def test_no_official_layout_has_a_false_alarm_and_their_number_is_printed(tmp_path: Path):
    alarms: Counter[str] = Counter()
    for name, download in DOWNLOADS.items():
        (tmp_path / name).mkdir()
        found = load_manifest(download.make(tmp_path / name), name).findings
        alarms.update(f"{name} {one.code}" for one in found if one.code not in _COUNTS_OF_A_PART | {"F210"})
    print(f"false alarms on {len(DOWNLOADS)} official layouts: {alarms.total()}")  # noqa: T201
    assert alarms == Counter()


def test_hicervix_with_its_real_tables_has_no_false_alarm(shared_data: Path, tmp_path: Path):
    tables = shared_data / "data" / "hicervix_csv"
    if not tables.is_dir():
        pytest.skip(f"no {tables}")
    num_images = 0
    for subset in ("train", "val", "test"):
        with (tables / f"{subset}.csv").open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
        seen: set[str] = set()
        kept = [row for row in rows if row["class_name"] not in seen and not seen.add(row["class_name"])]
        photographs(tmp_path / subset, [row["image_name"] for row in kept])
        num_images += len(kept)
        with (tmp_path / f"{subset}.csv").open("w", encoding="utf-8", newline="") as file:
            written = csv.DictWriter(file, list(rows[0]))
            written.writeheader()
            written.writerows(kept)
    manifest = load_manifest(tmp_path)
    assert manifest.name.partition(":")[0] == "hicervix"
    assert {one.code for one in problems(manifest.findings)} <= _COUNTS_OF_A_PART
    assert len(manifest.samples) == num_images - 3  # AGC alone is none of the 25 classes
