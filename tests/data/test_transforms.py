from __future__ import annotations

import os
import pickle

import numpy as np
import pytest
import torch

from mia_lightning.data.transforms import AUGMENTATIONS, PairedTransform


@pytest.fixture
def square_pair(data_rng):
    """An image whose red channel is its label map: whatever moves one must move the other."""
    labels = data_rng.integers(0, 200, (16, 16)).astype(np.int32)
    image = np.repeat(labels.astype(np.uint8)[..., None], 3, axis=-1)
    return image, labels


def test_the_online_version_check_is_off():
    assert os.environ["NO_ALBUMENTATIONS_UPDATE"] == "1"


@pytest.mark.parametrize(
    "names", ["hflip", "vflip", "transpose", "rotate90", ("hflip", "vflip", "transpose", "rotate90")]
)
def test_both_sides_move_alike(square_pair, names):
    image, labels = square_pair
    transform = PairedTransform(16, names, target_kind="labels")
    torch.manual_seed(0)
    moved = 0
    for _ in range(20):
        new_image, new_labels = transform(image, labels)
        assert np.array_equal(new_image[..., 0], new_labels)
        moved += not np.array_equal(new_labels, labels)
    assert moved > 3


def test_two_images_move_alike(square_pair):
    image, _ = square_pair
    transform = PairedTransform(16, ("jitter", "hflip", "brightness"))
    for _ in range(10):
        new_input, new_target = transform(image, image.copy())
        assert np.array_equal(new_input, new_target)


def test_two_label_maps_move_alike(square_pair):
    _, labels = square_pair
    new_input, new_target = PairedTransform(16, AUGMENTATIONS, input_kind="labels", target_kind="labels")(
        labels, labels
    )
    assert np.array_equal(new_input, new_target)
    assert new_input.dtype == np.int32


def test_flips_are_independent_of_each_other(square_pair):
    image, labels = square_pair
    transform = PairedTransform(16, ("hflip", "vflip"), target_kind="labels")
    torch.manual_seed(0)
    corners = {tuple(transform(image, labels)[1][[0, 0, -1], [0, -1, 0]].tolist()) for _ in range(60)}
    assert len(corners) == 4  # neither, one, the other, both


def test_jitter_crops_a_slightly_larger_copy(data_rng):
    # A smooth image: the crop is a shifted window of it, and the label map shifts along.
    y, x = np.mgrid[0:64, 0:64]
    image = np.stack([y * 4, x * 4, 0 * x], axis=-1).astype(np.uint8)
    labels = (x // 8).astype(np.int32)
    transform = PairedTransform(64, "jitter", target_kind="labels")
    torch.manual_seed(1)
    shifts = set()
    for _ in range(8):
        new_image, new_labels = transform(image, labels)
        assert new_image.shape == (64, 64, 3)
        assert new_labels.shape == (64, 64)
        assert (np.abs(new_image[..., 1] / 32 - 0.5 - new_labels) <= 0.75).all()
        shifts.add(int(new_image[0, 0, 1]))
    assert len(shifts) > 2


def test_brightness_leaves_labels_alone(square_pair):
    image, labels = square_pair
    transform = PairedTransform(16, "brightness", target_kind="labels")
    torch.manual_seed(0)
    results = [transform(image, labels) for _ in range(10)]
    assert all(np.array_equal(new_labels, labels) for _, new_labels in results)
    assert any(not np.array_equal(new_image, image) for new_image, _ in results)


def test_randomness_follows_the_torch_seed_and_leaves_no_state(square_pair):
    transform = PairedTransform(16, AUGMENTATIONS, target_kind="labels")
    torch.manual_seed(7)
    first = [transform(*square_pair)[1] for _ in range(5)]
    for _ in range(3):
        transform(*square_pair)
    np.random.default_rng().random()
    torch.manual_seed(7)
    again = [transform(*square_pair)[1] for _ in range(5)]
    copy = pickle.loads(pickle.dumps(transform))
    torch.manual_seed(7)
    copied = [copy(*square_pair)[1] for _ in range(5)]
    assert all(np.array_equal(a, b) and np.array_equal(a, c) for a, b, c in zip(first, again, copied, strict=True))
    assert any(not np.array_equal(first[0], other) for other in first[1:])


def test_global_generators_of_numpy_and_python_are_untouched(square_pair):
    import random

    numpy_state, python_state = np.random.get_state()[1].tolist(), random.getstate()
    PairedTransform(16, AUGMENTATIONS, target_kind="labels")(*square_pair)
    assert np.random.get_state()[1].tolist() == numpy_state
    assert random.getstate() == python_state


def test_evaluation_draws_nothing(square_pair):
    state = torch.get_rng_state()
    PairedTransform(8, target_kind="labels")(*square_pair)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("size", [8, (9, 13), 40, (5, 40)])
def test_resizing_keeps_channels_ids_and_size(data_rng, size):
    height, width = (size, size) if isinstance(size, int) else size
    for channels in (1, 3):
        image = data_rng.integers(0, 256, (17, 23, channels), dtype=np.uint8)
        labels = data_rng.choice(np.array([0, 3, 255], dtype=np.int32), (17, 23))
        new_image, new_labels = PairedTransform(size, target_kind="labels")(image, labels)
        assert new_image.shape == (height, width, channels)
        assert new_labels.shape == (height, width)
        assert set(np.unique(new_labels)) <= {0, 3, 255}


def test_images_shrink_by_area_and_labels_by_the_centre():
    image = np.zeros((9, 9, 1), dtype=np.uint8)
    image[::2, ::2] = 255  # aliasing would give 0 or 255
    labels = np.arange(81, dtype=np.int32).reshape(9, 9)
    small, centres = PairedTransform(3, target_kind="labels")(image, labels)
    assert 20 < small.min() <= small.max() < 180
    assert np.array_equal(centres, labels[1::3, 1::3])
    thin, _ = PairedTransform((3, 20), target_kind="labels")(image, labels)
    assert thin[:, 2:-2].std() < 60  # averaged over the rows although the columns grow


def test_names_are_in_order_of_application():
    assert PairedTransform(8, ["hflip", "jitter"]).names == ("jitter", "hflip")
    assert PairedTransform(8, "none").names == PairedTransform(8, ["none"]).names == PairedTransform(8, []).names == ()


@pytest.mark.parametrize(
    ("size", "augment", "message"),
    [
        (8, ["hflip", "flop"], r"unknown augmentation\(s\) \['flop'\]: valid names are 'none' or \['jitter', 'hflip'"),
        ((8, 9), "transpose", r"\['transpose'\] swap height and width: they need a square image_size"),
        (0, "none", "expected image_size to be a positive number"),
        ((8, 8, 8), "none", "expected image_size"),
    ],
)
def test_setting_errors(size, augment, message):
    with pytest.raises(ValueError, match=message):
        PairedTransform(size, augment)


def test_aspect_ratios_must_agree():
    image = np.zeros((40, 60, 3), dtype=np.uint8)
    PairedTransform(8)(image, np.zeros((20, 30, 3), dtype=np.uint8))
    PairedTransform(8)(image, np.zeros((10, 16, 3), dtype=np.uint8))  # one pixel of rounding
    with pytest.raises(ValueError, match=r"input is 60x40 pixels and target 40x40: expected the same aspect ratio"):
        PairedTransform(8)(image, np.zeros((40, 40, 3), dtype=np.uint8))
