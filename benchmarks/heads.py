"""18 linear heads in one pass against one run per head over a DataLoader, in interleaved pairs of CPU seconds.

    .venv/bin/python benchmarks/heads.py --rounds 3                 (the DataLoader without worker processes)
    .venv/bin/python benchmarks/heads.py --workers 5 --heads 1      (with, as the paper's public code has them)
    .venv/bin/python benchmarks/heads.py --logistic                 (scikit-learn's LogisticRegression, 18 penalties)

The protocol is the same on both sides (mini-batches of 32, AdamW, schedule); tests/training/heads/test_linear.py shows
the heads to be equal to 1e-5. Epochs are few because the baseline is slow; both sides scale with them. With ``--heads``
the baseline trains so many heads and is scaled to 18, which each line then says.
"""

import argparse
import sys
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from measuring import cpu_seconds
from rows import Row, add_rows_option, show
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from cytolora.config.run import Budget, TrainSpec
from cytolora.training.heads.linear import fit_heads
from cytolora.training.loop import rate_at

RATES, SEEDS = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2), (1, 2, 3)
NUM_HEADS = len(RATES) * len(SEEDS)
TRAIN = TrainSpec(budget=Budget(amount=1, unit="epochs"))
SIZES = ((4000, 768, 5), (28000, 512, 25))
PROTOCOL_EPOCHS = 100
"""Of the paper's public code, for frozen features."""


def one_by_one(features: Tensor, labels: Tensor, num_classes: int, num_epochs: int, workers: int, heads: int) -> None:
    """One head after the other, as a loop over a DataLoader writes it."""
    num_steps = num_epochs * -(-len(labels) // 32)
    for seed, rate in [(seed, rate) for seed in SEEDS for rate in RATES][:heads]:
        torch.manual_seed(seed)
        head = nn.Linear(features.shape[1], num_classes)
        optimiser = torch.optim.AdamW(head.parameters(), lr=rate, weight_decay=TRAIN.weight_decay)
        data, step = TensorDataset(features, labels), 0
        loader = DataLoader(data, batch_size=32, shuffle=True, num_workers=workers)
        for _ in range(num_epochs):
            for images, truth in loader:
                optimiser.param_groups[0]["lr"] = rate_at(step, num_steps, rate, TRAIN)
                optimiser.zero_grad()
                F.cross_entropy(head(images), truth).backward()
                optimiser.step()
                step += 1


def in_one_pass(features: Tensor, labels: Tensor, num_classes: int, num_epochs: int) -> None:
    """All heads at once."""
    shape = (len(SEEDS), -1, -1)
    fit_heads(
        features.expand(*shape),
        labels.expand(*shape[:2]),
        TRAIN,
        num_classes=num_classes,
        learning_rates=RATES,
        seeds=SEEDS,
        num_steps=num_epochs * -(-len(labels) // 32),
    )


def against_loader(options: argparse.Namespace) -> Iterator[Row]:
    """Measures the ratio to one run per head."""
    for num_images, feature_dim, num_classes in SIZES:
        features = torch.randn(num_images, feature_dim)
        labels = torch.randint(0, num_classes, (num_images,))
        data, found = (features, labels, num_classes, options.epochs), dict[str, list[float]]()
        one_by_one(features[:64], labels[:64], num_classes, 1, options.workers, 1)  # whatever the first call loads
        in_one_pass(features[:64], labels[:64], num_classes, 1)
        for _ in range(options.rounds):
            theirs = cpu_seconds(lambda data=data: one_by_one(*data, options.workers, options.heads))
            ours = cpu_seconds(lambda data=data: in_one_pass(*data))
            found.setdefault("loader / ours", []).append(theirs * NUM_HEADS / options.heads / ours)
            found.setdefault("ours, ms of CPU a step", []).append(1000 * ours / options.epochs / -(-num_images // 32))
        yield Row(
            part="heads",
            name=f"{num_images:,} x {feature_dim}, {num_classes} classes",
            figures=found,
            conditions=f"{options.workers} loader processes, the loader trained {options.heads} of {NUM_HEADS} heads",
            is_scaled=options.heads < NUM_HEADS,
        )


def against_logistic_regression(options: argparse.Namespace) -> Iterator[Row]:
    """Measures the ratio to scikit-learn's solver: another estimator, which stops when it has converged."""
    import numpy as np
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    penalties = np.logspace(-4, 2, NUM_HEADS)
    for num_images, feature_dim, num_classes in SIZES:
        generator = torch.Generator().manual_seed(0)
        labels = torch.randint(0, num_classes, (num_images,), generator=generator)
        means = torch.randn(num_classes, feature_dim, generator=generator) * 0.15
        features = means[labels] + torch.randn(num_images, feature_dim, generator=generator)
        noisy = torch.rand(num_images, generator=generator) < 0.2
        labels = torch.where(noisy, torch.randint(0, num_classes, (num_images,), generator=generator), labels)
        chosen = penalties[:: max(1, NUM_HEADS // options.heads)]
        solvers = [LogisticRegression(C=penalty) for penalty in chosen]
        known = features.numpy(), labels.numpy()
        with threadpool_limits(options.threads):  # numpy's products have threads of their own
            theirs = cpu_seconds(lambda solvers=solvers, known=known: [solver.fit(*known) for solver in solvers])
        theirs, iterations = theirs * NUM_HEADS / len(chosen), [int(solver.n_iter_.max()) for solver in solvers]
        data = (features, labels, num_classes, options.epochs)
        ours = cpu_seconds(lambda data=data: in_one_pass(*data)) * PROTOCOL_EPOCHS / options.epochs
        yield Row(
            part="heads",
            name=f"LogisticRegression, {num_images:,} x {feature_dim}, {num_classes} classes",
            figures={"theirs, CPU s": (theirs,), "ours, CPU s": (ours,), "theirs / ours": (theirs / ours,)},
            conditions=f"a fifth of the labels drawn again, {len(chosen)} of {NUM_HEADS} penalties solved in "
            f"{' '.join(map(str, iterations))} iterations; {options.epochs} of our {PROTOCOL_EPOCHS} epochs",
            is_scaled=True,
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--heads", type=int, default=NUM_HEADS, choices=range(1, NUM_HEADS + 1), metavar="1..18")
    parser.add_argument("--logistic", action="store_true", help="against scikit-learn's LogisticRegression instead")
    parser.add_argument("--both", action="store_true", help="against the loader, then against LogisticRegression")
    add_rows_option(parser)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    code = 0 if options.logistic and not options.both else show(against_loader(options), options)
    return code | (show(against_logistic_regression(options), options) if options.logistic or options.both else 0)


if __name__ == "__main__":
    sys.exit(main())
