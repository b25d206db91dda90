from __future__ import annotations

import pytest
import torch

from mia_lightning.audit.config import AuditConfig
from mia_lightning.audit.interpretation import Interpretation, to_labels
from mia_lightning.functional.batches import Batch

X = torch.rand(2, 3, 8, 6)
LABELS = torch.ones(2, 8, 6, dtype=torch.long)


def with_target(target: torch.Tensor, input: torch.Tensor = X) -> Batch:
    return Batch(None, input, target)


def translation(**options) -> Interpretation:
    return Interpretation(AuditConfig(**options), "translation")


def segmentation(**options) -> Interpretation:
    return Interpretation(AuditConfig(**options), "segmentation")


@pytest.mark.parametrize(
    ("target", "task"),
    [
        (LABELS, "segmentation"),
        (LABELS.unsqueeze(1), "segmentation"),
        (LABELS.bool(), "segmentation"),
        (LABELS.to(torch.uint8), "segmentation"),
        (X, "translation"),
        (X[:, :1], "translation"),
        (torch.rand(2, 5, 8, 6), "translation"),
        (X.half(), "translation"),
    ],
)
def test_auto_reads_the_task_from_the_target(target, task):
    assert Interpretation.of(AuditConfig(), [with_target(target)]).task == task


@pytest.mark.parametrize("target", [LABELS.unsqueeze(1).float(), LABELS.float(), torch.zeros(2, 1, 8, 6)])
def test_a_float_mask_of_zeros_and_ones_could_be_either(target):
    message = "zeros and ones could be a label map or a picture. Pass task='segmentation' or task='translation'"
    with pytest.raises(ValueError, match=message):
        Interpretation.of(AuditConfig(), [with_target(target)])
    for task in ("segmentation", "translation"):
        assert Interpretation.of(AuditConfig(task=task), [with_target(target)]).task == task


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (torch.rand(2, 3, 4, 4), r"input is float32 tensor \(2, 3, 8, 6\), the target float32 tensor \(2, 3, 4, 4\)"),
        (torch.rand(2, 3), "has the input's height and width"),
        ((255 * X).to(torch.uint8), r"uint8 tensor \(2, 3, 8, 6\), neither label map nor image"),
        (torch.tensor([0, 1]), r"int64 tensor \(2,\), neither"),
    ],
)
def test_a_target_that_is_neither_is_described(target, message):
    with pytest.raises(ValueError, match=f"Cannot tell the task.*{message}"):
        Interpretation.of(AuditConfig(), [with_target(target)])


@pytest.mark.parametrize(
    ("target_range", "target", "found"),
    [
        ((0.0, 1.0), 2 * X - 1, r"span \[-.*outside target_range=\(0, 1\).*target_range=\(-1, 1\)"),
        ((0.0, 1.0), 255 * X, r"span \[.*, 2\d\d"),
        ((-1.0, 1.0), 3 * X, r"outside target_range=\(-1, 1\)"),
    ],
)
def test_targets_outside_the_range_name_what_was_found(target_range, target, found):
    with pytest.raises(ValueError, match=found):
        translation(target_range=target_range).prepare_target(with_target(target))


def test_targets_in_range_come_out_in_zero_to_one():
    prepare = translation(target_range=(-1.0, 1.0)).prepare_target
    torch.testing.assert_close(prepare(with_target(2 * X - 1)), X)
    assert torch.equal(translation().prepare_target(with_target(X)), X)
    # Interpolation may overshoot by a rounding.
    translation().prepare_target(with_target(X.clone().fill_(1 + 1e-6)))


def test_a_translations_target_may_leave_out_its_one_channel():
    assert torch.equal(translation().prepare_target(with_target(X[:, 0])), X[:, :1])
    assert Interpretation.of(AuditConfig(), [with_target(X[:, 0])]).task == "translation"
    with pytest.raises(ValueError, match=r"images \(B, C, H, W\) or \(B, H, W\), but got int64 tensor \(2, 8, 6\)"):
        translation().prepare_target(with_target(X[:, 0].long()))


@pytest.mark.parametrize("size", [(16, 12), (32, 24), (4, 3), (12, 9)])
def test_pictures_of_another_size_in_proportion_are_translations(size):
    reading = Interpretation.of(AuditConfig(), [with_target(torch.rand(2, 3, *size))])
    assert reading.task == "translation"
    assert f"{size[0]} x {size[1]} beside inputs of 8 x 6" in reading.decisions["task"]


@pytest.mark.parametrize("task", ["translation", "segmentation"])
def test_normalised_inputs_become_images_again(task):
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.25, 2.0)
    normalised = (X - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    torch.testing.assert_close(Interpretation(AuditConfig(mean=mean, std=std), task).as_image(normalised), X)


def test_inputs_of_a_translation_share_the_targets_range():
    config = AuditConfig(target_range=(-1.0, 1.0))
    torch.testing.assert_close(Interpretation(config, "translation").as_image(2 * X - 1), X)
    assert torch.equal(Interpretation(config, "segmentation").as_image(X), X)
    assert Interpretation(config, "translation").as_image(LABELS) is LABELS


@pytest.mark.parametrize(
    ("shape", "num_classes"), [((2, 4, 8, 6), None), ((2, 4, 8, 6), 4), ((2, 1, 8, 6), 1), ((2, 1, 8, 6), 2)]
)
def test_logits_that_fit_pass(shape, num_classes):
    segmentation(num_classes=num_classes).check_prediction(torch.zeros(shape), torch.zeros(2, 3, 8, 6), LABELS)


@pytest.mark.parametrize(
    ("shape", "task", "num_classes", "message"),
    [
        ((2, 3, 4, 6), "translation", None, r"shape \(2, 3, 4, 6\); expected the target's shape \(2, 3, 8, 6\)"),
        ((2, 1, 8, 6), "translation", None, "output_key. Or write an adapter and pass adapter=Mine"),
        ((2, 4, 4, 6), "segmentation", None, r"expected logits \(2, classes, 8, 6\) for the label map"),
        ((2, 8, 6), "segmentation", None, r"shape \(2, 8, 6\); expected logits"),
        ((1, 4, 8, 6), "segmentation", None, r"shape \(1, 4, 8, 6\); expected logits"),
        ((2, 4, 8, 6), "segmentation", 3, "returned 4 classes, but num_classes=3"),
        ((2, 2, 8, 6), "segmentation", 1, "returned 2 classes, but num_classes=1"),
    ],
)
def test_predictions_that_do_not_fit_are_described(shape, task, num_classes, message):
    target = X if task == "translation" else LABELS
    interpretation = Interpretation(AuditConfig(num_classes=num_classes), task)
    with pytest.raises(ValueError, match=message):
        interpretation.check_prediction(torch.zeros(shape), torch.zeros(2, 3, 8, 6), target)


def test_class_numbers_fit_a_label_map_and_no_picture():
    labels = torch.zeros(2, 1, 8, 6, dtype=torch.long)
    for prediction in (labels, labels[:, 0], labels.bool()):
        segmentation(num_classes=5).check_prediction(prediction, torch.zeros(2, 3, 8, 6), LABELS)
    with pytest.raises(ValueError, match=r"uint8 tensor \(2, 3, 8, 6\); expected images in floating point"):
        translation().check_prediction((255 * X).byte(), X, X)


def test_normalisation_must_fit_the_channels():
    with pytest.raises(ValueError, match="mean and std have 2 channels, but the input is float32 tensor"):
        segmentation(mean=(0.5, 0.5), std=(0.5, 0.5)).as_image(torch.zeros(1, 3, 4, 4))


def test_pictures_in_bytes_are_pictures():
    image = segmentation().as_image(torch.full((1, 1, 4, 4), 255, dtype=torch.uint8))
    assert image.is_floating_point()
    assert image.max() == 1.0


def test_one_broken_pixel_does_not_hide_the_range_of_the_others():
    target = torch.full((1, 3, 4, 4), 200.0)
    target[0, 0, 0, 0] = float("nan")
    with pytest.raises(ValueError, match=r"The targets span \[200, 200\], outside target_range=\(0, 1\)"):
        translation().prepare_target(Batch(None, target, target))


def test_black_and_white_of_the_inputs():
    """What a shifted copy is filled up with must be black to the model."""
    images = torch.zeros(1, 3, 4, 4)
    assert translation(target_range=(-1, 1)).input_range(images) == (-1.0, 1.0)
    assert segmentation().input_range(images) == (0.0, 1.0)
    assert segmentation().input_range(images.to(torch.uint8)) == (0.0, 255.0)
    low, high = segmentation(mean=(0.5,), std=(0.25,)).input_range(images)
    assert (float(low), float(high)) == (-2.0, 2.0)


@pytest.mark.parametrize(
    "target", [LABELS, LABELS.unsqueeze(1), LABELS.float(), LABELS.bool(), LABELS.to(torch.uint8).unsqueeze(1)]
)
def test_label_maps_come_in_many_types(target):
    labels = to_labels(target)
    assert labels.dtype == torch.int64
    assert torch.equal(labels, LABELS)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (X, r"label map \(B, H, W\) or \(B, 1, H, W\), but got a target of \(2, 3, 8, 6\)"),
        (
            torch.zeros(1, 1, 4, 4, 4),
            r"a target of \(1, 1, 4, 4, 4\). The inputs do not have five dimensions, those of volumes",
        ),
        (torch.full((1, 2, 2), 0.5), "whole class numbers in a float label map, but it holds fractions"),
    ],
)
def test_what_is_no_label_map_is_refused(target, message):
    with pytest.raises(ValueError, match=message):
        to_labels(target)
