"""Rows of benchmarks/data_scale.py at a small scale, without HiCervix' label files: their classes in their shares.

    .venv/bin/python benchmarks/small_data_scale.py --images 2000
    .venv/bin/python benchmarks/small_data_scale.py --labels hicervix_csv

Every command is a process of its own, and runs twice: the second time with what the first one left in the cache.
"""

import argparse
import csv
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from data_scale import SUBSETS, commands, draw, size_of
from measuring import cytolora, process
from rows import Row, add_rows_option, last_line, show

from cytolora.data.readers.hicervix_tree import NODES

PUBLISHED = 38140


def write_labels(folder: Path) -> None:
    """Writes three tables as HiCervix has them: every class as often as there, images under made-up names."""
    for place, subset in enumerate(SUBSETS):
        rows = []
        for number, (name, node) in enumerate(NODES.items()):
            levels = dict(zip(("level_1", "level_2", "level_3"), (*node.levels, "", ""), strict=False))
            rows += [
                {"image_name": f"{name}-{index}.jpg", "class_name": name, "class_id": number, **levels}
                for index in range(node.counts[place])
            ]
        rows.sort(key=lambda row: row["image_name"][::-1])  # a part of the table holds all classes
        with (folder / f"{subset}.csv").open("w", encoding="utf-8", newline="") as file:
            table = csv.DictWriter(file, list(rows[0]))
            table.writeheader()
            table.writerows(rows)


def measure(number: int, labels: Path | None) -> Iterator[Row]:
    """Draws the dataset and runs each command twice."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if labels is None:
            labels = folder / "labels"
            labels.mkdir()
            write_labels(labels)
        num_bytes = draw(folder / "data", labels, number)
        for title, arguments in commands(number, number).items():
            caches = list[Path]()
            for again in ("", " again"):
                common = {
                    "part": "data-scale",
                    "name": title + again,
                    "conditions": f"{number:,} images",
                    "is_scaled": number < PUBLISHED,
                }
                try:
                    cost = process(cytolora(*arguments), cwd=folder, codes=(0, 1))  # 1: `check` has findings
                except RuntimeError as error:
                    yield Row(**common, problem=f"failed: {last_line(str(error))}")
                    break
                figures = {"CPU s": cost.cpu_seconds, "wall s": cost.wall_seconds, "MiB": cost.peak_mib}
                figures["ms of CPU an image"] = 1000 * cost.cpu_seconds / number
                caches = [cache for cache in (folder / "cache", folder / "runs" / ".cache") if cache.exists()]
                kept = sum(map(size_of, caches))
                figures["cache / JPEG"] = kept / num_bytes
                yield Row(**common, figures={title: (value,) for title, value in figures.items()})
            for cache in caches:
                shutil.rmtree(cache)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--labels", type=Path, help="folder of train.csv, val.csv and test.csv")
    add_rows_option(parser)
    options = parser.parse_args()
    return show(measure(options.images, options.labels), options)


if __name__ == "__main__":
    sys.exit(main())
