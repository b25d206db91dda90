from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import LinearRegression, Ridge
from torch import Tensor

from mia_lightning.functional import predictability
from mia_lightning.functional.design import Design, reduce_columns
from mia_lightning.functional.holdout_design import HoldoutDesign
from mia_lightning.functional.least_squares import Moments
from mia_lightning.functional.predictability import PROBABILITY_FLOOR, predictability_error

# (channels, side) of each map: the shape of a ResNet's four stages, scaled down; the last two have more channels than
# positions.
STAGES = ((4, 12), (8, 6), (30, 3), (60, 2))


def features(stages=STAGES, images: int = 2, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(images, c, s, s, generator=generator, dtype=torch.float64) for c, s in stages]


def picture(images: int = 2, channels: int = 3, size: tuple[int, int] = (24, 24), seed: int = 1) -> Tensor:
    return torch.rand(images, channels, *size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def label_map(images: int = 2, classes: int = 3, side: int = 12, seed: int = 2) -> Tensor:
    return torch.randint(0, classes, (images, side, side), generator=torch.Generator().manual_seed(seed))


def half(grid: int, share: float = 0.7) -> Tensor:
    return torch.rand(grid * grid, generator=torch.Generator().manual_seed(3)) < share


def unreduced(maps: list[Tensor], image: int, grid: int, *, standardise: bool) -> np.ndarray:
    """All channels over the grid, (P, sum of channels)."""
    columns = []
    for feature in maps:
        one = feature[image : image + 1]
        if standardise:
            deviation = one.std((2, 3), correction=0, keepdim=True)
            one = (one - one.mean((2, 3), keepdim=True)) / deviation.where(deviation > 1e-9, 1.0)
        columns.append(F.interpolate(one, size=(grid, grid), mode="bilinear").flatten(2)[0].T)
    return torch.cat(columns, 1).numpy()


def parts(grid: int, folds: int, seed: int, fit_mask: Tensor | None) -> list[tuple[np.ndarray, np.ndarray]]:
    """Pixels to fit and pixels to measure."""
    if fit_mask is not None:
        return [(fit_mask.numpy(), ~fit_mask.numpy())]
    order = torch.randperm(grid * grid, generator=torch.Generator().manual_seed(seed)).numpy()
    fold = np.empty(grid * grid, dtype=int)
    fold[order] = np.arange(grid * grid) % folds
    return [(fold != f, fold == f) for f in range(folds)]


def by_sklearn(
    maps: list[Tensor],
    target: Tensor,
    *,
    grid: int,
    ridge: float,
    folds: int = 5,
    fit_mask: Tensor | None = None,
    num_classes: int | None = None,
) -> list[float]:
    """The definition, word by word, on the full features."""
    errors = []
    for image in range(len(target)):
        x = unreduced(maps, image, grid, standardise=ridge > 0)
        if num_classes is None:
            y = F.interpolate(target[image : image + 1], size=(grid, grid), mode="area").flatten(2)[0].T.numpy()
            valid = np.ones(grid * grid, dtype=bool)
        else:
            labels = target[image].flatten().numpy()  # the map has the grid's size
            valid = (labels >= 0) & (labels < num_classes)
            y = np.eye(num_classes)[np.where(valid, labels, 0)]
        losses = []
        for fitted, measured in parts(grid, folds, 0, fit_mask):
            seen, unseen = fitted & valid, measured & valid
            if ridge:
                centred = x[seen] - x[seen].mean(0)
                model = Ridge(alpha=ridge * (centred**2).sum() / x.shape[1], solver="svd")
            else:
                model = LinearRegression()
            guess = model.fit(x[seen], y[seen]).predict(x[unseen]).reshape(unseen.sum(), -1)
            if num_classes is None:
                losses.append(np.abs(guess - y[unseen]).mean(1))
            else:
                guess = guess.clip(PROBABILITY_FLOOR)
                losses.append(-np.log((guess / guess.sum(1, keepdims=True))[y[unseen] == 1]))
        errors.append(float(np.concatenate(losses).mean()))
    return errors


def error_of(maps: list[Tensor], target: Tensor, **settings: Any) -> list[float]:
    return predictability_error(maps, target, **settings).tolist()


@pytest.mark.parametrize("stages", [STAGES, ((5, 7), (40, 3)), ((3, 5), (2, 9), (20, 1)), ((200, 4),)])
@pytest.mark.parametrize("grid", [9, 12])
@pytest.mark.parametrize("holdout", [False, True])
@pytest.mark.parametrize("ridge", [0.0, 1e-3, 0.3])
def test_agrees_with_sklearn_on_the_unreduced_features(stages, grid, holdout, ridge):
    maps, target = features(stages), picture()
    settings: dict[str, Any] = {"grid": grid, "ridge": ridge, "fit_mask": half(grid) if holdout else None}
    assert error_of(maps, target, **settings) == pytest.approx(by_sklearn(maps, target, **settings), rel=1e-6)


@pytest.mark.parametrize("holdout", [False, True])
@pytest.mark.parametrize("ridge", [0.0, 1e-3])
def test_maps_need_be_neither_square_nor_smaller_than_the_grid(ridge, holdout):
    shapes = ((3, 5, 17), (30, 4, 2), (4, 9, 9), (2, 9, 31), (2, 1, 8))
    maps, target = [torch.randn(2, *shape, dtype=torch.float64) for shape in shapes], picture()
    settings: dict[str, Any] = {"grid": 9, "ridge": ridge, "fit_mask": half(9) if holdout else None}
    assert error_of(maps, target, **settings) == pytest.approx(by_sklearn(maps, target, **settings), rel=1e-6)


@pytest.mark.parametrize("share", [0.7, 1.0])
def test_what_is_summed_by_one_weight_is_what_is_summed_by_it_beside_others(share):
    maps = features(((70, 12), (5, 17), (30, 3), (4, 12)))  # the first takes two blocks of its symmetric product
    values, pixels = torch.rand(2, 144, 3, dtype=torch.float64), half(12, share)
    weight = (torch.rand(2, 144) < 0.7).double() * pixels
    design, holdout = Design(maps, 12), HoldoutDesign(maps, 12)
    # Of a map with more channels than positions both have a triangle, which is unique but for the signs of its rows.
    design.maps[2] = holdout.maps[2]
    alone = holdout.moments_at(values, weight, pixels.nonzero().squeeze(1))
    beside, _ = design.moments(values, [weight, 1.0 - weight])
    for field in dataclasses.fields(Moments):
        found, expected = getattr(alone, field.name), getattr(beside, field.name)
        if field.name == "xx":
            found, expected = found.tril(), expected.tril()
        torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("ridge", [0.0, 0.1])
@pytest.mark.parametrize("holdout", [False, True])
def test_label_maps_with_void_agree_with_sklearn(ridge, holdout):
    maps, target = features(), label_map()
    target[0, :3], target[1, :, 5] = 255, -1
    settings: dict[str, Any] = {"grid": 12, "ridge": ridge, "fit_mask": half(12) if holdout else None, "num_classes": 3}
    found = error_of(maps, target, task="segmentation", **settings)
    assert found == pytest.approx(by_sklearn(maps, target, **settings), rel=1e-6)


def test_what_tells_two_channels_apart_by_less_than_a_millionth_counts_as_rounding():
    maps, target = features(), picture()
    maps[0][:, 1] = maps[0][:, 0]
    expected = error_of(maps, target, grid=12, ridge=0.0)
    maps[0][:, 1] += 1e-8 * torch.randn(maps[0][:, 1].shape, generator=torch.Generator().manual_seed(5))
    assert error_of(maps, target, grid=12, ridge=0.0) == pytest.approx(expected, rel=1e-5)


def test_scales_of_channels_do_not_matter_to_least_squares():
    maps, target = features(), picture()
    expected = error_of(maps, target, grid=12, ridge=0.0)
    maps[0][:, 1] *= 1e-7
    assert error_of(maps, target, grid=12, ridge=0.0) == pytest.approx(expected, rel=1e-6)


def test_more_channels_than_pixels_gives_the_solution_of_minimum_norm():
    maps, target = features(((70, 9), (30, 3))), picture()
    for settings in ({"grid": 8}, {"grid": 9, "fit_mask": half(9, 0.3)}):
        found = error_of(maps, target, ridge=0.0, **settings)
        assert found == pytest.approx(by_sklearn(maps, target, ridge=0.0, **settings), rel=1e-5)


@pytest.mark.parametrize("ridge", [0.0, 0.01])
def test_dead_and_collinear_channels_do_no_harm(ridge):
    maps, target = features(), picture()
    maps[0][:, 1] = 0.0  # dead
    maps[0][:, 2] = 7.25  # constant
    maps[1][:, 3] = 2 * maps[1][:, 0] - maps[1][:, 1]  # collinear
    maps[2][:, 5:] = maps[2][:, :25]  # repeated
    found = error_of(maps, target, grid=12, ridge=ridge)
    assert found == pytest.approx(by_sklearn(maps, target, grid=12, ridge=ridge), rel=1e-5)


@pytest.mark.parametrize("ridge", [0.0, 1e-3])
def test_scale_and_offset_of_a_map_change_nothing(ridge):
    maps, target = features(), picture()
    expected = error_of(maps, target, grid=12, ridge=ridge)
    maps[0] *= 1e4
    maps[2] = maps[2] * 1e-3 + 50.0
    assert error_of(maps, target, grid=12, ridge=ridge) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("ridge", [0.0, 1e-3])
def test_features_that_say_nothing_leave_the_mean(ridge):
    target = picture(images=1)
    flat = [torch.full((1, 6, 4, 4), 3.3), torch.rand(1, 9, 1, 1)]
    (found,) = error_of(flat, target, grid=8, ridge=ridge)
    y = F.interpolate(target, size=(8, 8), mode="area").flatten(2)[0].T.numpy()
    expected = [np.abs(y[m] - y[f].mean(0)).mean(1) for f, m in parts(8, 5, 0, None)]
    assert found == pytest.approx(np.concatenate(expected).mean(), rel=1e-9)


@pytest.mark.parametrize("ridge", [0.0, 1e-3])
def test_a_constant_target_is_predicted_perfectly(ridge):
    assert error_of(features(), torch.full((2, 3, 24, 24), 0.4), grid=12, ridge=ridge) == pytest.approx(
        [0, 0], abs=1e-7
    )


@pytest.mark.parametrize("ridge", [0.0, 0.1])
def test_a_batch_gives_what_its_images_give_alone(ridge):
    maps, target = features(images=3), picture(images=3)
    maps[0][1] = 0.5  # one image whose normal equations are singular must not change the others' path
    together = predictability_error(maps, target, grid=12, ridge=ridge)
    alone = [
        predictability_error([m[i : i + 1] for m in maps], target[i : i + 1], grid=12, ridge=ridge) for i in range(3)
    ]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-9, atol=0)


def test_large_batches_are_cut_into_slices(monkeypatch):
    maps, target = features(images=5), picture(images=5)
    whole = predictability_error(maps, target, grid=12)
    monkeypatch.setattr(predictability, "_SLICE", 12 * 12 * 30 * 2)
    torch.testing.assert_close(predictability_error(maps, target, grid=12), whole, rtol=1e-9, atol=0)


@pytest.mark.parametrize("ridge", [0.0, 0.1])
def test_a_broken_image_breaks_only_its_own_number(ridge):
    maps, target = features(images=3), picture(images=3)
    expected = predictability_error(maps, target, grid=12, ridge=ridge)
    maps[0][1, 0, 2, 2] = torch.nan
    found = predictability_error(maps, target, grid=12, ridge=ridge)
    assert found.isnan().tolist() == [False, True, False]
    torch.testing.assert_close(found[[0, 2]], expected[[0, 2]])


@pytest.mark.parametrize("alike", [False, True])
@pytest.mark.parametrize("holdout", [False, True])
@pytest.mark.parametrize(("channels", "side"), [(9, 2), (40, 5), (4, 2), (3, 2), (24, 5), (25, 5)])
def test_reduction_keeps_all_inner_products(channels, side, holdout, alike):
    feature = torch.randn(2, channels, side, side, dtype=torch.float64)
    if alike:  # of one image, two positions are so nearly the same that their inner products cannot tell them apart
        feature[1, :, 0, 0] = feature[1, :, 0, 1] + 1e-9 * torch.randn(channels, dtype=torch.float64)
    reduced = HoldoutDesign([feature], 4).maps[0] if holdout else reduce_columns(feature)
    assert reduced.shape == (2, min(channels, side * side - 1), side, side)
    centred, reduced = (feature - feature.mean((2, 3), keepdim=True)).flatten(2), reduced.flatten(2)
    torch.testing.assert_close(reduced.mT @ reduced, centred.mT @ centred)


@pytest.mark.parametrize("ridge", [0.0, 1e-3, 1.0])
def test_no_pixel_is_predicted_by_a_fit_that_saw_it(ridge):
    """Lift one pixel of the target far above the others.

    Were it fitted, its prediction would rise with it and its own error would grow by less than it was lifted. Unseen,
    the error grows by the whole lift; what the others lose is measured apart, with the pixel void.
    """
    maps, grid, lift = features(images=1), 12, 1e6
    target = torch.zeros(1, 1, grid, grid, dtype=torch.float64)
    for pixel in (0, 77, 143):
        lifted = target.clone().flatten()
        lifted[pixel] = lift
        lifted = lifted.view_as(target)
        # Errors of all pixels but the lifted one are those of the folds that fitted it, found by the definition.
        x, y = unreduced(maps, 0, grid, standardise=ridge > 0), lifted.flatten().numpy()
        others = 0.0
        for fitted, measured in parts(grid, 5, 0, None):
            if measured[pixel]:
                continue
            centred = x[fitted] - x[fitted].mean(0)
            model = Ridge(alpha=ridge * (centred**2).sum() / x.shape[1], solver="svd") if ridge else LinearRegression()
            others += np.abs(model.fit(x[fitted], y[fitted]).predict(x[measured])).sum()
        (mean,) = error_of(maps, lifted, grid=grid, ridge=ridge)
        assert mean * grid**2 - others == pytest.approx(lift, rel=1e-6)


def test_noise_is_not_predicted_though_the_features_could_fit_it():
    noise = torch.randn(1, 1, 12, 12, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    (found,) = error_of(features(((100, 12),), images=1), noise, grid=12, ridge=1e-3)
    assert found > noise.abs().mean()


def test_a_linear_map_is_found_exactly():
    maps = features(((6, 12),), images=1)
    target = torch.einsum("bchw,kc->bkhw", maps[0], torch.randn(3, 6, dtype=torch.float64)) + 0.3
    assert error_of(maps, target, grid=12, ridge=0.0) == pytest.approx([0.0], abs=1e-10)


@pytest.mark.parametrize("ridge", [0.0, 1e-3])
def test_void_pixels_are_neither_fitted_nor_measured(ridge):
    maps, target = features(((6, 12),), images=1), label_map(images=1)
    target[:, 4:8, 3:9] = 255
    settings: dict[str, Any] = {"grid": 12, "ridge": ridge, "task": "segmentation", "num_classes": 3}
    expected = error_of(maps, target, **settings)
    void = target == 255
    for other in (-1, -100):
        assert error_of(maps, target.masked_fill(void, other), **settings) == expected
    assert error_of(maps, target.masked_fill(void, 7), ignore_index=7, **settings) == expected
    assert error_of(maps, target.masked_fill(void, 1), **settings) != expected
    if ridge == 0.0:  # with a penalty the channels are standardised over the whole image
        maps[0] = torch.where(void.unsqueeze(1), 1e3 * torch.randn_like(maps[0]), maps[0])
        assert error_of(maps, target, **settings) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("ridge", [0.0, 1e-3])
def test_masks_of_one_class_are_easy(ridge):
    target = torch.ones(2, 20, 20, dtype=torch.long)
    settings: dict[str, Any] = {"grid": 12, "ridge": ridge, "task": "segmentation"}
    assert error_of(features(), target, num_classes=2, **settings) == pytest.approx([1e-3] * 2, rel=0.01)
    # One class is a binary map: it has two.
    assert error_of(features(), target, num_classes=1, **settings) == error_of(
        features(), target, num_classes=2, **settings
    )


def test_without_a_valid_pixel_there_is_no_number():
    target = label_map()
    target[1] = 255
    found = predictability_error(features(), target, grid=12, task="segmentation", num_classes=3)
    assert found.isfinite().tolist() == [True, False]


def test_few_valid_pixels_leave_a_finite_number():
    target = torch.full((1, 12, 12), 255)
    target[0, 3, 4] = 1
    (found,) = error_of(features(images=1), target, grid=12, task="segmentation", num_classes=2, ridge=0.0)
    # No other pixel to fit on: both classes are as likely.
    assert found == pytest.approx(np.log(2))


def test_a_shifted_target_is_predicted_worse():
    image = F.interpolate(picture(size=(6, 6)), size=(48, 48), mode="bicubic")
    maps = [F.avg_pool2d(image, 4), F.avg_pool2d(image, 8)]
    aligned = predictability_error(maps, 1 - image, grid=12)
    for shift in ((8, 0), (0, 8), (-8, -8)):
        shifted = predictability_error(maps, 1 - image.roll(shift, (2, 3)), grid=12)
        assert (shifted > 3 * aligned).all()


def test_all_of_the_target_counts_to_the_border():
    maps, target = [torch.rand(1, 3, 12, 12)], torch.zeros(1, 1, 48, 48)
    for corner in ((0, 0), (0, 47), (47, 0), (47, 47)):
        marked = target.clone()
        marked[0, 0, corner[0], corner[1]] = 1.0
        assert error_of(maps, marked, grid=12)[0] > 0.0


def test_folds_are_seeded_and_the_global_generator_is_left_alone():
    maps, target = features(), picture()
    before = torch.get_rng_state()
    first = error_of(maps, target, grid=12, seed=1)
    assert first == error_of(maps, target, grid=12, seed=1)
    assert first != error_of(maps, target, grid=12, seed=2)
    assert torch.equal(torch.get_rng_state(), before)


def test_single_precision_features_agree_with_double():
    maps, target = features(), picture()
    single = error_of([m.float() for m in maps], target.float(), grid=12)
    assert single == pytest.approx(error_of(maps, target, grid=12), rel=1e-5)


@pytest.mark.parametrize("holdout", [False, True])
def test_maps_and_targets_that_require_gradients_are_measured_all_the_same(holdout):
    maps, target, settings = (
        features(),
        picture(),
        {"grid": 12, "ridge": 0.0, "fit_mask": half(12) if holdout else None},
    )
    expected = error_of(maps, target, **settings)
    assert error_of([m.requires_grad_() for m in maps], target.requires_grad_(), **settings) == expected


MAP, IMAGE, LABELS = torch.rand(2, 3, 4, 4), torch.rand(2, 3, 8, 8), torch.zeros(2, 8, 8, dtype=torch.long)
SEGMENTATION: dict[str, Any] = {"task": "segmentation", "num_classes": 2}


@pytest.mark.parametrize(
    ("maps", "target", "settings", "message"),
    [
        ([], IMAGE, {}, "at least one feature map, but got none"),
        ([MAP, MAP[:1]], IMAGE, {}, r"shape \(2, C, h, w\) to go with 2 targets, but map 1 has shape \(1, 3, 4, 4\)"),
        ([MAP[0]], IMAGE, {}, r"map 0 has shape \(3, 4, 4\)"),
        ([MAP], IMAGE, {"grid": 1}, "grid >= 2, but got 1"),
        ([MAP], IMAGE, {"ridge": -1.0}, r"ridge >= 0, but got -1\.0"),
        ([MAP], IMAGE, {"folds": 1}, "2 to 16 folds .*but got 1"),
        ([MAP], IMAGE, {"folds": 17}, "2 to 16 folds .*but got 17"),
        (
            [MAP],
            IMAGE,
            {"fit_mask": torch.ones(9, dtype=torch.bool)},
            r"fit_mask of shape \(16,\) .*shape \(9,\) with 9",
        ),
        ([MAP], IMAGE, {"fit_mask": torch.ones(16, dtype=torch.bool)}, "pixels on both sides, .*with 16 pixels to fit"),
        ([MAP], LABELS, {}, r"float target \(B, C, H, W\), but got torch.int64 \(2, 8, 8\)"),
        ([MAP], IMAGE, SEGMENTATION, r"label map \(B, H, W\), but got torch.float32 \(2, 3, 8, 8\)"),
        ([MAP], LABELS, {"task": "segmentation"}, "needs num_classes"),
        ([MAP], LABELS + 4, SEGMENTATION, r"class ids \[4\], but num_classes=2"),
        ([MAP], IMAGE, {"task": "depth"}, "'depth'; expected 'translation', 'segmentation' or"),
    ],
)
def test_errors_say_what_was_found(maps, target, settings, message):
    with pytest.raises(ValueError, match=message):
        predictability_error(maps, target, **{"grid": 4, **settings})


def masks(ignored: bool, side: int = 12) -> Tensor:
    """Masks of three channels; where values are ignored, others in each channel of the second image."""
    target = (picture(2, 3, (side, side)) > 0.6).double()
    if ignored:
        target[:, :, :2] = torch.nan
        target[1, 1, :, 3:5] = torch.nan
    return target


@pytest.mark.parametrize("ignored", [False, True])
def test_masks_of_independent_channels_agree_with_sklearn(ignored):
    """Each channel by itself: ridge on the pixels of the other folds, clamped, binary cross-entropy."""
    maps, target, grid, folds = features(), masks(ignored), 12, 4
    found = predictability_error(maps, target, grid=grid, folds=folds, ridge=0.1, task="multilabel", seed=5)
    order = torch.randperm(grid * grid, generator=torch.Generator().manual_seed(5))
    fold = np.empty(grid * grid, dtype=int)
    fold[order.numpy()] = np.arange(grid * grid) % folds
    for image in range(2):
        design, losses = unreduced(maps, image, grid, standardise=True), []
        for truth in target[image].flatten(1).numpy():
            valid = np.isfinite(truth)
            for f in range(folds):
                fit, rest = valid & (fold != f), valid & (fold == f)
                centred = design[fit] - design[fit].mean(0)
                penalty = 0.1 * np.square(centred).sum(0).mean()
                p = Ridge(alpha=penalty).fit(design[fit], truth[fit]).predict(design[rest])
                p = np.clip(p, PROBABILITY_FLOOR, 1 - PROBABILITY_FLOOR)
                losses += (-(truth[rest] * np.log(p) + (1 - truth[rest]) * np.log(1 - p))).tolist()
        assert found[image].item() == pytest.approx(np.mean(losses), rel=1e-6)


@pytest.mark.parametrize("ignored", [False, True])
def test_masks_give_in_a_batch_what_they_give_alone(ignored):
    maps, target = features(), masks(ignored)
    both = predictability_error(maps, target, grid=12, task="multilabel")
    alone = [
        predictability_error([m[i : i + 1] for m in maps], target[i : i + 1], grid=12, task="multilabel")
        for i in (0, 1)
    ]
    torch.testing.assert_close(both, torch.cat(alone), rtol=1e-12, atol=0)


def test_masks_without_a_valid_value_have_no_number():
    target = masks(False)
    target[0] = torch.nan
    found = predictability_error(features(), target, grid=12, task="multilabel")
    assert found.isnan().tolist() == [True, False]
    with pytest.raises(ValueError, match=r"expected as float masks \(B, K, H, W\), but got torch.int64 \(2, 8, 8\)"):
        predictability_error([MAP], LABELS, grid=4, task="multilabel")


HOLES = {  # channels and pixels that are void
    "alike": lambda y: y.index_fill(2, torch.arange(5), torch.nan),
    "different": lambda y: y.masked_fill((torch.arange(3).view(3, 1, 1) == 1) & (y > 0.9), torch.nan),
    "scattered": lambda y: y.masked_fill(picture(2, 1, tuple(y.shape[2:]), seed=9) < 0.3, torch.nan),
    "most": lambda y: y.masked_fill(picture(2, 1, tuple(y.shape[2:]), seed=9) < 0.97, torch.nan),
}


@pytest.mark.parametrize("size", [(24, 24), (12, 12), (31, 17), (5, 40)])
@pytest.mark.parametrize("fit_mask", [None, half(12)])
@pytest.mark.parametrize("holes", HOLES)
def test_targets_with_holes_agree_with_sklearn(holes, fit_mask, size):
    """Each channel by itself, on the pixels of the grid that have a value: the mean of the valid pixels there."""
    maps, target, grid = features(), HOLES[holes](picture(size=size)), 12
    found = predictability_error(maps, target, grid=grid, folds=4, ridge=0.1, seed=5, fit_mask=fit_mask)
    for image in range(2):
        design, differences = unreduced(maps, image, grid, standardise=True), []
        for channel in target[image].numpy():
            truth = on_grid(channel, grid)
            valid = np.isfinite(truth)
            for fit, rest in ((f & valid, r & valid) for f, r in parts(grid, 4, 5, fit_mask)):
                if fit.sum() < 2 or not rest.any():
                    continue
                penalty = 0.1 * np.square(design[fit] - design[fit].mean(0)).sum(0).mean()
                model = Ridge(alpha=max(penalty, 1e-12)).fit(design[fit], truth[fit])
                differences += np.abs(model.predict(design[rest]) - truth[rest]).tolist()
        expected = np.mean(differences) if differences else np.nan
        assert found[image].item() == pytest.approx(expected, rel=1e-6, nan_ok=True)


def on_grid(channel: np.ndarray, grid: int) -> np.ndarray:
    """Mean of the valid pixels that overlap each pixel of the grid, (grid ** 2,); NaN where there are none."""
    rows, columns = (
        [slice(side * i // grid, -(-side * (i + 1) // grid)) for i in range(grid)] for side in channel.shape
    )
    cells = [channel[r, c] for r in rows for c in columns]
    return np.array([np.nanmean(cell) if np.isfinite(cell).any() else np.nan for cell in cells])


def test_a_target_without_holes_keeps_every_bit_beside_others():
    maps, target = features(), picture()
    plain = predictability_error(maps, target, grid=12)
    for make in HOLES.values():
        broken = torch.cat([target[:1], make(target)[1:]])
        found = predictability_error(maps, broken, grid=12)
        assert found[0] == plain[0]
        alone = predictability_error([m[1:] for m in maps], broken[1:], grid=12)
        torch.testing.assert_close(found[1:], alone, rtol=1e-9, atol=0)


def test_holes_that_leave_nothing_to_measure_give_no_number():
    target = picture(3)
    target[0] = torch.nan
    target[1, :, :, 1:], target[1, :, 1:] = torch.nan, torch.nan  # one pixel, in one fold: no fit has seen any
    found = predictability_error(features(images=3), target, grid=12)
    assert found.isnan().tolist() == [True, True, False]


def test_holes_leave_a_linear_target_predictable():
    """Filling them with any value would not."""
    maps = [picture(1, 3, (12, 12))]
    target = (0.3 * maps[0]).masked_fill(picture(1, 1, (12, 12), seed=4) < 0.5, torch.nan)
    assert predictability_error(maps, target, grid=12, ridge=0.0).item() < 1e-9
    assert predictability_error(maps, torch.nan_to_num(target), grid=12, ridge=0.0).item() > 0.01
