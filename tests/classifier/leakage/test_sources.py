"""Source readability and the robustness index: against scikit-learn, and against permutations."""

from dataclasses import replace

import numpy as np
import pytest
from planted_leakage import drawn_features
from sklearn.neighbors import NearestNeighbors

from cytolora.classifier.leakage import sources
from cytolora.classifier.leakage.cells import SourcedCells, metadata_columns
from cytolora.classifier.leakage.sources import NEIGHBOURS, read_source


def test_a_tinted_slide_is_read_and_its_neighbours_share_it():
    found = read_source(drawn_features(seed=0, tint=0.5), permutations=39)
    assert found is not None
    assert found.num_sources == 12
    assert found.balanced_accuracy > 3 * found.chance
    assert found.p == pytest.approx(1 / 40)
    assert found.is_readable
    assert found.robustness is not None
    assert found.robustness_null is not None
    assert found.robustness < found.robustness_null
    assert found.robustness_p == pytest.approx(1 / 40)


def test_slides_without_a_tint_are_read_as_often_as_chance_gives():
    found = [read_source(drawn_features(seed=seed), seed=seed, permutations=19) for seed in range(40)]
    read = [one for one in found if one is not None]
    assert len(read) == 40
    assert sum(one.is_readable for one in read) <= 6  # binomial 0.05, 40: 0.986
    assert np.mean([one.chance for one in read]) == pytest.approx(1 / 12, abs=0.01)
    assert np.mean([one.balanced_accuracy for one in read]) == pytest.approx(1 / 12, abs=0.01)


def test_a_source_that_has_more_of_one_class_is_not_read_by_it():
    """Sources differ in nothing but their classes, which are centred away and held fixed by the permutations."""
    alarms = 0
    for seed in range(30):
        cells = drawn_features(seed=seed, class_distance=6.0)
        rng = np.random.default_rng(seed)
        names = [f"s{(label + rng.integers(0, 2)) % 3}" for label in cells.labels]
        samples = tuple(replace(one, group=name) for one, name in zip(cells.samples, names, strict=True))
        found = read_source(replace(cells, samples=samples), seed=seed, permutations=19)
        assert found is not None
        alarms += found.is_readable
    assert alarms <= 5


def test_the_robustness_index_is_that_of_neighbours_counted_by_hand():
    cells = drawn_features(seed=2, tint=0.3, num_cells=120)
    found = read_source(cells, permutations=1)
    assert found is not None
    _, near = NearestNeighbors(n_neighbors=NEIGHBOURS + 1, metric="cosine").fit(cells.features).kneighbors()
    near = near[:, :NEIGHBOURS]
    same_other = other_same = 0
    for cell, neighbours in enumerate(near):
        for other in neighbours:
            same_class, same_source = (values[cell] == values[other] for values in (cells.labels, cells.groups))
            same_other += same_class and not same_source
            other_same += same_source and not same_class
    assert found.robustness == pytest.approx(same_other / (same_other + other_same))


def test_each_cell_is_left_out_of_the_mean_of_its_source():
    rng = np.random.default_rng(0)
    rows, names = rng.normal(size=(60, 5)), rng.permutation(np.arange(60) % 4)
    counts, spread = np.bincount(names), (rows**2).sum(axis=1).mean()
    right = np.zeros(60)
    for cell in range(60):
        scores = []
        for source in range(4):
            members = [at for at in range(60) if names[at] == source and at != cell]
            distance = ((rows[cell] - rows[members].mean(axis=0)) ** 2).sum()
            scores.append(distance / (1 + 1 / len(members)) + spread * np.log1p(1 / len(members)))
        right[cell] = np.argmin(scores) == names[cell]
    expected = np.mean([right[names == source].mean() for source in range(4)])
    assert sources._balanced_accuracy(rows, names) == pytest.approx(expected)
    assert counts.min() == 15


@pytest.mark.parametrize("sizes", [(2, 2, 2), (30,), (30, 2, 1), ()])
def test_where_fewer_than_two_sources_have_three_cells_nothing_is_read(sizes):
    assert read_source(of_sizes(sizes), permutations=1) is None


def of_sizes(sizes: tuple[int, ...]) -> SourcedCells:
    names = [f"slide{number}" for number, size in enumerate(sizes) for _ in range(size)]
    cells = drawn_features(seed=0, num_cells=max(1, len(names)))
    samples = tuple(replace(one, group=name) for one, name in zip(cells.samples, names or ["slide"], strict=True))
    return replace(cells, samples=samples)


@pytest.mark.parametrize(
    ("sizes", "num_sources", "left_out", "left_out_of_index", "has_index"),
    [
        ((9, 9, 9), 3, 0, 27, False),
        ((30, 20, 9, 2), 3, 2, 11, True),
        ((3, 3), 2, 0, 6, False),
        ((12, 3, 2, 1), 2, 3, 18, False),
        ((10, 10), 2, 0, 0, True),
        ((40, 11, 10), 3, 0, 0, True),
    ],
)
def test_sources_with_few_cells_are_left_out_and_counted(sizes, num_sources, left_out, left_out_of_index, has_index):
    found = read_source(of_sizes(sizes), permutations=3)
    assert found is not None
    assert (found.num_sources, found.num_left_out) == (num_sources, left_out)
    assert (found.num_left_out_of_index, found.robustness is not None) == (left_out_of_index, has_index)


def test_a_scanner_of_the_metadata_is_read_where_it_shifts_the_features():
    scanners = tuple((("scanner", f"s{number % 2}"), ("site", "x")) for number in range(12))
    plain = drawn_features(seed=4, metadata=scanners)
    assert metadata_columns(plain.samples) == {"scanner": 2}
    is_second = np.array([value == "s1" for value in plain.column("scanner")])
    features = plain.features.clone()
    features[is_second, 0] += 3
    shifted = read_source(plain.with_features(features), "scanner", permutations=39)
    same = read_source(plain, "scanner", permutations=39)
    assert shifted is not None
    assert same is not None
    assert (shifted.num_sources, shifted.is_readable) == (2, True)
    assert shifted.balanced_accuracy > 0.8
    assert same.balanced_accuracy < 0.65
