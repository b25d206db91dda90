from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from skimage.metrics import structural_similarity

from mia_lightning.functional.reconstruction import class_errors, segmentation_error, translation_error, two_sided


@pytest.fixture
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    target = F.interpolate(torch.rand(3, 3, 8, 9, generator=generator), size=(33, 40), mode="bilinear")
    return (target + 0.1 * torch.randn(target.shape, generator=generator)).clamp(0, 1), target


@pytest.fixture
def labelled() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    target = torch.randint(0, 4, (3, 9, 7), generator=generator)
    target[:, :2], target[:, 2] = 255, -1
    return 3 * torch.randn(3, 4, 9, 7, generator=generator), target


def test_hand_computed_translation_errors():
    target = torch.zeros(2, 1, 1, 4)
    prediction = torch.tensor([[0.0, 0.5, 0.5, 1.0], [0.0, 0.0, 0.0, -1.0]]).view(2, 1, 1, 4)
    assert translation_error(prediction, target, "l1").tolist() == [0.5, 0.25]
    assert translation_error(prediction, target, "l2").tolist() == [0.375, 0.25]


def test_structural_similarity_is_that_of_skimage(pair):
    prediction, target = (t.double() for t in pair)
    similarity = 1 - translation_error(prediction, target, "ssim")
    settings = {"gaussian_weights": True, "use_sample_covariance": False, "data_range": 1.0, "channel_axis": 0}
    expected = [
        structural_similarity(p, t, **settings) for p, t in zip(prediction.numpy(), target.numpy(), strict=True)
    ]
    assert similarity.tolist() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("side", [1, 2, 7, 10, 16])
def test_structural_similarity_shrinks_its_window_for_small_images(side):
    target = torch.rand(2, 1, side, side + 3, generator=torch.Generator().manual_seed(0))
    same, other = (translation_error(p, target, "ssim") for p in (target, 1 - target))
    assert same.abs().max() < 1e-5
    assert other.isfinite().all()
    assert other.min() > 0.01


def test_cross_entropy_is_that_of_torch_over_valid_pixels(labelled):
    logits, target = labelled
    where = target.masked_fill(target < 0, 255)
    expected = [F.cross_entropy(z[None], t[None], ignore_index=255) for z, t in zip(logits, where, strict=True)]
    torch.testing.assert_close(segmentation_error(logits, target), torch.stack(expected))


def test_hand_computed_dice_and_brier():
    # Probabilities of class 1: 0.8, 0.4, 0.5 and a void pixel that says 1.
    logits = torch.tensor([[[math.log(4), math.log(2 / 3), 0.0, 50.0]]]).unsqueeze(0)
    target = torch.tensor([[[1, 0, 1, 255]]])
    dice0 = 2 * 0.6 / (0.2 + 0.6 + 0.5 + 1)
    dice1 = 2 * (0.8 + 0.5) / (0.8 + 0.4 + 0.5 + 2)
    assert segmentation_error(logits, target, "dice").item() == pytest.approx(1 - (dice0 + dice1) / 2, abs=1e-6)
    brier = 2 * (0.2**2 + 0.4**2 + 0.5**2) / 3
    assert segmentation_error(logits, target, "brier").item() == pytest.approx(brier, abs=1e-6)


def test_dice_counts_only_the_classes_that_the_target_holds():
    logits = torch.zeros(1, 5, 1, 2)
    assert segmentation_error(logits, torch.tensor([[[2, 2]]]), "dice").item() == pytest.approx(1 - 2 * 0.4 / 2.4)


@pytest.mark.parametrize("kind", ["cross_entropy", "dice", "brier"])
def test_one_logit_is_the_second_of_two_classes(kind):
    logit, target = torch.randn(2, 1, 5, 5), torch.randint(0, 2, (2, 5, 5))
    two = torch.cat([torch.full_like(logit, 1.5), logit + 1.5], 1)
    torch.testing.assert_close(segmentation_error(logit, target, kind), segmentation_error(two, target, kind))
    assert two_sided(two) is two


@pytest.mark.parametrize("kind", ["cross_entropy", "dice", "brier"])
@pytest.mark.parametrize("broken", [math.inf, -math.inf, math.nan])
def test_broken_logits_on_void_pixels_do_not_count(labelled, kind, broken):
    logits, target = labelled
    expected = segmentation_error(logits, target, kind)
    logits[:, 1, :3] = broken
    torch.testing.assert_close(segmentation_error(logits, target, kind), expected)


@pytest.mark.parametrize("kind", ["cross_entropy", "dice", "brier"])
def test_a_map_without_a_valid_pixel_has_no_error(labelled, kind):
    logits, target = labelled
    alone = segmentation_error(logits[1:], target[1:], kind)
    target[0] = 255
    error = segmentation_error(logits, target, kind)
    assert error[0].isnan()
    torch.testing.assert_close(error[1:], alone)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_widened_before_anything_is_summed(pair, labelled, dtype):
    prediction, target = (t.to(dtype) for t in pair)
    for kind in ("l1", "l2", "ssim"):
        error = translation_error(prediction, target, kind)
        assert error.dtype == torch.float32
        assert torch.equal(error, translation_error(prediction.float(), target.float(), kind))
    logits, labels = labelled
    logits = logits.to(dtype)
    for kind in ("cross_entropy", "dice", "brier"):
        assert torch.equal(segmentation_error(logits, labels, kind), segmentation_error(logits.float(), labels, kind))


def test_shapes_and_kinds_that_do_not_fit_are_named():
    image, labels = torch.zeros(1, 3, 4, 4), torch.zeros(1, 4, 4, dtype=torch.long)
    with pytest.raises(ValueError, match=r"prediction has shape \(1, 3, 4, 4\) but the target has \(1, 1, 4, 4\)"):
        translation_error(image, image[:, :1])
    with pytest.raises(ValueError, match=r"'l3'; choose one of l1, l2, ssim"):
        translation_error(image, image, "l3")
    with pytest.raises(ValueError, match=r"prediction has shape \(1, 3, 4, 4\) but the label map has \(1, 4, 3\)"):
        segmentation_error(image, labels[:, :, :3])
    with pytest.raises(ValueError, match="'focal'; choose one of cross_entropy, dice, brier"):
        segmentation_error(image, labels, "focal")
    with pytest.raises(ValueError, match=r"class ids \[3\], but num_classes=3"):
        segmentation_error(image, labels + 3)


def with_holes(target: torch.Tensor) -> torch.Tensor:
    """Void pixels: none in the first image, a corner in the second, other pixels in each channel of the third."""
    holes = torch.rand(target.shape, generator=torch.Generator().manual_seed(3)) < 0.2
    holes[0], holes[1], holes[1, :, :6, :5] = False, False, True
    return target.masked_fill(holes, torch.nan)


@pytest.mark.parametrize("kind", ["l1", "l2"])
def test_void_pixels_are_left_out(pair, kind):
    prediction, target = pair[0].double(), with_holes(pair[1].double())
    difference = (prediction - target).abs().numpy() ** (1 if kind == "l1" else 2)
    expected = [np.nanmean(d) for d in difference]
    wild = torch.where(target.isnan(), torch.inf, prediction)  # what stands at void pixels does not matter
    for p in (prediction, wild):
        assert translation_error(p, target, kind).tolist() == pytest.approx(expected, rel=1e-12)
    volumes = translation_error(prediction.unsqueeze(2), target.unsqueeze(2), kind)
    assert volumes.tolist() == pytest.approx(expected, rel=1e-12)


def test_structural_similarity_leaves_windows_with_void_pixels_out(pair):
    prediction, target = pair[0].double(), with_holes(pair[1].double())
    found = translation_error(prediction, target, "ssim")
    filled = pair[1].double().numpy()
    settings = {"gaussian_weights": True, "use_sample_covariance": False, "data_range": 1.0, "channel_axis": 0}
    _, maps = structural_similarity(prediction[1].numpy(), filled[1], full=True, **settings)
    inner = maps[:, 5:-5, 5:-5]  # a window of 11 about each pixel; the hole reaches 6 down and 5 to the right
    whole = np.ones(inner.shape, dtype=bool)
    whole[:, :6, :5] = False
    assert found[1].item() == pytest.approx(1 - inner[whole].mean(), abs=1e-9)
    assert found[2].isnan(), "each window holds a void pixel"


@pytest.mark.parametrize("kind", ["l1", "l2", "ssim"])
def test_company_with_void_pixels_changes_no_bit(pair, kind):
    prediction, target = pair
    assert translation_error(prediction, with_holes(target), kind)[0] == translation_error(prediction, target, kind)[0]
    target = target.clone()
    target[1] = torch.nan
    assert translation_error(prediction, target, kind).isnan().tolist() == [False, True, False]


@pytest.mark.parametrize("kind", ["cross_entropy", "brier", "soft_error", "zero_one"])
@pytest.mark.parametrize("form", ["pictures", "volumes", "one logit"])
def test_errors_of_classes_are_means_over_their_pixels(labelled, kind, form):
    logits, target = labelled
    target[0, 5:] = 3  # a sample that lacks some classes
    if form == "volumes":
        logits, target = logits.unflatten(2, (3, 3)), target.unflatten(1, (3, 3))
    if form == "one logit":
        logits, target = logits[:, :1], torch.where(target > 1, 1, target)
    found, classes = class_errors(logits, target, kind).numpy(), max(2, logits.shape[1])
    probability = two_sided(logits).double().softmax(1).numpy()
    whole, shares = segmentation_error(logits, target, kind).numpy(), np.zeros((3, classes))
    for row in range(3):
        for number in range(classes):
            pixels = target[row].numpy() == number
            p, one_hot = probability[row][:, pixels], np.eye(classes)[number][:, None]
            values = {
                "cross_entropy": -np.log(p[number]),
                "brier": ((p - one_hot) ** 2).sum(0),
                "soft_error": 1 - p[number],
                "zero_one": (p.argmax(0) != number).astype(float),
            }[kind]
            shares[row, number] = pixels.mean()
            expected = values.mean() if pixels.any() else math.nan
            assert found[row, number] == pytest.approx(expected, rel=1e-5, abs=1e-6, nan_ok=True)
    weighted = (np.nan_to_num(found) * shares).sum(1) / shares.sum(1)
    assert weighted == pytest.approx(whole, rel=1e-5)


def test_dice_is_no_error_of_single_pixels(labelled):
    with pytest.raises(ValueError, match="Unknown error of pixels 'dice'"):
        class_errors(*labelled, "dice")
    with pytest.raises(ValueError, match="a segmentation model must return logits"):
        class_errors(labelled[0], labelled[1][:, 1:])
