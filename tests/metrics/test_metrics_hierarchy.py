import numpy as np
import pytest

from cytolora.data.datasets import find_dataset
from cytolora.metrics.hierarchy import distances, restricted_accuracy, tree_order, tree_score

CLASSES = ("normal", "gland", "gland-a", "gland-b", "yeast")
TREE = {
    "normal": ("negative", "normal"),
    "gland": ("agc", "gland"),
    "gland-a": ("agc", "gland", "gland-a"),
    "gland-b": ("agc", "gland", "gland-b"),
    "yeast": ("microbe", "yeast"),
}


def test_probabilities_below_a_node_are_added_up_before_the_most_probable_is_taken():
    """Level 3 says normal; together the glands are more probable than it."""
    shares = [[0.4, 0.1, 0.25, 0.2, 0.05]]
    found = tree_score([2], shares, CLASSES, TREE)
    assert found.accuracies == (1, 1, 0)
    assert found.consistency == 0
    assert found.mistake_distance == 5  # gland-a up to the root: 3 edges, down to normal: 2


def test_mistakes_within_a_branch_are_nearer_than_across_branches():
    table = distances([TREE[name] for name in CLASSES])
    place = CLASSES.index
    assert table[place("gland-a"), place("gland-b")] == 2
    assert table[place("gland"), place("gland-a")] == 1
    assert table[place("normal"), place("yeast")] == 4
    assert (table == table.T).all()
    assert (np.diag(table) == 0).all()


def test_sure_and_right_predictions_are_right_and_consistent_at_every_level():
    found = tree_score(np.arange(5), np.eye(5), CLASSES, TREE)
    assert (found.accuracies, found.consistency, found.mistake_distance) == ((1, 1, 1), 1, None)


def test_accuracy_at_the_last_level_is_the_plain_one():
    rng = np.random.default_rng(0)
    labels, shares = rng.integers(0, 5, 300), rng.dirichlet(np.ones(5), 300)
    found = tree_score(labels, shares, CLASSES, TREE)
    assert found.accuracies[-1] == pytest.approx((shares.argmax(axis=1) == labels).mean())
    assert found.accuracies[0] > found.accuracies[-1]


def test_classes_of_one_branch_stand_together_in_the_order_of_the_tree():
    spec = find_dataset("hicervix:25")
    ordered = [spec.classes[index] for index in tree_order(spec.classes, spec.tree)]
    tops = [spec.tree[name][0] for name in ordered]
    assert [top for index, top in enumerate(tops) if index == 0 or tops[index - 1] != top] == [
        "negative",
        "ASC",
        "AGC",
        "microbe",
    ]
    assert ordered[ordered.index("AGC-NOS") + 1 :][:2] == ["AGC-ECC-NOS", "AGC-EMC-NOS"]
    assert sorted(ordered) == sorted(spec.classes)


def test_classes_of_one_branch_stand_together_however_far_apart_they_were_listed():
    """Branches in the order of their first class, at every level; a class that is a node above others comes first."""
    classes = ("gland-b", "yeast", "gland", "normal", "gland-a", "mould")
    tree = TREE | {"mould": ("microbe", "mould")}
    ordered = [classes[index] for index in tree_order(classes, tree)]
    assert ordered == ["gland", "gland-b", "gland-a", "yeast", "mould", "normal"]


def test_a_classifier_of_25_classes_is_scored_on_23_as_if_it_knew_no_others():
    shares = [[0.5, 0.1, 0.3, 0.1], [0.2, 0.5, 0.2, 0.1], [0.1, 0.1, 0.7, 0.1]]
    assert restricted_accuracy([2, 1, 0], shares, [1, 2]) == 1
    assert restricted_accuracy([0, 0, 0], shares, [1, 2]) is None


def test_hicervix_scores_on_three_levels():
    spec = find_dataset("hicervix:25")
    shares = np.random.default_rng(0).dirichlet(np.ones(25), 100)
    assert len(tree_score(np.arange(100) % 25, shares, spec.classes, spec.tree).accuracies) == 3


def test_a_tree_of_one_level_has_one_accuracy_and_is_always_consistent():
    found = tree_score([0, 1, 1], [[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]], ("a", "b"), {"a": ("a",), "b": ("b",)})
    assert (found.accuracies, found.consistency, found.mistake_distance) == ((pytest.approx(2 / 3),), 1, 2)
