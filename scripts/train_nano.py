"""Trains the built-in backbone ``nano`` on drawn cells: ``python scripts/train_nano.py``; see docs/nano.md.

The task knows no class: from every image, the network estimates the attributes that it was drawn with.
"""

import argparse
import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import timm
import torch
from safetensors.torch import save
from torch import Tensor, nn

from cytolora.data.synthetic import ATTRIBUTES, draw_cells
from cytolora.files import write_bytes
from cytolora.models.backbones import NANO

BATCH_SIZE = 128
PEAK_LEARNING_RATE = 1.5e-3
FIRST_SEED = 1_000_000
"""Of the drawings; the dataset ``synthetic`` is drawn with seeds far below."""


def batches(num_steps: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields images, and their attributes scaled to deviation 1; no image comes twice."""
    low, high = (torch.tensor([getattr(item, end) for item in ATTRIBUTES.values()]) for end in ("low", "high"))
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (NANO.preprocess.mean, NANO.preprocess.std))
    for step in range(num_steps):
        cells = draw_cells(BATCH_SIZE, FIRST_SEED * (seed + 1) + step, num_slides=BATCH_SIZE, population="any")
        images = (torch.from_numpy(cells.images).permute(0, 3, 1, 2).float() / 255 - mean) / std
        values = torch.from_numpy(np.stack(list(cells.attributes.values()), axis=1)).float()
        yield images, ((values - low) / (high - low) - 0.5) * 12**0.5


def train(num_steps: int, seed: int) -> nn.Module:
    """Trains with AdamW, a warm-up over 7 % of the steps and a cosine to zero."""
    torch.manual_seed(seed)
    trunk = timm.create_model(NANO.architecture, **NANO.arguments)
    estimate = nn.Linear(trunk.num_features, len(ATTRIBUTES))
    parameters = [*trunk.parameters(), *estimate.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=PEAK_LEARNING_RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, PEAK_LEARNING_RATE, num_steps, pct_start=0.07, cycle_momentum=False
    )
    for step, (images, targets) in enumerate(batches(num_steps, seed)):
        errors = (estimate(trunk.forward_features(images)[:, 1:].mean(dim=1)) - targets).square().mean(dim=0)
        optimiser.zero_grad()
        errors.mean().backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        schedule.step()
        if step % 50 == 0 or step == num_steps - 1:
            shown = " ".join(f"{name} {error:.2f}" for name, error in zip(ATTRIBUTES, errors.tolist(), strict=True))
            logging.info("step %d, error %.3f of variance: %s", step, errors.mean(), shown)
    return trunk


def main() -> None:
    """Parses the command line, trains, and writes the checkpoint with what made it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1000, help="batches of 128 new images")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=NANO.weights)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(arguments.threads)
    trunk = train(arguments.steps, arguments.seed)
    made = {"script": "scripts/train_nano.py", "seed": str(arguments.seed), "steps": str(arguments.steps)}
    metadata = {**made, "data": "drawn cells only, no real image", "licence": NANO.licence}
    write_bytes(arguments.out, save({name: value.contiguous() for name, value in trunk.state_dict().items()}, metadata))


if __name__ == "__main__":
    main()
