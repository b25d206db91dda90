"""Predictability of volumes: slices as pictures, each against least squares written out, and their mean."""

import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import LinearRegression
from torch import Tensor, nn

from mia_lightning.features import PredictabilityScorer
from mia_lightning.features import scorer as scorer_module

DRAW = torch.Generator().manual_seed(0)
INPUT = torch.rand(2, 1, 12, 20, 6, generator=DRAW)  # the fewest voxels lie along W
TARGET = (0.6 * INPUT + 0.4 * torch.rand(2, 1, 12, 20, 6, generator=DRAW)).clamp(0, 1)
LABELS = (INPUT[:, 0] * 3).long()


def tiny(**settings) -> PredictabilityScorer:
    return PredictabilityScorer(nn.AvgPool2d(4), **{"grid": 8, **settings})


def by_least_squares(picture: Tensor, target: Tensor, fit: Tensor) -> float:
    """The error of one slice, (H, W) each, on the pixels of the grid that were not fitted."""
    resized = F.interpolate(picture[None, None], (32, 32), mode="bilinear", antialias=True)
    x = F.avg_pool2d(resized, 4).double().flatten(2)[0].T.numpy()
    y = F.interpolate(target[None, None].double(), (8, 8), mode="area").flatten().numpy()
    predicted = LinearRegression().fit(x[fit], y[fit]).predict(x[~fit])
    return float(abs(predicted - y[~fit]).mean())


def test_it_is_the_mean_over_slices_along_the_axis_of_the_fewest_voxels():
    scorer = tiny(method="holdout", ridge=0.0)
    fit = scorer._fit_mask().numpy()
    each = [
        [by_least_squares(x[0, ..., i], y[0, ..., i], fit) for i in range(6)]
        for x, y in zip(INPUT, TARGET, strict=True)
    ]
    expected = torch.tensor(each).mean(1).tolist()
    assert scorer(INPUT, TARGET).tolist() == pytest.approx(expected, rel=1e-5)
    turned = (INPUT.movedim(4, 2), TARGET.movedim(4, 2))  # along D
    assert scorer(*turned).tolist() == pytest.approx(expected, rel=1e-5)
    assert scorer(INPUT.movedim(4, 3), TARGET.movedim(4, 3)).tolist() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("task", ["translation", "segmentation", "multilabel"])
def test_each_slice_is_a_picture_of_its_own(task):
    scorer = tiny()
    target = {"translation": TARGET, "segmentation": LABELS, "multilabel": (TARGET > 0.5).float()}[task]
    options = {"num_classes": 3} if task == "segmentation" else {}
    pictures = [
        torch.stack([scorer(INPUT[i : i + 1, ..., k], target[i : i + 1, ..., k], task, **options) for k in range(6)])
        for i in range(2)
    ]
    assert scorer(INPUT, target, task, **options).tolist() == pytest.approx([p.mean().item() for p in pictures])


def test_slices_without_a_valid_voxel_are_left_out():
    scorer = tiny()
    labels = LABELS.clone()
    labels[0, ..., :2], labels[1] = 255, 255
    kept = torch.cat(
        [scorer(INPUT[:1, ..., k], LABELS[:1, ..., k], "segmentation", num_classes=3) for k in (2, 3, 4, 5)]
    )
    found = scorer(INPUT, labels, "segmentation", num_classes=3)
    assert found[0].item() == pytest.approx(kept.mean().item())
    assert found[1].isnan()
    broken = INPUT.clone()
    broken[0, 0, 0, 0, 0] = torch.nan  # is no reason to leave a slice out
    assert scorer(broken, LABELS, "segmentation", num_classes=3).isnan().tolist() == [True, False]


def test_label_volumes_as_inputs_and_their_own_number_of_classes():
    scorer = tiny()
    for target in (LABELS, LABELS.unsqueeze(1)):
        together = scorer(LABELS.unsqueeze(1), target, "segmentation")
        alone = scorer(LABELS[:1].unsqueeze(1), LABELS[:1], "segmentation", num_classes=int(LABELS[0].max()) + 1)
        assert together[0].item() == pytest.approx(alone.item(), rel=1e-9)


def test_some_slices_are_the_same_for_all_volumes_and_processes():
    scorer = tiny()
    some = scorer(INPUT, TARGET, slices=2)
    assert not torch.allclose(some, scorer(INPUT, TARGET))
    assert torch.equal(some, tiny()(INPUT, TARGET, slices=2))
    assert scorer(INPUT[1:], TARGET[1:], slices=2).item() == some[1].item()
    assert torch.equal(scorer(INPUT, TARGET, slices=6), scorer(INPUT, TARGET))
    assert not torch.equal(some, tiny(seed=5)(INPUT, TARGET, slices=2))
    with pytest.raises(ValueError, match="slices >= 1"):
        scorer(INPUT, TARGET, slices=0)


def test_a_target_of_another_resolution_has_the_slices_at_its_height():
    scorer = tiny()
    coarse = INPUT[..., ::2]  # (..., 3): each stands for two slices of the target
    expected = scorer(coarse.repeat_interleave(2, 4), TARGET)
    assert scorer(coarse, TARGET).tolist() == pytest.approx(expected.tolist())


def test_few_slices_at_a_time_go_through_the_backbone(monkeypatch):
    scorer, sizes = tiny(), []
    scorer.network.backbone.register_forward_hook(lambda module, inputs, output: sizes.append(len(inputs[0])))
    whole = scorer(INPUT, TARGET)
    monkeypatch.setattr(scorer_module, "_SLICES_AT_ONCE", 4)
    sizes.clear()
    assert scorer(INPUT, TARGET).tolist() == pytest.approx(whole.tolist(), rel=1e-9)
    assert sizes == [4, 2, 4, 2]


@pytest.mark.parametrize("task", ["segmentation", "translation"])
def test_a_target_with_other_dimensions_is_refused(task):
    target = LABELS[:, 0] if task == "segmentation" else TARGET[:, 0]
    with pytest.raises(ValueError, match=r"\(B, .*D, H, W\) for volumes \(2, 1, 12, 20, 6\), but got"):
        tiny()(INPUT, target, task, num_classes=3)
