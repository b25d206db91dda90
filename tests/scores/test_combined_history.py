"""The mean of the combined score over two audits: of the same pairs, by id and side, and of two weights."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from torch import nn

from mia_lightning import AuditConfig, Auditor, AuditResult, PredictabilityScorer, registry, weigh_evidence
from mia_lightning.functional.intervals import delong_interval
from mia_lightning.functional.p_values import permutation_p_value
from mia_lightning.functional.roc import roc_auc
from mia_lightning.registry import ScoreInputs
from mia_lightning.report.impact_assessment import _attacker
from mia_lightning.scores.building import build_scores, derive_errors
from mia_lightning.scores.combined_history_score import combined_history, statement

SCORES = ("membership", "combined", "combined_history")
Errors = dict[str, np.ndarray]


def audits(seed: int, sides: tuple[int, int], gain: float = 0.0, count: int = 2) -> tuple[list[Errors], np.ndarray]:
    """Errors of several audits of the same pairs, whose noise is a part of the pairs' and a part of the weights'."""
    rng = np.random.default_rng(seed)
    member = np.arange(sum(sides)) < sides[0]
    difficulty, of_pairs = rng.normal(size=len(member)), rng.normal(0.0, 0.1, (3, len(member)))
    tables = []
    for _ in range(count):
        ratios = of_pairs + rng.standard_t(4, (3, len(member))) * 0.1 - gain * member
        raw = {"reconstruction": np.exp(difficulty + rng.normal(0.0, 0.3, len(member)) - gain * member)}
        raw |= {"predictability": np.exp(difficulty)} | {f"neighbour/{i}": row for i, row in enumerate(ratios)}
        tables.append(derive_errors(raw, member, ["combined_history"], seed=seed))
    return tables, member


def made(tables: list[Errors], member: np.ndarray, **settings: Any) -> Errors:
    return build_scores(tables[-1], member, SCORES, history=tables[:-1], **settings)[0]


def test_it_is_the_mean_of_this_audit_and_the_one_before():
    tables, member = audits(0, (40, 40), count=3)
    combined = [build_scores(table, member, ["combined"])[0]["combined"] for table in tables]
    np.testing.assert_array_equal(made(tables, member)["combined_history"], (combined[1] + combined[2]) / 2)


def test_two_weights_tell_more_than_one():
    areas = []
    for seed in range(10):
        tables, member = audits(seed, (100, 100), 0.08)
        scores = made(tables, member)
        areas.append([roc_auc(scores[name], member) for name in SCORES[1:]])
    once, twice = np.mean(areas, 0)
    assert 0.6 < once < twice - 0.01


@pytest.mark.parametrize(
    ("sides", "draws"),
    [((48, 48), 80), *(pytest.param(sides, 300, marks=pytest.mark.slow) for sides in ((20, 20), (48, 48), (30, 15)))],
)
def test_nothing_is_found_where_nothing_is(sides, draws):
    covered, p_values = 0, []
    for seed in range(draws):
        tables, member = audits(seed, sides)
        score = combined_history(ScoreInputs(tables[1], member, seed, tables[:1]))
        _, low, high = delong_interval(score, member)
        covered += low < 0.5 < high
        p_values.append(permutation_p_value(score, member, permutations=99, seed=seed))
    assert 0.91 <= covered / draws <= 0.99
    assert chisquare(np.histogram(p_values, bins=np.linspace(0, 1, 6))[0]).pvalue > 0.005


def test_who_is_not_joined_has_no_number_and_moves_nobody():
    tables, member = audits(1, (40, 40))
    new, other = [3, 50], [7, 60]
    for name in tables[0]:
        tables[0][name][new] = np.nan
    tables[0]["predictability"][other] *= 1.5  # what an id stood for before was another pair
    score = made(tables, member)["combined_history"]
    assert np.flatnonzero(np.isnan(score)).tolist() == sorted(new + other)
    tables[0]["weighted_neighbour"][other] = -50.0
    np.testing.assert_array_equal(made(tables, member)["combined_history"], score)


def test_audits_of_the_same_weights_are_passed_over():
    tables, member = audits(2, (40, 40))
    repeated = tables[1] | {"reconstruction": tables[1]["reconstruction"] * (1 + 1e-6)}
    scores = made([tables[0], repeated, tables[1]], member)
    np.testing.assert_array_equal(scores["combined_history"], made(tables, member)["combined_history"])
    assert np.isnan(made([repeated, tables[1]], member)["combined_history"]).all()


def test_it_is_asked_for_by_name_and_only_of_a_training():
    assert "combined_history" not in AuditConfig().scores
    assert AuditConfig(primary="combined_history").scores == ("reconstruction", "membership", "combined_history")
    assert AuditConfig(primary="combined_history").needs_neighbours
    samples = [(*torch.rand(2, 3, 16, 16), name) for name in "abcdefgh"]
    with pytest.raises(ValueError, match="Unknown score primary='combined_history'"):
        weigh_evidence(nn.Identity(), samples[:4], samples[4:], primary="combined_history")


def pairs(names: str, shift: int = 0) -> list[tuple[torch.Tensor, torch.Tensor, str]]:
    """Pairs of smooth pictures by name; a ``shift`` gives names the pictures of others."""
    made = []
    for name in names:
        coarse = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(ord(name) + shift))
        made.append((*nn.functional.interpolate(coarse, size=16, mode="bilinear"), name))
    return made


def renamed(result: AuditResult) -> AuditResult:
    return replace(result, ids=[f"other-{name}" for name in result.ids])


def blurred(size: int) -> nn.Module:
    return nn.Sequential(nn.ReflectionPad2d(size // 2), nn.AvgPool2d(size, stride=1))


@pytest.fixture(scope="module")
def course() -> tuple[Auditor, list[AuditResult]]:
    auditor = Auditor(scorer=PredictabilityScorer(nn.AvgPool2d(4), grid=8), scores=SCORES)
    sides = pairs("abcdefghijkl"), pairs("opqrstuvwxyz")
    first = auditor.run(blurred(3), *sides)
    return auditor, [first, auditor.run(blurred(5), *sides, history=[first])]


def test_the_first_audit_has_none_and_says_so(course):
    first = course[1][0]
    assert np.isnan(first.scores["combined_history"]).all()
    assert np.isnan(first.metric("auc/combined_history"))
    assert np.isfinite([first.auc, first.metric("auc/combined")]).all()
    assert first.meta["interpretation"]["combined_history"].startswith("absent: there is no earlier audit")


def test_the_second_has_one_under_its_label(course):
    first, second = course[1]
    mean = (first.scores["combined"] + second.scores["combined"]) / 2
    np.testing.assert_allclose(second.scores["combined_history"], mean, atol=1e-12)
    assert second.metric("auc/combined_history") == pytest.approx(roc_auc(mean, second.member))
    assert np.isfinite([second.metric(f"auc_{end}/combined_history") for end in ("low", "high")]).all()
    stated = second.meta["interpretation"]["combined_history"]
    assert stated.startswith("mean of combined at this audit and at the one before: how exposed samples are")
    assert "several checkpoints" in registry.scores.get("combined_history").sentence
    assert "two checkpoints" in registry.scores.legend("combined_history")
    assert any("several checkpoints" in item for item in _attacker(second).items)


def test_an_audit_before_without_tiles_is_stated(course):
    first, second = course[1]
    older = {name: column for name, column in first.errors.items() if name != "tile_neighbour"}
    inputs = ScoreInputs(second.errors, second.member, 0, [older])
    assert "; the audit before has no errors of tiles" in statement(inputs, [""])
    assert "tiles" not in second.meta["interpretation"]["combined_history"]


def test_changed_samples_are_joined_by_id_and_side(course):
    auditor, (first, _) = course
    again = auditor.run(blurred(5), pairs("lkjihgfedcba"), pairs("opqrstuvwxyz"), history=[first])
    rows = [first.ids.index(name) for name in again.ids]
    by_hand = (again.scores["combined"] + first.scores["combined"][rows]) / 2
    assert np.corrcoef(again.scores["combined_history"], by_hand)[0, 1] > 0.9  # the folds follow the order
    changed = auditor.run(
        blurred(5), [*pairs("abcdefg"), *pairs("hij", 1000)], pairs("opqrstuvwxyzmn"), history=[first]
    )
    absent = np.isnan(changed.scores["combined_history"])
    assert [changed.ids[row] for row in np.flatnonzero(absent)] == [*"hij", *"mn"]
    assert np.isnan(changed.metric("auc/combined_history"))
    stated = changed.meta["interpretation"]["combined_history"]
    assert "of 24 samples 2 have no number at the audit before and 3 were other pairs under the same ids" in stated


def test_an_audit_before_without_neighbours_or_of_the_same_weights_is_named(course):
    auditor, (_, second) = course
    cheap = Auditor(auditor.config, scores=("membership",)).run(blurred(3), pairs("abcdefgh"), pairs("opqrstuv"))
    result = auditor.run(blurred(5), pairs("abcdefgh"), pairs("opqrstuv"), history=[cheap])
    assert np.isnan(result.scores["combined_history"]).all()
    assert (
        "has not measured neighbour; audit the training from its start"
        in result.meta["interpretation"]["combined_history"]
    )
    again = auditor.run(blurred(5), pairs("abcdefghijkl"), pairs("opqrstuvwxyz"), history=[second])
    assert again.meta["interpretation"]["combined_history"].startswith("absent: every earlier audit has the errors")
    others = auditor.run(blurred(5), pairs("abcdefgh", 1), pairs("opqrstuv", 1), history=[renamed(second)])
    assert "has no number of any of these samples" in others.meta["interpretation"]["combined_history"]


def test_a_primary_score_without_a_number_yet_breaks_nothing(course):
    auditor, (first, _) = course
    config = AuditConfig.of(
        auditor.config, primary="combined_history", groups={name: name for name in "abcdefghijklopqrstuvwxyz"}
    )
    sides = pairs("abcdefghijkl"), pairs("opqrstuvwxyz")
    early = Auditor(config).run(blurred(3), *sides)
    assert (early.verdict.reason, early.flagged().any()) == ("no result", False)
    late = Auditor(config).run(blurred(5), *sides, history=[first])
    assert np.isfinite([late.auc, late.metric("p_value"), late.metric("control_auc")]).all()
    assert np.isnan(late.metric("epsilon_low"))


def test_inputs_without_history_are_no_error():
    tables, member = audits(3, (20, 20))
    assert np.isnan(combined_history(ScoreInputs(tables[0], member))).all()
