"""Classes that are their source: found where slides are tied to a class, and nowhere else."""

import numpy as np
import pytest

from cytolora.data.quality.confounded import confounded
from cytolora.metrics.confounding import purities

CLASSES = ("a", "b", "c")


def flagged(labels: np.ndarray, groups: np.ndarray) -> list[str]:
    return [one.label for one in purities(labels, [str(group) for group in groups], CLASSES) if one.is_source]


def mixed(num_groups: int = 12, per_group: int = 9) -> tuple[np.ndarray, np.ndarray]:
    groups = np.repeat(np.arange(num_groups), per_group)
    return np.tile(np.arange(len(groups) // num_groups) % 3, num_groups), groups


def test_a_class_whose_slides_hold_no_other_is_its_source():
    labels, groups = mixed()
    labels = np.where(labels == 0, 1, labels)
    labels, groups = np.concatenate([labels, np.zeros(40, int)]), np.concatenate([groups, 12 + np.arange(40) // 10])
    found = {one.label: one for one in purities(labels, [str(group) for group in groups], CLASSES)}
    assert [label for label, one in found.items() if one.is_source] == ["a"]
    assert (found["a"].num_groups, found["a"].share_alone, found["b"].share_alone) == (4, 1.0, 0.0)
    (said,) = confounded(found.values())
    assert (said.code, said.kind.name, said.count, said.examples) == ("N841", "class-is-its-source", 1, ("a",))
    assert "a (alone in 4 of 4 groups)" in str(said)


def dealt_at_random() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.integers(0, 3, 200), rng.integers(0, 20, 200)


def nearly_all_of_one_class() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return (rng.random(300) < 0.04).astype(int), np.arange(300) // 2


def single_cells() -> tuple[np.ndarray, np.ndarray]:
    labels, groups = mixed()
    return np.concatenate([labels, np.zeros(30, int)]), np.concatenate([groups, 12 + np.arange(30)])


def every_group_of_one_class() -> tuple[np.ndarray, np.ndarray]:
    """A diagnosis for each patient: nobody can say which class is its source."""
    groups = np.arange(120) // 10
    return groups % 3, groups


def one_slide_in_five_is_mixed() -> tuple[np.ndarray, np.ndarray]:
    labels, groups = mixed()
    labels = np.where(labels == 0, 1, labels)
    labels, groups = np.concatenate([labels, np.zeros(50, int)]), np.concatenate([groups, 12 + np.arange(50) // 10])
    labels[-1] = 2
    return labels, groups


@pytest.mark.parametrize(
    "cells",
    [
        mixed, dealt_at_random, nearly_all_of_one_class, single_cells, every_group_of_one_class,
        one_slide_in_five_is_mixed,
    ],
)  # fmt: skip
def test_ordinary_classes_are_not_their_source(cells):
    assert flagged(*cells()) == []


def test_classes_dealt_at_random_are_never_their_source():
    for seed in range(60):
        rng = np.random.default_rng(seed)
        weights = rng.dirichlet([0.5] * 3)
        num_groups = int(rng.integers(3, 40))
        assert flagged(rng.choice(3, 150, p=weights), rng.integers(0, num_groups, 150)) == []
