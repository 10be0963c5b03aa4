"""Seconds of CPU of every head on frozen features: all seeds of one setting, on one core.

    .venv/bin/python benchmarks/head_speed.py                       (4,000 x 768 features, three seeds; minutes)
    .venv/bin/python benchmarks/head_speed.py --quick               (400 x 768)
    .venv/bin/python benchmarks/head_speed.py --head ridge gda --images 1000 --rounds 5

One thread, of the linear algebra too, whatever the environment says.

Features are drawn around the texts of seven classes, ten images to a group, with four validation images of each class.
The closed-form heads together, ProKeR apart, are to take under a second; the last line measures them in one go, with
the folds of cross-validation divided and the images added up once for all of them, as in a run.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from measuring import cpu_seconds
from rows import Row, add_rows_option, show

from cytolora.config.run import HeadSpec
from cytolora.models.adapters.head_methods import FITTED
from cytolora.models.text.embeddings import ClassText
from cytolora.training.heads.draws import forget_draws
from cytolora.training.heads.fitted import HEADS
from cytolora.training.heads.folds import forget_folds
from cytolora.training.heads.labelled import Labelled
from cytolora.training.heads.threads import numpys_threads

CLASSES, PER_GROUP, VALIDATION = 7, 10, 4
APART = "proker"


def drawn(number: int, feature_dim: int, *, seed: int) -> Labelled:
    """Labelled features of classes that overlap, correlated and off the origin as an encoder's are."""
    generator = torch.Generator().manual_seed(0)
    text = F.normalize(torch.randn(CLASSES, feature_dim, generator=generator), dim=1)
    mixing = torch.randn(feature_dim, feature_dim, generator=generator) / feature_dim**0.5
    mixing *= torch.logspace(0, -1.5, feature_dim)
    generator.manual_seed(seed + 1)
    labels = torch.arange(number) % CLASSES
    noise = torch.randn(number, feature_dim, generator=generator) @ mixing
    return Labelled(
        features=text[labels] + 4 * noise + 0.1,
        labels=labels,
        num_classes=CLASSES,
        groups=[str(index // PER_GROUP) for index in range(number)],
        text=ClassText(embeddings=text, logit_scale=50.0, lengths=torch.full((CLASSES,), 5.0)),
    )


def forget() -> None:
    """Forgets what heads fitted before have left for the next."""
    forget_draws()
    forget_folds()


def measured(options: argparse.Namespace) -> Iterator[Row]:
    """Measures each head, all seeds one after the other or in its batched pass."""
    seeds = list(range(options.seeds))
    known = [drawn(options.images, options.width, seed=seed) for seed in seeds]
    val = [drawn(VALIDATION * CLASSES, options.width, seed=seed + 100) for seed in seeds]
    small = drawn(10 * CLASSES, options.width, seed=0)
    conditions = f"{options.images:,} x {options.width}, {options.seeds} seeds"

    def work(name: str) -> None:
        head = HEADS.get(name)
        if head.train is not None:
            head.train(known, val, HeadSpec(), seeds)
            return
        for one, chosen_on, seed in zip(known, val, seeds, strict=True):
            head.fit(one, chosen_on, HeadSpec(), seed)

    def rounds(names: Sequence[str]) -> tuple[float, ...]:
        seconds = []
        for _ in range(options.rounds):
            forget()
            seconds.append(cpu_seconds(lambda: [work(name) for name in names]))
        return tuple(seconds)

    names = options.head or [head.name for head in HEADS]
    for name in names:
        HEADS.get(name).fit(small, val[0], HeadSpec(), 0)  # whatever the first call loads
        seconds = rounds([name])
        where = f"{FITTED[name].solution}; {conditions}"
        yield Row(part="head-speed", name=name, figures={"CPU s": seconds}, conditions=where)
    closed = [name for name in names if FITTED[name].solution == "closed form" and name != APART]
    yield Row(
        part="head-speed",
        name="closed form together",
        figures={"CPU s": rounds(closed)},
        conditions=f"without {APART}, folds divided and images added up once; {conditions}",
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=4000)
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--head", nargs="+", choices=sorted(head.name for head in HEADS))
    parser.add_argument("--quick", action="store_true", help="400 images")
    add_rows_option(parser)
    options = parser.parse_args()
    if options.quick:
        options.images = 400
    torch.set_num_threads(1)
    with numpys_threads():
        return show(measured(options), options)


if __name__ == "__main__":
    sys.exit(main())
