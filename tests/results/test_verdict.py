"""The verdict looks at the fairness of the comparison before it claims anything."""

import numpy as np
import pytest

from mia_lightning.results.result import AuditResult
from mia_lightning.results.summary import summarise
from mia_lightning.results.verdict import verdict


def made(shift: float, blind_shift: float = 0.0, number: int = 100, assignment: str = "coin") -> AuditResult:
    rng = np.random.default_rng(0)
    member = np.arange(2 * number) < number
    p = rng.normal(0.2, 0.05, 2 * number) - blind_shift * member
    r = p + rng.normal(0.1, 0.02, 2 * number) - shift * member
    errors = {"reconstruction": r, "predictability": p, "membership": r - p}
    scores = {"membership": p - r}
    metrics = summarise(errors, scores, member, primary="membership")
    meta = {"membership": {"assignment": assignment}}
    return AuditResult(metrics, [str(i) for i in range(2 * number)], member, errors, scores, meta)


def test_a_fair_comparison_with_a_gap_is_memorization():
    text = " ".join(verdict(made(0.05)))
    assert "gives away which samples it was trained on" in text
    assert "The comparison looks fair: blind AUC" in text


@pytest.mark.parametrize("assignment", ["split", "given"])
def test_sides_that_no_coin_has_made_may_differ_unseen(assignment):
    text = " ".join(verdict(made(0.05, assignment=assignment)))
    assert "gives away" not in text
    assert "No coin has made them, so a part of this may be a difference between them" in text


def test_no_gap_claims_nothing():
    text = " ".join(verdict(made(0.0)))
    assert "does not show memorization, nor does it rule it out" in text


def test_sides_that_differ_by_themselves_are_said_first_and_nothing_is_claimed():
    first, *others = verdict(made(0.05, blind_shift=0.2))
    assert first.startswith("The two sides differ by themselves")
    assert "gives away" not in " ".join(others)
    assert "cannot say whether the model memorises" in " ".join(others)


def test_a_gap_the_wrong_way_is_no_memorization():
    assert "not the way memorization would have it" in " ".join(verdict(made(-0.05)))


@pytest.mark.parametrize("side", [True, False])
def test_an_empty_side_has_no_verdict(side):
    result = made(0.05)
    keep = result.member == side
    errors = {k: v[keep] for k, v in result.errors.items()}
    scores = {k: v[keep] for k, v in result.scores.items()}
    metrics = summarise(errors, scores, result.member[keep], primary="membership")
    ids = [i for i, k in zip(result.ids, keep, strict=True) if k]
    (line,) = verdict(AuditResult(metrics, ids, result.member[keep], errors, scores))
    assert line.startswith("No AUC could be computed")
