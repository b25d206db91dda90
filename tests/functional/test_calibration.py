from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from scipy.optimize import least_squares
from scipy.stats import iqr, median_abs_deviation
from sklearn.linear_model import HuberRegressor

from mia_lightning.functional.calibration import (
    ERROR_FLOOR,
    MIN_NONMEMBERS,
    calibrated_error,
    combine,
    combined_score,
    enough_nonmembers,
    huber_line,
    log_error,
    standardise,
)
from mia_lightning.functional.folds import assign_folds
from mia_lightning.functional.intervals import delong_interval
from mia_lightning.functional.membership import membership_error
from mia_lightning.functional.neighbours import neighbour_error
from mia_lightning.functional.roc import roc_auc


def errors(members: int, nonmembers: int, seed: int, effect: float = 0.0):
    """Heavy-tailed r, p and the errors of seven neighbours, all driven by how hard the sample is."""
    rng = np.random.default_rng(seed)
    member = rng.permutation(np.arange(members + nonmembers) < members)
    hard = 0.6 * rng.normal(size=member.size) + 0.2 * rng.standard_t(3, member.size)
    r = np.exp(hard + 0.4 * rng.normal(size=member.size) - 2.0 - effect * member)
    p = np.exp(0.7 * hard + 0.5 * rng.normal(size=member.size) - 1.5)
    shared, own = rng.normal(size=(member.size, 1)), rng.normal(size=(member.size, 7))
    return r, p, np.exp(hard[:, None] + 0.3 * shared + 0.3 * own - 2.0), member


@pytest.mark.parametrize("make", [np.array, torch.tensor])
def test_logarithms_have_a_floor_and_keep_nan(make):
    assert log_error(make([np.e, 0.0, -1e-9])).tolist() == pytest.approx(
        [1.0, np.log(ERROR_FLOOR), np.log(ERROR_FLOOR)]
    )
    assert np.isnan(float(log_error(make([float("nan")]))[0]))


def test_logarithms_of_half_precision_are_taken_in_single():
    found = log_error(torch.zeros(1, dtype=torch.float16))
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(np.log(ERROR_FLOOR))


@pytest.mark.parametrize(("folds", "seed"), [(5, 0), (3, 7)])
def test_values_are_standardised_by_the_nonmembers_of_the_other_folds(folds, seed):
    values, _, _, member = errors(40, 50, 0)
    fold = assign_folds(member, folds, seed)
    found = standardise(values, member, folds=folds, seed=seed)
    for i in range(member.size):
        others = [values[j] for j in range(member.size) if not member[j] and fold[j] != fold[i]]
        scale = median_abs_deviation(others, scale="normal")
        assert found.centre[i] == pytest.approx(np.median(others), abs=1e-12)
        assert found.scale[i] == pytest.approx(scale, rel=1e-4)
        assert found.values[i] == pytest.approx((values[i] - np.median(others)) / scale, rel=1e-4, abs=1e-9)
    assert not found.pooled


def test_no_nonmember_has_a_say_in_its_own_units():
    values, _, _, member = errors(40, 50, 1)
    before = standardise(values, member)
    for i in np.flatnonzero(~member)[np.argsort(values[~member])[:10]]:
        changed = values.copy()
        changed[i] = 1e6
        after = standardise(changed, member)
        together = assign_folds(member) == assign_folds(member)[i]
        assert np.array_equal(after.centre[together], before.centre[together])
        assert np.array_equal(after.scale[together], before.scale[together])
        assert not np.array_equal(after.centre, before.centre)
        assert after.values[i] == (1e6 - before.centre[i]) / before.scale[i]


def test_members_have_no_say_in_any_units():
    values, p, _, member = errors(40, 50, 2)
    changed = np.where(member, 1e6, values)
    assert np.array_equal(standardise(changed, member).centre, standardise(values, member).centre)
    assert np.array_equal(standardise(changed, member).scale, standardise(values, member).scale)
    kept = calibrated_error(changed, p, member)[~member]
    assert np.array_equal(kept, calibrated_error(values, p, member)[~member])


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        ([0.0] * 30 + [1.0] * 20, lambda v: iqr(v) / 1.349),
        ([0.1] * 45 + [5.0] * 5, np.std),
        ([0.3] * 51, lambda v: 1.0),  # whose standard deviation comes out as 6e-17
        ([0.0] * 50, lambda v: 1.0),
    ],
)
def test_tied_values_find_a_scale(values, scale):
    member = np.arange(len(values) + 10) >= len(values)
    values = np.r_[values, np.linspace(0, 1, 10)]
    found, fold = standardise(values, member), assign_folds(member)
    for i in range(member.size):
        assert found.scale[i] == pytest.approx(scale(values[~member & (fold != fold[i])]), rel=1e-12)


def test_few_nonmembers_mean_units_that_look_at_no_label():
    values, p, _, member = errors(30, MIN_NONMEMBERS - 1, 3)
    found = standardise(values, member)
    assert found.pooled
    assert not enough_nonmembers(member)
    np.testing.assert_allclose(found.centre, np.median(values))
    np.testing.assert_allclose(found.scale, median_abs_deviation(values, scale="normal"), rtol=1e-4)
    other = np.roll(member, 7)
    assert np.array_equal(standardise(values, other).values, found.values)
    assert np.array_equal(calibrated_error(values, p, other), np.log(values) - np.log(p))
    assert np.array_equal(combine([values, p], other), combine([values, p], member))


def test_one_nonmember_more_is_enough():
    values, _, _, member = errors(30, MIN_NONMEMBERS, 3)
    assert enough_nonmembers(member, values)
    assert not standardise(values, member).pooled
    values[np.flatnonzero(~member)[0]] = np.nan
    assert not enough_nonmembers(member, values)
    assert standardise(values, member).pooled


def test_values_that_are_not_finite_stay_out_of_the_fits():
    r, p, _, member = errors(40, 60, 4)
    broken = np.zeros(100, dtype=bool)
    broken[[3, 50, 77, 98]] = True
    bad = r.copy()
    bad[broken] = [np.nan, np.inf, np.nan, -np.inf]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for score in (calibrated_error(bad, p, member), calibrated_error(p, bad, member), combine([bad, p], member)):
            assert np.array_equal(np.isnan(score), broken)
        found = combine([bad, p], member)[~broken]
        assert np.array_equal(found, combine([r[~broken], p[~broken]], member[~broken]))
        found = calibrated_error(bad, p, member)[~broken]
        assert np.array_equal(found, calibrated_error(r[~broken], p[~broken], member[~broken]))
        assert np.isnan(combine([np.full(100, np.nan)], member)).all()


def outlying_line(seed: int, size: int = 300) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.uniform(-3.0, 1.0, size)
    return x, 0.7 * x - 1.0 + 0.2 * rng.standard_t(3, size)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("size", [16, 48, 300])
def test_line_minimises_hubers_loss_at_its_own_scale(seed, size):
    x, y = outlying_line(seed, size)
    slope, intercept = huber_line(x, y)
    scale = 1.4826 * np.median(np.abs(y - slope * x - intercept))
    start, tight = [slope + 0.1, intercept - 0.1], {"xtol": 1e-14, "ftol": 1e-14, "gtol": 1e-12}
    best = least_squares(lambda c: y - c[0] * x - c[1], start, loss="huber", f_scale=1.345 * scale, **tight)
    assert (slope, intercept) == pytest.approx(tuple(best.x), abs=2e-5 * scale)


@pytest.mark.parametrize("seed", range(5))
def test_line_is_close_to_that_of_scikit_learn(seed):
    x, y = outlying_line(seed)  # its scale is estimated in another way: not the same line
    other = HuberRegressor(epsilon=1.345, alpha=0.0).fit(x[:, None], y)
    assert huber_line(x, y) == pytest.approx((other.coef_[0], other.intercept_), abs=0.01)


def test_line_withstands_outliers_and_offsets():
    x, y = outlying_line(0)
    slope, intercept = huber_line(x, y)
    wild = y.copy()
    wild[::10] += 1000.0
    assert huber_line(x, wild) == pytest.approx((slope, intercept), abs=0.1)
    assert abs(np.polyfit(x, wild, 1)[1] - intercept) > 50
    far = huber_line(x + 1e4, y - 1e4)
    assert far[0] == pytest.approx(slope, abs=1e-6)
    assert far[0] * 1e4 + far[1] == pytest.approx(intercept - 1e4, abs=1e-6)


def test_line_through_points_that_do_not_vary_is_flat():
    assert huber_line(np.full(20, 0.1), np.arange(20.0)) == pytest.approx((0.0, 9.5))
    assert huber_line(np.array([0.3]), np.array([2.0])) == pytest.approx((0.0, 2.0))


def test_calibration_is_the_residual_from_the_line_of_the_other_folds():
    r, p, _, member = errors(30, 50, 5)
    fold = assign_folds(member)
    found = calibrated_error(r, p, member)
    for i in range(member.size):
        others = ~member & (fold != fold[i])
        slope, intercept = huber_line(np.log(p[others]), np.log(r[others]))
        assert found[i] == pytest.approx(np.log(r[i]) - intercept - slope * np.log(p[i]), abs=1e-9)


def test_calibration_undoes_any_power_law():
    _, p, _, member = errors(60, 60, 6)
    noise = 0.3 * np.random.default_rng(0).normal(size=120)
    reference = calibrated_error(p * np.exp(noise), p, member)
    for power, factor in [(0.0, 1.0), (0.5, 3.0), (2.0, 0.1)]:
        np.testing.assert_allclose(calibrated_error(factor * p**power * np.exp(noise), p, member), reference, atol=1e-5)


def test_no_nonmember_has_a_say_in_its_own_line():
    r, p, _, member = errors(40, 50, 7)
    before, fold = calibrated_error(r, p, member), assign_folds(member)
    for i in np.flatnonzero(~member)[:10]:
        changed = r.copy()
        changed[i] *= 1e4
        after = calibrated_error(changed, p, member)
        together = fold == fold[i]
        together[i] = False
        assert np.array_equal(after[together], before[together])
        assert after[i] == pytest.approx(before[i] + np.log(1e4), abs=1e-12)
        assert not np.array_equal(after, before)


@pytest.mark.parametrize("seed", range(5))
def test_one_constant_target_does_not_tilt_the_line(seed):
    r, p, _, member = errors(40, 50, seed)
    before = calibrated_error(r, p, member)
    row = np.flatnonzero(~member)[0]
    r[row], p[row] = 1e-3, 0.0
    after = calibrated_error(r, p, member)
    # Any one pair may move the line a little; with log p = -18 in the fit it is 0.7 on average.
    assert np.abs(np.delete(after - before, row)).max() < 0.2
    assert abs(after[row]) < 6.0  # a straight line drawn on to log p = -18 would ask for log r = -13


def test_scores_are_added_in_units_of_the_nonmembers():
    r, p, _, member = errors(40, 50, 9)
    z = [standardise(v, member, folds=4, seed=3).values for v in (r, p)]
    np.testing.assert_allclose(combine([r, p], member, [1.0, 0.25], folds=4, seed=3), -(z[0] + 0.25 * z[1]), atol=1e-12)
    np.testing.assert_allclose(combined_score(r, p, member, folds=4, seed=3), -(z[0] + z[1]), atol=1e-12)
    np.testing.assert_allclose(combine([100 * r - 7, p], member), combine([r, p], member), atol=1e-9)
    assert not np.array_equal(combine([r, p], member), combine([r, p], member, seed=1))


def test_two_weak_signals_make_a_stronger_one():
    gain = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        member = np.arange(200) < 100
        first, second = rng.normal(size=(2, 200)) - 0.7 * member
        both = roc_auc(combined_score(first, 10 * second, member), member)
        gain.append(both - max(roc_auc(-first, member), roc_auc(-second, member)))
    assert np.mean(gain) > 0.03


def test_wrong_inputs_say_what_was_found():
    with pytest.raises(ValueError, match=r"one shape \(N,\), but got \(3,\) and \(4,\)"):
        standardise(np.zeros(3), np.zeros(4))
    with pytest.raises(ValueError, match=r"one shape \(N,\), but got \(3,\) and \(4,\)"):
        calibrated_error(np.zeros(4), np.zeros(3), np.zeros(4))
    with pytest.raises(ValueError, match=r"one shape \(N,\), but got \(2, 2\) and \(2, 2\)"):
        standardise(np.zeros((2, 2)), np.zeros((2, 2)))
    with pytest.raises(ValueError, match="at least one error to combine, but got none"):
        combine([], np.zeros(4))
    with pytest.raises(ValueError, match=r"one finite weight an error, but got \[1.0\] for 2 errors"):
        combine([np.zeros(4), np.zeros(4)], np.zeros(4), [1.0])
    with pytest.raises(ValueError, match=r"one finite weight an error, but got \[nan\] for 1 errors"):
        combine([np.zeros(4)], np.zeros(4), [float("nan")])
    with pytest.raises(ValueError, match="at least 2 folds, but got 1"):
        standardise(np.zeros(40), np.zeros(40), folds=1)


@pytest.mark.parametrize(
    ("members", "nonmembers"),
    [
        (60, 60),
        pytest.param(120, 120, marks=pytest.mark.slow),
        pytest.param(25, 100, marks=pytest.mark.slow),
        (100, 25),
        (30, 15),
    ],
)
def test_intervals_cover_chance_where_the_sides_do_not_differ(members, nonmembers):
    covered = np.zeros(3)
    for seed in range(200):
        r, p, others, member = errors(members, nonmembers, seed)
        near = neighbour_error(r, others)
        calibrated = calibrated_error(r, p, member)
        scores = (
            combined_score(membership_error(r, p), near, member),
            -calibrated,
            combine([calibrated, near, r], member, [1.0, 2.0, 0.5]),
        )
        intervals = [delong_interval(score, member) for score in scores]
        covered += [interval.low <= 0.5 <= interval.high for interval in intervals]
    assert ((covered / 200 >= 0.91) & (covered / 200 <= 0.985)).all(), covered / 200
