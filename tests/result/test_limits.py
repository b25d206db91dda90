"""Limits on what an audit may find: by both ends of intervals, of all looks together in a training."""

import math
import pickle
import subprocess
import sys

import numpy as np
import pytest
from scipy.stats import norm

from mia_lightning.functional.intervals import delong_interval
from mia_lightning.functional.operating_point import tpr_interval
from mia_lightning.result.audit_result import AuditResult
from mia_lightning.result.limits import LimitExceededError, check_limits, checked_limits, read_limits
from mia_lightning.scores.analysis import Plan, analyse


def audited(count, area, seed=0, **meta):
    """Scores as normal variables: members' are shifted so that the AUC is `area` on average."""
    rng, member = np.random.default_rng(seed), np.arange(2 * count) < count
    shift = math.sqrt(2.0) * norm.ppf(area)
    raw = {
        "reconstruction": 10.0 + rng.normal(size=2 * count) - shift * member,
        "predictability": 1e-9 * rng.normal(size=2 * count),
    }
    found = analyse(raw, {}, member, Plan())
    ids = [f"s{row}" for row in range(2 * count)]
    settings = {"settings": {"prefix": "audit", "primary": "membership"}, "membership": {"assignment": "coin"}}
    return AuditResult(found.metrics, ids, member, found.errors, found.scores, settings | meta)


def finding(result, **limits):
    return check_limits(checked_limits({key.replace("__", "/"): value for key, value in limits.items()}), result)


def test_three_answers_with_their_exit_codes():
    leak = finding(audited(150, 0.8), auc=0.6)
    assert (leak.finding, leak.exit_code) == ("above", 3)
    low, high = audited(150, 0.8).interval()
    assert f"95 % interval {low:.3g} to {high:.3g}" in str(leak)
    assert "auc of membership" in str(leak)
    assert "\n" not in str(leak)
    fine = finding(audited(1500, 0.5), auc=0.6)
    assert (fine.finding, fine.exit_code) == ("below", 0)


@pytest.mark.parametrize("area", [0.5, 0.6, 0.7])
def test_twenty_a_side_never_pass(area):
    outcomes = {finding(audited(20, area, seed), auc=0.6).finding for seed in range(8)}
    assert "below" not in outcomes


def test_of_several_limits_the_exceeded_one_decides_then_the_open_one():
    result = audited(150, 0.8)
    assert finding(result, auc=0.6, auc_gain=0.99).exit_code == 3
    assert finding(result, auc=0.8, auc__reconstruction=0.99).exit_code == 4
    assert finding(result, auc=0.95, auc__reconstruction=0.95).exit_code == 0


@pytest.mark.parametrize("metric", ["tpr_at_fpr_0.01", "tpr_at_population_fpr_0.01"])
def test_a_rate_that_cannot_be_estimated_is_open(metric):
    few = finding(audited(48, 0.9), **{metric: 0.05})
    assert few.exit_code == 4
    assert "at least 99" in str(few)
    assert finding(audited(2000, 0.9), **{metric: 0.05}).exit_code == 3


def test_a_score_that_the_audit_lacks_or_that_has_no_interval():
    assert "the audit has no score combined" in str(finding(audited(48, 0.9), auc__combined=0.5))
    with pytest.raises(ValueError, match="'auc/trained' names no score with an interval"):
        checked_limits({"auc/trained": 0.5})


def test_unfair_comparisons_and_swapped_sides_tell_nothing():
    result = audited(150, 0.8, on_both_sides=0.7)
    assert result.grade == "unfair"
    assert finding(result, auc=0.6).exit_code == 4
    assert "unfair" in str(finding(result, auc=0.6))
    swapped = audited(150, 0.2)
    assert finding(swapped, auc=0.6).exit_code == 4
    assert "sides swapped" in str(finding(swapped, auc=0.6))


def test_a_look_at_a_training_is_judged_by_its_share_of_the_error():
    look = {"number": 3, "planned": 20, "spent": 0.15, "share": 0.05}
    result = audited(150, 0.65, epoch=2, stage="fit", looks=20, look=look)
    _, low, high = delong_interval(result.scores["membership"], result.member, 1 - 0.05 * 0.05)
    assert finding(result, auc=low - 1e-6).exit_code == 3
    assert finding(result, auc=low + 1e-6).exit_code == 4
    assert finding(result, auc=high + 1e-6).exit_code == 0
    assert "at all looks together" in str(finding(result, auc=0.6))
    rate = {
        "tpr_at_fpr_0.01": tpr_interval(result.scores["membership"], result.member, 0.01, 1 - 0.05 * 0.05)[2] + 1e-6
    }
    assert finding(result, **rate).exit_code == 0
    assert finding(result, auc=result.interval()[0] - 1e-6).exit_code == 4  # its own interval alone would exceed it


def test_a_band_of_all_looks_comes_first():
    result = audited(150, 0.65, epoch=2, stage="fit", looks=20, look={"share": 0.05})
    result.metrics.update(
        {"audit/auc_low_simultaneous/membership": 0.55, "audit/auc_high_simultaneous/membership": 0.7}
    )
    assert finding(result, auc=0.54).exit_code == 3
    assert finding(result, auc=0.56).exit_code == 4
    assert finding(result, auc=0.71).exit_code == 0


def test_a_limit_is_of_the_score_that_the_verdict_rests_on():
    result = audited(150, 0.8, verdict_score="reconstruction")
    assert "auc of reconstruction" in str(finding(result, auc=0.6))
    assert "auc of membership" in str(finding(result, auc__membership=0.6))


def test_groups_have_a_limit_of_their_own():
    result = audited(150, 0.8)
    assert "group/auc has no interval" in str(finding(result, group__auc=0.6))
    result.metrics.update({"audit/group/auc": 0.8, "audit/group/auc_low": 0.7, "audit/group/auc_high": 0.9})
    assert finding(result, group__auc=0.6).exit_code == 3
    assert finding(result, group__auc=0.9).exit_code == 0


def test_trained_weights_are_looked_at_once_whatever_their_epoch():
    result = audited(150, 0.8, epoch=19, stage="audit", looks=1)
    result.metrics.update({"audit/group/auc": 0.8, "audit/group/auc_low": 0.7, "audit/group/auc_high": 0.9})
    assert finding(result, group__auc=0.6).exit_code == 3
    assert "at all looks" not in str(finding(result, auc=0.6, group__auc=0.6))


def test_what_is_no_number_is_refused_as_such():
    with pytest.raises(ValueError, match="but got nan"):
        checked_limits(read_limits(["auc=nan"]))


def test_epsilon_is_judged_by_its_lower_bound():
    indicative = audited(
        150, 0.8, epsilon={"delta": 0.0, "level": 0.95, "valid": False, "standing": "indicative: no coins"}
    )
    assert indicative.metrics["audit/epsilon_low"] > 1.0
    assert str(finding(indicative, epsilon_low=1.0)).endswith("cannot tell; the bound is indicative: no coins")
    result = audited(150, 0.8, epsilon={"delta": 0.0, "level": 0.95, "valid": True, "standing": "valid"})
    result.metrics["audit/epsilon_low"] = 1.5
    assert finding(result, epsilon_low=1.0).exit_code == 3
    assert finding(result, epsilon_low=2.0).exit_code == 0


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"auk": 0.5}, "'auk' is no metric with an interval.*did you mean 'auc'"),
        ({"blind_auc": 0.5}, "no metric with an interval"),
        ({"adjusted_auc/membership": 0.5}, "no metric with an interval"),
        ({"auc/nothing": 0.5}, "names no score with an interval; there are"),
        ({"auc": 1.0}, "at most 1, so that a limit of 1 has no effect"),
        ({"auc": -0.1}, "at least 0, but got -0.1"),
        ({"auc": True}, "but got True"),
        ({"auc": math.nan}, "but got nan"),
    ],
)
def test_what_is_no_limit_is_refused(limits, message):
    with pytest.raises(ValueError, match=message):
        checked_limits(limits)


def test_metrics_of_an_audit_are_for_single_audits():
    assert checked_limits({"adjusted_auc": 0.6, "epsilon_low": 3})["epsilon_low"] == 3.0
    with pytest.raises(ValueError, match="'epsilon_low' is no metric with an interval"):
        checked_limits({"epsilon_low": 3.0}, in_training=True)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["auc"], "NAME=NUMBER, such as auc=0.6"),
        (["auc=much"], "but got 'auc=much'"),
        (["auc=0.6", "auc=0.7"], "'auc' twice, with 0.6 and 0.7"),
    ],
)
def test_what_cannot_be_read_is_said(texts, message):
    with pytest.raises(ValueError, match=message):
        read_limits(texts)


def test_it_is_pickled_by_what_was_found():
    error = LimitExceededError(finding(audited(150, 0.8), auc=0.6), 0)
    again = pickle.loads(pickle.dumps(error))
    assert (again.outcome, again.code, str(again)) == (error.outcome, 0, str(error))


def test_metrics_of_an_audit_are_of_the_verdicts_score_and_not_of_one_look():
    numbers = {f"audit/adjusted_auc{end}": 0.5 for end in ("", "_low", "_high")}
    other = {f"{key}/reconstruction": 0.9 for key in numbers}
    result = audited(150, 0.8, verdict_score="reconstruction")
    result.metrics.update(numbers | other)
    assert finding(result, adjusted_auc=0.6).exit_code == 3
    assert "adjusted_auc of reconstruction is 0.9" in str(finding(result, adjusted_auc=0.6))
    look = audited(150, 0.8, epoch=1, stage="fit")
    look.metrics.update(numbers)
    assert finding(look, adjusted_auc=0.6).exit_code == 4
    assert "no interval that holds at all looks" in str(finding(look, adjusted_auc=0.6))


def test_uncaught_it_ends_a_program_with_the_exit_code():
    outcome = finding(audited(150, 0.8), auc=0.6)
    with pytest.raises(RuntimeError, match="exceeded") as stopped:
        raise LimitExceededError(outcome)
    assert stopped.value.code == 3
    code = (
        "from mia_lightning.result.limits import LimitCheck, LimitExceededError, LimitsOutcome\n"
        "raise LimitExceededError(LimitsOutcome((LimitCheck('auc', 0.6, 'above', ''),)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 3
