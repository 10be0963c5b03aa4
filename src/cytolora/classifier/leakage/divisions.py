"""Group-leakage inflation: one head under a division by image, by group, and by group without near-duplicates.

The three train on equally many cells of each class. Every cell is tested by each of them, as often, so that what is
hard about a cell is no difference between them.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int64

from cytolora.classifier.leakage.cells import MIN_GROUPS, SourcedCells
from cytolora.classifier.leakage.gap import Gap, balanced_mean
from cytolora.classifier.leakage.report import Inflation
from cytolora.config.run import HeadSpec
from cytolora.errors import DataError, unknown_name
from cytolora.training.heads.affine import AffineHead
from cytolora.training.heads.folds import MAX_FOLDS, group_folds
from cytolora.training.heads.labelled import Labelled
from cytolora.training.heads.means import gaussian, nearest_mean

HEADS: Mapping[str, Callable[[Labelled, HeadSpec], AffineHead]] = {"gda": gaussian, "nearest-mean": nearest_mean}
"""Heads in closed form: hundreds are fitted."""

Indices = Int64[np.ndarray, " _"]
BoolArray = Bool[np.ndarray, " _"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Division:
    """Cells to train and to test on."""

    train: Indices
    test: Indices


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fold:
    """The three divisions, with equally many cells of each class in training."""

    image: _Division
    group: _Division
    apart: _Division | None
    """None where no cell in training is a near-duplicate of a test cell: it would be ``group``."""


def measure_inflation(
    cells: SourcedCells,
    *,
    head: str = "gda",
    repeats: int = 10,
    seed: int = 0,
    on_head: Callable[[], None] = lambda: None,
) -> Inflation | None:
    """Trains and tests a head under the three divisions, ``repeats`` times; None where no two classes can be divided.

    Args:
        on_head: Called after each of at most ``num_heads``.
    """
    kept, left_out = divisible(cells)
    if len(np.unique(kept.labels)) < 2:
        return None
    tallies = {arm: _Tally.empty(len(kept.samples)) for arm in ("image", "group", "apart")}
    sizes: list[int] = []

    def test(division: _Division) -> BoolArray:
        logits = predicted(kept, head, division.train, division.test)
        sizes.append(len(division.train))
        on_head()
        return logits.argmax(axis=1) == kept.labels[division.test]

    for fold in _folds(kept, repeats, seed):
        is_right = test(fold.group)
        tallies["image"].add(fold.image.test, test(fold.image))
        tallies["group"].add(fold.group.test, is_right)
        tallies["apart"].add(fold.group.test, is_right if fold.apart is None else test(fold.apart))
    return None if not sizes else _summed(kept, tallies, sizes, head=head, repeats=repeats, left_out=left_out)


def num_heads(cells: SourcedCells, repeats: int) -> int:
    """Heads that a measurement trains at most."""
    return (3 if len(_TwinsElsewhere.of(cells).first) else 2) * MAX_FOLDS * repeats


def check_head(head: str, repeats: int) -> None:
    """Raises a ConfigError if there is no such head; a DataError if nothing is repeated."""
    if head not in HEADS:
        raise unknown_name("head", head, tuple(HEADS))
    if repeats < 1:
        raise DataError(f"--repeats is a number of divisions, at least 1, got {repeats}.")


def divisible(cells: SourcedCells) -> tuple[SourcedCells, tuple[str, ...]]:
    """Returns the cells of classes that come from two groups or more, and the other classes."""
    pairs = np.unique(np.stack([cells.labels, cells.groups]), axis=1)
    number = np.bincount(pairs[0], minlength=len(cells.classes))
    few = {index for index in range(len(number)) if 0 < number[index] < MIN_GROUPS}
    kept = [at for at, label in enumerate(cells.labels.tolist()) if label not in few]
    left_out = tuple(cells.classes[index] for index in sorted(few))
    return (cells if not few else cells.only(kept)), left_out


def predicted(cells: SourcedCells, head: str, train: Indices, test: Indices) -> Float64[np.ndarray, "tested classes"]:
    """Fits a head on some cells, and returns its logits of others."""
    known = Labelled(
        features=cells.features[torch.from_numpy(train)],
        labels=torch.from_numpy(cells.labels[train]),
        num_classes=len(cells.classes),
    )
    logits = HEADS[head](known, HeadSpec()).logits(cells.features[torch.from_numpy(test)])
    return logits.double().numpy()


@dataclass(frozen=True, slots=True)
class _Tally:
    """How often each cell was tested, and how often classified correctly."""

    num_tested: Float64[np.ndarray, " cells"]
    num_right: Float64[np.ndarray, " cells"]

    @staticmethod
    def empty(size: int) -> "_Tally":
        return _Tally(np.zeros(size), np.zeros(size))

    def add(self, test: Indices, is_right: BoolArray) -> None:
        self.num_tested[test] += 1
        self.num_right[test] += is_right


def _folds(cells: SourcedCells, repeats: int, seed: int) -> Iterator[_Fold]:
    twins = _TwinsElsewhere.of(cells)
    for repeat in range(repeats):
        rng = np.random.default_rng([seed, repeat])
        by_group = group_folds(cells.labels, [str(group) for group in cells.groups], seed=seed * 1009 + repeat)
        tested: dict[int, list[Indices]] = {label: [] for label in np.unique(cells.labels).tolist()}
        order = {label: rng.permutation(np.flatnonzero(cells.labels == label)) for label in tested}
        for train, test in by_group:
            clean = train[~twins.of_any(test)[train]]
            number = np.bincount(cells.labels[clean], minlength=len(cells.classes))
            if (number[list(tested)] == 0).any():
                continue  # all cells of a class are copies of test cells
            by_image = _same_number(cells.labels, test, order, tested)
            others = np.setdiff1d(np.arange(len(cells.labels)), by_image)
            is_clean = len(clean) == len(train)
            yield _Fold(
                image=_Division(train=_draw(cells.labels, others, number, rng), test=by_image),
                group=_Division(train=train if is_clean else _draw(cells.labels, train, number, rng), test=test),
                apart=None if is_clean else _Division(train=clean, test=test),
            )


def _same_number(
    labels: Indices, test: Indices, order: Mapping[int, Indices], tested: dict[int, list[Indices]]
) -> Indices:
    """Returns as many cells of each class as ``test`` has, none of which was tested before in this repetition."""
    chosen = []
    for label, cells in order.items():
        start = sum(map(len, tested[label]))
        chosen.append(cells[start : start + int((labels[test] == label).sum())])
        tested[label].append(chosen[-1])
    return np.sort(np.concatenate(chosen))


def _draw(labels: Indices, pool: Indices, number: Indices, rng: np.random.Generator) -> Indices:
    """Draws cells of each class, without replacement."""
    parts = [
        rng.choice(pool[labels[pool] == label], size=count, replace=False)
        for label, count in enumerate(number.tolist())
        if count
    ]
    return np.sort(np.concatenate(parts))


@dataclass(frozen=True, slots=True)
class _TwinsElsewhere:
    """Pairs of near-duplicates in different groups, each in both orders."""

    first: Indices
    second: Indices
    num_cells: int

    @staticmethod
    def of(cells: SourcedCells) -> "_TwinsElsewhere":
        pairs = np.array(cells.twins, dtype=np.int64).reshape(-1, 2)
        pairs = pairs[cells.groups[pairs[:, 0]] != cells.groups[pairs[:, 1]]]
        both = np.concatenate([pairs, pairs[:, ::-1]])
        return _TwinsElsewhere(both[:, 0], both[:, 1], len(cells.samples))

    def of_any(self, test: Indices) -> BoolArray:
        """Returns which cells resemble one of the tested."""
        is_tested = np.zeros(self.num_cells, dtype=bool)
        is_tested[test] = True
        resembles = np.zeros(self.num_cells, dtype=bool)
        resembles[self.second[is_tested[self.first]]] = True
        return resembles


def _summed(
    cells: SourcedCells,
    tallies: Mapping[str, _Tally],
    sizes: list[int],
    *,
    head: str,
    repeats: int,
    left_out: tuple[str, ...],
) -> Inflation | None:
    tested = np.flatnonzero(np.min([tally.num_tested for tally in tallies.values()], axis=0) > 0)
    labels, groups = cells.labels[tested], cells.groups[tested]
    if len(np.unique(labels)) < 2:
        return None
    rates = {arm: tally.num_right[tested] / tally.num_tested[tested] for arm, tally in tallies.items()}

    def gap(arm: str, other: str) -> Gap:
        return balanced_mean(rates[arm] - rates[other], labels, groups)

    num_copies = len(np.unique(_TwinsElsewhere.of(cells).first))
    pairs = np.unique(np.stack([cells.labels, cells.groups]), axis=1)
    fewest = np.bincount(pairs[0])
    return Inflation(
        head=head,
        repeats=repeats,
        num_folds=min(MAX_FOLDS, int(fewest[fewest > 0].min())),
        num_cells=len(tested),
        num_groups=len(np.unique(groups)),
        num_train=float(np.mean(sizes)),
        image=balanced_mean(rates["image"], labels, groups).value,
        group=balanced_mean(rates["group"], labels, groups).value,
        apart=balanced_mean(rates["apart"], labels, groups).value,
        leakage=gap("image", "group"),
        copies=gap("group", "apart") if num_copies else None,
        num_copies=num_copies,
        left_out=left_out,
    )
