from __future__ import annotations

from typing import Any

import pytest
import torch

from mia_lightning.audit.adapters import Sample
from mia_lightning.audit.config import Settings, as_tuple, check_prediction

X = torch.rand(2, 3, 8, 6)
LABELS = torch.ones(2, 8, 6, dtype=torch.long)


def with_target(target: torch.Tensor, input: torch.Tensor = X) -> Sample:
    return Sample(None, input, target)


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
    assert Settings().resolve_task(with_target(target)) == task


@pytest.mark.parametrize("target", [LABELS.unsqueeze(1).float(), LABELS.float(), torch.zeros(2, 1, 8, 6)])
def test_a_float_mask_of_zeros_and_ones_could_be_either(target):
    message = "zeros and ones could be a label map or a picture. Pass task='segmentation' or task='translation'"
    with pytest.raises(ValueError, match=message):
        Settings().resolve_task(with_target(target))
    for task in ("segmentation", "translation"):
        assert Settings(task=task).resolve_task(with_target(target)) == task


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (torch.rand(2, 3, 4, 3), r"input is float32 tensor \(2, 3, 8, 6\), the target float32 tensor \(2, 3, 4, 3\)"),
        (torch.rand(2, 3), "has the input's height and width"),
        ((255 * X).to(torch.uint8), r"uint8 tensor \(2, 3, 8, 6\), neither label map nor image"),
        (torch.tensor([0, 1]), r"int64 tensor \(2,\), neither"),
    ],
)
def test_a_target_that_is_neither_is_described(target, message):
    with pytest.raises(ValueError, match=f"Cannot tell the task.*{message}"):
        Settings().resolve_task(with_target(target))


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
        Settings(target_range=target_range).prepare_target(with_target(target), "translation")


def test_targets_in_range_come_out_in_zero_to_one():
    prepare = Settings(target_range=(-1.0, 1.0)).prepare_target
    torch.testing.assert_close(prepare(with_target(2 * X - 1), "translation"), X)
    assert torch.equal(Settings().prepare_target(with_target(X), "translation"), X)
    # Interpolation may overshoot by a rounding.
    Settings().prepare_target(with_target(X.clone().fill_(1 + 1e-6)), "translation")


def test_a_translations_target_has_four_dimensions():
    with pytest.raises(ValueError, match=r"target images \(B, C, H, W\), but got float32 tensor \(2, 8, 6\)"):
        Settings().prepare_target(with_target(X[:, 0]), "translation")


@pytest.mark.parametrize("task", ["translation", "segmentation"])
def test_normalised_inputs_become_images_again(task):
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.25, 2.0)
    normalised = (X - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    torch.testing.assert_close(Settings(mean=mean, std=std).as_image(normalised, task), X)


def test_inputs_of_a_translation_share_the_targets_range():
    settings = Settings(target_range=(-1.0, 1.0))
    torch.testing.assert_close(settings.as_image(2 * X - 1, "translation"), X)
    assert torch.equal(settings.as_image(X, "segmentation"), X)
    assert settings.as_image(LABELS, "translation") is LABELS


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"task": "depth"}, "'auto', 'translation' or 'segmentation', but got 'depth'"),
        ({"scores": ("membership", "magic")}, r"Unknown scores \['magic'\]; choose some of reconstruction, membership"),
        ({"scores": ()}, "choose some of reconstruction, membership"),
        ({"scores": ("reconstruction",)}, r"primary score 'membership' is not among scores=\['reconstruction'\]"),
        ({"mean": (0.5,)}, "mean and std together"),
        ({"std": (0.5,)}, "mean and std together"),
        ({"target_range": (1.0, 1.0)}, r"low < high, but got \(1\.0, 1\.0\)"),
        ({"batch_size": 0}, "batch_size >= 1, but got 0"),
        ({"max_samples": 0}, "max_samples >= 1, but got 0"),
        ({"num_classes": 0}, "num_classes >= 1"),
        ({"prefix": ""}, r"prefix of one or more names with slashes between them.*but got ''"),
        ({"prefix": "audit/"}, "but got 'audit/'"),
        ({"prefix": "/audit"}, "but got '/audit'"),
        ({"prefix": "a//b"}, "but got 'a//b'"),
        ({"prefix": ".."}, r"but got '\.\.'"),
        ({"prefix": "audit/./b"}, r"but got 'audit/\./b'"),
        ({"prefix": "a\\b"}, r"but got 'a\\\\b'"),
        ({"prefix": "a\0b"}, r"but got 'a\\x00b'"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], message):
    with pytest.raises(ValueError, match=message):
        Settings(**settings)


@pytest.mark.parametrize(
    ("shape", "num_classes"), [((2, 4, 8, 6), None), ((2, 4, 8, 6), 4), ((2, 1, 8, 6), 1), ((2, 1, 8, 6), 2)]
)
def test_logits_that_fit_pass(shape, num_classes):
    check_prediction(torch.zeros(shape), torch.zeros(2, 3, 8, 6), LABELS, "segmentation", num_classes)


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
    with pytest.raises(ValueError, match=message):
        check_prediction(torch.zeros(shape), torch.zeros(2, 3, 8, 6), target, task, num_classes)


def test_class_numbers_are_no_logits():
    labels = torch.zeros(2, 1, 8, 6, dtype=torch.long)
    with pytest.raises(ValueError, match=r"int64 tensor \(2, 1, 8, 6\): class numbers, .* without its argmax"):
        check_prediction(labels, torch.zeros(2, 3, 8, 6), LABELS, "segmentation", None)


def test_one_number_stands_for_itself():
    assert (as_tuple(None), as_tuple(0.5), as_tuple([1, 2])) == (None, (0.5,), (1, 2))


def test_normalisation_must_fit_the_channels():
    settings = Settings(mean=(0.5, 0.5), std=(0.5, 0.5))
    with pytest.raises(ValueError, match="mean and std have 2 channels, but the input is float32 tensor"):
        settings.as_image(torch.zeros(1, 3, 4, 4), "segmentation")
    with pytest.raises(ValueError, match="one mean and one positive std a channel"):
        Settings(mean=(0.5, 0.5), std=(0.5,))
    with pytest.raises(ValueError, match="one mean and one positive std a channel"):
        Settings(mean=(0.5,), std=(0.0,))


def test_alpha_must_be_finite():
    with pytest.raises(ValueError, match="Expected a finite alpha, but got nan"):
        Settings(alpha=float("nan"))


def test_pictures_in_bytes_are_pictures():
    image = Settings().as_image(torch.full((1, 1, 4, 4), 255, dtype=torch.uint8), "segmentation")
    assert image.is_floating_point()
    assert image.max() == 1.0


def test_one_broken_pixel_does_not_hide_the_range_of_the_others():
    target = torch.full((1, 3, 4, 4), 200.0)
    target[0, 0, 0, 0] = float("nan")
    with pytest.raises(ValueError, match=r"The targets span \[200, 200\], outside target_range=\(0, 1\)"):
        Settings().prepare_target(Sample(None, target, target), "translation")


def test_black_and_white_of_the_inputs():
    """What a shifted copy is filled up with must be black to the model."""
    images = torch.zeros(1, 3, 4, 4)
    assert Settings(target_range=(-1, 1)).input_range("translation", images) == (-1.0, 1.0)
    assert Settings().input_range("segmentation", images) == (0.0, 1.0)
    assert Settings().input_range("segmentation", images.to(torch.uint8)) == (0.0, 255.0)
    low, high = Settings(mean=(0.5,), std=(0.25,)).input_range("segmentation", images)
    assert (float(low), float(high)) == (-2.0, 2.0)
