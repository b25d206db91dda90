"""What an analysis makes of samples that come in groups."""

from __future__ import annotations

import numpy as np
import pytest

from mia_lightning.functional.calibration import calibrated_error
from mia_lightning.functional.combination import surprise_score
from mia_lightning.functional.gaussian_privacy import gaussian_one_run_bound
from mia_lightning.functional.groups import as_codes
from mia_lightning.functional.privacy import one_run_bound
from mia_lightning.scores.analysis import Plan, analyse
from mia_lightning.scores.building import TILES

SCORES = ("reconstruction", "membership", "calibrated", "neighbour", "combined", "trained")


def audited(groups: int = 40, size: int = 4, gain: float = 0.0, seed: int = 0):
    """Errors, statistics of the pairs, sides and groups whose samples are alike."""
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(2 * groups), size)
    member = group < groups

    def alike(share: float = 0.7) -> np.ndarray:
        common = rng.normal(size=2 * groups)[group]
        return np.sqrt(share) * common + np.sqrt(1 - share) * rng.normal(size=group.size)

    raw = {"reconstruction": np.exp(alike() - gain * member), "predictability": np.exp(alike())}
    raw |= {f"neighbour/{name}": alike() - gain * member for name in ("hflip", "vflip")}
    return raw, {"input_mean": alike(), "input_contrast": alike()}, member, group


def test_groups_of_one_sample_are_no_groups():
    raw, blind, member, _ = audited(groups=60, size=1, gain=0.4)
    alone = np.arange(member.size)
    plain, grouped = (analyse(raw, blind, member, Plan(SCORES), group=g) for g in (None, alone))
    for name in SCORES:
        np.testing.assert_array_equal(plain.scores[name], grouped.scores[name])
    shuffled = {key for key in plain.metrics if "p_value" in key}
    for key, value in plain.metrics.items():
        tolerance = 0.12 if key in shuffled else 1e-9  # other shuffles
        assert grouped.metrics[key] == pytest.approx(value, abs=tolerance, nan_ok=True), key


def test_tiles_are_a_third_surprise_where_they_were_measured():
    """Results that hold no tiles, of before or of small outputs, have the combined score without them."""
    raw, _, member, _ = audited(groups=60, size=1, gain=0.4)
    tiles = np.random.default_rng(1).normal(size=member.size) - member
    plan = Plan(("combined",), "combined")
    without, beside = (analyse(table, {}, member, plan) for table in (raw, raw | {TILES: tiles}))
    assert without.errors.keys() == beside.errors.keys() - {"tile_neighbour"}
    np.testing.assert_array_equal(beside.errors["tile_neighbour"], tiles)
    assert beside.metrics["audit/auc"] > without.metrics["audit/auc"] + 0.02
    difficulty = [without.errors["membership"]]
    difficulty.append(calibrated_error(raw["reconstruction"], raw["predictability"], member))
    for found in (without, beside):
        names = ("weighted_neighbour", "easiest_neighbour", "tile_neighbour")
        by = [found.errors[name] for name in names if name in found.errors]
        np.testing.assert_array_equal(found.scores["combined"], surprise_score(by, difficulty, member))
        again = analyse(found.errors, {}, member, plan)  # from a stored table
        np.testing.assert_array_equal(again.scores["combined"], found.scores["combined"])


def test_harmless_groups_are_rarely_called_a_difference():
    """The blind test, the p-value and the interval of a whole analysis, on sides that differ by chance alone."""
    found, draws, plan = np.zeros((2, 3)), 25, Plan(("reconstruction", "membership"))
    for seed in range(draws):
        raw, blind, member, group = audited(groups=12, size=6, seed=seed)
        for row, codes in enumerate((None, group)):
            metrics = analyse(raw, blind, member, plan, group=codes).metrics
            low, high = metrics["audit/auc_low/membership"], metrics["audit/auc_high/membership"]
            small = [metrics[f"audit/{name}"] <= 0.05 for name in ("blind_p_value", "p_value")]
            found[row] += [*small, not low <= 0.5 <= high]
    assert (found[0] > 0.08 * draws).all()
    assert (found[1] <= 0.16 * draws).all()


def test_epsilon_counts_groups_that_are_whole():
    raw, blind, member, group = audited(gain=3.0)
    grouped = analyse(raw, blind, member, Plan(), group=group)
    plain = analyse(raw, blind, member, Plan())
    assert grouped.epsilon["unit"] == "group"
    assert "unit" not in plain.epsilon
    means = np.bincount(group, grouped.scores["membership"]) / 4
    bound = one_run_bound(means, np.arange(80) < 40, delta=1e-5).epsilon
    assert 0 < grouped.metrics["audit/epsilon_low"] == bound < plain.metrics["audit/epsilon_low"]
    gaussian = gaussian_one_run_bound(means, np.arange(80) < 40, delta=1e-5)
    assert 0 < grouped.metrics["audit/mu_low_fdp"] == gaussian.mu < plain.metrics["audit/mu_low_fdp"]
    assert bound < grouped.metrics["audit/epsilon_low_fdp"] == gaussian.epsilon == grouped.epsilon["fdp"]


def test_epsilon_of_groups_on_both_sides_counts_samples():
    raw, blind, member, group = audited(gain=2.0)
    mixed = as_codes(group % 40, group.size)  # each group has members and nonmembers
    analysis = analyse(raw, blind, member, Plan(), group=mixed)
    plain = analyse(raw, blind, member, Plan())
    assert analysis.epsilon["unit"] == "sample"
    assert analysis.metrics["audit/epsilon_low"] == plain.metrics["audit/epsilon_low"]
    assert np.isnan(analysis.metrics["audit/epsilon_low/threshold"])


def test_fits_on_few_groups_of_nonmembers_are_left_out_and_said():
    raw, blind, member, group = audited(groups=4, size=30)
    analysis = analyse(raw, blind, member, Plan(SCORES), group=group)
    assert any("120 nonmembers of 4 groups: too few to fit" in note for note in analysis.notes)
    assert np.isnan(analysis.metrics["audit/auc_low/combined"])
    assert np.isfinite(analysis.scores["combined"]).all()
