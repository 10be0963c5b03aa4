"""Groups that count for the purity of a class: of two cells or more, with a known name."""

import numpy as np
import pytest

from cytolora.metrics.confounding import purities

CLASSES = ("a", "b", "c")


def counts(cells: str) -> dict[str, tuple[int, float]]:
    """The groups of each class, and the share of them that hold it alone; ``a1 b1`` are two cells of group 1."""
    labels = np.array([CLASSES.index(cell[0]) for cell in cells.split()])
    found = purities(labels, [cell[1:] or None for cell in cells.split()], CLASSES)
    return {one.label: (one.num_groups, one.share_alone) for one in found}


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        ("a1 a1", {"a": (1, 1.0)}),
        ("a1 b1", {"a": (1, 0.0), "b": (1, 0.0)}),
        ("a1 a1 a2", {"a": (1, 1.0)}),
        ("a1 a2 b3", {}),
        ("a1 a1 a2 b2 a3 a3 a4 a4", {"a": (4, 0.75), "b": (1, 0.0)}),
        ("a1 a1 a a a", {"a": (1, 1.0)}),
        ("a b c", {}),
        ("a1 b1 c1 c2 c2", {"a": (1, 0.0), "b": (1, 0.0), "c": (2, 0.5)}),
    ],
)
def test_groups_of_one_cell_and_cells_of_no_known_group_do_not_count(cells: str, expected: dict):
    assert counts(cells) == expected


def sources(num_alone: int, num_torn: int = 0, mixed: int = 12, apart: int = 0) -> list[str]:
    """The classes found to be their source: a has slides of its own, b and c share theirs but for some of c alone."""
    labels, groups = [], []
    for group in range(num_alone):
        labels += [0] * 10
        groups += [f"a{group}"] * 10
    for group in range(num_torn):
        labels += [0] * 9 + [1]
        groups += [f"t{group}"] * 10
    for group in range(mixed):
        labels += [1, 2] * 5
        groups += [f"m{group}"] * 10
    for group in range(apart):
        labels += [2] * 10
        groups += [f"c{group}"] * 10
    return [one.label for one in purities(np.array(labels), groups, CLASSES) if one.is_source]


@pytest.mark.parametrize(
    ("slides", "expected"),
    [
        ({"num_alone": 1}, []),
        ({"num_alone": 2}, ["a"]),
        ({"num_alone": 9, "num_torn": 1}, []),
        ({"num_alone": 10, "num_torn": 1}, ["a"]),
        ({"num_alone": 4, "mixed": 4, "apart": 5}, ["a"]),
        ({"num_alone": 4, "mixed": 0, "apart": 5}, []),
    ],
)
def test_a_class_is_its_source_from_two_groups_and_more_than_nine_in_ten_alone_beside_a_mixed_class(slides, expected):
    assert sources(**slides) == expected
