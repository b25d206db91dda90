from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import linprog
from scipy.stats import binom, norm

from mia_lightning.functional.gaussian_privacy import (
    CHOICES,
    gaussian_epsilon,
    gaussian_floor,
    gaussian_one_run_bound,
    is_ruled_out,
    one_run_mu,
    pure_floor,
)
from mia_lightning.functional.privacy import one_run_bound, one_run_epsilon

COUNTS = [(10, 12, 12), (8, 9, 30), (20, 20, 50), (14, 25, 25), (1, 1, 1), (1, 4, 9)]


def gaussian_mechanism(size: int, mu: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Each sample moves an answer of its own by mu, under unit noise: exactly mu-Gaussian-private."""
    rng = np.random.default_rng(seed)
    member = rng.random(size) < 0.5
    return mu * member + rng.normal(size=size), member


def largest_chance(correct: int, guesses: int, samples: int, floor) -> float:
    """Where the recursion begins to rule out."""
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        out = is_ruled_out(correct, guesses, samples, floor, middle)
        low, high = (low, middle) if out else (middle, high)
    return high


def published_loop(correct: int, guesses: int, samples: int, floor, tail: float) -> bool:
    """The recursion with arrays, as it was published."""
    r, h = np.zeros(correct + 1), np.zeros(correct + 1)
    r[correct], h[correct] = tail * correct / samples, tail * (guesses - correct) / samples
    for i in range(correct - 1, -1, -1):
        h[i] = max(h[i + 1], floor(r[i + 1]))
        r[i] = min(1.0, r[i + 1] + i / (guesses - i) * (h[i] - h[i + 1]))
    return bool(r[0] + h[0] > guesses / samples)


def linear_program(correct: int, guesses: int, samples: int, floor) -> float:
    """Largest chance of so many right guesses among all distributions of their number that the theorem allows."""
    i = np.arange(guesses + 1)
    right, wrong = i / samples, (guesses - i) / samples
    at = np.unique(np.concatenate([norm.cdf(np.linspace(-4.5, 4.5, 250)), np.linspace(0.001, 0.999, 50)]))
    slope = np.array([(floor(x + 1e-7) - floor(x - 1e-7)) / 2e-7 for x in at])
    rows, limits = [], []
    for least in range(1, guesses + 1):
        above, before = np.where(i >= least, right, 0.0), np.where(i >= least - 1, wrong, 0.0)
        rows += [s * above - before for s in slope]
        limits += [s * x - floor(x) for s, x in zip(slope, at, strict=True)]
    solution = linprog(
        -1.0 * (i >= correct), A_ub=np.array(rows), b_ub=limits, A_eq=np.ones((1, guesses + 1)), b_eq=[1]
    )
    return float(-solution.fun)


@pytest.mark.parametrize("counts", COUNTS)
@pytest.mark.parametrize("floor", [gaussian_floor(0.4), gaussian_floor(1.2), pure_floor(0.7)])
def test_the_recursion_is_the_optimum_of_a_linear_program(counts, floor):
    assert largest_chance(*counts, floor) == pytest.approx(linear_program(*counts, floor), rel=0.01)


@pytest.mark.parametrize("seed", range(20))
def test_the_recursion_is_the_published_one(seed):
    rng = np.random.default_rng(seed)
    samples = int(rng.integers(1, 800))
    guesses = int(rng.integers(1, samples + 1))
    correct = int(rng.integers(guesses // 2, guesses + 1))
    tail = float(rng.uniform(0.001, 0.2))
    for mu in (0.0, 0.05, 0.2, 0.7, 2.0):
        floor = gaussian_floor(mu)
        expected = published_loop(correct, guesses, samples, floor, tail)
        assert is_ruled_out(correct, guesses, samples, floor, tail) == expected


@pytest.mark.parametrize("mu", [0.3, 1.0, 2.5])
def test_a_single_guess_is_right_with_the_chance_of_the_best_test(mu):
    assert largest_chance(1, 1, 1, gaussian_floor(mu)) == pytest.approx(norm.cdf(mu / 2), rel=1e-6)
    assert one_run_mu(1, 1, 1, level=0.3) == pytest.approx(2 * norm.ppf(0.7), rel=1e-6)


@pytest.mark.parametrize("epsilon", [0.0, 0.5, 2.0])
@pytest.mark.parametrize(("guesses", "samples"), [(10, 10), (40, 100), (200, 200)])
def test_randomised_response_is_within_the_bound_and_near_it(epsilon, guesses, samples):
    """The worst of all (epsilon, 0)-private trainings makes binomially many right guesses."""
    q = 1 / (1 + np.exp(-epsilon))
    for quantile in (0.5, 0.05, 0.005):
        correct = int(binom.isf(quantile, guesses, q))
        exact = binom.sf(correct - 1, guesses, q)
        bound = largest_chance(correct, guesses, samples, pure_floor(epsilon))
        assert exact <= bound * (1 + 1e-9)
        assert bound < 8 * exact
        tail = 0.05
        out = [c for c in range(guesses + 1) if is_ruled_out(c, guesses, samples, pure_floor(epsilon), tail)]
        assert binom.sf(min(out, default=guesses + 1) - 1, guesses, q) < tail


@pytest.mark.parametrize(
    ("correct", "guesses", "samples", "level", "mu"),
    [
        (95, 100, 1000, 0.95, 0.787),
        (600, 1000, 1000, 0.95, 0.164),
        (80, 100, 200, 0.99, 0.352),
        (1000, 1000, 5000, 0.95, 1.961),
        (50, 100, 100, 0.95, 0.0),
    ],
)
def test_golden_values(correct, guesses, samples, level, mu):
    found = one_run_mu(correct, guesses, samples, level=level)
    assert found == pytest.approx(mu, abs=5e-4)
    assert found == 0 or published_loop(correct, guesses, samples, gaussian_floor(found), 1 - level)
    assert not published_loop(correct, guesses, samples, gaussian_floor(found + 1e-6), 1 - level)


@pytest.mark.parametrize(("mu", "delta", "epsilon"), [(1.0, 1e-5, 4.377), (0.5, 1e-5, 1.993), (2.0, 1e-6, 10.997)])
def test_epsilon_of_a_mu(mu, delta, epsilon):
    found = gaussian_epsilon(mu, delta)
    assert found == pytest.approx(epsilon, abs=2e-3)
    slack = norm.cdf(mu / 2 - found / mu) - np.exp(found) * norm.cdf(-mu / 2 - found / mu)
    assert slack == pytest.approx(delta, rel=1e-6)


def test_epsilon_at_the_ends():
    assert gaussian_epsilon(0.0, 0.0) == gaussian_epsilon(1.0, 0.5) == gaussian_epsilon(2.0, 1.0) == 0.0
    assert gaussian_epsilon(1e-3, 0.0) == np.inf
    assert gaussian_epsilon(40.0, 1e-5) == pytest.approx(40.0 * (20.0 + 4.2649), rel=0.02)


@pytest.mark.parametrize(("size", "mu"), [(60, 0.0), (400, 0.0), (60, 0.3), (400, 0.7)])
def test_bound_stays_below_the_true_mu(size, mu):
    draws = 500 if mu == 0.0 else 100
    bounds = [gaussian_one_run_bound(*gaussian_mechanism(size, mu, 1000 + i), delta=1e-5) for i in range(draws)]
    assert np.mean([bound.mu > mu for bound in bounds]) <= 0.05
    assert np.mean([bound.epsilon > gaussian_epsilon(mu, 1e-5) for bound in bounds]) <= 0.05


def test_bound_comes_near_the_true_mu_and_beyond_that_of_any_mechanism():
    scores, member = gaussian_mechanism(20_000, 1.0, seed=0)
    bound = gaussian_one_run_bound(scores, member, delta=1e-5)
    assert 0.6 < bound.mu <= 1.0
    assert one_run_bound(scores, member, delta=1e-5).epsilon < bound.epsilon <= gaussian_epsilon(1.0, 1e-5)
    assert bound.rule == "two-sided"
    assert 0.5 < bound.correct / bound.guesses < 1.0


def test_bound_grows_with_hits_and_shrinks_with_confidence_and_delta():
    hits = [one_run_mu(v, 100, 400) for v in range(101)]
    assert hits[50] == 0.0
    assert (np.diff(hits[62:]) > 0).all()
    assert (np.diff([one_run_mu(90, 100, 400, level=level) for level in (0.5, 0.9, 0.99)]) < 0).all()
    scores, member = gaussian_mechanism(500, 2.0, seed=0)
    bounds = [gaussian_one_run_bound(scores, member, delta=d) for d in (0.0, 1e-6, 1e-3, 0.9)]
    assert len({bound.mu for bound in bounds}) == 1
    assert bounds[0].epsilon == np.inf
    assert (np.diff([bound.epsilon for bound in bounds[1:]]) < 0).all()


def test_the_error_is_split_over_the_choices_that_could_win():
    scores, member = np.arange(200.0), np.arange(200) >= 100
    found = gaussian_one_run_bound(scores, member)
    assert found.mu == one_run_mu(100, 100, 200, level=1 - 0.05 / len(CHOICES))
    alone = gaussian_one_run_bound(scores, member, choices=[(0.25, 0.25), (0.01, 0.0)])
    assert alone.mu == one_run_mu(100, 100, 200, level=0.95)  # two guesses could not win
    assert gaussian_one_run_bound(scores, member, choices=[(0.0, 0.3)])[4:] == ("nonmembers", 60, 60)
    assert gaussian_one_run_bound(np.zeros(1000), np.arange(1000) % 2 == 0)[4:] == ("none", 0, 0)
    assert gaussian_one_run_bound([1.0, 2.0, 3.0, 4.0], [False, False, True, True]).mu == 0.0


def test_settings_out_of_range_are_refused():
    with pytest.raises(ValueError, match=r"Expected delta in \[0, 1\], but got 2"):
        gaussian_one_run_bound([1.0, 2.0], [True, False], delta=2)
    with pytest.raises(ValueError, match=r"confidence level in \(0, 1\), but got 1.0"):
        gaussian_one_run_bound([1.0, 2.0], [True, False], level=1.0)
    for choices in ((), ((0.6, 0.6),), ((0.0, 0.0),), ((-0.1, 0.3),)):
        with pytest.raises(ValueError, match="pairs of shares that sum up to a number in"):
            gaussian_one_run_bound([1.0, 2.0], [True, False], choices=choices)
    with pytest.raises(ValueError, match="needs both sides"):
        gaussian_one_run_bound([1.0, 2.0], [True, True])
    with pytest.raises(ValueError, match="guesses <= samples, but got 3 correct of 2 guesses about 9 samples"):
        one_run_mu(3, 2, 9)
    with pytest.raises(ValueError, match="Expected mu >= 0, but got -1"):
        gaussian_epsilon(-1, 0.1)


def test_pure_privacy_is_ruled_out_no_further_than_by_binomial_guesses():
    for correct, guesses, samples in ((90, 100, 100), (60, 80, 400)):
        low, high = 0.0, 10.0
        for _ in range(40):
            middle = (low + high) / 2
            out = is_ruled_out(correct, guesses, samples, pure_floor(middle), 0.05)
            low, high = (middle, high) if out else (low, middle)
        best = one_run_epsilon(correct, guesses, samples)
        assert 0.6 * best < low <= best
