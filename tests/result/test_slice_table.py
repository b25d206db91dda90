"""What a result keeps of its slices, and limits on them."""

import math

import numpy as np
import pytest

from mia_lightning.functional.slice_audit import audit_slices
from mia_lightning.result.audit_result import AuditResult
from mia_lightning.result.limits import check_limits, checked_limits, read_limits
from mia_lightning.result.slice_table import Sliced, is_unfair
from mia_lightning.scores.analysis import Plan, analyse


def sliced_result(shift=2.0, share=1.0, blind=0.0):
    """Members of site 0 have high scores; those of site 1 differ in difficulty; the last site is small."""
    rng, member = np.random.default_rng(0), np.arange(610) < 305
    site = np.where(np.arange(610) % 305 < 5, "small", (np.arange(610) % 2).astype(str)).tolist()
    ill = np.array([s == "0" for s in site])
    score = rng.normal(size=610) + shift * (member & ill)
    difficulty = rng.normal(size=610) + blind * (member & ~ill)
    found = audit_slices({"site": site}, score, member, blind=difficulty, share=share)
    kept = Sliced.of(found, 0.95, share, "sample")
    raw = {"reconstruction": 10.0 - score, "predictability": 1e-9 * rng.normal(size=610)}
    analysis = analyse(raw, {}, member, Plan())
    meta = {"settings": {"primary": "membership"}, "membership": {"assignment": "coin"}} | kept.to_meta()
    metrics, ids = analysis.metrics | kept.metrics("audit"), [f"s{i}" for i in range(610)]
    return AuditResult(metrics, ids, member, analysis.errors, analysis.scores, meta, slices={"site": site})


def test_what_is_kept_is_read_again():
    result = sliced_result()
    zero, one, small = result.sliced.rows
    assert (zero.value, one.value, small.value) == ("0", "1", "small")
    assert result.sliced.tested == 2
    assert zero.auc.estimate == result.metric("slice/site/0/auc")
    assert math.isnan(small.auc.estimate)
    assert result.sliced.too_small(small) == "fewer than 20 a side: 5 members and 5 nonmembers"
    assert [s.value for s in result.sliced.most_exposed(5)] == ["0", "1"]
    assert not is_unfair(one)
    assert Sliced.read({}).rows == []


def test_slices_without_numbers_can_be_left_out_and_stay_counted():
    kept = sliced_result().sliced.without_small()
    assert [one.value for one in kept.rows] == ["0", "1"]
    assert kept.further == {"site": 1}
    none = Sliced(rows=sliced_result().sliced.rows[2:]).without_small()
    assert Sliced.read(none.to_meta()).further == {"site": 1}


def test_of_many_small_slices_the_largest_are_kept():
    rng, member = np.random.default_rng(1), np.arange(400) < 200
    patient = ["p0"] * 4 + [f"p{1 + i // 2}" for i in range(396)]
    kept = Sliced.of(audit_slices({"patient": patient}, rng.normal(size=400), member), 0.95, 1.0, "sample")
    assert len(kept.rows) == 50
    assert kept.further == {"patient": 149}
    assert "p0" in {one.value for one in kept.rows}
    assert Sliced.read(kept.to_meta()).further == kept.further


@pytest.mark.parametrize(
    ("key", "limit", "options", "finding", "reason"),
    [
        ("slice/site/0/auc", 0.6, {}, "above", "those of auc hold for all slices together"),
        ("slice/site/0/auc", 0.6, {"share": 0.5}, "above", "for all slices and looks together"),
        ("slice/site/0/auc", 0.6, {"share": 0.0}, "undecided", "no error is left for this look"),
        ("slice/site/1/auc", 0.9, {}, "below", "auc of membership is"),
        ("slice/site/1/auc", 0.52, {}, "undecided", "auc of membership is"),
        ("slice/site/small/auc", 0.9, {}, "undecided", "fewer than 20 a side"),
        ("slice/site/none/auc", 0.9, {}, "undecided", "no such slice; there are slice/site/0, slice/site/1"),
        ("slice/site/1/auc", 0.9, {"blind": 1.5}, "undecided", "difficulty alone"),
        ("slice/site/1/blind_auc", 0.6, {"blind": 1.5}, "above", "blind_auc is"),
        ("slice/site/0/tpr_at_fpr_0.01", 0.99, {}, "below", "tpr_at_fpr_0.01 of membership is"),
    ],
)
def test_limits_of_slices(key, limit, options, finding, reason):
    (check,) = check_limits(checked_limits({key: limit}), sliced_result(**options)).checks
    assert check.finding == finding
    assert reason in check.reason


@pytest.mark.parametrize("key", ["slice/site", "slice/site/auc", "slice/site/A/auc_gain", "slice//A/auc"])
def test_keys_that_are_of_no_slice_are_refused(key):
    with pytest.raises(ValueError, match=r"slice/<column>/<value>/<metric>"):
        checked_limits({key: 0.5})


def test_values_with_signs_of_equality_are_read_from_a_command_line():
    assert read_limits(["slice/site/=A/auc=0.6"]) == {"slice/site/=A/auc": 0.6}
