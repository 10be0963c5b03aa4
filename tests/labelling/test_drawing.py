"""Shares and the choice of cells: whole groups, recorded probability, one cell per group first."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cytolora.errors import ConfigError
from cytolora.labelling.drawing import by_doubt, checked_mixture, coverage_order, mixed, rare_cells, seeded_order
from cytolora.labelling.shares import assign_shares


@given(sizes=st.lists(st.integers(1, 5), min_size=2, max_size=30), share=st.floats(0.01, 0.99), seed=st.integers(0, 99))
def test_no_group_is_torn_and_the_test_order_holds_every_test_cell_once(
    sizes: list[int], share: float, seed: int
) -> None:
    groups = [f"g{at}" for at, size in enumerate(sizes) for _ in range(size)]
    names = [f"c{at}" for at in range(len(groups))]
    shares = assign_shares(groups, names, share=share, seed=seed)
    of_test = {group for group, test in zip(groups, shares.is_test, strict=True) if test}
    assert of_test.isdisjoint({group for group, test in zip(groups, shares.is_test, strict=True) if not test})
    assert shares.probability == len(of_test) / len(sizes)
    assert 0 < len(of_test) < len(sizes)
    assert sorted(shares.order.tolist()) == np.flatnonzero(shares.is_test).tolist()


def test_every_group_is_drawn_as_often_and_every_test_cell_comes_first_as_often() -> None:
    """4,000 seeds, 4 groups of unlike sizes: 1,000 draws each, standard deviation 27."""
    groups = ["a", "b", "b", "c", "c", "c", "d"]
    names = [f"cell {at}" for at in range(7)]
    drawn, first = np.zeros(7), np.zeros(7)
    for seed in range(4000):
        shares = assign_shares(groups, names, share=0.25, seed=seed)
        drawn += shares.is_test
        first[shares.order[0]] += 1
    assert drawn == pytest.approx(1000, abs=110)
    assert first[3:6] == pytest.approx(1000 / 3, abs=75)


@pytest.mark.parametrize(("groups", "share"), [(["a", "a"], 0.5), (["a", "b"], 0.0), (["a", "b"], 1.0)])
def test_a_share_that_leaves_nothing_is_refused(groups: list[str], share: float) -> None:
    with pytest.raises(ConfigError, match=r"test share|come from one group"):
        assign_shares(groups, ["1", "2"], share=share, seed=0)


_CELLS = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32)
_CELLS /= np.linalg.norm(_CELLS, axis=1, keepdims=True)
_UNITS = np.arange(40) // 4


@given(allowed=st.sets(st.integers(0, 39)), number=st.integers(0, 45))
def test_first_cells_are_allowed_ones_and_no_group_gives_a_second_before_each_gave_one(
    allowed: set[int], number: int
) -> None:
    names = [str(unit) for unit in _UNITS]
    for order in (
        coverage_order(_CELLS, sorted(allowed), _UNITS, number=number, seed=0),
        seeded_order(sorted(allowed), names, seed=0)[:number],
    ):
        assert len(order) == len(set(order)) == min(number, len(allowed))
        assert set(order) <= allowed
        groups = len({_UNITS[cell] for cell in allowed})
        assert len({_UNITS[cell] for cell in order[:groups]}) == min(number, groups)


@given(allowed=st.sets(st.integers(0, 39)), number=st.integers(0, 45), diversity=st.floats(0, 1))
def test_doubtful_cells_are_allowed_ones_of_as_many_groups_as_there_are(
    allowed: set[int], number: int, diversity: float
) -> None:
    may = np.isin(np.arange(40), sorted(allowed))
    doubt = np.linspace(0, 1, 40).astype(np.float32)
    chosen = by_doubt(doubt, _CELLS, may, _UNITS, number=number, diversity=diversity)
    assert set(chosen) <= allowed
    assert len(chosen) == len(set(chosen)) == min(number, len(allowed))
    groups = len({_UNITS[cell] for cell in allowed})
    assert len({_UNITS[cell] for cell in chosen}) == min(number, groups)
    if chosen and diversity == 0:
        assert chosen[0] == max(allowed)


def test_rare_cells_are_those_that_look_most_like_the_class_with_the_fewest_labels() -> None:
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6], [0.1, 0.9]], dtype=np.float32)
    may = np.array([True, True, True, False])
    chosen = rare_cells(probabilities.argmax(axis=1), probabilities, np.array([9, 1]), may, number=5)
    assert chosen == [1, 2]


@given(number=st.integers(0, 60), share=st.floats(0, 1))
def test_every_prefix_of_a_mixture_holds_its_shares_to_the_nearest_cell(number: int, share: float) -> None:
    chosen = mixed({"test": range(100), "doubt": range(100, 200)}, {"test": share, "doubt": 1 - share}, number)
    assert len(chosen) == number
    for length in range(1, number + 1):
        of_test = sum(reason == "test" for _, reason in chosen[:length])
        assert abs(of_test - share * length) <= 1


def test_a_mixture_names_no_cell_twice_and_goes_on_where_a_list_ends() -> None:
    chosen = mixed({"mistakes": [1, 2], "doubt": [2, 1, 3, 4]}, {"mistakes": 0.5, "doubt": 0.5}, 9)
    assert sorted(cell for cell, _ in chosen) == [1, 2, 3, 4]


@pytest.mark.parametrize("mixture", [{"odd": 0.1}, {"test": 1.2}, {"test": 0.6, "rare": 0.5}])
def test_a_mixture_that_is_none_is_refused(mixture: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=r"mixture|add up"):
        checked_mixture(mixture)
