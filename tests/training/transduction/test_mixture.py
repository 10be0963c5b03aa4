from math import exp, log

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cytolora.training.transduction.mixture import MixtureOptions, transduce


def drawn(seed: int, cells: int, classes: int = 3, dimensions: int = 2) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points around class means, the probabilities of a head that errs, and the anchors."""
    rng = np.random.default_rng(seed)
    anchors = 2 * rng.normal(size=(classes, dimensions))
    labels = rng.integers(0, classes, size=cells)
    points = anchors[labels] + rng.normal(size=(cells, dimensions)) + 0.5
    powers = np.exp(np.eye(classes)[labels] + rng.normal(size=(cells, classes)))
    return points, powers / powers.sum(axis=1, keepdims=True), anchors


def in_plain_loops(points, prior, anchors, may_move, alpha: float, lam: float, number: int) -> np.ndarray:
    """StatA as its equations are written, one number at a time."""
    cells, dims = len(points), len(points[0])
    classes = len(anchors)

    def distance(i: int, j: int) -> float:
        return sum((points[i][d] - points[j][d]) ** 2 for d in range(dims))

    near = [
        sorted((j for j in range(cells) if j != i), key=lambda j, i=i: distance(i, j))[:number] for i in range(cells)
    ]
    q = [list(row) for row in prior]
    means, variances = [list(row) for row in anchors], [[1.0] * dims for _ in range(classes)]
    for step in range(11):
        if step:
            counts = [0] * classes
            for row in q:
                counts[row.index(max(row))] += 1
            for k in range(classes):
                beta = counts[k] / (alpha + counts[k]) if may_move[k] else 0.0
                mass = sum(row[k] for row in q)
                for d in range(dims):
                    ml = sum(q[i][k] * points[i][d] for i in range(cells)) / mass if mass else 0.0
                    means[k][d] = beta * ml + (1 - beta) * anchors[k][d]
                    spread = sum(q[i][k] * (points[i][d] - means[k][d]) ** 2 for i in range(cells))
                    of_cells = spread / mass if mass else 0.0
                    variances[k][d] = beta * of_cells + (1 - beta) * (1 + (anchors[k][d] - means[k][d]) ** 2)
        for _ in range(5):
            new = []
            for i in range(cells):
                scores = []
                for k in range(classes):
                    density = sum(
                        -((points[i][d] - means[k][d]) ** 2) / variances[k][d] / 2 - log(variances[k][d]) / 2
                        for d in range(dims)
                    )
                    edges = sum(q[j][k] for j in near[i]) + sum(q[j][k] for j in range(cells) if i in near[j])
                    scores.append(lam * log(prior[i][k]) + (density + 50 / (2 * number) * edges) / 50)
                total = sum(exp(score) for score in scores)
                new.append([exp(score) / total for score in scores])
            q = new
    return np.array(q)


@pytest.mark.parametrize(("alpha", "lam", "number"), [(1.0, 1.0, 3), (20.0, 0.5, 2)])
def test_the_mixture_equals_its_equations_in_plain_loops(alpha, lam, number):
    points, prior, anchors = drawn(0, 14)
    may_move = np.array([True, True, False])
    options = MixtureOptions(anchor=alpha, prior=lam, neighbours=number)
    found = transduce(points, prior, anchors, may_move=may_move, options=options)
    expected = in_plain_loops(points.tolist(), prior.tolist(), anchors.tolist(), may_move, alpha, lam, number)
    np.testing.assert_allclose(found, expected, atol=1e-9)
    assert np.abs(found - prior).max() > 0.05


@settings(max_examples=30)
@given(seed=st.integers(0, 10_000), cells=st.integers(2, 60), copies=st.integers(0, 5))
def test_a_permutation_of_the_cells_permutes_the_answer_to_the_last_bit(seed, cells, copies):
    points, prior, anchors = drawn(seed, cells)
    points, prior = np.concatenate([points, points[:copies]]), np.concatenate([prior, prior[:copies]])
    order = np.random.default_rng(seed).permutation(len(points))
    plain, permuted = transduce(points, prior, anchors), transduce(points[order], prior[order], anchors)
    np.testing.assert_array_equal(permuted, plain[order])
    np.testing.assert_allclose(plain.sum(axis=1), 1)


@pytest.mark.parametrize("cells", [2, 3, 40])
@pytest.mark.parametrize("extreme", ["nobody", "certain", "equal", "far", "float32"])
def test_empty_classes_and_extreme_cells_give_probabilities(cells, extreme):
    points, prior, anchors = drawn(1, cells)
    if extreme == "nobody":
        prior = np.tile([0.0, 0.5, 0.5], (cells, 1))
    elif extreme == "certain":
        prior = np.tile([1.0, 0.0, 0.0], (cells, 1))
    elif extreme == "equal":
        points, prior = np.zeros_like(points), np.full_like(prior, 1 / 3)
    elif extreme == "far":
        points = points * 1e6
    else:
        prior = prior.astype(np.float32)
    with np.errstate(divide="raise", invalid="raise", over="raise"):
        found = transduce(points, prior, anchors)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found.sum(axis=1), 1)
    if extreme == "nobody":
        assert found[:, 0].max() < 1e-6


def test_a_class_that_may_not_move_keeps_its_anchor():
    """Cells of an absent class's neighbour would pull it towards them."""
    points, prior, anchors = drawn(3, 200, classes=2)
    fixed = transduce(points, prior, anchors, may_move=np.array([False, False]))
    heavy = transduce(points, prior, anchors, options=MixtureOptions(anchor=1e12))
    np.testing.assert_allclose(fixed, heavy, atol=1e-9)
    assert np.abs(fixed - transduce(points, prior, anchors)).max() > 1e-4


def test_neighbours_given_are_those_of_the_cells_as_they_came():
    from cytolora.training.transduction.nearest import nearest

    points, prior, anchors = drawn(5, 50)
    given_ones = transduce(points, prior, anchors, neighbours=nearest(points, 3))
    np.testing.assert_allclose(given_ones, transduce(points, prior, anchors), atol=1e-12)
