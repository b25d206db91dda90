from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from mia_lightning.functional.multilabel import (
    MASK_STATISTICS,
    MULTILABEL_ERRORS,
    channel_errors,
    loss_of_masks,
    mask_statistics,
    multilabel_error,
)

G = torch.Generator().manual_seed(0)
LOGITS = torch.randn(3, 4, 6, 5, generator=G)
TARGET = (torch.rand(3, 4, 6, 5, generator=G) > 0.6).float()
SOFT = torch.rand(3, 4, 6, 5, generator=G)


@pytest.mark.parametrize("target", [TARGET, SOFT])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_errors_are_those_of_torch(target, dtype):
    logits = LOGITS.to(dtype)
    wide = logits.double() if dtype == torch.float64 else logits.float()
    p = wide.sigmoid()
    for i in range(3):
        truth = target[i].to(wide.dtype)
        expected = {
            "binary_cross_entropy": F.binary_cross_entropy_with_logits(wide[i], truth),
            "zero_one": ((wide[i] > 0) != (truth > 0.5)).to(wide.dtype).mean(),
            "brier": F.mse_loss(p[i], truth),
            "soft_error": (p[i] * (1 - truth) + (1 - p[i]) * truth).mean(),
            "dice": 1
            - torch.stack([2 * (a * b).sum() / (a + b).sum() for a, b in zip(p[i], truth, strict=True)]).mean(),
        }
        for kind in MULTILABEL_ERRORS:
            torch.testing.assert_close(multilabel_error(logits, target, kind)[i], expected[kind])


@pytest.mark.parametrize("kind", MULTILABEL_ERRORS)
def test_ignored_values_change_nothing(kind):
    ignored = TARGET.clone()
    ignored[:, 1, :2] = torch.nan
    expected = multilabel_error(LOGITS, ignored, kind)
    other = LOGITS.clone()
    other[:, 1, :2] = torch.inf
    assert torch.equal(multilabel_error(other, ignored, kind), expected)
    assert expected.isfinite().all()
    assert multilabel_error(LOGITS, torch.full_like(TARGET, torch.nan), kind).isnan().all()


def test_channels_count_by_their_valid_values():
    target = TARGET[:1].clone()
    target[0, 1:] = torch.nan
    torch.testing.assert_close(multilabel_error(LOGITS[:1], target), multilabel_error(LOGITS[:1, :1], target[:, :1]))


def test_dice_looks_at_channels_that_are_set():
    target = TARGET.clone()
    target[:, 2:] = 0
    torch.testing.assert_close(
        multilabel_error(LOGITS, target, "dice"), multilabel_error(LOGITS[:, :2], target[:, :2], "dice")
    )
    assert multilabel_error(LOGITS, torch.zeros_like(TARGET), "dice").isnan().all()


def test_loss_maps_average_to_the_error():
    losses = loss_of_masks(LOGITS, TARGET)
    assert losses.shape == (3, 1, 6, 5)
    torch.testing.assert_close(losses.flatten(1).mean(1), multilabel_error(LOGITS, TARGET))
    ignored = TARGET.clone()
    ignored[:, :, 0] = torch.nan
    assert (loss_of_masks(LOGITS, ignored)[:, :, 0] == 0).all()


def test_other_shapes_and_errors_are_refused():
    for function in (multilabel_error, loss_of_masks):
        with pytest.raises(ValueError, match=r"prediction has shape \(3, 3, 6, 5\) but the masks have \(3, 4, 6, 5\)"):
            function(LOGITS[:, :3], TARGET)
    with pytest.raises(ValueError, match="Unknown error of independent channels 'iou'; choose one of binary_cross"):
        multilabel_error(LOGITS, TARGET, "iou")
    with pytest.raises(ValueError, match="Expected float masks"):
        mask_statistics(TARGET.long())


def test_statistics_of_masks():
    target = torch.zeros(2, 18, 4, 4)
    target[0, 0] = 1.0
    target[0, 16, :2] = 1.0
    target[1, 3, 0] = torch.nan
    rows = [dict(zip(MASK_STATISTICS, row.tolist(), strict=True)) for row in mask_statistics(target)]
    assert rows[0]["channel_00"] == pytest.approx(0.75)
    assert rows[0]["channel_01"] == rows[0]["void"] == 0.0
    assert rows[0]["boundary"] == pytest.approx(4 / (18 * 24))
    assert rows[1]["void"] == pytest.approx(4 / (18 * 16))
    assert rows[1]["boundary"] == 0.0
    assert torch.equal(mask_statistics(target)[:1], mask_statistics(target[:1]))


@pytest.mark.parametrize("target", [TARGET, SOFT])
def test_errors_of_channels_are_those_where_their_masks_are_set(target):
    target = target.clone()
    target[0, 0, :3], target[1, 2] = torch.nan, 0.0
    logits = torch.where(target == 0, torch.inf, LOGITS)  # elsewhere anything may stand
    p = LOGITS.double().sigmoid()
    found, wrong = channel_errors(logits, target), channel_errors(logits, target, "zero_one")
    for row in range(3):
        for channel in range(4):
            weight = target[row, channel].nan_to_num(0.0).double()
            loss = -(weight * p[row, channel].log() + (1 - weight) * (1 - p[row, channel]).log())
            misses = ((p[row, channel] > 0.5) != (weight > 0.5)).double()
            for values, one in ((loss, found), (misses, wrong)):
                expected = float((weight * values).sum() / weight.sum())
                assert float(one[row, channel]) == pytest.approx(expected, rel=1e-5, nan_ok=True)
    with pytest.raises(ValueError, match="Expected 'binary_cross_entropy' or 'zero_one'"):
        channel_errors(LOGITS, TARGET, "dice")
