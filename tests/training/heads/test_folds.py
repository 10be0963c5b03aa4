"""Division into folds that all train on every class."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cytolora.training.heads.folds import complete_folds, divide, num_folds

UNEVEN = np.array([[0, 1, 0, 2], [0, 0, 0, 4], [0, 4, 2, 0], [2, 0, 1, 1], [1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 0, 1]])
"""Images by group and class: two folds by the rule leave one class without a training image, whatever the seed."""


def images_of(counts: np.ndarray) -> tuple[np.ndarray, list[str]]:
    group, label = (np.repeat(axis, counts.ravel()) for axis in np.indices(counts.shape).reshape(2, -1))
    return label, [f"g{index:02d}" for index in group]


def test_groups_of_several_classes_leave_no_class_out_of_any_fold():
    labels, groups = images_of(5 * UNEVEN)
    number = num_folds(labels, groups)
    assert any(set(labels[train]) != set(labels) for train, _ in divide(labels, groups, number, seed=0))
    folds = complete_folds(labels, groups, seed=0)
    assert len(folds) == 3
    assert all(set(labels[train]) == set(labels) for train, _ in folds)
    assert sorted(np.concatenate([left for _, left in folds])) == list(range(len(labels)))
    for train, left in folds:
        assert not {groups[index] for index in train} & {groups[index] for index in left}


@pytest.mark.parametrize("seed", range(3))
def test_a_division_that_trains_on_every_class_is_the_one_by_the_rule(seed: int):
    labels, groups = np.arange(24) % 3, [str(index // 2) for index in range(24)]
    expected = divide(labels, groups, num_folds(labels, groups), seed=seed)
    found = complete_folds(labels, groups, seed=seed)
    assert [(one.tolist(), two.tolist()) for one, two in found] == [(a.tolist(), b.tolist()) for a, b in expected]


def test_a_class_of_one_group_leaves_nothing_to_divide():
    assert complete_folds(np.array([0, 0, 1, 1]), ["a", "b", "c", "c"], seed=0) == []


@given(
    counts=st.integers(2, 5).flatmap(
        lambda classes: st.lists(
            st.lists(st.integers(0, 4), min_size=classes, max_size=classes), min_size=2, max_size=8
        )
    ),
    seed=st.integers(0, 2**63 - 1),
)
@settings(max_examples=40)
def test_folds_exist_where_every_class_has_two_groups_of_few(counts: list[list[int]], seed: int):
    by_group = np.array(counts)
    labels, groups = images_of(by_group[:, (by_group > 0).sum(axis=0) > 1])
    folds = complete_folds(labels, groups, seed=seed) if len(labels) else []
    assert bool(folds) == bool(len(labels))
    for train, _ in folds:
        assert set(labels[train]) == set(labels)
