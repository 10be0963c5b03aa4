"""Which share of the CPU time of `embed`, `fit` and `predict` is the encoder's; the rest is reading, heads, start.

    .venv/bin/python benchmarks/model_share.py                                   (ViT-B/16: 500 images; nano: 10,000)
    .venv/bin/python benchmarks/model_share.py --models nano --images 2000

Drawn cells, random weights; every command is a process of its own with one thread for the encoder (`--threads 1`). The
encoder's CPU time is that of the calling thread while `Encoder.forward` runs: torch computes in that thread alone then,
so that images that other threads decode meanwhile are not counted. `embed` and `fit` begin with an empty cache.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from measuring import process
from rows import Row, add_rows_option, show

OWN_ENCODER = """
name: own-vit-b16
architecture: vit_base_patch16_224
arguments: {num_classes: 0}
weights: model.safetensors
pool: cls
preprocess:
  {size_px: 224, resize: squash, interpolation: bicubic, mean: [0.5, 0.5, 0.5], std: [0.25, 0.25, 0.25]}
licence: Apache-2.0
"""
NUM_IMAGES = {"vit-b16": 500, "nano": 10_000}
GOALS = {"vit-b16": 85, "nano": 50}
"""Percent of a command's CPU seconds that shall be the encoder's."""


def inside(out: Path, command: list[str]) -> None:
    """Runs one command in this process, and writes which of its CPU seconds were the encoder's."""
    from cytolora.cli.app import main as cytolora
    from cytolora.models.encoder import Encoder

    forward, seconds = Encoder.forward, [0.0]

    def timed(self, images):
        started = time.thread_time()
        features = forward(self, images)
        seconds[0] += time.thread_time() - started
        return features

    Encoder.forward = timed
    try:
        cytolora(command)
    finally:
        out.write_text(json.dumps({"encoder": seconds[0], "all": time.process_time()}))


def measure(options: argparse.Namespace) -> Iterator[Row]:
    """Measures the three commands with each model."""
    for model in options.models:
        number = options.images or NUM_IMAGES[model]
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            model_options = draw(folder, number, model)
            for title, command in commands(folder, model_options):
                found = run(folder, command)
                yield Row(
                    part="model-share",
                    name=f"{model}, `{title}` of {number:,} images",
                    figures={
                        "% encoder's": (100 * found["encoder"] / found["all"],),
                        "goal": (GOALS[model],),
                        "CPU s": (found["all"],),
                    },
                    conditions="1 thread of the encoder",
                    is_scaled=number < NUM_IMAGES[model],
                )


def draw(folder: Path, number: int, model: str) -> list[str]:
    """Draws cells and, where the model is not drawn itself, writes random weights; returns the options that name it."""
    from cytolora.data.synthetic.dataset import write_synthetic

    write_synthetic(folder / "cells", num_images=number, num_slides=20, seed=0)
    if model == "nano":
        return ["--model", "nano"]
    import timm
    from safetensors.torch import save_file

    save_file(timm.create_model("vit_base_patch16_224", num_classes=0).state_dict(), str(folder / "model.safetensors"))
    (folder / "backbone.yaml").write_text(OWN_ENCODER, encoding="utf-8")
    return ["--backbone-file", str(folder / "backbone.yaml")]


def commands(folder: Path, model: list[str]) -> Iterator[tuple[str, list[str]]]:
    """Returns the commands in their order: what `predict` opens, `fit` has written."""
    cells, bundle = str(folder / "cells"), str(folder / "bundle")
    common = ["--threads", "1", "--quiet"]
    for title in ("embed", "fit"):
        out = bundle if title == "fit" else str(folder / "features.parquet")
        yield title, [title, cells, "--out", out, "--cache", str(folder / title), *model, *common]
    out = ["--out", str(folder / "predictions.csv")]
    yield "predict", ["predict", bundle, cells, *out, *common]


def run(folder: Path, command: list[str]) -> dict[str, float]:
    """Runs a command in a process of its own."""
    out = folder / "seconds.json"
    process([sys.executable, __file__, "--inside", str(out), *command], codes=(0, 1))
    return json.loads(out.read_text())


def main() -> int:
    if sys.argv[1:2] == ["--inside"]:
        inside(Path(sys.argv[2]), sys.argv[3:])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=list(NUM_IMAGES), default=list(NUM_IMAGES))
    parser.add_argument("--images", type=int, help="how many are drawn; fewer than by default is marked scaled")
    add_rows_option(parser)
    options = parser.parse_args()
    return show(measure(options), options)


if __name__ == "__main__":
    sys.exit(main())
