"""One LoRA training step on the CPU, our layers against plain timm and PEFT, in interleaved pairs.

    .venv/bin/python benchmarks/lora_step.py --threads 1 --rounds 5

Prints images per second of CPU time and their ratio; both compute the same numbers (largest difference printed).
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from cytolora.models.adapters import attach
from cytolora.models.backbones import BACKBONES
from cytolora.models.classifier import Classifier
from cytolora.models.cpu import packing_works, speed_up
from cytolora.models.loading import load_tower
from cytolora.specs import AdapterSpec


def step_of(classifier: Classifier, images: Tensor, labels: Tensor) -> Callable[[], None]:
    """Returns one training step as a function."""
    optimiser = torch.optim.AdamW(classifier.trainable(), lr=1e-3)

    def step() -> None:
        optimiser.zero_grad()
        F.cross_entropy(classifier(images), labels).backward()
        optimiser.step()

    return step


def cpu_seconds(step: Callable[[], None], num_steps: int) -> float:
    """CPU seconds of some steps, after one that warms up."""
    step()
    started = time.process_time()
    for _ in range(num_steps):
        step()
    return time.process_time() - started


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=28)
    parser.add_argument("--steps", type=int, default=6)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    spec = BACKBONES.get("nano")
    assert spec.weights is not None
    tower, size = load_tower(spec, spec.weights), spec.preprocess.size_px
    images, labels = torch.randn(options.batch, 3, size, size), torch.randint(0, 5, (options.batch,))
    plain, fast = (Classifier(attach(tower, "lora", AdapterSpec()), 5) for _ in range(2))
    speed_up(fast.tower)
    fast.load_state_dict(plain.state_dict(), strict=False)
    difference = (plain.eval()(images) - fast.eval()(images)).abs().max().item()
    print(f"packed layers: {packing_works()}; largest difference of logits before training: {difference:.1e}")
    steps = {"plain": step_of(plain.train(), images, labels), "ours": step_of(fast.train(), images, labels)}
    ratios, rates = [], {name: [] for name in steps}
    for _ in range(options.rounds):
        seconds = {name: cpu_seconds(step, options.steps) for name, step in steps.items()}
        ratios.append(seconds["plain"] / seconds["ours"])
        for name, value in seconds.items():
            rates[name].append(options.batch * options.steps / value)
    for name, values in rates.items():
        print(f"{name}: {statistics.median(values):.0f} images per CPU second (median of {options.rounds})")
    print(f"ratio: {statistics.median(ratios):.2f} [{min(ratios):.2f}, {max(ratios):.2f}]")


if __name__ == "__main__":
    main()
