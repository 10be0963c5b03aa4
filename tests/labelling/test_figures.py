"""Refit, estimates and agreement: against scikit-learn, published figures and simulation."""

import subprocess
import sys
from itertools import combinations

import numpy as np
import pytest
from benchmark_files import load_benchmark
from scipy.stats import binom
from statsmodels.stats import inter_rater

from cytolora.labelling.estimate import MAX_WIDTH, Look, hint, look_at, share_of
from cytolora.labelling.refit import naive_accuracy, refit, suspected_mistakes
from cytolora.metrics.intervals import MIN_GROUPS
from cytolora.metrics.readers import cohen, fleiss, pairs, table_of


def test_the_benchmark_of_a_small_project_leaves_cells_for_every_figure() -> None:
    plan = load_benchmark("label_scale").labels_of
    assert plan(75_000, 500, 2000) == (500, 2000)
    for cells in (10, 450, 1500):
        number, trained_on = plan(cells, 500, 2000)
        assert number > 0
        assert 2 * number + trained_on < cells


def _data(number: int = 90) -> tuple[np.ndarray, np.ndarray, list[str]]:
    draws = np.random.default_rng(0)
    labels = np.arange(number) % 3
    rows = draws.normal(size=(3, 12))[labels] + 0.7 * draws.normal(size=(number, 12))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return rows, labels, [f"g{at // 6}" for at in range(number)]


def test_refit_predicts_as_scikit_learns_ridge_with_the_penalty_that_was_chosen() -> None:
    from sklearn.linear_model import RidgeClassifier

    from cytolora.training.heads.penalties import PENALTIES

    rows, labels, units = _data()
    known = list(range(60))
    fitted = refit(rows, np.ones(90, bool), known, labels[known].tolist(), units[:60], num_classes=3)
    assert fitted is not None
    theirs = [RidgeClassifier(alpha=alpha).fit(rows[known], labels[known]).predict(rows) for alpha in PENALTIES]
    assert any(np.array_equal(fitted.predictions, np.asarray(each)) for each in theirs)
    assert (fitted.predictions[60:] == labels[60:]).mean() > 0.8
    assert fitted.probabilities.sum(axis=1) == pytest.approx(1)


def test_refit_leaves_unreadable_cells_out_and_needs_two_classes() -> None:
    rows, _, units = _data()
    usable = np.arange(90) != 80
    rows[80] = np.nan
    fitted = refit(rows, usable, [0, 1, 3, 4], [0, 1, 0, 1], units[:4], num_classes=3)
    assert fitted is not None
    assert fitted.predictions[80] == -1
    assert np.isnan(fitted.doubt[80])
    assert (fitted.probabilities[usable][:, 2] == 0).all()
    assert refit(rows, usable, [0, 3], [0, 0], units[:2], num_classes=3) is None


def test_a_wrong_label_is_suspected_and_the_right_ones_make_the_naive_accuracy() -> None:
    rows, labels, units = _data()
    given = dict(enumerate(labels.tolist()))
    given[10] = (given[10] + 1) % 3
    fitted = refit(rows, np.ones(90, bool), list(given), list(given.values()), units, num_classes=3)
    assert fitted is not None
    suspects = suspected_mistakes(fitted, given)
    assert 10 in [cell for _, cell in suspects[:3]]
    assert naive_accuracy(fitted, given) == pytest.approx(1 - len(suspects) / 90)


def test_the_estimate_is_unbiased_and_the_weights_of_lure_are_one() -> None:
    """Every sample of three of six cells, each as likely as the others."""
    hits = np.array([1, 1, 0, 1, 0, 1], dtype=bool)
    found = [share_of(hits[list(some)].tolist(), list(map(str, some)), [""] * 3) for some in combinations(range(6), 3)]
    assert all(low <= value <= high for value, low, high in found)
    assert np.mean([value for value, _, _ in found]) == pytest.approx(hits.mean())
    step = np.arange(1, 4)
    chance = 1 / (6 - step + 1)
    lure = 1 + (6 - 3) / (6 - step) * (1 / ((6 - step + 1) * chance) - 1)  # Farquhar et al. 2021, N = 6, M = 3
    assert lure == pytest.approx(1)


@pytest.mark.slow
def test_the_interval_at_the_moment_of_stopping_holds_the_truth_about_as_often_as_it_says() -> None:
    """Exactly, for independent cells: every number of hits at every look, with its chance of not having stopped."""
    sizes = [look_at(number) for number in (1, 2, 3, 4)]
    assert sizes == [50, 100, 200, 400]
    truths = np.array([0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.98])
    going_on = [np.ones(1) for _ in truths]
    held, stopped, before = np.zeros(len(truths)), np.zeros(len(truths)), 0
    for size in sizes:
        groups = list(map(str, range(size)))
        intervals = [share_of((np.arange(size) < hits).tolist(), groups, groups)[1:] for hits in range(size + 1)]
        low, high = np.array(intervals).T
        stops = high - low <= MAX_WIDTH
        for at, truth in enumerate(truths):
            new = binom.pmf(np.arange(size - before + 1), size - before, truth)
            chances = np.convolve(going_on[at], new)
            held[at] += chances[stops & (low <= truth) & (truth <= high)].sum()
            stopped[at] += chances[stops].sum()
            going_on[at] = np.where(stops, 0, chances)
        before = size
    assert stopped == pytest.approx(np.ones(len(truths)), abs=1e-3)
    assert np.all(held / stopped > 0.93)


def test_the_hint_says_stop_only_where_accuracy_is_known_and_predictions_hold_still() -> None:
    def look(high: float, changed: float) -> Look:
        accuracy = (0.9, 0.85, high)
        return Look(number=1, test_labels=50, level=0.95, accuracy=accuracy, changed=changed, classifier=3)

    assert hint([look(0.95, 0.01)], 60)["stop"]
    assert not hint([look(0.95, 0.2)], 60)["stop"]
    assert not hint([look(1.01, 0.0)], 60)["stop"]
    assert "50 more until the first look" in hint([], 0)["sentence"]


@pytest.mark.parametrize("weights", [None, "linear", "quadratic"])
def test_cohens_kappa_equals_scikit_learns(weights: str | None) -> None:
    from sklearn.metrics import cohen_kappa_score

    draws = np.random.default_rng(1)
    one = draws.integers(0, 4, 120)
    other = np.where(draws.random(120) < 0.7, one, draws.integers(0, 4, 120))
    value, low, high = cohen(one, other, [str(at // 4) for at in range(120)], 4, weights)  # pyright: ignore[reportArgumentType]
    assert value == pytest.approx(cohen_kappa_score(one, other, weights=weights), abs=1e-12)
    assert value is not None
    assert low is not None
    assert high is not None
    assert low < value < high


def test_fleiss_kappa_has_the_published_value_and_that_of_statsmodels() -> None:
    """The example of Fleiss 1971 as it is widely reprinted: 10 subjects, 14 raters, 5 classes, kappa 0.210."""
    counts = np.array(
        [
            *([0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1]),
            *([7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7]),
        ]
    )
    assert fleiss(counts) == pytest.approx(0.2099, abs=5e-5)
    assert fleiss(counts) == pytest.approx(inter_rater.fleiss_kappa(counts), abs=1e-12)


def test_fleiss_kappa_of_two_readers_is_that_of_scott() -> None:
    labels = {"ann": dict(enumerate([0, 0, 1, 1, 2, 0])), "bob": dict(enumerate([0, 1, 1, 1, 2, 2]))}
    counts = table_of(labels, 3)
    share = counts.sum(axis=0) / counts.sum()
    expected, observed = (share**2).sum(), 4 / 6
    assert fleiss(counts) == pytest.approx((observed - expected) / (1 - expected))
    assert fleiss(np.array([[2, 0], [2, 0]])) is None
    assert fleiss(np.zeros((0, 3))) is None


def test_a_planted_confusion_of_two_readers_lies_within_the_interval_of_kappa() -> None:
    """Bob calls one LSIL in five HSIL; kappa of endless cells of three classes alike is 0.9."""
    draws, inside = np.random.default_rng(2), 0
    for _ in range(100):
        one = draws.integers(0, 3, 200)
        other = np.where((one == 1) & (draws.random(200) < 0.2), 2, one)
        (found,) = pairs(
            {"ann": dict(enumerate(one)), "bob": dict(enumerate(other))}, [f"{at // 8}" for at in range(200)], 3
        )
        assert found.low is not None
        assert found.high is not None
        inside += found.low <= 0.9 <= found.high
    assert inside >= 88  # 95 expected, standard deviation 2.2


def _coverage(num_groups: int) -> float:
    """Of kappa 0.925 by its interval, 1,000 times: readers differ in one cell of twenty, in some groups more often."""
    draws, inside = np.random.default_rng(0), 0
    group = np.repeat(np.arange(num_groups), 8)
    for _ in range(1000):
        differ = draws.random(len(group)) < draws.beta(0.5, 9.5, num_groups)[group]
        one = draws.integers(0, 3, len(group))
        other, units = np.where(differ, (one + 1) % 3, one), [str(name) for name in group]
        _, low, high = cohen(one.tolist(), other.tolist(), units, 3)
        inside += low is not None and high is not None and low <= 0.925 <= high
    return inside / 1000


@pytest.mark.slow
def test_the_interval_of_kappa_is_too_narrow_with_fewer_groups_than_the_page_cautions_of() -> None:
    assert _coverage(5) < 0.82
    assert _coverage(MIN_GROUPS) > 0.87


@pytest.mark.slow
def test_a_server_whose_features_are_there_loads_neither_torch_nor_scikit_learn() -> None:
    """Torch alone is two thirds of what the start would load."""
    program = (
        "import sys, cytolora.labelling.server, cytolora.labelling.session, cytolora.labelling.refit as refit;"
        "refit.prepare(); sys.exit(bool({'torch', 'sklearn'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
