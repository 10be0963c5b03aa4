import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from cytolora.training.transduction import nearest as module
from cytolora.training.transduction.nearest import nearest, recall


def clustered(seed: int, cells: int, dimensions: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return 3 * rng.normal(size=(7, dimensions))[rng.integers(0, 7, size=cells)] + rng.normal(size=(cells, dimensions))


@pytest.mark.parametrize(("cells", "dimensions"), [(2, 1), (3, 4), (50, 1), (300, 6), (700, 64)])
def test_neighbours_are_those_of_scikit_learn(cells, dimensions):
    points = clustered(0, cells, dimensions)
    number = min(3, cells - 1)
    theirs = NearestNeighbors(n_neighbors=number, algorithm="brute").fit(points).kneighbors(return_distance=False)
    np.testing.assert_array_equal(nearest(points, 3), theirs)


def test_blocks_of_any_size_give_the_graph_of_one_block(monkeypatch):
    points = clustered(1, 500, 5)
    whole = nearest(points, 3)
    for pairs in (1, 501, 7_000, 10**9):
        monkeypatch.setattr(module, "_MAX_PAIRS", pairs)
        np.testing.assert_array_equal(nearest(points, 3), whole)


def test_clusters_find_almost_all_of_the_exact_neighbours():
    points = clustered(2, 4_000, 20)
    found = nearest(points, 3, max_exact=100)
    assert (found != np.arange(4_000)[:, None]).all()
    assert recall(points, found, np.arange(0, 4_000, 10)) > 0.99
    assert recall(points, nearest(points, 3), np.arange(400)) == 1


def test_few_clusters_miss_neighbours_and_recall_says_so(monkeypatch):
    monkeypatch.setattr(module, "_NUM_PROBES", 1)
    points = clustered(3, 4_000, 20)
    assert 0.1 < recall(points, nearest(points, 3, max_exact=100), np.arange(400)) < 0.95


def test_the_tree_gives_the_neighbours_of_all_pairs():
    points = clustered(4, 1_000, 4)
    np.testing.assert_array_equal(nearest(points, 3, max_exact=100), nearest(points, 3))


@pytest.mark.parametrize("dimensions", [2, 20])
def test_no_cell_is_its_own_neighbour_among_equal_ones(dimensions):
    points = np.repeat(clustered(5, 150, dimensions), 8, axis=0)
    for max_exact in (100, 10_000):
        found = nearest(points, 3, max_exact=max_exact)
        assert (found != np.arange(len(points))[:, None]).all()
        assert (found // 8 == np.arange(len(points))[:, None] // 8).all(), "equal cells are the nearest"
