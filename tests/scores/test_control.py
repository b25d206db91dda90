"""The control: random halves of each side in place of the sides."""

import math

import numpy as np
import pytest

from mia_lightning import registry
from mia_lightning.registry import register_score
from mia_lightning.result.audit_result import AuditResult
from mia_lightning.scores.analysis import Plan, analyse
from mia_lightning.scores.control import control_interval

MEMBER = np.arange(160) < 80
VALUES = np.random.default_rng(0).normal(size=160)


def audited(primary: str, member: np.ndarray = MEMBER, group: np.ndarray | None = None, seed: int = 1) -> AuditResult:
    rng = np.random.default_rng(seed)
    raw = {
        "reconstruction": np.exp(rng.normal(size=member.size) - 1.5 * member),
        "predictability": np.ones(member.size),
    }
    found = analyse(raw, {}, member, Plan((primary,), primary), group=group)
    groups = None if group is None else [str(code) for code in group]
    ids = [str(i) for i in range(member.size)]
    meta = {"settings": {"primary": primary}, "notes": found.notes}
    return AuditResult(found.metrics, ids, member, found.errors, found.scores, meta, groups=groups)


def test_a_leak_does_not_move_it_and_the_halves_follow_the_seed():
    result = audited("membership")
    assert result.auc > 0.8
    assert result.metric("control_auc_low") < 0.5 < result.metric("control_auc_high")
    assert not any("control" in remark for remark in result.verdict.remarks)
    again = [control_interval(lambda rows, played: VALUES[rows], MEMBER, seed=seed) for seed in (1, 1, 2)]
    assert again[0] == again[1] != again[2]


@pytest.fixture
def peeking():
    """A score that looks at what samples are called."""

    @register_score("peeking", label="peeking", sentence="Looks at the sides.")
    def peek(inputs):
        return -inputs.errors["reconstruction"] + 1.5 * inputs.member

    yield "peeking"
    registry.scores.remove("peeking")


def test_a_score_that_looks_at_the_sides_misses_and_is_remarked(peeking):
    result = audited(peeking)
    assert result.metric("control_auc_low") > 0.5
    assert any("The control is off" in remark for remark in result.verdict.remarks)


@pytest.fixture
def greedy():
    """A score that needs as many nonmembers as an audit has, and more than a half of them."""

    @register_score("greedy", label="greedy", sentence="Needs many nonmembers.")
    def score(inputs):
        if (~inputs.member).sum() < 50:
            raise ValueError("Expected 50 nonmembers.")
        return -inputs.errors["reconstruction"]

    yield "greedy"
    registry.scores.remove("greedy")


def test_a_score_that_cannot_be_made_of_halves_costs_the_control_alone(greedy):
    result = audited(greedy)
    assert result.auc > 0.8
    assert math.isnan(result.metric("control_auc"))
    (note,) = result.meta["notes"]
    assert note.startswith("The control of the greedy score could not be made")
    assert note.endswith("ValueError: Expected 50 nonmembers.")


def test_groups_are_halved_as_wholes():
    group, seen = np.arange(160) // 4, []

    def score(rows, played):
        seen.append({(int(code), bool(role)) for code, role in zip(group[rows], played, strict=True)})
        return VALUES[rows]

    assert not math.isnan(control_interval(score, MEMBER, group=group).low)
    for roles in seen:
        assert len(roles) == 20
        assert sum(role for _, role in roles) == 10


def test_few_samples_or_groups_have_none_and_large_sides_are_drawn_from():
    def score(rows, played):
        sizes.append(len(rows))
        return np.arange(len(rows), dtype=float)

    sizes: list[int] = []
    assert math.isnan(control_interval(score, np.arange(14) < 7).estimate)
    assert math.isnan(control_interval(score, MEMBER, group=np.arange(160) // 8).low)
    assert not sizes
    assert not math.isnan(control_interval(score, np.arange(107) < 100).low)  # of the members alone
    control_interval(score, np.arange(50_000) < 25_000)
    assert sizes == [100, 20_000, 20_000]
