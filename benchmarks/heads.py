"""18 linear heads in one pass against one run per head over a DataLoader, in interleaved pairs of CPU seconds.

    .venv/bin/python benchmarks/heads.py --rounds 3                 (the DataLoader without worker processes)
    .venv/bin/python benchmarks/heads.py --workers 5 --heads 1      (with, as the paper's public code has them)
    .venv/bin/python benchmarks/heads.py --logistic                 (scikit-learn's LogisticRegression, 18 penalties)

The protocol is the same on both sides (mini-batches of 32, AdamW, schedule); tests/training/heads/test_linear.py shows
the heads to be equal to 1e-5. Epochs are few because the baseline is slow; both sides scale with them. With ``--heads``
the baseline trains so many heads and is scaled to 18, which each line then says.
"""

import argparse
import statistics
from collections.abc import Callable
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage

import torch
import torch.nn.functional as F
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


def cpu_seconds(work: Callable[[], object]) -> float:
    """CPU seconds of this process and of those that it started and waited for."""

    def used() -> float:
        own, children = getrusage(RUSAGE_SELF), getrusage(RUSAGE_CHILDREN)
        return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime

    started = used()
    work()
    return used() - started


def against_loader(options: argparse.Namespace) -> None:
    """Prints the ratio to one run per head."""
    for num_images, feature_dim, num_classes in SIZES:
        features = torch.randn(num_images, feature_dim)
        labels = torch.randint(0, num_classes, (num_images,))
        data, ratios = (features, labels, num_classes, options.epochs), []
        for _ in range(options.rounds):
            theirs = cpu_seconds(lambda data=data: one_by_one(*data, options.workers, options.heads))
            ours = cpu_seconds(lambda data=data: in_one_pass(*data))
            ratios.append(theirs * NUM_HEADS / options.heads / ours)
        shown = f"{statistics.median(ratios):.1f} [{min(ratios):.1f}, {max(ratios):.1f}]"
        trained = "" if options.heads == NUM_HEADS else f" (the baseline trained {options.heads} of them, scaled)"
        print(f"{num_images} x {feature_dim}, {num_classes} classes, {options.workers} workers: ratio {shown}{trained}")


def against_logistic_regression(options: argparse.Namespace) -> None:
    """Prints the ratio to scikit-learn's solver: another estimator, which stops when it has converged."""
    import numpy as np
    from sklearn.linear_model import LogisticRegression

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
        theirs = cpu_seconds(lambda solvers=solvers, known=known: [solver.fit(*known) for solver in solvers])
        theirs, iterations = theirs * NUM_HEADS / len(chosen), [int(solver.n_iter_.max()) for solver in solvers]
        data = (features, labels, num_classes, options.epochs)
        ours = cpu_seconds(lambda data=data: in_one_pass(*data)) * PROTOCOL_EPOCHS / options.epochs
        print(
            f"{num_images} x {feature_dim}, {num_classes} classes, a fifth of the labels drawn again: "
            f"LogisticRegression, {NUM_HEADS} penalties {theirs:.1f} s ({len(chosen)} solved, "
            f"iterations {iterations}); "
            f"ours, {NUM_HEADS} heads, {PROTOCOL_EPOCHS} epochs {ours:.1f} s; ratio {theirs / ours:.2f}"
        )


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--heads", type=int, default=NUM_HEADS, choices=range(1, NUM_HEADS + 1), metavar="1..18")
    parser.add_argument("--logistic", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.logistic:
        against_logistic_regression(options)
    else:
        against_loader(options)


if __name__ == "__main__":
    main()
