from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from mia_lightning.functional.intervals import delong_interval
from mia_lightning.functional.roc import tpr_at_fpr
from mia_lightning.results.summary import summarise

SCORES, ERRORS, SIDES = (
    ("reconstruction", "membership"),
    ("reconstruction", "predictability", "membership"),
    ("members", "nonmembers"),
)
KEYS = {
    "audit/auc",
    "audit/tpr_at_fpr_0.01",
    "audit/blind_auc",
    "audit/blind_auc/predictability",
    *(f"audit/{part}/{score}" for part in ("auc", "auc_low", "auc_high") for score in SCORES),
    *(f"audit/tpr_at_fpr_{fpr}/{score}" for fpr in ("0.01", "0.001") for score in SCORES),
    *(f"audit/realised_fpr_{fpr}" for fpr in ("0.01", "0.001")),
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
    assert (found["audit/realised_fpr_0.01"], found["audit/realised_fpr_0.001"]) == (1 / 150, 0.0)
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
    assert {key.replace("left/", "audit/", 1) for key in found} == KEYS


@pytest.mark.parametrize("left", [0, 1])
def test_an_empty_side_makes_the_comparison_unknown_and_keeps_the_rest(table, left):
    errors, scores, member = table
    rows = member == bool(left)
    pick = [{name: values[rows] for name, values in part.items()} for part in (errors, scores)]
    found = summarise(*pick, member[rows], primary="membership")
    assert found.keys() == KEYS
    here, gone = ("members", "nonmembers") if left else ("nonmembers", "members")
    known = {f"audit/error/{name}/{here}" for name in ERRORS} | {f"audit/samples/{side}" for side in SIDES}
    assert {key for key, value in found.items() if not math.isnan(value)} == known
    assert found[f"audit/samples/{gone}"] == 0.0
