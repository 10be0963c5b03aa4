from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, t, ttest_1samp
from sklearn.metrics import f1_score

from cytolora.errors import ConfigError
from cytolora.metrics.bootstrap import Replicates, draw_metrics, nominal_tail
from cytolora.metrics.intervals import share_interval
from cytolora.metrics.paired import difference, holm, mcnemar

_EMPTY = Replicates(
    values={"accuracy": np.zeros(1000)},
    left_out={"accuracy": np.zeros(40)},
    observed={"accuracy": 0.0},
    unit="group",
    num_units=40,
    effective_units=40,
)


def drawn(right: list[bool], groups: list[str] | None = None, **options: Any) -> Replicates:
    names = [f"{index:04}.png" for index in range(len(right))]
    said = [0 if good else 1 for good in right]
    known = groups or [None] * len(right)
    return draw_metrics([0] * len(right), said, images=names, groups=known, num_classes=2, **options)


def test_the_difference_of_two_methods_that_share_their_mistakes_is_known_better_than_either():
    hard = [True] * 150 + [False] * 50
    helped = [True] * 165 + [False] * 35
    found = difference(drawn(helped), drawn(hard), "accuracy")
    alone = share_interval(helped, images=[str(index) for index in range(200)], groups=[None] * 200)
    assert found.value == pytest.approx(0.075)
    assert found.interval.high - found.interval.low < 0.8 * (alone.high - alone.low)
    assert found.interval.low > 0
    assert found.p < 0.01


def test_p_is_below_5_percent_just_where_the_interval_excludes_zero():
    rng = np.random.default_rng(1)
    for _ in range(40):
        groups = [str(index // 5) for index in range(100)]
        right = rng.random(100) < 0.7
        other = np.where(rng.random(100) < 0.3, rng.random(100) < 0.85, right)
        found = difference(drawn(other.tolist(), groups), drawn(right.tolist(), groups), "accuracy")
        if abs(found.p - 0.05) > 0.01:
            assert (found.p < 0.05) == (not found.interval.low <= 0 <= found.interval.high)


def test_p_of_a_clear_difference_survives_a_correction_for_hundreds_of_pairs():
    found = difference(drawn([True] * 190 + [False] * 10), drawn([True] * 100 + [False] * 100), "accuracy")
    assert 0 < found.p < 1e-6
    assert holm([found.p] * 280)[0] < 0.001


def test_equal_predictions_differ_by_nothing_with_p_1():
    same = drawn([True, False, True] * 20)
    found = difference(same, same, "macro_f1")
    assert (found.value, found.p) == (0, 1)


def test_a_difference_changes_sign_with_the_order_and_keeps_its_p():
    one, two = drawn([True] * 60 + [False] * 20), drawn([False] * 30 + [True] * 50)
    here, there = difference(one, two, "accuracy"), difference(two, one, "accuracy")
    assert (here.value, here.p) == pytest.approx((-there.value, there.p))


def test_copies_of_each_image_in_its_group_make_no_difference_surer():
    one, two = [True] * 30 + [False] * 10, [True] * 24 + [False] * 16
    alone = difference(drawn(one), drawn(two), "accuracy")
    groups = [f"{index // 10:02}" for index in range(400)]
    copied = difference(
        drawn(np.repeat(one, 10).tolist(), groups), drawn(np.repeat(two, 10).tolist(), groups), "accuracy"
    )
    assert copied.p == pytest.approx(alone.p, abs=0.01)


def test_draws_in_which_both_methods_score_the_same_lie_beyond_zero_in_neither_direction_more_than_in_the_other():
    """1/3 + 1/6 and 1/2 differ by 1e-16: such a draw is one of no difference, whichever way the last bit fell."""
    rng = np.random.default_rng(4)
    drawn_differences = rng.permutation([0.0] * 400 + [0.02] * 600)
    for noise in (1e-16, -1e-16, 0.0):
        values = {"accuracy": np.where(drawn_differences == 0, noise, drawn_differences)}
        replicates = replace(_EMPTY, values=values, observed={"accuracy": 0.01})
        found = difference(replicates, _EMPTY, "accuracy")
        assert found.p == pytest.approx(min(1.0, 2 * nominal_tail(401 / 1001, 40)), abs=1e-12)
        assert str(found.interval.low) == "0.0"  # not -0.0


@pytest.mark.parametrize("num_draws", [20, 21, 400])
def test_where_no_draw_lies_beyond_zero_students_tail_decides_once_there_are_enough_draws(num_draws: int):
    """p by count needs draws; by Student's t of 4 degrees of freedom it is that of the widened standard error."""
    values = np.linspace(0.2, 0.4, num_draws)
    first = replace(_EMPTY, values={"accuracy": values}, observed={"accuracy": 0.3}, effective_units=5)
    second = replace(_EMPTY, values={"accuracy": np.zeros(num_draws)}, effective_units=5)
    found = difference(first, second, "accuracy").p
    by_count = 2 * nominal_tail(1 / (num_draws + 1), 5)
    by_tail = 2 * t.sf(0.3 / (values.std() * (5 / 4) ** 0.5), 4)
    assert by_tail < 2 * nominal_tail(10 / (num_draws + 1), 5)
    assert found == pytest.approx(by_count if num_draws <= 20 else by_tail, abs=1e-12)


def test_from_ten_draws_beyond_zero_on_they_are_counted():
    for beyond in (9, 10):
        values = np.concatenate([np.linspace(0.01, 0.4, 400 - beyond), np.full(beyond, -0.01)])
        first = replace(_EMPTY, values={"accuracy": values}, observed={"accuracy": 0.2}, effective_units=5)
        second = replace(_EMPTY, values={"accuracy": np.zeros(400)}, effective_units=5)
        by_tail = 2 * t.sf(0.2 / (values.std() * (5 / 4) ** 0.5), 4)
        expected = 2 * nominal_tail(11 / 401, 5) if beyond == 10 else min(by_tail, 2 * nominal_tail(10 / 401, 5))
        assert difference(first, second, "accuracy").p == pytest.approx(expected, abs=1e-12)


def test_a_single_group_tells_no_difference_from_none():
    found = difference(drawn([True] * 40, ["a"] * 40), drawn([False] * 40, ["a"] * 40), "accuracy")
    assert (found.value, found.p, found.p_cluster) == (1, 1, None)


def test_students_tail_never_gives_more_than_counting_draws_does():
    """Draws above zero with a long tail to the right: their spread says nothing of how near zero they come."""
    values = np.concatenate([np.full(380, 0.05), np.full(20, 1.0)])
    first = replace(_EMPTY, values={"accuracy": values}, observed={"accuracy": 0.05}, effective_units=5)
    second = replace(_EMPTY, values={"accuracy": np.zeros(400)}, effective_units=5)
    by_count = 2 * nominal_tail(10 / 401, 5)
    assert by_count < 2 * t.sf(0.05 / (values.std() * (5 / 4) ** 0.5), 4)
    assert difference(first, second, "accuracy").p == pytest.approx(by_count, abs=1e-12)


def test_test_sets_of_other_sizes_are_refused():
    with pytest.raises(ConfigError, match=r"on the same test images, got 20 images and 30 images"):
        difference(drawn([True] * 20), drawn([True] * 30), "accuracy")


def test_the_cluster_robust_test_of_single_images_is_scipys_paired_t_test():
    rng = np.random.default_rng(2)
    for _ in range(6):
        one, two = rng.random((2, 60)) < rng.uniform(0.5, 0.9, (2, 1))
        found = difference(drawn(one.tolist()), drawn(two.tolist()), "accuracy")
        _, expected = ttest_1samp(one.astype(float) - two.astype(float), 0)
        assert found.p_cluster == pytest.approx(expected, abs=1e-10)


def test_the_cluster_robust_test_is_students_t_of_the_difference_over_groups_left_out_one_by_one():
    rng = np.random.default_rng(3)
    groups = rng.integers(0, 15, 200)
    labels, one, two = rng.integers(0, 3, (3, 200))
    options: dict[str, Any] = {"images": [f"{index:03}" for index in range(200)], "num_classes": 3}
    known = [f"{group:02}" for group in groups]
    first, second = (draw_metrics(labels, said, groups=known, replicates=50, **options) for said in (one, two))
    found = difference(first, second, "macro_f1")

    def apart(rows: Any) -> float:
        return f1_score(labels[rows], one[rows], average="macro") - f1_score(labels[rows], two[rows], average="macro")

    whole = apart(np.ones(200, dtype=bool))
    error = (14 / 15 * sum((apart(groups != group) - whole) ** 2 for group in range(15))) ** 0.5
    sizes = np.bincount(groups)
    freedom = sizes.sum() ** 2 / (sizes**2).sum() - 1
    assert found.p_cluster == pytest.approx(2 * t.sf(abs(whole) / error, freedom), abs=1e-10)


@pytest.mark.slow
def test_the_cluster_robust_test_keeps_its_level_where_nothing_differs():
    """400 pairs of equally good methods over 30 groups of unequal size: 5 % are called different, 2 to 9 % allowed."""
    rng, below = np.random.default_rng(5), 0
    for _ in range(400):
        groups = np.repeat(np.arange(30), rng.geometric(1 / 6, 30))
        chances = rng.beta(0.8 * 4, 0.2 * 4, 30)[groups]
        pair = [(rng.random(len(groups)) < chances).tolist() for _ in range(2)]
        first, second = (drawn(right, [f"{group:02}" for group in groups], replicates=2) for right in pair)
        below += (difference(first, second, "accuracy").p_cluster or 1) < 0.05
    assert 0.02 <= below / 400 <= 0.09


@pytest.mark.parametrize(("one", "two", "expected"), [([True] * 8, [True] * 8, 1.0), ([True] * 8, [False] * 8, None)])
def test_groups_that_all_differ_alike_leave_no_variance_to_test_against(one, two, expected):
    assert difference(drawn(one), drawn(two), "accuracy").p_cluster == expected
    assert difference(drawn(one, ["a"] * 8), drawn(two, ["a"] * 8), "accuracy").p_cluster == expected


def test_two_groups_are_enough_to_test_and_one_is_not():
    one, two = [True] * 10, [True] * 4 + [False] * 6
    pair = ["a"] * 5 + ["b"] * 5
    found = difference(drawn(one, pair), drawn(two, pair), "accuracy")
    error = (1 / 2 * ((1 - 0.6) ** 2 + (0.2 - 0.6) ** 2)) ** 0.5  # without b, without a; 0.6 on the whole
    assert found.p_cluster == pytest.approx(2 * t.sf(0.6 / error, 1), abs=1e-12)
    assert difference(drawn(one, ["a"] * 10), drawn(two, ["a"] * 10), "accuracy").p_cluster is None


def test_mcnemar_gives_the_published_example():
    """Fagerland, Lydersen & Laake 2013 (BMC Medical Research Methodology 13:91), Tables 1 and 4: 1 and 7 children."""
    labels = [0] * 21
    first = [0] + [1] * 7 + [0] + [1] * 12
    second = [1] + [0] * 7 + [0] + [1] * 12
    found = mcnemar(labels, first, second)
    assert (found.only_first, found.only_second) == (1, 7)
    assert found.exact == pytest.approx(0.0703125, abs=1e-10)
    assert found.mid_p == pytest.approx(0.0390625, abs=1e-10)


def test_exact_mcnemar_is_scipys_binomial_test():
    rng = np.random.default_rng(0)
    labels, one, two = rng.integers(0, 3, (3, 200))
    found = mcnemar(labels, one, two)
    expected = binomtest(found.only_first, found.only_first + found.only_second).pvalue
    assert found.exact == pytest.approx(expected, abs=1e-10)


def test_no_p_of_mcnemar_is_above_1():
    for only_first in range(60):
        for only_second in (only_first, only_first + 1):
            labels = np.zeros(only_first + only_second + 1, dtype=int)
            one, two = labels.copy(), labels.copy()
            one[:only_first] = 1
            two[only_first : only_first + only_second] = 1
            found = mcnemar(labels, one, two)
            assert 0 < found.mid_p <= found.exact <= 1


def test_mcnemar_of_equal_predictions_is_1():
    found = mcnemar([0, 1], [0, 0], [0, 0])
    assert (found.exact, found.mid_p) == (1, 1)


def test_holm_corrects_by_the_number_that_is_left():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1, 1]
    assert holm([]) == []


@given(st.lists(st.floats(0.0001, 1), min_size=1, max_size=12), st.floats(0.001, 0.999))
def test_holm_rejects_just_what_the_step_down_procedure_rejects(p_values: list[float], level: float):
    """Holm 1979, Scand. J. Stat. 6, p. 67: in order of p, as long as p_(i) <= level / (n - i + 1)."""
    order, rejected = sorted(range(len(p_values)), key=lambda at: p_values[at]), set()
    for place, at in enumerate(order):
        if p_values[at] * (len(p_values) - place) > level:
            break
        rejected.add(at)
    assert {at for at, p in enumerate(holm(p_values)) if p <= level} == rejected
