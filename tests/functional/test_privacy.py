from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom, binomtest

from mia_lightning.functional.privacy import (
    NestedCounts,
    joint_level,
    one_run_bound,
    one_run_epsilon,
    one_run_p_value,
    threshold_bound,
)

BOUNDS = [one_run_bound, threshold_bound]


def coin_flips(size: int, shift: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    member = rng.random(size) < 0.5
    return rng.normal(size=size) + shift * member, member


def randomised_response(size: int, epsilon: float, delta: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores that tell membership with the odds exp(epsilon), and for a share delta give it away."""
    rng = np.random.default_rng(seed)
    member = rng.random(size) < 0.5
    told = np.where(rng.random(size) < 1 / (1 + np.exp(-epsilon)), member, ~member)
    given_away = rng.random(size) < delta
    return np.where(given_away, 10.0 * member - 5.0, told + rng.normal(size=size) * 0.01), member


def plain_loop(samples: int, guesses: int, correct: int, epsilon: float, delta: float) -> float:
    q = 1 / (1 + np.exp(-epsilon))
    alpha = total = 0.0
    for i in range(1, correct + 1):
        total += binom.pmf(correct - i, guesses, q)
        alpha = max(alpha, total / i)
    return min(1.0, binom.sf(correct - 1, guesses, q) + 2 * samples * delta * alpha)


@pytest.mark.parametrize(
    ("samples", "guesses", "correct", "delta", "epsilon"),
    [
        (100, 100, 100, 0.0, 3.493),
        (1000, 1000, 600, 0.0, 0.2975),
        (1000, 100, 95, 0.0, 2.172),
        (1000, 100, 95, 1e-5, 2.165),
        (1000, 100, 75, 1e-4, 0.673),  # the worked example of the paper's appendix
    ],
)
def test_epsilon_is_the_published_one(samples, guesses, correct, delta, epsilon):
    assert one_run_epsilon(correct, guesses, samples, delta=delta) == pytest.approx(epsilon, abs=5e-4)


@pytest.mark.parametrize("seed", range(25))
def test_p_value_is_that_of_the_plain_loop(seed):
    rng = np.random.default_rng(seed)
    samples = int(rng.integers(1, 1500))
    guesses = int(rng.integers(0, samples + 1))
    correct = int(rng.integers(0, guesses + 1))
    epsilon, delta = float(rng.exponential(2.0)), float(10 ** rng.uniform(-8, -2))
    expected = plain_loop(samples, guesses, correct, epsilon, delta)
    assert one_run_p_value(correct, guesses, samples, epsilon, delta) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize(("correct", "epsilon"), [(30_000, 0.0), (25_600, 0.05), (49_999, 9.0), (50_000, 3.0)])
def test_leaving_out_the_far_binomial_changes_nothing(correct, epsilon):
    q = 1 / (1 + np.exp(-epsilon))
    sums = np.cumsum(binom.pmf(np.arange(correct - 1, -1, -1), 50_000, q)) / np.arange(1, correct + 1)
    expected = min(1.0, binom.sf(correct - 1, 50_000, q) + 2 * 60_000 * 1e-7 * sums.max())
    assert one_run_p_value(correct, 50_000, 60_000, epsilon, 1e-7) == pytest.approx(expected, rel=1e-10)


def test_epsilon_zero_is_a_fair_coin():
    expected = binomtest(61, 100, 0.5, alternative="greater").pvalue
    assert one_run_p_value(61, 100, 500, epsilon=0.0) == pytest.approx(expected)


@pytest.mark.parametrize("delta", [0.0, 1e-6, 1e-4])
def test_epsilon_is_where_the_p_value_crosses_the_level(delta):
    epsilon = one_run_epsilon(420, 500, 2000, delta=delta, level=0.9)
    assert one_run_p_value(420, 500, 2000, epsilon * (1 - 1e-6), delta) < 0.1
    assert one_run_p_value(420, 500, 2000, epsilon * (1 + 1e-6), delta) > 0.1


def test_epsilon_grows_with_hits_and_shrinks_with_delta_samples_and_confidence():
    hits = [one_run_epsilon(v, 100, 1000, delta=1e-5) for v in range(101)]
    assert hits[:55] == [0.0] * 55
    assert (np.diff(hits[60:]) > 0).all()
    slack = [one_run_epsilon(90, 100, 1000, delta=d) for d in (0.0, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2)]
    assert (np.diff(slack) < 0).all()
    assert slack[-1] == 0.0
    crowd = [one_run_epsilon(90, 100, m, delta=1e-5) for m in (100, 1000, 10_000)]
    assert (np.diff(crowd) < 0).all()
    sure = [one_run_epsilon(90, 100, 1000, level=level) for level in (0.4, 0.9, 0.95, 0.99)]
    assert (np.diff(sure) < 0).all()


@pytest.mark.parametrize("correct", [0, 3])
def test_nothing_is_shown_by_few_or_wrong_guesses(correct):
    assert one_run_epsilon(correct, 3, 10) == 0.0
    assert one_run_epsilon(0, 0, 10, delta=0.1) == 0.0


@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize("size", [60, 400])
def test_scores_that_know_nothing_seldom_show_anything(bound, size):
    shown = sum(bound(*coin_flips(size, 0.0, seed)).epsilon > 0.0 for seed in range(200))
    assert shown <= 0.05 * 200


@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize(
    ("epsilon", "delta"), [(0.5, 0.0), (2.0, 0.0), pytest.param(2.0, 1e-4, marks=pytest.mark.slow)]
)
def test_bound_stays_below_the_true_epsilon(bound, epsilon, delta):
    found = [bound(*randomised_response(500, epsilon, delta, seed), delta=delta).epsilon for seed in range(200)]
    assert np.mean(np.array(found) > epsilon) <= 0.05
    assert max(found) > 0.0


def test_bound_comes_near_the_true_epsilon_with_many_samples():
    scores, member = randomised_response(20_000, 1.0, 0.0, seed=0)
    assert 0.9 < one_run_bound(scores, member).epsilon <= 1.0
    assert 0.85 < threshold_bound(scores, member).epsilon <= 1.0


@pytest.mark.parametrize("bound", BOUNDS)
def test_bound_grows_with_the_gap_and_shrinks_with_delta_and_confidence(bound):
    gaps = [bound(*coin_flips(1000, shift, seed=0)).epsilon for shift in (0.5, 1.0, 2.0, 9.0)]
    assert gaps[0] > 0.0
    assert (np.diff(gaps) > 0).all()
    scores, member = coin_flips(1000, 2.0, seed=0)
    slack = [bound(scores, member, delta=d).epsilon for d in (0.0, 1e-6, 1e-4, 1.0)]
    assert (np.diff(slack) < 0).all()
    assert slack[-1] == 0.0
    sure = [bound(scores, member, level=level).epsilon for level in (0.3, 0.9, 0.95, 0.999)]
    assert (np.diff(sure) < 0).all()


def test_perfect_separation_gives_the_bound_computed_by_hand():
    scores, member = np.arange(200.0), np.arange(200) >= 100
    # one run: of 11 choices the two with 4 guesses cannot win; the best has all 200 of 200 right
    q = joint_level([10, 20, 40, 100, 200], 0.025) ** (1 / 200)
    assert one_run_bound(scores, member) == pytest.approx((np.log(q / (1 - q)), 0.0, 0.95, "two-sided", 200, 200))
    # at a delta, the chance of one that is given away comes off first
    q = joint_level([10, 20, 40, 100, 200], (0.05 - 200e-6) / 2) ** (1 / 200)
    found = one_run_bound(scores, member, delta=1e-6)
    assert found == pytest.approx((np.log(q / (1 - q)), 1e-6, 0.95, "two-sided", 200, 200))
    # where that would cost too much, each of the 8 choices has its own allowance
    split = one_run_epsilon(100, 100, 200, delta=1e-4, level=1 - 0.05 / 8)
    assert one_run_bound(scores, member, delta=1e-4).epsilon == pytest.approx(split)
    # thresholds: 9 of them, two bounds each; at the middle one 100 of 100 members and no nonmember score above
    low = (0.05 / 18) ** (1 / 100)
    expected = (np.log((low - 1e-3) / (1 - low)), 1e-3, 0.95, "members", 100, 100)
    assert threshold_bound(scores, member, delta=1e-3) == pytest.approx(expected)


@pytest.mark.parametrize("q", [0.5, 0.8, 0.95, 0.999])
@pytest.mark.parametrize("level", [0.004, 0.02])
def test_the_chance_of_nested_counts_is_that_of_draws(q, level):
    sizes = [20, 50, 200]
    rng = np.random.default_rng(0)
    counts = np.cumsum([rng.binomial(n, q, 40_000) for n in np.diff([0, *sizes])], axis=0)
    at_least = np.array([binom.sf(c - 1, n, q) for c, n in zip(counts, sizes, strict=True)])
    coin = rng.random(40_000) * np.array([binom.pmf(c, n, q) for c, n in zip(counts, sizes, strict=True)])
    expected = ((at_least - coin).min(0) <= level).mean()
    found = NestedCounts(sizes, q).chance(level)
    assert found == pytest.approx(expected, abs=3.5 * np.sqrt(level * 3 / 40_000))
    assert (at_least.min(0) <= level).mean() <= found + 0.002  # without the coin it happens less often


@pytest.mark.parametrize("sizes", [(20, 50, 100, 200, 500), (10, 20, 40, 100, 200), (4000, 10_000, 100_000)])
def test_a_joint_level_is_above_an_even_split_and_holds_between_the_epsilons_it_was_computed_at(sizes):
    level = joint_level(sizes, 0.025)
    assert 0.025 / len(sizes) * 1.05 < level < 0.025
    for epsilon in (0.0, 0.1, 0.7, 1.5, 2.5, 5.0, 8.0):
        assert NestedCounts(sizes, 1 / (1 + np.exp(-epsilon))).chance(level) <= 0.0253
    assert joint_level([100], 0.025) == 0.025


@pytest.mark.parametrize("size", [61, 100, 203])
def test_at_a_delta_of_zero_all_samples_are_guessed_at(size):
    member = np.random.default_rng(1).permutation(size) < size // 2
    bound = one_run_bound(np.arange(size) + 1000.0 * member, member)
    assert bound.rule == "two-sided"
    assert bound.guesses == size // 2 * 2
    assert one_run_bound(np.arange(size) + 1000.0 * member, member, delta=1e-3).guesses < size // 2 + 2


def test_thresholds_that_part_nothing_take_no_share_of_the_confidence():
    member = np.arange(200) >= 100
    low = (0.05 / 2) ** (1 / 100)  # all places but those within the upper half fall on the lowest score
    assert threshold_bound(1.0 * member, member).epsilon == pytest.approx(np.log(low / (1 - low)))


def test_the_choice_that_won_is_named():
    member = np.arange(1000) % 2 == 0
    tell_members = np.where(member & (np.arange(1000) < 60), 5.0, 0.0) + np.random.default_rng(0).random(1000)
    spare_members = np.where(~member & (np.arange(1000) < 300), -5.0, 0.0) + np.random.default_rng(0).random(1000)
    assert one_run_bound(tell_members, member)[3:] == ("members", 20, 20)
    assert threshold_bound(tell_members, member)[3:] == ("members", 20, 20)
    assert threshold_bound(spare_members, member)[3:] == ("nonmembers", 100, 100)
    assert one_run_bound(np.zeros(1000), member)[3:] == ("none", 0, 0)


@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize("scores", [np.zeros(400), np.repeat([0.0, 1.0], 200)[np.arange(400) % 2 * 200]])
def test_tied_scores_show_nothing_even_when_the_table_lists_members_first(bound, scores):
    assert bound(scores, np.arange(400) < 200).epsilon == 0.0
    assert bound(scores, np.arange(400) >= 200).epsilon == 0.0


@pytest.mark.parametrize("bound", BOUNDS)
def test_few_samples_show_nothing(bound):
    assert bound([1.0, 2.0, 3.0, 4.0], [False, False, True, True])[3:] == ("none", 0, 0)


@pytest.mark.parametrize("bound", BOUNDS)
def test_order_of_the_samples_and_monotone_transforms_change_nothing(bound):
    scores, member = coin_flips(500, 1.0, seed=3)
    shuffled = np.random.default_rng(0).permutation(500)
    assert bound(scores[shuffled], member[shuffled]) == bound(np.exp(scores), member) == bound(scores, member)


@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"delta": -0.1}, r"Expected delta in \[0, 1\], but got -0.1"),
        ({"level": 1.0}, r"confidence level in \(0, 1\), but got 1.0"),
        ({"shares": ()}, r"one or more shares in \(0, 1\], but got \(\)"),
        ({"shares": (0.1, 1.5)}, r"one or more shares in \(0, 1\], but got \(0.1, 1.5\)"),
    ],
)
def test_settings_out_of_range_are_refused(bound, settings, message):
    with pytest.raises(ValueError, match=message):
        bound([1.0, 2.0], [True, False], **settings)


@pytest.mark.parametrize("bound", BOUNDS)
def test_scores_that_do_not_fit_are_refused(bound):
    with pytest.raises(ValueError, match="finite scores, but 1 of 2 are NaN or infinite"):
        bound([1.0, np.nan], [True, False])
    with pytest.raises(ValueError, match="needs both sides, but got 2 members and 0 nonmembers"):
        bound([1.0, 2.0], [True, True])


@pytest.mark.parametrize(("correct", "guesses", "samples"), [(-1, 2, 3), (3, 2, 3), (1, 4, 3)])
@pytest.mark.parametrize("function", [one_run_epsilon, lambda *counts: one_run_p_value(*counts, epsilon=1.0)])
def test_impossible_counts_are_refused(function, correct, guesses, samples):
    message = rf"correct <= guesses <= samples, but got {correct} correct of {guesses} guesses about {samples} samples"
    with pytest.raises(ValueError, match=message):
        function(correct, guesses, samples)


def test_impossible_privacy_is_refused():
    with pytest.raises(ValueError, match="Expected epsilon >= 0, but got -1"):
        one_run_p_value(1, 2, 3, epsilon=-1)
    with pytest.raises(ValueError, match=r"Expected delta in \[0, 1\], but got 2"):
        one_run_epsilon(1, 2, 3, delta=2)
    with pytest.raises(ValueError, match=r"confidence level in \(0, 1\), but got 0"):
        one_run_epsilon(1, 2, 3, level=0)
