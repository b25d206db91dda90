from __future__ import annotations

import pytest
import torch

from mia_lightning.functional.labels import as_rgb, one_hot, palette, valid_pixels


def test_void_is_negative_or_the_ignored_label():
    target = torch.tensor([[[0, 1, 2, -1, -7, 255]]])
    assert valid_pixels(target, 3).tolist() == [[[True, True, True, False, False, False]]]
    assert valid_pixels(torch.tensor([[[0, 11]]]), 11, ignore_index=11).tolist() == [[[True, False]]]


def test_an_ignored_label_may_be_one_of_the_classes():
    assert valid_pixels(torch.tensor([[[0, 1]]]), 2, ignore_index=0).tolist() == [[[False, True]]]


def test_a_stray_class_is_named():
    message = r"class ids \[3, 7\], but num_classes=3 allows 0 to 2 and ignore_index=255"
    with pytest.raises(ValueError, match=message):
        valid_pixels(torch.tensor([[[0, 7, 3, 255]]]), 3)


def test_one_hot_leaves_void_empty():
    target = torch.tensor([[[2, 0], [255, -1]]])
    planes = one_hot(target, valid_pixels(target, 3), 3)
    assert planes.sum(1).tolist() == [[[1.0, 1.0], [0.0, 0.0]]]
    assert planes[0, 2, 0, 0] == planes[0, 0, 0, 1] == 1.0


def test_colours_are_distinct_bright_enough_and_stable():
    colours = palette(256)
    assert float(torch.pdist(colours[:12]).min()) > 0.15
    assert len({tuple(c) for c in (colours * 255).round().int().tolist()}) == 256
    assert 0.0 <= float(colours.min()) <= float(colours.max()) <= 1.0
    assert torch.equal(colours[:7], palette(7))


def test_colour_images_pass_and_grey_is_repeated():
    image = torch.rand(2, 3, 5, 6)
    assert as_rgb(image) is image
    grey = image[:, :1]
    assert torch.equal(as_rgb(grey), grey.repeat(1, 3, 1, 1))


def test_label_maps_show_the_colours_of_their_classes():
    labels = torch.tensor([[[0, 4], [2, -1]]])
    shown = as_rgb(labels)
    assert torch.equal(shown[0, :, 0, 1], palette(5)[4])
    assert torch.equal(shown[0, :, 1, 1], palette(1)[0])
    assert torch.equal(as_rgb(labels.unsqueeze(1).to(torch.int16)), shown)


def test_one_hot_planes_show_as_their_label_map():
    labels = torch.randint(0, 5, (2, 6, 7))
    planes = one_hot(labels, torch.ones_like(labels, dtype=torch.bool), 5)
    torch.testing.assert_close(as_rgb(planes), as_rgb(labels))


def test_free_channels_stay_in_range_and_all_count():
    image = torch.rand(2, 6, 4, 4)
    shown = as_rgb(image)
    assert 0.0 <= float(shown.min()) <= float(shown.max()) <= 1.0
    for channel in range(6):
        changed = image.clone()
        changed[:, channel] += 0.1
        assert (as_rgb(changed) - shown).abs().amax(1).min() > 1e-4


def test_an_image_looks_the_same_in_any_company():
    planes, free = torch.eye(4)[torch.randint(0, 4, (1, 5, 5))].movedim(3, 1), torch.rand(1, 4, 5, 5)
    together = as_rgb(torch.cat([planes, free]))
    torch.testing.assert_close(together, torch.cat([as_rgb(planes), as_rgb(free)]))


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (torch.zeros(3, 4, 4), r"images of shape \(B, C, H, W\), but got \(3, 4, 4\)"),
        (torch.zeros(1, 3, 4, 4, dtype=torch.uint8), r"label map \(B, H, W\), but got torch.uint8 \(1, 3, 4, 4\)"),
    ],
)
def test_other_shapes_are_refused(image, message):
    with pytest.raises(ValueError, match=message):
        as_rgb(image)
