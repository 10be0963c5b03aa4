"""18 linear heads in one pass against one run per head over a DataLoader, in interleaved pairs, CPU seconds.

    .venv/bin/python benchmarks/heads.py --rounds 3 --epochs 5

The protocol is the same on both sides (mini-batches of 32, AdamW, schedule); tests/training/test_heads.py shows the
heads to be equal to 1e-5. Epochs are few because the baseline is slow; both sides scale with them.
"""

import argparse
import statistics
import time

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from cytolora.specs import Budget, TrainSpec
from cytolora.training.heads import fit_heads
from cytolora.training.loop import rate_at

RATES, SEEDS = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2), (1, 2, 3)
TRAIN = TrainSpec(budget=Budget(amount=1, unit="epochs"))


def one_by_one(features: Tensor, labels: Tensor, num_classes: int, num_epochs: int) -> None:
    """One head after the other, as a loop over a DataLoader writes it."""
    num_steps = num_epochs * -(-len(labels) // 32)
    for seed in SEEDS:
        for rate in RATES:
            torch.manual_seed(seed)
            head = nn.Linear(features.shape[1], num_classes)
            optimiser = torch.optim.AdamW(head.parameters(), lr=rate, weight_decay=TRAIN.weight_decay)
            loader, step = DataLoader(TensorDataset(features, labels), batch_size=32, shuffle=True), 0
            for _ in range(num_epochs):
                for images, truth in loader:
                    optimiser.param_groups[0]["lr"] = rate_at(step, num_steps, rate, TRAIN)
                    optimiser.zero_grad()
                    F.cross_entropy(head(images), truth).backward()
                    optimiser.step()
                    step += 1


def in_one_pass(features: Tensor, labels: Tensor, num_classes: int, num_epochs: int) -> None:
    """All heads at once."""
    num_steps = num_epochs * -(-len(labels) // 32)
    shape = (len(SEEDS), -1, -1)
    fit_heads(
        features.expand(*shape),
        labels.expand(*shape[:2]),
        TRAIN,
        num_classes=num_classes,
        learning_rates=RATES,
        seeds=SEEDS,
        num_steps=num_steps,
    )


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for num_images, feature_dim, num_classes in ((4000, 768, 5), (28000, 512, 25)):
        features = torch.randn(num_images, feature_dim)
        labels = torch.randint(0, num_classes, (num_images,))
        ratios = []
        for _ in range(options.rounds):
            seconds = []
            for work in (one_by_one, in_one_pass):
                started = time.process_time()
                work(features, labels, num_classes, options.epochs)
                seconds.append(time.process_time() - started)
            ratios.append(seconds[0] / seconds[1])
        size = f"{num_images} x {feature_dim}, {num_classes} classes"
        print(f"{size}: ratio {statistics.median(ratios):.1f} [{min(ratios):.1f}, {max(ratios):.1f}] in CPU seconds")


if __name__ == "__main__":
    main()
