"""Forecast of the balanced accuracy with twice the training labels, from a learning curve of parts of the labels."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from cytolora.classifier.learning_curve.curve import Curve, Draw
from cytolora.classifier.learning_curve.forecast import forecast, warnings
from cytolora.labelling.features import open_features
from cytolora.labelling.refit import refit

MIN_TRAINING, MIN_TEST = 128, 50
"""Labels that a forecast takes: an eighth of a quarter of fewer would be a handful, and tested on fewer it is noise."""
_PARTS = (16, 8, 4, 2, 1)
"""Labels are divided by these numbers; as many points as a back-test of a curve takes."""
_NUM_DRAWS = 3


def too_few(training: int, test: int) -> str | None:
    """Says what a forecast lacks; None where it lacks nothing."""
    if training >= MIN_TRAINING and test >= MIN_TEST:
        return None
    return (
        f"A forecast takes {MIN_TRAINING} training labels and {MIN_TEST} labels of drawn test cells; there are "
        f"{training} and {test}."
    )


def parts_of(labels: Sequence[int], seed: int) -> list[Int64[np.ndarray, " part"]]:
    """Draws nested parts of labelled cells by chance, the smallest first; each class has its share, at least one."""
    codes, order = np.asarray(labels), np.random.default_rng(seed).permutation(len(labels))
    shuffled = [order[codes[order] == code] for code in np.unique(codes)]
    return [np.sort(np.concatenate([one[: -(-len(one) // part)] for one in shuffled])) for part in _PARTS]


def with_twice_the_labels(
    path: Path,
    training: Sequence[tuple[int, int, str]],
    test: Sequence[tuple[int, int, str]],
    num_classes: int,
    *,
    groups_known: bool,
) -> dict[str, Any]:
    """Fits the classifier to parts of the training labels, tests each on the drawn test cells, and extends the curve.

    Parts are drawn by chance from cells that were chosen, so that the curve is that of more labels chosen alike.

    Args:
        path: Of the features.
        training: Cell, class index and group of each label.
        test: The same of the drawn test cells.

    Returns:
        labels (twice those there are), now (balanced accuracy), expected with both ends of its interval or None where
        no number is given, and sentence.
    """
    cells, labels, units = (list(column) for column in zip(*training, strict=True))
    drawn = [parts_of(labels, seed) for seed in range(_NUM_DRAWS)]
    sizes = tuple(len(part) for part in drawn[0])
    if len(set(sizes)) < len(sizes):
        return _answer(2 * len(cells), None, None, "No forecast: the classes have too few labels each to be divided.")
    test_cells, test_labels, test_units = (list(column) for column in zip(*test, strict=True))
    rows = np.asarray(open_features(path)[np.array(cells + test_cells)])

    def predicted(part: np.ndarray) -> np.ndarray:
        return _predictions(rows, part, labels, units, num_classes)[len(cells) :]

    by_all = predicted(drawn[0][-1])  # the last part is all of them, whatever was drawn
    draws = []
    for seed, parts in enumerate(drawn):
        by_part = np.stack([*map(predicted, parts[:-1]), by_all])
        draws.append(
            Draw(
                seed=seed,
                test_labels=np.asarray(test_labels),
                test_units=np.array(test_units),
                is_right=by_part == np.asarray(test_labels),
                learning_rates=(),
            )
        )
    curve = Curve(shots=sizes, draws=tuple(draws), available={}, by_group=groups_known, split_rule="")
    return _told(curve)


def _predictions(
    rows: np.ndarray, part: np.ndarray, labels: Sequence[int], units: Sequence[str], num_classes: int
) -> np.ndarray:
    usable = np.ones(len(rows), dtype=bool)
    chosen: list[int] = part.tolist()
    found = refit(rows, usable, chosen, [labels[at] for at in chosen], [units[at] for at in chosen], num_classes)
    return np.full(len(rows), labels[chosen[0]]) if found is None else found.predictions


def _told(curve: Curve) -> dict[str, Any]:
    found, labels = forecast(curve, 0.5), 2 * curve.shots[-1]
    now = float(found.means[-1])
    if found.doubts:
        return _answer(labels, now, None, f"No forecast: {'; '.join(found.doubts)}. Label some more and ask again.")
    value, low, high = found.at(labels)
    sentence = (
        f"With {labels:,} training labels, twice those there are, balanced accuracy on the drawn test cells would be "
        f"about {100 * value:.0f} % ({100 * low:.0f} to {100 * high:.0f} %), and is {100 * now:.0f} % now; a power law "
        "through parts of the labels says so."
    )
    return _answer(labels, now, (value, low, high), " ".join([sentence, *warnings(found)]))


def _answer(
    labels: int, now: float | None, expected: tuple[float, float, float] | None, sentence: str
) -> dict[str, Any]:
    return {"labels": labels, "now": now, "expected": expected, "sentence": sentence}
