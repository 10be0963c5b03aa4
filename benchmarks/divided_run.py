"""One run trained by two processes against one: images a wall second of training.

    python benchmarks/divided_run.py
    python benchmarks/divided_run.py --steps 3 --rounds 1

LoRA of a ViT-Ti/16 with random weights on drawn cells, batches of 32, one thread a process; `--gpus-per-run 2` divides
every batch between two processes (gloo, where there is no GPU). Both in turn, round by round; seconds are those of
training alone, as the run's provenance states them. Wall seconds need two cores with nothing else to do: a row says
where others used them. Losses of both are compared too: exit code 1 where they differ by more than 1e-4.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from machine import busy_cores, idleness, num_cores
from measuring import cytolora, process
from model_share import OWN_ENCODER
from rows import Row, add_rows_option, ratios, show

from cytolora.data.synthetic.dataset import write_synthetic

STEPS = 18
_PASS = 80, 3
"""Images and steps of one pass over the training images: batches of 32, 32 and 16."""
TOLERANCE = 1e-4


def write_encoder(folder: Path) -> Path:
    """Writes random weights and the file that names them."""
    import timm
    from safetensors.torch import save_file

    save_file(timm.create_model("vit_tiny_patch16_224", num_classes=0).state_dict(), str(folder / "model.safetensors"))
    path = folder / "backbone.yaml"
    path.write_text(OWN_ENCODER.replace("own-vit-b16", "own-vit-ti16").replace("vit_base", "vit_tiny"))
    return path


def train(out: Path, cells: Path, encoder: Path, steps: int, processes: int) -> tuple[float, float]:
    """Trains one run; returns its images a second and its last loss."""
    plan = ["smoke", "--method", "lora", "--shots", "16", "--seeds", "1", "--learning-rates", "0.001"]
    options = ["--steps", str(steps), "--threads", "1", "--quiet"]
    options += ["--model", "own-vit-ti16", "--backbone-file", str(encoder), "--data", f"synthetic={cells}"]
    options += ["--gpus-per-run", str(processes)] if processes > 1 else []
    process(cytolora("run", *plan, *options, "--out", str(out)))
    (run,) = out.glob("[!.]*/metrics.json")
    seconds = json.loads((run.parent / "provenance.json").read_text())["seconds"]
    return steps * _PASS[0] / _PASS[1] / seconds, json.loads(run.read_text())["train"]["final_loss"]


def measure(steps: int, rounds: int) -> Iterator[Row]:
    """Measures one and two processes in turn."""
    row = {"part": "divided-run", "name": "LoRA of a ViT-Ti/16, images a wall second", "is_scaled": steps < STEPS}
    if num_cores() < 2:
        yield Row(**row, problem="not measured: one core")
        return
    found, losses, busy = {1: list[float](), 2: list[float]()}, list[float](), [busy_cores()]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_synthetic(folder / "cells", num_images=300, num_slides=20, seed=0)
        encoder = write_encoder(folder)
        for number in range(rounds):
            for processes, rates in found.items():
                print(f"divided-run: {processes}, round {number + 1} of {rounds}", file=sys.stderr, flush=True)
                rate, loss = train(folder / f"{number}-{processes}", folder / "cells", encoder, steps, processes)
                rates.append(rate)
                losses.append(loss)
                busy.append(busy_cores())
    conditions = [f"{steps} steps of 32 images at most, 1 thread a process", idleness(max(busy))]
    figures = {"one process": found[1], "two": found[2], "two / one": ratios(found[2], found[1])}
    figures["losses apart"] = [max(losses) - min(losses)]
    yield Row(**row, conditions="; ".join(filter(None, conditions)), figures=figures)
    if max(losses) - min(losses) > TOLERANCE:
        sys.exit(f"The losses of one and two processes differ by {max(losses) - min(losses):.1e}.")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=STEPS, help="a multiple of 3")
    parser.add_argument("--rounds", type=int, default=2)
    add_rows_option(parser)
    options = parser.parse_args()
    return show(measure(options.steps, options.rounds), options)


if __name__ == "__main__":
    sys.exit(main())
