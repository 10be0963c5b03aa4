from typing import Any

import numpy as np
import pytest
from scipy.stats import beta, binomtest, t
from sklearn.metrics import balanced_accuracy_score, f1_score

from cytolora.metrics.beta_binomial import beta_binomial_interval
from cytolora.metrics.counts import count_by_unit, effective_number
from cytolora.metrics.intervals import Interval, IntervalKind, joint_warnings, metric_intervals, share_interval
from cytolora.metrics.korn_graubard import jackknife_variance


def of_share(hits: Any, groups: list[str] | None = None) -> Interval:
    names = [f"{index:05}.png" for index in range(len(hits))]
    return share_interval(np.asarray(hits, dtype=bool), images=names, groups=groups or [None] * len(hits))


def spread_out(num_groups: int, size: int, num_wrong: int) -> tuple[list[bool], list[str]]:
    """Groups of one size, the first of which hold a mistake each."""
    groups = [f"{index // size:04}" for index in range(num_groups * size)]
    return [index % size > 0 or index // size >= num_wrong for index in range(num_groups * size)], groups


def test_single_images_give_clopper_pearsons_interval_of_one_image_less():
    """The jackknife variance of independent images is p (1 - p) / (n - 1)."""
    found = of_share([True] * 300 + [False] * 100)
    assert (found.kind, found.unit, found.num_units, found.num_images) == ("korn-graubard", "image", 400, 400)
    assert found.n_eff == pytest.approx(399, abs=1e-6)
    low, high = beta.ppf(0.025, 299.25, 100.75), beta.ppf(0.975, 300.25, 99.75)
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-9)
    exact = binomtest(300, 400).proportion_ci(method="exact")
    assert (found.low, found.high) == pytest.approx((exact.low, exact.high), abs=2e-4)
    assert found.warnings == {}


def test_a_share_of_groups_is_korn_and_graubards_formula_with_the_brute_force_jackknife():
    rng = np.random.default_rng(1)
    groups = np.repeat(np.arange(40), rng.geometric(1 / 8, 40))
    hits = rng.random(len(groups)) < rng.beta(2, 2, 40)[groups]
    found = of_share(hits, [f"{group:02}" for group in groups])
    value, number = hits.mean(), len(hits)
    variance = 39 / 40 * sum((hits[groups != group].mean() - value) ** 2 for group in range(40))
    n_eff, nu = min(number, value * (1 - value) / variance), effective_number(np.bincount(groups)) - 1
    trials = n_eff * (t.ppf(0.975, number - 1) / t.ppf(0.975, nu)) ** 2
    low = beta.ppf(0.025, value * trials, (1 - value) * trials + 1)
    high = beta.ppf(0.975, value * trials + 1, (1 - value) * trials)
    assert found.kind == "korn-graubard"
    assert (found.low, found.high, found.n_eff) == pytest.approx((low, high, n_eff), abs=1e-9)


@pytest.mark.parametrize("metric", ["balanced_accuracy", "macro_f1"])
def test_the_jackknife_of_other_metrics_is_scikit_learns_without_each_group_in_turn(metric: str):
    measures = {
        "balanced_accuracy": balanced_accuracy_score,
        "macro_f1": lambda truth, said: f1_score(truth, said, average="macro"),
    }
    rng = np.random.default_rng(2)
    labels, groups = rng.integers(0, 4, 300), rng.integers(0, 25, 300)
    seeds = [np.where(rng.random(300) < 0.7, labels, rng.integers(0, 4, 300)) for _ in range(2)]
    options: dict[str, Any] = {
        "images": [f"{index:03}" for index in range(300)] * 2,
        "groups": [f"{group:02}" for group in groups] * 2,
        "num_classes": 4,
    }
    counts = count_by_unit(np.tile(labels, 2), np.concatenate(seeds), **options)
    expected = [
        np.mean([measures[metric](labels[groups != group], said[groups != group]) for said in seeds])
        for group in range(25)
    ]
    assert counts.left_out(metric) == pytest.approx(np.array(expected), abs=1e-12)
    found = metric_intervals(np.tile(labels, 2), np.concatenate(seeds), **options)[metric]
    value = np.mean([measures[metric](labels, said) for said in seeds])
    assert found.kind == "approximate"
    assert found.n_eff == pytest.approx(
        min(300, value * (1 - value) / jackknife_variance(float(value), expected)), rel=1e-9
    )
    assert found.low < value < found.high


def test_units_left_out_in_blocks_are_those_left_out_at_once(monkeypatch: pytest.MonkeyPatch):
    rng = np.random.default_rng(3)
    labels, said = rng.integers(0, 3, (2, 50))
    counts = count_by_unit(labels, said, images=[str(n) for n in range(50)], groups=[None] * 50, num_classes=3)
    at_once = counts.left_out("macro_f1")
    monkeypatch.setattr("cytolora.metrics.counts._BLOCK", 40)
    assert counts.left_out("macro_f1").tolist() == at_once.tolist()


@pytest.mark.parametrize(
    ("num_wrong", "kind"),
    [(0, "korn-graubard"), (1, "credible"), (19, "credible"), (20, "korn-graubard"), (40, "korn-graubard")],
)
def test_fewer_than_20_groups_with_a_mistake_give_a_credible_interval(num_wrong: int, kind: str):
    hits, groups = spread_out(60, 5, num_wrong)
    found = of_share(hits, groups)
    assert (found.kind, found.num_wrong, found.num_units, found.num_images) == (kind, num_wrong, 60, 300)
    assert found.low <= np.mean(hits) <= found.high


@pytest.mark.parametrize(("num_wrong", "kind"), [(0, "korn-graubard"), (1, "credible"), (19, "credible")])
def test_few_mistakes_among_single_images_give_jeffreys_interval(num_wrong: int, kind: str):
    found = of_share([False] * num_wrong + [True] * (200 - num_wrong))
    assert (found.kind, found.unit) == (kind, "image")
    if kind == "credible":
        jeffreys = beta.ppf([0.025, 0.975], 200 - num_wrong + 0.5, num_wrong + 0.5)
        assert (found.low, found.high, found.n_eff) == pytest.approx((*jeffreys, 200), abs=1e-9)


def test_two_groups_that_differ_leave_other_metrics_nearly_unknown():
    """Recalls of 1 and 0.5: a variance of 1/16 over two groups is that of 3 images, not of 80."""
    labels, said = [0, 1] * 40, [0, 1] * 20 + [0, 0] * 20
    images, groups = [str(n) for n in range(80)], ["a"] * 40 + ["b"] * 40
    found = metric_intervals(labels, said, images=images, groups=groups, num_classes=2)["balanced_accuracy"]
    assert found.n_eff == pytest.approx(0.75 * 0.25 / (1 / 2 * (0.25**2 + 0.25**2)), abs=1e-9)
    assert found.low < 0.05
    assert found.high == pytest.approx(1, abs=0.01)


def test_a_share_near_0_mirrors_one_near_1():
    """A referral rate of 3 % is as little known as an accuracy of 97 %."""
    hits, groups = spread_out(60, 5, 9)
    one, other = of_share(hits, groups), of_share(~np.array(hits), groups)
    assert (one.kind, other.kind) == ("credible", "credible")
    assert (one.low, one.high) == pytest.approx((1 - other.high, 1 - other.low), abs=1e-6)


def test_a_perfect_share_has_the_exact_limit_of_as_many_trials_as_groups():
    found = of_share([True] * 60, [str(index // 4) for index in range(60)])
    exact = binomtest(15, 15).proportion_ci(method="exact")
    assert (found.low, found.high) == (pytest.approx(exact.low, abs=1e-12), 1.0)
    none = of_share([False] * 60, [str(index // 4) for index in range(60)])
    assert (none.kind, none.low, none.high) == ("korn-graubard", 0.0, pytest.approx(1 - exact.low, abs=1e-12))


def test_large_groups_harder_than_small_ones_are_not_given_an_interval_without_the_share_seen():
    """Half of one group of 1,000 is missed, nothing of 30 groups of 10: the model of equal groups denies it."""
    hits = [True] * 500 + [False] * 500 + [True] * 300
    found = of_share(hits, ["large"] * 1000 + [str(index // 10) for index in range(300)])
    assert found.kind == "korn-graubard"
    assert found.low <= 800 / 1300 <= found.high
    assert found.high - found.low > 0.9  # hardly more than one group's worth


@pytest.mark.parametrize("num_copies", [2, 10])
@pytest.mark.parametrize("num_wrong", [1, 5, 10, 19, 20, 30])
def test_copies_of_a_cell_in_its_group_add_no_certainty(num_wrong: int, num_copies: int):
    """Copies are more alike than the prior of the correlation allows: the variance over groups decides."""
    correct = [True] * 30 + [False] * num_wrong
    groups = [str(index // num_copies) for index in range(num_copies * len(correct))]
    copied = of_share(np.repeat(correct, num_copies), groups)
    exact = binomtest(30, len(correct)).proportion_ci(method="exact")
    assert (copied.kind, copied.num_units) == ("korn-graubard", len(correct))
    assert copied.n_eff == pytest.approx(len(correct) - 1)
    assert (copied.low, copied.high) == pytest.approx((exact.low, exact.high), abs=0.02)


def test_seeds_that_agree_give_the_interval_of_one_seed():
    labels, predicted = [0, 1] * 50, [0, 0] * 47 + [0, 1] * 3
    images = [f"{index}.png" for index in range(100)]
    one = metric_intervals(labels, predicted, images=images, groups=[None] * 100, num_classes=2)
    three = metric_intervals(labels * 3, predicted * 3, images=images * 3, groups=[None] * 300, num_classes=2)
    for name, found in one.items():
        assert (three[name].low, three[name].high) == pytest.approx((found.low, found.high), abs=1e-12)
        assert (three[name].num_units, three[name].num_images) == (100, 100)


def test_an_image_without_group_among_grouped_ones_is_a_group_of_its_own():
    found = metric_intervals([0] * 4, [0, 1, 0, 1], images=list("abcd"), groups=["g", "g", None, None], num_classes=2)
    assert (found["accuracy"].unit, found["accuracy"].num_units) == ("group", 3)


def test_few_groups_are_warned_about_by_number_sooner_of_metrics_that_are_no_share():
    hits, groups = spread_out(40, 5, 30)
    found = metric_intervals(
        [0] * 200, ~np.array(hits), images=[str(n) for n in range(200)], groups=groups, num_classes=2
    )
    assert found["accuracy"].warnings == {}
    assert "40 groups only; under about 50" in found["macro_f1"].warnings["few groups"]
    fewer = of_share(*spread_out(12, 5, 10))
    assert "12 groups only; under about 30" in fewer.warnings["few groups"]


@pytest.mark.parametrize(
    ("kind", "enough"), [("korn-graubard", 30), ("credible", 30), ("approximate", 50), ("bootstrap", 50)]
)
def test_groups_are_few_below_30_for_a_share_and_below_50_for_the_rest(kind: IntervalKind, enough: int):
    for num_units in (enough - 1, enough):
        one = Interval(low=0.8, high=0.9, level=0.95, kind=kind, unit="group", num_units=num_units)
        assert list(one.warnings) == (["few groups"] if num_units < enough else [])


def test_an_interval_without_width_says_that_it_knows_nothing_of_rarer_mistakes():
    one = Interval(low=0, high=0, level=0.95, kind="bootstrap", unit="image", num_units=80, num_wrong=3)
    assert one.warnings == {
        "no width": "Every resample gave the same value; the interval knows nothing of rarer mistakes."
    }


@pytest.mark.parametrize(("num_units", "is_warned"), [(19, False), (20, True)])
def test_with_fewer_units_than_mistakes_ought_to_lie_in_their_number_is_warning_enough(num_units: int, is_warned: bool):
    one = Interval(low=0.8, high=0.9, level=0.95, kind="credible", unit="group", num_units=num_units, num_wrong=3)
    assert list(one.warnings) == ["few groups", *(["few mistakes"] if is_warned else [])]


def test_few_mistakes_are_warned_about_however_many_units_there_are():
    found = of_share(*spread_out(100, 4, 16))
    assert list(found.warnings) == ["few mistakes"]
    assert "Mistakes lie in 16 of 100 groups; under about 20" in found.warnings["few mistakes"]
    assert "model (beta-binomial)" in found.warnings["few mistakes"]
    assert of_share(*spread_out(100, 4, 20)).warnings == {}


def test_a_single_group_says_nothing_of_others():
    found = of_share([True, False, True], ["only"] * 3)
    assert found.low < 0.2
    assert found.high > 0.95
    assert set(found.warnings) == {"few groups"}
    assert found.kind == "credible"
    other = metric_intervals([0, 1, 0], [0, 0, 0], images=list("abc"), groups=["only"] * 3, num_classes=2)["macro_f1"]
    assert (other.low, other.high, other.n_eff) == (0, 1, 0)


@pytest.mark.parametrize("hits", [[True], [False], [True, False], [True] * 2, [False] * 3])
def test_very_few_images_give_a_wide_interval_that_holds_the_share(hits: list[bool]):
    found = of_share(hits)
    assert 0 <= found.low <= np.mean(hits) <= found.high <= 1
    assert found.high - found.low > 0.5


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("korn-graubard", "under about 20 the interval rests on how few units there are, each counted as one image."),
        ("credible", "under about 20 the interval is that of a model (beta-binomial), which takes large and small"),
        ("approximate", "under about 20 the interval may be too narrow."),
        ("bootstrap", "under about 20 the interval may be too narrow."),
    ],
)
def test_each_kind_of_interval_says_of_few_mistakes_what_they_do_to_it(kind: IntervalKind, said: str):
    one = Interval(low=0.9, high=0.99, level=0.95, kind=kind, unit="group", num_units=80, num_wrong=3)
    assert said in one.warnings["few mistakes"]


@pytest.mark.parametrize(("num_wrong_groups", "kind"), [(10, "credible"), (0, "korn-graubard")])
def test_groups_alike_up_to_the_priors_limit_are_the_models_and_beyond_it_are_not(num_wrong_groups: int, kind: str):
    """60 groups of 3, 9 of them wholly wrong: rho 1; with 10 more of a single mistake it falls below 0.7."""
    rows = [[False] * 3] * 9 + [[False, True, True]] * num_wrong_groups + [[True] * 3] * (51 - num_wrong_groups)
    hits = np.ravel(rows)
    value = hits.mean()
    variance = jackknife_variance(value, [np.delete(rows, place, axis=0).mean() for place in range(60)])
    rho = (len(hits) * variance / (value * (1 - value)) - 1) / (3 - 1)
    assert rho == pytest.approx({10: 0.679, 0: 1.025}[num_wrong_groups], abs=0.005)
    assert of_share(hits, [str(index // 3) for index in range(180)]).kind == kind


def test_a_credible_interval_is_that_of_the_hits_and_sizes_of_the_groups():
    sizes = [3, 8, 1, 5, 12, 4, 6, 2, 9, 7] * 4
    groups = [f"{group:02}" for group, size in enumerate(sizes) for _ in range(size)]
    hits = [not (group % 5 == 0 and cell % 3 == 0) for group, size in enumerate(sizes) for cell in range(size)]
    by_group = [sum(hit for hit, name in zip(hits, groups, strict=True) if name == f"{n:02}") for n in range(40)]
    found, expected = of_share(hits, groups), beta_binomial_interval(by_group, sizes)
    assert found.kind == "credible"
    assert (found.low, found.high, found.n_eff) == pytest.approx(
        (expected.low, expected.high, expected.n_eff), abs=1e-12
    )
    assert found.high - found.low < 0.15


def test_intervals_over_the_same_groups_warn_once_that_these_are_few():
    hits, groups = spread_out(12, 5, 10)
    found = metric_intervals(
        [0] * 60, ~np.array(hits), images=[str(n) for n in range(60)], groups=groups, num_classes=2
    )
    texts = [text for tag, text in joint_warnings(found.values()) if tag == "few groups"]
    assert texts == ["The interval rests on 12 groups only; under about 50 it may be too narrow."]


def test_a_share_is_held_more_often_by_an_interval_of_a_higher_level() -> None:
    hits = [True] * 30 + [False] * 10
    images, groups = [str(at) for at in range(40)], [f"g{at // 4}" for at in range(40)]
    by_default = share_interval(hits, images=images, groups=groups)
    wider = share_interval(hits, images=images, groups=groups, level=0.99)
    assert (by_default.level, wider.level) == (0.95, 0.99)
    assert wider.low < by_default.low < by_default.high < wider.high
