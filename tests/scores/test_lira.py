import numpy as np
import pytest
from scipy.stats import chi2, norm, t

from mia_lightning.functional.roc import roc_auc
from mia_lightning.scores.lira import FREEDOM_UNKNOWN, POOL_BELOW, VARIANCE_FLOOR, lira_offline, lira_online
from mia_lightning.scores.reference_statistics import ReferenceStatistics
from mia_lightning.scores.variance_prior import fit_variance_prior


def parted(stats):
    """For each sample the statistics of the models trained on it, and of the others."""
    return [(r[i], r[~i]) for r, i in zip(stats.references.T, stats.included.T, strict=True)]


def pooled_deviation(groups):
    squares = sum(float(np.sum((g - g.mean()) ** 2)) for g in groups if g.size)
    return np.sqrt(squares / sum(g.size - 1 for g in groups if g.size))


def test_pooled_ratio_is_that_of_a_loop_over_samples(world):
    stats, _ = world(0, references=6)
    sides = parted(stats)
    spread_in, spread_out = pooled_deviation([i for i, _ in sides]), pooled_deviation([o for _, o in sides])
    for n, (inside, outside) in enumerate(sides):
        online = norm.logpdf(stats.target[n], inside.mean(), spread_in)
        online -= norm.logpdf(stats.target[n], outside.mean(), spread_out)
        assert lira_online(stats, pooled=True)[n] == pytest.approx(online, rel=1e-9)
        offline = (stats.target[n] - outside.mean()) / spread_out
        assert lira_offline(stats, pooled=True)[n] == pytest.approx(offline, rel=1e-9)


def test_unpooled_ratio_is_that_of_a_loop_over_samples(world):
    stats, _ = world(1, references=20)
    online, offline = lira_online(stats, pooled=False), lira_offline(stats, pooled=False)
    for n, (inside, outside) in enumerate(parted(stats)):
        expected = norm.logpdf(stats.target[n], inside.mean(), inside.std(ddof=1))
        expected -= norm.logpdf(stats.target[n], outside.mean(), outside.std(ddof=1))
        assert online[n] == pytest.approx(expected, rel=1e-9)
        assert offline[n] == pytest.approx((stats.target[n] - outside.mean()) / outside.std(ddof=1), rel=1e-9)


@pytest.mark.parametrize(("references", "pooled"), [(2 * POOL_BELOW - 2, True), (2 * POOL_BELOW, False)])
def test_variances_are_pooled_until_there_are_models_enough(world, references, pooled):
    stats, _ = world(2, references=references)
    assert (lira_online(stats) == lira_online(stats, pooled=pooled)).all()
    assert (lira_offline(stats) == lira_offline(stats, pooled=pooled)).all()
    assert not np.allclose(lira_online(stats), lira_online(stats, pooled=not pooled))


def test_a_normal_distribution_function_would_tie_what_the_distance_orders(world):
    stats, _ = world(3)
    far = ReferenceStatistics(stats.target + 20.0 + np.arange(120), stats.references, stats.included)
    score = lira_offline(far)
    assert (norm.cdf(score) == 1.0).all()
    assert np.unique(score).size == 120
    near = lira_offline(stats)
    assert (np.argsort(norm.cdf(near)) == np.argsort(near)).all()


def test_samples_without_a_side_borrow_the_common_gap():
    references = np.array([[2.0, 1.0, 5.0, 3.0], [1.8, 1.2, 5.2, 3.4], [1.0, 0.0, 5.1, 3.2], [1.2, 0.2, 5.3, 3.0]])
    included = np.array([[1, 1, 1, 0], [1, 1, 1, 0], [0, 0, 1, 0], [0, 0, 1, 0]])
    stats = ReferenceStatistics(np.array([1.5, 1.1, 5.15, 3.15]), references, included)
    gap = 0.9  # of the first two samples: (1.9 - 1.1 + 1.1 - 0.1) / 2
    mean_in, mean_out = np.array([1.9, 1.1, 5.15, 3.15 + gap]), np.array([1.1, 0.1, 5.15 - gap, 3.15])
    within_in, within_out = (0.02 + 0.02 + 0.05) / 5, (0.02 + 0.02 + 0.11) / 5
    expected = norm.logpdf(stats.target, mean_in, within_in**0.5) - norm.logpdf(stats.target, mean_out, within_out**0.5)
    assert lira_online(stats) == pytest.approx(expected, rel=1e-9)
    assert lira_offline(stats) == pytest.approx((stats.target - mean_out) / within_out**0.5, rel=1e-9)


def test_a_lone_model_on_a_side_takes_the_variance_of_samples_with_more(world):
    stats, _ = world(4, references=3, balanced=False)
    sides = parted(stats)
    found, seen = lira_online(stats, pooled=False), 0
    spread_in = pooled_deviation([inside for inside, _ in sides])
    for n, (inside, outside) in enumerate(sides):
        if inside.size == 1 and outside.std(ddof=1) > 0.1:  # well above the floor
            expected = norm.logpdf(stats.target[n], inside[0], spread_in)
            expected -= norm.logpdf(stats.target[n], outside.mean(), outside.std(ddof=1))
            assert found[n] == pytest.approx(expected, rel=1e-9)
            seen += 1
    assert seen > 20
    assert np.isfinite(found).all()


def test_a_side_on_which_no_sample_has_two_models_borrows_the_other_sides_variance():
    references = np.array([[2.0, 1.0], [1.0, 0.4], [1.2, 0.2]])
    stats = ReferenceStatistics([1.7, 0.3], references, [[1, 1], [0, 0], [0, 0]])
    spread = 0.02**0.5
    expected = norm.logpdf([1.7, 0.3], [2.0, 1.0], spread) - norm.logpdf([1.7, 0.3], [1.1, 0.3], spread)
    assert lira_online(stats) == pytest.approx(expected, rel=1e-9)


def test_models_that_agree_on_one_sample_do_not_make_it_infinitely_sure():
    references = np.array([[1.0, 3.0], [1.4, 3.0], [0.5, 2.5], [0.7, 2.5]])
    stats = ReferenceStatistics([1.0, 2.9], references, [[1, 1], [1, 1], [0, 0], [0, 0]])
    floor = VARIANCE_FLOOR * (0.08 / 2 + 0.02 / 2) / 2
    expected = norm.logpdf(2.9, 3.0, floor**0.5) - norm.logpdf(2.9, 2.5, floor**0.5)
    assert lira_online(stats, pooled=False)[1] == pytest.approx(expected, rel=1e-9)


def test_impossible_references_are_refused_in_words(world):
    one, _ = world(5, references=1, balanced=False)
    two, _ = world(5, references=2)
    for stats, count in ((one, 1), (two, 2)):
        for attack in (lira_online, lira_offline):
            with pytest.raises(ValueError, match=f"so {count} reference models say nothing.*Train more: at least 4"):
                attack(stats, pooled=True)
    same = ReferenceStatistics(np.ones(3), np.full((4, 3), 0.1), [[1, 1, 0], [1, 1, 0], [0, 0, 1], [0, 0, 1]])
    with pytest.raises(ValueError, match="All 4 reference models give the same statistic on every sample"):
        lira_online(same)
    for references in (same.references, 0.1 + 1e-17 * np.arange(12).reshape(4, 3)):  # equal, or but for rounding
        with pytest.raises(ValueError, match="All 4 reference models give the same statistic on every sample"):
            lira_online(ReferenceStatistics(np.ones(3), references, same.included), pooled="bayes")
    never = ReferenceStatistics(np.ones(2), [[0.0, 1.0], [0.5, 0.7]], np.zeros((2, 2), dtype=bool))
    with pytest.raises(ValueError, match=r"None of the reference models was trained on any of the 2 samples.*offline"):
        lira_online(never)
    assert np.isfinite(lira_offline(never)).all()
    always = ReferenceStatistics(np.ones(2), [[0.0, 1.0], [0.5, 0.7]], np.ones((2, 2), dtype=bool))
    with pytest.raises(ValueError, match="Every reference model was trained on all of the 2 samples"):
        lira_offline(always)
    with pytest.raises(ValueError, match='pooled to be True, False, "bayes" or "auto", but got \'never\''):
        lira_online(world(6)[0], pooled="never")


def predictive(values, prior, x):
    """Density of one more value, summed over means and logarithms of variances: priors flat and inverse chi-squared."""
    unit = np.sqrt(prior.variance)
    seen, new = (np.asarray(values) - np.mean(values)) / unit, (x - np.mean(values)) / unit
    means, logs = np.meshgrid(
        np.sinh(np.linspace(-5.0, 5.0, 601)), np.linspace(-8.0, 12.0, 161) / np.sqrt(prior.freedom)
    )
    weight = chi2.pdf(prior.freedom * np.exp(-logs), prior.freedom) * np.exp(-logs)
    weight *= np.cosh(np.arcsinh(means)) * norm.pdf(seen[:, None, None], means, np.exp(logs / 2)).prod(0)
    return (weight * norm.pdf(new, means, np.exp(logs / 2))).sum() / weight.sum() / unit


def test_bayesian_densities_are_integrals_over_means_and_variances(world):
    stats, _ = world(7, references=6)
    spread = np.exp(np.random.default_rng(7).normal(size=120))  # models agree on some samples more than on others
    for where in (stats.included, ~stats.included):
        centre = np.mean(stats.references, axis=0, where=where)
        stats.references[where] = (centre + spread * (stats.references - centre))[where]
    sides = [[both[side] for both in parted(stats)] for side in (0, 1)]
    priors = [
        fit_variance_prior(
            np.array([((v - v.mean()) ** 2).sum() for v in side]), np.array([v.size - 1.0 for v in side])
        )
        for side in sides
    ]
    assert all(1.0 < prior.freedom < 10.0 for prior in priors)
    found = lira_online(stats, pooled="bayes")
    for n in (0, 11):
        inside, outside = (predictive(s[n], p, stats.target[n]) for s, p in zip(sides, priors, strict=True))
        assert found[n] == pytest.approx(np.log(inside / outside), abs=1e-3)


def test_bayesian_distances_are_as_rare_as_they_say(world):
    stats, _ = world(8, references=7, balanced=False)
    found = lira_offline(stats, pooled="bayes")
    outs = [outside for _, outside in parted(stats)]
    squares = np.array([np.square(o - o.mean()).sum() if o.size else 0.0 for o in outs])
    freedom = np.array([max(o.size - 1.0, 0.0) for o in outs])
    prior = fit_variance_prior(squares, freedom)
    for n, outside in enumerate(outs):
        if outside.size:
            known = prior.freedom + freedom[n]
            spread = np.sqrt((prior.freedom * prior.variance + squares[n]) / known * (1 + 1 / outside.size))
            rare = t.sf(abs(stats.target[n] - outside.mean()) / spread, known)
            assert norm.sf(abs(found[n])) == pytest.approx(rare, rel=0.15, abs=1e-12)
            assert np.sign(found[n]) == np.sign(stats.target[n] - outside.mean())
    far = ReferenceStatistics(stats.target + 1e6 + np.arange(120.0), stats.references, stats.included)
    assert np.isfinite(lira_offline(far, pooled="bayes")).all()


def test_a_prior_is_found_in_the_variances_of_many_samples():
    rng = np.random.default_rng(3)
    freedom = rng.choice([0.0, 2.0, 3.0, 6.0], 40_000)
    drawn = 0.5 * 6.0 / rng.chisquare(6.0, freedom.size)
    prior = fit_variance_prior(np.where(freedom > 0, drawn * rng.chisquare(np.maximum(freedom, 1)), 0.0), freedom)
    assert prior == pytest.approx((6.0, 0.5), rel=0.08)
    equal = fit_variance_prior(0.5 * rng.chisquare(2.0, 40_000), np.full(40_000, 2.0))
    assert equal.freedom > 20
    assert equal.variance == pytest.approx(0.5, rel=0.15)
    lone = fit_variance_prior(np.array([0.6, 0.0]), np.array([2.0, 0.0]))
    assert lone.variance == pytest.approx(0.3 / np.exp(-0.5772), rel=0.01)  # the mean of log(chi-squared / 2) for two


def test_between_pooled_and_own_variances_where_samples_differ_in_them():
    """Models agree on some samples and not on others: a variance for all is wrong, and one from two models is noise."""
    areas = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        spread, member = np.exp(rng.normal(-1.5, 0.9, 200)), np.arange(200) < 100
        included = np.repeat(rng.random((4, 200)) < 0.5, 2, axis=0)
        included[1::2] = ~included[::2]
        levels = rng.normal(0.0, 1.5, 200)
        references = levels + 0.5 * included + spread * rng.normal(size=(8, 200))
        stats = ReferenceStatistics(levels + 0.5 * member + spread * rng.normal(size=200), references, included)
        areas.append([roc_auc(lira_online(stats, pooled=how), member) for how in (True, False, "bayes")])
    pooled, own, bayes = np.mean(areas, axis=0)
    assert bayes > max(pooled, own) + 0.01


@pytest.mark.parametrize("references", [1, 2])
def test_one_model_or_two_mirrored_ones_are_enough_for_bayes(world, references):
    areas = []
    for seed in range(10):
        stats, member = world(seed, references, balanced=references == 2)
        online, offline = lira_online(stats), lira_offline(stats)
        assert (online == lira_online(stats, pooled="bayes")).all()
        areas.append([roc_auc(s, member) for s in (stats.target, online, offline)])
    plain, online, offline = np.mean(areas, axis=0)
    assert min(online, offline) > plain + 0.12


def test_with_one_stranger_it_is_the_distance_to_it(world):
    stats, _ = world(9, references=1)
    alone = ReferenceStatistics(stats.target, stats.references, np.zeros((1, 120)))
    distance = stats.target - stats.references[0]
    scale = 1.4826 * np.median(np.abs(distance - np.median(distance)))  # of two models' difference
    wallace = np.sqrt(FREEDOM_UNKNOWN * np.log1p((distance / scale) ** 2 / FREEDOM_UNKNOWN))
    expected = np.sign(distance) * wallace * (8 * FREEDOM_UNKNOWN + 1) / (8 * FREEDOM_UNKNOWN + 3)
    assert lira_offline(alone) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("attack", [lira_online, lira_offline])
@pytest.mark.parametrize("references", [3, 4, 8, 64])
def test_it_finds_members_that_the_statistic_alone_does_not(world, attack, references):
    areas = []
    for seed in range(10):
        stats, member = world(seed, references, balanced=references != 3)
        areas.append((roc_auc(stats.target, member), roc_auc(attack(stats), member)))
    plain, attacked = np.mean(areas, axis=0)
    assert plain < 0.75
    assert attacked > plain + 0.15


@pytest.mark.parametrize("attack", [lira_online, lira_offline])
@pytest.mark.parametrize("references", [2, 4, 5])
def test_where_nothing_is_memorised_the_interval_covers_chance(world, covers_chance, attack, references):
    covered = 0
    for seed in range(200):
        stats, member = world(seed, references, balanced=references != 5, honest=True)
        covered += covers_chance(attack(stats), member)
    assert 0.91 <= covered / 200 <= 0.985
