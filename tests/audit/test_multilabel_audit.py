"""Audits of segmenters whose channels do not exclude each other."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mia_lightning.audit.auditor import Auditor
from mia_lightning.features import PredictabilityScorer

SIDE, CHANNELS = 16, 3
ALL = ("reconstruction", "membership", "calibrated", "neighbour", "combined", "soft_error")


def masks(count: int, seed: int) -> list[tuple[Tensor, Tensor]]:
    """Images, and a mask of each of their channels: what is bright."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(count, 3, SIDE, SIDE, generator=generator)
    return [(x, (x > 0.5).float()) for x in images]


MEMBERS, NONMEMBERS = masks(12, 1), masks(12, 2)


def model() -> nn.Conv2d:
    torch.manual_seed(0)
    return nn.Conv2d(3, CHANNELS, 1)


def audit(**options: Any) -> Any:
    scorer = PredictabilityScorer(nn.AvgPool2d(4), grid=8)
    return Auditor(task="multilabel", scorer=scorer, **options)


def test_errors_are_those_of_torch_and_every_score_is_there():
    result = audit(errors=("dice", "brier"), scores=ALL).run(model(), MEMBERS, NONMEMBERS)
    network = model()
    for row, (x, y) in enumerate([*MEMBERS, *NONMEMBERS]):
        with torch.no_grad():
            logits, p = network(x), network(x).sigmoid()
        expected = {
            "reconstruction": F.binary_cross_entropy_with_logits(logits, y),
            "brier": F.mse_loss(p, y),
            "soft_error": (p - y).abs().mean(),
            "dice": 1 - (2 * (p * y).sum((1, 2)) / (p + y).sum((1, 2))).mean(),
        }
        for name, value in expected.items():
            assert result.errors[name][row] == pytest.approx(float(value), rel=1e-5)
    assert set(ALL) <= set(result.scores)
    assert result.meta["task"] == "multilabel"
    assert result.meta["interpretation"]["task"] == "multilabel (the setting)"
    assert {"target_channel_00", "target_channel_02", "target_boundary"} <= set(result.blind)


@pytest.mark.parametrize(
    "dtype",
    [
        *(torch.bool, torch.uint8, torch.float64),
        *(pytest.param(d, marks=pytest.mark.slow) for d in (torch.int16, torch.uint16, torch.int32, torch.int64)),
    ],
)
def test_types_of_masks_make_no_difference(dtype):
    sides = [[(x, y.to(dtype)) for x, y in side] for side in (MEMBERS, NONMEMBERS)]
    expected = audit().run(model(), MEMBERS, NONMEMBERS).errors
    found = audit().run(model(), *sides).errors
    assert all(found[name].tolist() == expected[name].tolist() for name in expected)


def test_ignored_values_are_neither_measured_nor_fitted():
    sides = [[(x, y.clone()) for x, y in side] for side in (MEMBERS, NONMEMBERS)]
    for side in sides:
        for _, y in side:
            y[0, :4] = 255.0
            y[1, 4:8] = torch.nan
    result = audit(scores=("membership", "neighbour")).run(model(), *sides)
    network = model()
    for row, (x, y) in enumerate([*sides[0], *sides[1]]):
        valid = ~torch.isnan(y) & (y != 255)
        with torch.no_grad():
            expected = F.binary_cross_entropy_with_logits(network(x)[valid], y[valid])
        assert result.errors["reconstruction"][row] == pytest.approx(float(expected), rel=1e-5)
    assert not result.excluded


def test_a_sample_without_a_valid_value_is_left_out_with_its_reason():
    members = [(MEMBERS[0][0], torch.full((CHANNELS, SIDE, SIDE), torch.nan)), *MEMBERS[1:]]
    result = audit().run(model(), members, NONMEMBERS)
    assert [e["reason"] for e in result.excluded] == ["no pixel of the target carries a class"]


def test_masks_of_0_and_255_are_not_audited_on_their_background_alone():
    sides = [[(x, 255 * y) for x, y in side] for side in (MEMBERS, NONMEMBERS)]
    with pytest.raises(ValueError, match="255 marks the foreground, make it 1 in the masks"):
        audit().run(model(), *sides)


def test_brightness_changes_the_input_alone():
    """A darker mask would be another target."""
    result = audit(scores=("membership", "neighbour"), neighbours=("darker",)).run(model(), MEMBERS, NONMEMBERS)
    network, (x, y) = model(), MEMBERS[0]
    with torch.no_grad():
        own, other = (F.binary_cross_entropy_with_logits(network(z), y) for z in (x, 0.95 * x))
    assert result.errors["neighbour"][0] == pytest.approx(float((own / other).log()), rel=1e-3)


def test_a_model_of_another_number_of_channels_is_described():
    with pytest.raises(
        ValueError, match=r"prediction of shape \(\d+, 2, 16, 16\); expected the target's shape \(\d+, 3, 16, 16\)"
    ):
        audit().run(nn.Conv2d(3, 2, 1), MEMBERS, NONMEMBERS)


def test_errors_of_other_tasks_are_refused_in_words():
    with pytest.raises(ValueError, match=r"'ssim'.* is defined for translation, but this is a multilabel"):
        audit(errors=("ssim",)).run(model(), MEMBERS, NONMEMBERS)


@pytest.mark.parametrize("end", [nn.Identity(), nn.Sigmoid(), nn.LogSigmoid()])
def test_what_the_model_ends_in_makes_no_difference(end):
    expected = audit().run(model(), MEMBERS, NONMEMBERS).errors["reconstruction"]
    found = audit().run(nn.Sequential(model(), end), MEMBERS, NONMEMBERS).errors["reconstruction"]
    assert found == pytest.approx(expected, rel=1e-5)


def test_probabilities_that_nothing_tells_are_asked_about():
    def answer(x: Tensor) -> Tensor:
        return torch.from_numpy(model()(x).sigmoid().detach().numpy())

    with pytest.raises(ValueError, match="output='probabilities'"):
        audit().run(answer, MEMBERS, NONMEMBERS)
    expected = audit().run(model(), MEMBERS, NONMEMBERS).errors["reconstruction"]
    found = audit(output="probabilities").run(answer, MEMBERS, NONMEMBERS).errors["reconstruction"]
    assert found == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64])
def test_masks_as_outputs_have_a_0_1_error(dtype):
    result = audit().run(lambda x: (x > 0.4).to(dtype), MEMBERS, NONMEMBERS)
    for row, (x, y) in enumerate(MEMBERS):
        assert result.errors["reconstruction"][row] == pytest.approx(float(((x > 0.4) != (y > 0)).float().mean()))
    assert result.meta["interpretation"]["output"].startswith("labels")
