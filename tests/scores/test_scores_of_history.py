"""A score may be made of the errors of several epochs; they arrive in the order of the samples at hand."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import nn

from mia_lightning import Auditor, PredictabilityScorer, registry
from mia_lightning.registry import ScoreInputs, register_score
from mia_lightning.scores.analysis import Plan, analyse
from mia_lightning.scores.fairness import Fairness


@pytest.fixture
def dropped() -> Iterator[list[ScoreInputs]]:
    inputs_of_calls: list[ScoreInputs] = []

    @register_score(
        "dropped",
        label="dropped",
        sentence="How far the reconstruction error has fallen since the first audit.",
        errors=("reconstruction",),
        needs=frozenset({"history"}),
    )
    def dropped(inputs: ScoreInputs) -> np.ndarray:
        inputs_of_calls.append(inputs)
        first = inputs.history[0]["reconstruction"] if inputs.history else inputs.errors["reconstruction"]
        return np.nan_to_num(first - inputs.errors["reconstruction"])

    yield inputs_of_calls
    registry.scores.remove("dropped")


def pairs(names: str) -> list[tuple[torch.Tensor, torch.Tensor, str]]:
    made = []
    for name in names:
        generator = torch.Generator().manual_seed(ord(name))
        made.append((*torch.rand(2, 3, 32, 32, generator=generator), name))
    return made


def test_earlier_errors_are_aligned_with_the_samples(dropped):
    auditor = Auditor(scorer=PredictabilityScorer(nn.AvgPool2d(4), grid=8), scores=("membership", "dropped"))
    first = auditor.run(nn.Identity(), pairs("abc"), pairs("xyz"))
    assert first.scores["dropped"].tolist() == [0.0] * 6
    halved = lambda x: 0.5 * x  # noqa: E731 - a model
    second = auditor.run(halved, pairs("dcba"), pairs("zyx"), history=[first])
    earlier = dropped[-1].history[0]["reconstruction"]
    assert second.ids == ["d", "c", "b", "a", "z", "y", "x"]
    assert np.isnan(earlier[0])
    assert earlier[1:].tolist() == first.errors["reconstruction"][[2, 1, 0, 5, 4, 3]].tolist()
    assert second.scores["dropped"][1:] == pytest.approx(earlier[1:] - second.errors["reconstruction"][1:])


def test_scores_without_that_need_get_none(dropped):
    auditor = Auditor(scorer=PredictabilityScorer(nn.AvgPool2d(4), grid=8))
    first = auditor.run(nn.Identity(), pairs("ab"), pairs("xy"))
    again = auditor.run(nn.Identity(), pairs("ab"), pairs("xy"), history=[first])
    assert dropped == []
    assert again.metrics == first.metrics


def test_a_primary_score_that_needs_two_audits_has_no_number_at_the_first(dropped):
    del dropped

    @register_score(
        "fallen",
        label="fallen",
        sentence="How far the reconstruction error has fallen since the audit before.",
        errors=("reconstruction",),
        needs=frozenset({"history"}),
    )
    def fallen(inputs: ScoreInputs) -> np.ndarray:
        if not inputs.history:
            return np.full(len(inputs.member), np.nan)
        return inputs.history[-1]["reconstruction"] - inputs.errors["reconstruction"]

    try:
        scorer = PredictabilityScorer(nn.AvgPool2d(4), grid=8)
        auditor = Auditor(scorer=scorer, scores=("membership", "fallen"), primary="fallen")
        members, nonmembers = pairs("abcdefgh"), pairs("qrstuvwx")
        first = auditor.run(nn.Identity(), members, nonmembers)
        assert np.isnan([first.auc, first.metric("p_value"), first.metric("epsilon_low")]).all()
        assert np.isfinite([first.metric("auc/membership"), first.metric("blind_auc")]).all()
        assert (first.verdict.reason, first.flagged().any()) == ("no result", False)
        assert "has no number of some samples" in first.verdict.found
        second = auditor.run(lambda x: 0.5 * x, members, nonmembers, history=[first])
        assert np.isfinite([second.auc, second.metric("p_value")]).all()
        assert np.isnan(second.metric("epsilon_low"))  # earlier errors were derived with the sides known
    finally:
        registry.scores.remove("fallen")


def test_matched_samples_keep_their_history(dropped):
    member = np.arange(160) < 80
    generator = np.random.default_rng(0)
    raw = {"reconstruction": generator.uniform(0.2, 0.4, 160), "predictability": generator.uniform(0.2, 0.4, 160)}
    earlier = {"reconstruction": raw["reconstruction"] + 0.1 * member}
    fairness = Fairness(0.8, 0.01, np.r_[0:30, 100:130])
    analysis = analyse(raw, {}, member, Plan(("dropped",), "dropped"), fairness=fairness, history=[earlier])
    assert analysis.metrics["audit/matched_auc"] == 1.0
    assert len(dropped[-1].history[0]["reconstruction"]) == 60
