import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.special import betaln
from scipy.stats import beta

from cytolora.metrics.beta_binomial import UniformPrior, beta_binomial_interval

GROUPS = {
    "few mistakes": ([12, 11, 12, 5, 7, 9], [12, 12, 12, 5, 9, 9]),
    "one mistake": ([4] * 9 + [3], [4] * 10),
    "means over three seeds": ([11 + 2 / 3, 4 + 1 / 3, 8, 2], [12, 5, 8, 2]),
    "two groups": ([3, 9], [6, 10]),
    "large groups, hardly correlated": ([480, 465, 477], [500, 490, 500]),
    "all of a group or none": ([6, 6, 6, 0, 6], [6, 6, 6, 6, 6]),
    "hardly a hit": ([0, 0, 1, 0, 0], [9, 8, 9, 12, 2]),
}


def integrated(
    hits: np.ndarray, sizes: np.ndarray, uniform: UniformPrior = "correlation"
) -> tuple[np.ndarray, np.ndarray]:
    """The posterior integrated over the correlation at 150 nodes: 1,500 shares, and the mass of each."""
    shares = np.sin((np.arange(1500) + 0.5) / 1500 * np.pi / 2) ** 2
    nodes, weights = np.polynomial.legendre.leggauss(150)
    density = np.zeros(1500)
    scale = None
    correlations = 0.7 * ((nodes + 1) / 2) ** (1 if uniform == "correlation" else 2)
    for node, weight in zip(correlations, weights, strict=True):
        strength = 1 / node - 1
        a, b = shares[:, None] * strength, (1 - shares[:, None]) * strength
        log = (betaln(a + hits, b + sizes - hits) - betaln(a, b)).sum(axis=1)
        scale = log.max() + 20 if scale is None else scale
        density += weight * np.exp(log - scale)
    return shares, density / density.sum()


@pytest.mark.parametrize("uniform", ["correlation", "deviation"])
@pytest.mark.parametrize("name", GROUPS)
def test_the_interval_is_that_of_numerical_integration(name: str, uniform: UniformPrior):
    hits, sizes = (np.array(counts, dtype=float) for counts in GROUPS[name])
    below = np.concatenate([[0], np.cumsum(integrated(hits, sizes, uniform)[1])])
    expected = np.sin(np.interp([0.025, 0.975], below, np.linspace(0, np.pi / 2, 1501))) ** 2
    found = beta_binomial_interval(hits, sizes, uniform=uniform)
    assert (found.low, found.high) == pytest.approx(tuple(expected), abs=5e-4)


@pytest.mark.parametrize("name", GROUPS)
def test_the_effective_number_is_of_independent_images_that_leave_the_share_as_uncertain(name: str):
    """Jeffreys' posterior of n_eff images has the variance of this one, by scipy's beta distribution."""
    hits, sizes = (np.array(counts, dtype=float) for counts in GROUPS[name])
    shares, mass = integrated(hits, sizes)
    mean = mass @ shares
    n_eff = beta_binomial_interval(hits, sizes).n_eff
    assert 0 < n_eff < sizes.sum()
    equal = beta(mean * (n_eff + 1), (1 - mean) * (n_eff + 1))
    assert equal.var() == pytest.approx(mass @ (shares - mean) ** 2, rel=1e-3)


def test_the_posterior_of_two_groups_is_that_of_quadpack():
    """P(p < 0.5) of 3 of 6 and 9 of 10, by two nested adaptive integrals."""

    def likelihood(rho: float, angle: float) -> float:
        strength = 1 / rho - 1
        a, b = strength * np.sin(angle) ** 2, strength * np.cos(angle) ** 2
        return float(np.exp(sum(betaln(a + x, b + n - x) - betaln(a, b) for x, n in ((3, 6), (9, 10)))))

    def mass(to: float) -> float:
        return quad(lambda angle: quad(likelihood, 1e-6, 0.7, args=(angle,), limit=80)[0], 1e-6, to, limit=80)[0]

    low = beta_binomial_interval([3, 9], [6, 10]).low
    assert mass(float(np.arcsin(low**0.5))) / mass(np.pi / 2 - 1e-6) == pytest.approx(0.025, abs=2e-4)


@pytest.mark.parametrize(("hits", "trials"), [(1, 2), (1, 40), (97, 100), (3, 7)])
def test_single_images_give_jeffreys_interval(hits: int, trials: int):
    found = beta_binomial_interval([1] * hits + [0] * (trials - hits), [1] * trials)
    expected = beta.ppf([0.025, 0.975], hits + 0.5, trials - hits + 0.5)
    assert (found.low, found.high) == pytest.approx(tuple(expected), abs=1e-12)
    assert found.n_eff == trials


def test_hits_and_misses_mirror_each_other():
    hits, sizes = np.array([12, 11, 12, 5, 7]), np.array([12, 12, 12, 5, 9])
    one, other = beta_binomial_interval(hits, sizes), beta_binomial_interval(sizes - hits, sizes)
    assert (one.low, one.high) == pytest.approx((1 - other.high, 1 - other.low), abs=1e-6)
    assert one.n_eff == pytest.approx(other.n_eff, rel=1e-4)


def test_mistakes_that_lie_together_leave_the_share_less_known():
    spread = beta_binomial_interval([9] * 10 + [10] * 20, [10] * 30)
    together = beta_binomial_interval([0] + [10] * 29, [10] * 30)
    assert together.high - together.low > 1.2 * (spread.high - spread.low)
    assert together.n_eff < spread.n_eff / 2


def test_means_over_seeds_give_what_lies_between_the_seeds():
    """Of 30 groups of 5 images, seeds that miss 2, 4 and 6 images, one a group: their mean count is 4.

    The interval of the mean is a little narrower than that of one seed with 4: chance of single seeds averages out.
    """
    sizes = np.full(30, 5.0)
    seeds = [sizes - (np.arange(30) < missed) for missed in (2, 4, 6)]
    fewest, middle, most = (beta_binomial_interval(hits, sizes) for hits in seeds)
    mean = beta_binomial_interval(np.mean(seeds, axis=0), sizes)
    assert most.low < mean.low < fewest.low
    assert most.high < mean.high < fewest.high
    assert 0.8 < (mean.high - mean.low) / (middle.high - middle.low) < 1


def test_a_narrow_posterior_is_found_too():
    """20 groups of 50,000 images: the posterior is a thousandth of the range."""
    rng = np.random.default_rng(0)
    hits = 50_000 - rng.poisson(50, 20)
    found = beta_binomial_interval(hits, np.full(20, 50_000))
    assert found.low < hits.sum() / 1e6 < found.high
    assert 1e-5 < found.high - found.low < 1e-3


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 30)), min_size=1, max_size=25))
def test_every_interval_is_an_interval_in_0_and_1(counts):
    sizes = np.array([size for _, size in counts])
    hits = np.minimum([hit for hit, _ in counts], sizes)
    found = beta_binomial_interval(hits, sizes)
    assert 0 <= found.low < found.high <= 1
    assert 0 <= found.n_eff <= sizes.sum()
