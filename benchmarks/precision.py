"""Whether training in bf16 ends where training in fp32 does: test accuracy at every learning rate, in pairs.

    .venv/bin/python benchmarks/precision.py --runs runs-fp32 runs-bf16 --data herlev=smear2005 --backbone-file my.yaml

The stores hold the same cell, run with `--precision fp32` and with `--precision bf16`. A report tests the chosen rate
alone, and which of two good rates validation chooses may hang on one image; here every rate is tested, and each run in
bf16 is compared with that of the same rate and seed in fp32, on the same draws of the same groups of cells.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from cytolora.cli.options import add_backbones
from cytolora.config.run import RunSpec
from cytolora.config.yaml import parse_spec
from cytolora.core.progress import Progress
from cytolora.experiments.execute import open_session
from cytolora.experiments.store import Store
from cytolora.metrics.paired import difference
from cytolora.models.encoder_with_head import from_safetensors
from cytolora.models.kernels.cpu import keep_freed_memory
from cytolora.reporting.results.predictions import TestPredictions, draw_seeds
from cytolora.training.adapt import probabilities
from cytolora.training.resources import Inputs

PRECISIONS = ("bf16", "fp32")


def score_all(folders: Sequence[Path], inputs: Inputs) -> dict[tuple[float, int, str], TestPredictions]:
    """Scores the test set for every stored run; by learning rate, seed and precision."""
    found: dict[tuple[float, int, str], TestPredictions] = {}
    for folder in folders:
        store, bench = Store(folder), None
        for stored in store.runs():
            run = parse_spec(stored.spec, RunSpec, str(stored.path))
            bench = bench or open_session(run, inputs, store, device=torch.device("cpu"), progress=Progress())
            key = run.learning_rate, run.seed, run.train.precision
            if key in found or not stored.identity.agrees_with(inputs.identity(run)):
                raise SystemExit(f"{stored.path}: the stores must hold one cell, made from this data and checkpoint.")
            samples = inputs.split(run).test
            shares = probabilities(bench, run, from_safetensors(stored.weights()), samples)
            found[key] = TestPredictions(
                classes=bench.manifest.classes,
                paths=[sample.path for sample in samples],
                groups=[sample.group for sample in samples],
                labels=bench.labels_of(samples).numpy(),
                probabilities=shares.numpy(),
            )
    return found


def line(title: str, bf16: Sequence[TestPredictions], fp32: Sequence[TestPredictions]) -> str:
    """A row of the table: both accuracies, and their difference in pairs."""
    found = difference(draw_seeds(bf16), draw_seeds(fp32), "accuracy")
    means, spreads = [], []
    for runs in (bf16, fp32):
        each = [100 * float((run.labels == run.predicted).mean()) for run in runs]
        means.append(np.mean(each))
        spreads.append(np.std(each, ddof=1))
    shown = " | ".join(f"{mean:.1f} ± {spread:.1f}" for mean, spread in zip(means, spreads, strict=True))
    low, high = (100 * end for end in (found.interval.low, found.interval.high))
    same = np.mean([(one.predicted == other.predicted).mean() for one, other in zip(bf16, fp32, strict=True)])
    return f"| {title} | {shown} | {100 * found.value:+.1f} ({low:+.1f} to {high:+.1f}) | {100 * same:.1f} % |"


def main() -> None:
    """Scores and prints a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, nargs="+", required=True)
    parser.add_argument("--data", required=True, help="NAME=PATH")
    parser.add_argument("--backbone-file", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    if options.backbone_file:
        add_backbones([options.backbone_file])
    name, _, path = options.data.partition("=")
    found = score_all(options.runs, Inputs(data={name: Path(path)}, weights={}))
    rates = sorted({rate for rate, _, _ in found})
    pairs = {(rate, seed) for rate, seed, _ in found}
    if any((*pair, precision) not in found for pair in pairs for precision in PRECISIONS):
        raise SystemExit("Every rate and seed must have a run in bf16 and one in fp32.")
    print(
        "| learning rate | bf16 | fp32 | difference, points (95 %) | same class |\n| ---: | ---: | ---: | ---: | ---: |"
    )
    for title, some in [*((f"{rate:g}", [rate]) for rate in rates), ("all", rates)]:
        chosen = sorted(pair for pair in pairs if pair[0] in some)
        print(line(title, *([found[*pair, precision] for pair in chosen] for precision in PRECISIONS)))


if __name__ == "__main__":
    main()
