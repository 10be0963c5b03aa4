"""Inference in shards: CPU seconds of `predict` in one table, in shards, and with one and two workers; and Ray Data.

    .venv/bin/python benchmarks/shards.py
    .venv/bin/python benchmarks/shards.py --images 1000 --rounds 1 --ways table shards ray-data

Drawn cells and a linear classifier on the built-in backbone, one thread a process, every way from nothing and in turn.
Workers are counted where the command waits for them: those of Ray are none of its children, so that a way with Ray has
wall seconds alone. ``ray-data`` streams the same images through Ray Data's ``map_batches`` with two actors that open
the same bundle, and writes Parquet; ``ray`` computes shards with two workers of Ray.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow.dataset as ds
from machine import busy_cores, idleness
from measuring import Cost, cytolora, not_installed, process
from rows import Row, add_rows_option, last_line, ratios, show

from cytolora.data.synthetic.dataset import write_synthetic

WAYS = {
    "table": (),
    "shards": ("--engine", "inline"),
    "one worker": ("--workers", "1", "--engine", "processes"),
    "two workers": ("--workers", "2"),
    "ray": ("--workers", "2", "--engine", "ray"),
}
RAY_DATA = "ray-data"
IN_RAY = ("ray", RAY_DATA)
IMAGES = 10_000
_STREAM = """
import sys
import ray
from cytolora.classifier.inference.image_sources import Source, find_images
from pathlib import Path
bundle, cells, out = sys.argv[1:]

class Predict:
    def __init__(self):
        import torch
        from cytolora.classifier.inference.classifier import Classifier
        torch.set_num_threads(1)
        self.model = Classifier.load(bundle)

    def __call__(self, batch):
        from cytolora.classifier.inference.predictions import Predictions
        from cytolora.classifier.inference.table import look
        sources = [Source(name=name, file=Path(name)) for name in batch["path"]]
        found = [one.prediction for some in look(self.model, sources) for one in some]
        return Predictions(tuple(found), self.model.classes).to_arrow()

ray.init(num_cpus=2, include_dashboard=False, _node_ip_address="127.0.0.1")
ray.data.DataContext.get_current().enable_progress_bars = False
items = ray.data.from_items([{"path": source.name} for source in find_images(cells)], override_num_blocks=40)
items.map_batches(Predict, batch_size=64, concurrency=2, num_cpus=1).write_parquet(out)
"""


def predict(way: str, bundle: Path, cells: Path, out: Path, num_images: int) -> Cost:
    """Predicts all cells in one way; returns its cost, workers included where the command waits for them."""
    target = out.with_suffix(".parquet") if way == "table" else out
    if way == RAY_DATA:
        cost = process([sys.executable, "-c", _STREAM, bundle, cells, target])
    else:
        size = ("--shard-size", str(max(1, num_images // 8))) if way != "table" else ()
        options = ("--threads", "1", "--quiet", "--out", target, *WAYS[way], *size)
        cost = process(cytolora("predict", bundle, cells, *options))
    if (rows := ds.dataset(target).count_rows()) != num_images:
        raise RuntimeError(f"{way} wrote {rows} rows of {num_images}")
    return cost


def measure(ways: list[str], num_images: int, rounds: int) -> Iterator[Row]:
    """Measures all ways in turn, round by round."""
    found: dict[str, list[Cost]] = {way: [] for way in ways}
    problems = {way: not_installed(["ray"]) if way in IN_RAY else "" for way in ways}
    busy = [busy_cores()]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_synthetic(folder / "cells", num_images=num_images, num_slides=20, seed=0)
        fitting = ("--model", "nano", "--method", "linear", "--steps", "20", "--cache", folder / "cache", "--quiet")
        write_synthetic(folder / "few", num_images=200, num_slides=20, seed=1)
        process(cytolora("fit", folder / "few", "--out", folder / "bundle", *fitting))
        for number in range(rounds):
            for way in [way for way in ways if not problems[way]]:
                print(f"shards: {way}, round {number + 1} of {rounds}", file=sys.stderr, flush=True)
                try:
                    out = folder / f"{number}-{way.replace(' ', '-')}"
                    found[way].append(predict(way, folder / "bundle", folder / "cells", out, num_images))
                except RuntimeError as error:
                    problems[way] = f"failed: {last_line(str(error))}"
                busy.append(busy_cores())
    idle = idleness(max(busy))
    conditions = "; ".join([f"{num_images:,} cells, 8 shards", *([idle] if idle else [])])
    for way in ways:
        common = {"part": "shards", "name": way, "conditions": conditions, "is_scaled": num_images < IMAGES}
        if problems[way]:
            yield Row(**common, problem=problems[way])
            continue
        wall, cpu = [one.wall_seconds for one in found[way]], [one.cpu_seconds for one in found[way]]
        figures = {"wall s": wall}
        if way not in IN_RAY:
            figures |= {"CPU s": cpu}
            if "table" in found and not problems["table"]:
                figures |= {"CPU s by those of table": ratios(cpu, [one.cpu_seconds for one in found["table"]])}
        yield Row(**common, figures=figures)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--ways", nargs="+", choices=[*WAYS, RAY_DATA], default=["table", "shards", *list(WAYS)[2:4]])
    add_rows_option(parser)
    options = parser.parse_args()
    return show(measure(options.ways, options.images, options.rounds), options)


if __name__ == "__main__":
    sys.exit(main())
