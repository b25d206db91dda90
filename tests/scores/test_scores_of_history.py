"""A score may be made of the errors of several epochs; they arrive in the order of the samples at hand."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import nn

from mia_lightning import Auditor, PredictabilityScorer, registry
from mia_lightning.registry import ScoreInputs, register_score


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
