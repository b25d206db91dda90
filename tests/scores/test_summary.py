from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binomtest, mannwhitneyu
from sklearn.metrics import roc_auc_score

from mia_lightning.functional.intervals import clopper_pearson, delong_interval
from mia_lightning.functional.operating_point import melded_tpr, population_fpr, tpr_interval
from mia_lightning.functional.roc import log_partial_auc, tpr_at_fpr
from mia_lightning.registry import Look
from mia_lightning.scores.summary import summarise, worth_logging

SCORES, ERRORS, SIDES = (
    ("reconstruction", "membership"),
    ("reconstruction", "predictability", "membership"),
    ("members", "nonmembers"),
)
AT_LOW_RATES = {  # of 99 nonmembers and more; at 0.001 of 999
    *(f"audit/tpr{bound}_at_population_fpr_0.01/{score}" for bound in ("", "_low", "_high") for score in SCORES),
    *(f"audit/log_auc_fpr_0.01/{score}" for score in SCORES),
    *(f"audit/tpr_{end}_at_threshold_0.01" for end in ("low", "high")),
}
KEYS = {
    "audit/auc",
    "audit/tpr_at_fpr_0.01",
    "audit/blind_auc",
    "audit/blind_auc/predictability",
    *(f"audit/{part}/{score}" for part in ("auc", "auc_low", "auc_high") for score in SCORES),
    "audit/p_value",
    "audit/p_value_corrected",
    "audit/p_value/most_exposed",
    "audit/p_value_corrected/most_exposed",
    *(f"audit/auc_gain{end}" for end in ("", "_low", "_high")),
    *(
        f"audit/tpr{bound}_at_fpr_{fpr}/{score}"
        for bound in ("", "_low", "_high")
        for fpr in ("0.01", "0.001", "0")
        for score in SCORES
    ),
    *AT_LOW_RATES,
    *(f"audit/realised_fpr_{fpr}" for fpr in ("0.01", "0.001", "0")),
    *(f"audit/population_fpr_{end}{fpr}" for end in ("", "low_", "high_") for fpr in ("0.01", "0.001", "0")),
    *(f"audit/tpr_at_fpr_{fpr}/estimable" for fpr in ("0.01", "0.001")),
    *(f"audit/partial_auc_fpr_0.1/{score}" for score in SCORES),
    *(f"audit/error/{error}/{side}" for error in ERRORS for side in SIDES),
    *(f"audit/samples/{side}" for side in SIDES),
}


@pytest.fixture
def table() -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], np.ndarray]:
    rng = np.random.default_rng(0)
    member = np.arange(250) < 100
    errors = {"reconstruction": rng.random(250) - 0.2 * member, "predictability": rng.random(250)}
    errors["membership"] = errors["reconstruction"] - errors["predictability"]
    return errors, {name: -errors[name] for name in SCORES}, member


def test_keys_and_numbers(table):
    errors, scores, member = table
    found = summarise(errors, scores, member, primary="membership")
    assert found.keys() == KEYS
    assert all(type(value) is float for value in found.values())
    for name, score in scores.items():
        assert found[f"audit/auc/{name}"] == pytest.approx(roc_auc_score(member, score))
        interval = found[f"audit/auc_low/{name}"], found[f"audit/auc_high/{name}"]
        assert interval == tuple(delong_interval(score, member))[1:]
        assert found[f"audit/tpr_at_fpr_0.01/{name}"] == tpr_at_fpr(score, member, 0.01)[0]
        assert found[f"audit/tpr_at_fpr_0.001/{name}"] == tpr_at_fpr(score, member, 0.001)[0]
        for fpr in (0.01, 0.001, 0.0):
            bounds = tuple(found[f"audit/tpr_{end}_at_fpr_{fpr:g}/{name}"] for end in ("low", "high"))
            assert bounds == tpr_interval(score, member, fpr)[1:]
        exact = binomtest(round(tpr_at_fpr(score, member, 0.0)[0] * 100), 100).proportion_ci(0.95, "exact")
        assert bounds == pytest.approx((exact.low, exact.high))  # at no false positive the threshold is taken as given
        melded = tuple(found[f"audit/tpr{end}_at_population_fpr_0.01/{name}"] for end in ("", "_low", "_high"))
        assert melded == melded_tpr(score, member, 0.01)
        assert found[f"audit/log_auc_fpr_0.01/{name}"] == log_partial_auc(score, member, 0.01)
        assert found[f"audit/partial_auc_fpr_0.1/{name}"] == pytest.approx(roc_auc_score(member, score, max_fpr=0.1))
    found_rate = tpr_at_fpr(scores["membership"], member, 0.01)[0]
    at_threshold = tuple(found[f"audit/tpr_{end}_at_threshold_0.01"] for end in ("low", "high"))
    assert at_threshold == clopper_pearson(100 * found_rate, 100)[1:]
    test = mannwhitneyu(scores["membership"][member], scores["membership"][~member], alternative="greater")
    assert found["audit/p_value"] == pytest.approx(test.pvalue, abs=1e-3)
    gain = found["audit/auc/membership"] - found["audit/auc/reconstruction"]
    assert found["audit/auc_gain"] == pytest.approx(gain)
    assert found["audit/auc_gain_low"] < gain < found["audit/auc_gain_high"]
    assert (found["audit/realised_fpr_0.01"], found["audit/realised_fpr_0.001"]) == (1 / 150, 0.0)
    assert (found["audit/tpr_at_fpr_0.01/estimable"], found["audit/tpr_at_fpr_0.001/estimable"]) == (1.0, 0.0)
    for fpr in (0.01, 0.001, 0.0):
        keys = (f"audit/population_fpr_{end}{fpr:g}" for end in ("", "low_", "high_"))
        assert tuple(found[key] for key in keys) == population_fpr(150, fpr)
    for name, error in errors.items():
        assert found[f"audit/error/{name}/members"] == pytest.approx(error[:100].mean())
        assert found[f"audit/error/{name}/nonmembers"] == pytest.approx(error[100:].mean())
    assert found["audit/blind_auc"] == pytest.approx(roc_auc_score(member, -errors["predictability"]))
    assert (found["audit/samples/members"], found["audit/samples/nonmembers"]) == (100.0, 150.0)


@pytest.mark.parametrize("primary", SCORES)
def test_the_headline_is_that_of_the_primary_score(table, primary):
    found = summarise(*table, primary=primary, prefix="left")
    assert found["left/auc"] == found[f"left/auc/{primary}"]
    assert found["left/tpr_at_fpr_0.01"] == found[f"left/tpr_at_fpr_0.01/{primary}"]
    gain = {f"audit/auc_gain{end}" for end in ("", "_low", "_high")} if primary == "reconstruction" else set()
    assert {key.replace("left/", "audit/", 1) for key in found} == KEYS - gain


def test_the_corrected_p_value_allows_for_the_audits_looked_at(table):
    errors, scores, member = table
    weak = {name: score + 3.0 * ~member * (name == "membership") for name, score in scores.items()}
    once, often = (summarise(errors, scores, member, primary="membership", looks=k) for k in (1, 20))
    assert once["audit/p_value_corrected"] == once["audit/p_value"] == often["audit/p_value"]
    assert often["audit/p_value_corrected"] == pytest.approx(min(1.0, 20 * once["audit/p_value"]))
    assert summarise(errors, weak, member, primary="membership", looks=20)["audit/p_value_corrected"] == 1.0


def test_a_look_at_a_training_brings_its_own_correction_and_bands(table):
    errors, scores, member = table
    look = Look({"membership": 0.4}, {"membership": 0.3}, {"membership": 0.99}, number=3, planned=20, spent=0.15)
    found = summarise(errors, scores, member, primary="membership", look=look)
    assert found["audit/p_value_corrected"] == max(0.4, found["audit/p_value"])
    assert found["audit/p_value_corrected/most_exposed"] == max(0.3, found["audit/p_value/most_exposed"])
    wide = delong_interval(scores["membership"], member, 0.99)
    assert found["audit/auc_low_simultaneous/membership"] == wide.low
    assert found["audit/auc_high_simultaneous/membership"] == wide.high
    assert {key for key in found if "simultaneous" in key} == {
        "audit/auc_low_simultaneous/membership",
        "audit/auc_high_simultaneous/membership",
    }


def test_a_score_that_is_told_who_is_a_member_has_no_interval(table):
    errors, scores, member = table
    found = summarise(errors, scores | {"trained": scores["membership"]}, member, primary="membership")
    assert {key for key in found if key.endswith("/trained")} == {
        "audit/auc/trained",
        "audit/partial_auc_fpr_0.1/trained",
        *("audit/log_auc_fpr_0.01/trained", "audit/tpr_at_population_fpr_0.01/trained"),
        *(f"audit/tpr_at_fpr_{fpr}/trained" for fpr in ("0.01", "0.001", "0")),
    }


@pytest.mark.parametrize("left", [0, 1])
def test_an_empty_side_makes_the_comparison_unknown_and_keeps_the_rest(table, left):
    errors, scores, member = table
    rows = member == bool(left)
    pick = [{name: values[rows] for name, values in part.items()} for part in (errors, scores)]
    found = summarise(*pick, member[rows], primary="membership")
    assert found.keys() == (KEYS - AT_LOW_RATES if left else KEYS)
    here, gone = ("members", "nonmembers") if left else ("nonmembers", "members")
    known = {f"audit/error/{name}/{here}" for name in ERRORS} | {f"audit/samples/{side}" for side in SIDES}
    assert {key for key, value in found.items() if not math.isnan(value)} == known
    assert found[f"audit/samples/{gone}"] == 0.0


def test_what_has_no_number_is_logged_only_where_it_was_promised():
    promised = ["auc", "auc/membership", "auc_low/membership", "tpr_at_fpr_0.01", "error/a/members", "blind_auc"]
    beside = ["matched_auc", "samples/matched", "auc_gain", "blind_p_value", "tpr_at_fpr_0/membership"]
    metrics = {f"a/b/{name}": math.nan for name in promised + beside}
    assert list(worth_logging(metrics, "a/b")) == [f"a/b/{name}" for name in promised]
    assert worth_logging(dict.fromkeys(metrics, 0.5), "a/b") == dict.fromkeys(metrics, 0.5)


def test_low_rates_are_there_where_nonmembers_or_groups_of_them_are_enough():
    def rates(each, group=None):
        member, score = np.arange(2 * each) < each, np.random.default_rng(each).normal(size=2 * each)
        found = summarise(
            {"reconstruction": -score}, {"reconstruction": score}, member, primary="reconstruction", group=group
        )
        at_low = [key for key in found if "population_fpr_0.0" in key or "log_auc" in key or "threshold" in key]
        return {key.rpartition("_")[2].partition("/")[0] for key in at_low if "audit/population" not in key}

    assert rates(98) == set()
    assert rates(99) == {"0.01"}
    assert rates(999) == {"0.01", "0.001"}
    assert rates(198, np.arange(396) // 4) == set()
