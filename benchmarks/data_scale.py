"""What commands cost on a dataset of HiCervix' size: CPU and wall seconds, peak memory, and bytes left in the cache.

    python benchmarks/data_scale.py --labels HiCervix --images 38140
    python benchmarks/data_scale.py --labels HiCervix --images 5000 10000 20000 40000 --only check

Labels and file names are those of HiCervix' tables (train.csv, val.csv, test.csv in the folder of --labels); the cells
are drawn, JPEG files of 128 to 224 px. Every command is a process of its own. More images than the tables list are
drawn under further names, for `check` alone. The second line of a command is the same command again.
"""

import argparse
import csv
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from cytolora.data.synthetic.dataset import draw_cells

SUBSETS = ("train", "val", "test")
RATES = ("1e-4", "3e-4", "1e-3", "3e-3", "1e-2")
DRAWN_PX, MIN_PX, MAX_PX = 128, 128, 224
CHUNK = 500


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Of one process and those that it started."""

    cpu_seconds: float
    wall_seconds: float
    peak_mib: float


def published(labels: Path) -> dict[str, list[dict[str, str]]]:
    """Reads the rows of the three tables."""
    tables = {}
    for subset in SUBSETS:
        with (labels / f"{subset}.csv").open(encoding="utf-8-sig", newline="") as file:
            tables[subset] = list(csv.DictReader(file))
    return tables


def listed(labels: Path, number: int) -> dict[str, list[dict[str, str]]]:
    """Returns so many rows, each table in the share that it has of all; beyond all, rows come again."""
    tables = published(labels)
    total = sum(map(len, tables.values()))
    return {subset: list(islice(_endless(rows), round(number * len(rows) / total))) for subset, rows in tables.items()}


def _endless(rows: Sequence[dict[str, str]]) -> Iterator[dict[str, str]]:
    yield from rows
    turn = 0
    while True:
        turn += 1
        yield from ({**row, "image_name": f"{turn}-{row['image_name']}"} for row in rows)


def draw(folder: Path, labels: Path, number: int) -> int:
    """Writes the dataset; returns the bytes of its images."""
    tables, random, num_bytes = listed(labels, number), np.random.default_rng(0), 0
    cells = _cells(sum(map(len, tables.values())))
    for subset, rows in tables.items():
        (folder / subset).mkdir(parents=True)
        with (folder / f"{subset}.csv").open("w", encoding="utf-8", newline="") as file:
            table = csv.DictWriter(file, list(rows[0]))
            table.writeheader()
            table.writerows(rows)
        for row in rows:
            width, height = (int(edge) for edge in random.integers(MIN_PX, MAX_PX + 1, 2))
            path = folder / subset / row["image_name"]
            next(cells).resize((width, height), Image.Resampling.BICUBIC).save(path, "JPEG", quality=90)
            num_bytes += path.stat().st_size
    return num_bytes


def _cells(number: int) -> Iterator[Image.Image]:
    for start in range(0, number, CHUNK):
        for image in draw_cells(min(CHUNK, number - start), start, DRAWN_PX).images:
            yield Image.fromarray(image)


def run(arguments: Sequence[str], cwd: Path) -> Cost:
    """Runs a command to its end; 1 is the exit code of `check` with findings."""
    started = time.perf_counter()
    with (cwd / "log.txt").open("wb") as log:
        command = [sys.executable, "-c", "from cytolora.cli.app import main; main()", *arguments]
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=cwd)
        _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 1):
        end = (cwd / "log.txt").read_text(encoding="utf-8")[-2000:]
        raise SystemExit(f"{' '.join(arguments)} ended with {process.returncode}:\n{end}")
    return Cost(
        cpu_seconds=used.ru_utime + used.ru_stime,
        wall_seconds=time.perf_counter() - started,
        peak_mib=used.ru_maxrss / 1024,
    )


def commands(number: int, num_listed: int) -> dict[str, list[str]]:
    """Returns command lines by name; what trains needs every table as it was published."""
    source = ["--data", "hicervix:25=data"]
    linear = ["--dataset", "hicervix:25", "--model", "nano", "--method", "linear", "--learning-rates", *RATES]
    found = {"check": ["check", "data", "--dataset", "hicervix:25"]}
    if number <= num_listed:
        found["embed"] = ["embed", "data", "--dataset", "hicervix:25", "--out", "cells.parquet", "--cache", "cache"]
        found["exp1"] = ["run", "exp1", *linear, *source, "--out", "runs", "--quiet"]
    return found


def size_of(folder: Path) -> int:
    """Sums the bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--labels", type=Path, required=True, help="folder of train.csv, val.csv and test.csv")
    parser.add_argument("--images", type=int, nargs="+", default=[38140])
    parser.add_argument("--only", nargs="+", choices=("check", "embed", "exp1"), default=("check", "embed", "exp1"))
    parser.add_argument("--keep", type=Path, help="folder in which drawn datasets stay for the next time")
    options = parser.parse_args()
    num_listed = sum(map(len, published(options.labels).values()))
    for number in options.images:
        with tempfile.TemporaryDirectory() as name:
            data = (options.keep or Path(name)) / f"hicervix-{number}"
            if not data.exists():
                draw(data, options.labels, number)
            num_bytes, here = size_of(data), Path(name)
            (here / "data").symlink_to(data.resolve())
            print(f"{number:,} images, {num_bytes / 1e6:.0f} MB of JPEG", flush=True)
            for title, arguments in commands(number, num_listed).items():
                if title not in options.only:
                    continue
                for again in ("", " again"):
                    cost = run(arguments, here)
                    print(
                        f"  {title + again:12} {cost.cpu_seconds:8.1f} s of CPU {cost.wall_seconds:8.1f} s "
                        f"{cost.peak_mib:6.0f} MiB",
                        flush=True,
                    )
                for cache in (here / "cache", here / "runs" / ".cache"):
                    if cache.exists():
                        kept = size_of(cache)
                        print(f"  {title}: cache {kept / 1e6:.0f} MB ({kept / num_bytes:.1f} x JPEG)")
                        shutil.rmtree(cache)


if __name__ == "__main__":
    main()
