"""Trains the built-in backbone ``nano`` on drawn cells: ``python scripts/train_nano.py``; see docs/nano.md.

The task knows no class. Of cells whose attributes are drawn each by itself, on slides of wilder stains than the
dataset ``synthetic``, the class token estimates the attributes, and every patch token how much dye lies under it.
"""

import argparse
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import timm
import torch
from safetensors.torch import save
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from cytolora.core.files import write_bytes
from cytolora.data.synthetic.dataset import ATTRIBUTES, draw_cells
from cytolora.models.backbones.registry import NANO

BATCH_SIZE = 64
PEAK_LEARNING_RATE = 1e-3
FIRST_SEED = 1_000_000
"""Of the drawings, far above the seeds that datasets are drawn with."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Images and what the network is to say of them, with mean 0 and deviation 1."""

    images: Tensor
    attributes: Tensor
    """[batch, attributes]."""
    dyes: Tensor
    """[batch, patches, 6]."""


def batches(num_steps: int, seed: int) -> Iterator[Batch]:
    """Draws the batches; no image comes twice."""
    low, high = (torch.tensor([getattr(item, end) for item in ATTRIBUTES.values()]) for end in ("low", "high"))
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (NANO.preprocess.mean, NANO.preprocess.std))
    usual = torch.from_numpy(draw_cells(512, 0, num_slides=512, population="any").dyes).flatten(0, 1)
    for step in range(num_steps):
        cells = draw_cells(BATCH_SIZE, FIRST_SEED * (seed + 1) + step, num_slides=BATCH_SIZE, population="any")
        values = torch.from_numpy(np.stack([cells.attributes[name] for name in ATTRIBUTES], axis=1)).float()
        yield Batch(
            images=(torch.from_numpy(cells.images).permute(0, 3, 1, 2).float() / 255 - mean) / std,
            attributes=((values - low) / (high - low) - 0.5) * 12**0.5,
            dyes=(torch.from_numpy(cells.dyes) - usual.mean(dim=0)) / usual.std(dim=0),
        )


def train(num_steps: int, seed: int) -> VisionTransformer:
    """Trains with AdamW, a warm-up over 7 % of the steps and a cosine to zero."""
    torch.manual_seed(seed)
    trunk = timm.create_model(NANO.architecture, **NANO.arguments)
    assert isinstance(trunk, VisionTransformer)
    of_cells, of_patches = nn.Linear(trunk.num_features, len(ATTRIBUTES)), nn.Linear(trunk.num_features, 6)
    parameters = [*trunk.parameters(), *of_cells.parameters(), *of_patches.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=PEAK_LEARNING_RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, PEAK_LEARNING_RATE, num_steps, pct_start=0.07, cycle_momentum=False
    )
    for step, batch in enumerate(batches(num_steps, seed)):
        tokens = trunk.forward_features(batch.images)
        cell_errors = (of_cells(tokens[:, 0]) - batch.attributes).square().mean(dim=0)
        patch_errors = (of_patches(tokens[:, 1:]) - batch.dyes).square().mean(dim=(0, 1))
        optimiser.zero_grad()
        (2 * cell_errors.mean() + patch_errors.mean()).backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        schedule.step()
        if step % 50 == 0 or step == num_steps - 1:
            shown = " ".join(
                f"{name} {error:.2f}" for name, error in zip(ATTRIBUTES, cell_errors.tolist(), strict=True)
            )
            logging.info("step %d, unexplained variance: patches %.2f, %s", step, patch_errors.mean().item(), shown)
    return trunk


def main() -> None:
    """Parses the command line, trains, and writes the checkpoint with what made it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=2400, help=f"batches of {BATCH_SIZE} new images")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
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
