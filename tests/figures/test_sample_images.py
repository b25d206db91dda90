from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from mia_lightning.figures.gallery import Row, gallery
from mia_lightning.figures.sample_images import SampleImages, bounded, encoded_parts, smaller
from mia_lightning.functional.labels import palette
from mia_lightning.result.picture_files import PARTS


def pixels(content: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def translation(error: float = 0.2, side: int = 32) -> SampleImages:
    ramp = torch.linspace(0, 0.7, side).expand(3, side, side)
    return SampleImages(ramp.flip(1), ramp, ramp + error)


def segmentation(channels: int) -> SampleImages:
    labels = torch.zeros(12, 10, dtype=torch.long)
    labels[3:, :5], labels[:3], labels[3:5, 5:] = 1, 255, -1
    output = torch.zeros(channels, 12, 10)
    output[min(1, channels - 1)] = 2.0  # says class 1
    return SampleImages(torch.rand(3, 12, 10, generator=torch.Generator().manual_seed(0)), labels, output)


def test_a_translation_shows_input_target_output_and_where_they_differ() -> None:
    (parts,) = encoded_parts([translation()])
    assert tuple(parts) == PARTS
    for name, values in zip(PARTS[:3], translation()[:3], strict=True):
        np.testing.assert_allclose(pixels(parts[name]), (values * 255).movedim(0, 2), atol=6)


def test_errors_share_one_scale() -> None:
    small, large = (pixels(parts["error"]).sum() for parts in encoded_parts([translation(0.02), translation(0.4)]))
    alone = pixels(encoded_parts([translation(0.02)])[0]["error"]).sum()
    assert small < 0.3 * large
    assert alone == pytest.approx(large, rel=0.02)


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_a_segmentation_shows_classes_and_cross_entropy_without_void(channels: int) -> None:
    (parts,) = encoded_parts([segmentation(channels)])
    target, output, error = (pixels(parts[name]) for name in PARTS[1:])
    assert np.abs(target[:3] - 217).max() == np.abs(target[3:5, 5:] - 217).max() == 0  # void is grey
    assert len(np.unique(target.reshape(-1, 3), axis=0)) == 3
    assert len(np.unique(output.reshape(-1, 3), axis=0)) == 1
    np.testing.assert_array_equal(output[6, 2], target[6, 2])
    assert len(np.unique([*error[:3].reshape(-1, 3), *error[3:5, 5:].reshape(-1, 3)], axis=0)) == 1
    assert error[0, 0].sum() < error[6, 0].sum() < error[6, 9].sum()


def test_the_void_label_may_be_a_class_number() -> None:
    sample = segmentation(3)
    (parts,) = encoded_parts([sample], ignore_index=1)
    np.testing.assert_array_equal(pixels(parts["target"])[6, 2], [217, 217, 217])
    np.testing.assert_array_equal(pixels(parts["error"])[6, 2], pixels(parts["error"])[0, 0])


def test_one_hot_inputs_are_drawn_in_the_colours_of_their_classes_with_void_pixels_grey() -> None:
    labels = torch.tensor([[0, 4], [2, 3]])
    planes, image = torch.eye(5)[labels].movedim(2, 0), torch.zeros(3, 2, 2)
    planes[:, 0, 1] = 0
    (shown,) = encoded_parts([SampleImages(planes, image, image)])
    expected = palette(5)[labels]
    expected[0, 1] = 0.85
    assert np.abs(pixels(shown["input"]) / 255 - expected.numpy()).max() < 0.005


def test_large_pictures_are_shrunk_and_small_ones_kept() -> None:
    wide = SampleImages(torch.rand(3, 100, 400), torch.randint(0, 3, (100, 400)), torch.rand(3, 100, 400))
    for name, content in encoded_parts([wide])[0].items():
        assert pixels(content).shape == (32, 128, 3), name
    colours = np.unique(pixels(encoded_parts([wide])[0]["target"]).reshape(-1, 3), axis=0)
    assert len(colours) == 3  # no class between two classes
    assert pixels(encoded_parts([translation(side=9)])[0]["target"]).shape == (9, 9, 3)


def test_an_input_that_is_no_picture_is_left_out_and_what_is_not_a_number_is_black() -> None:
    shown = SampleImages(torch.rand(7), torch.full((1, 8, 8), 0.5), torch.full((1, 8, 8), torch.nan))
    (parts,) = encoded_parts([shown])
    assert tuple(parts) == ("target", "output", "error")
    assert pixels(parts["output"]).max() == 0


def test_drawings_are_png_and_photographs_jpeg() -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    assert smaller(noise).startswith(b"\xff\xd8\xff")
    assert smaller(Image.new("RGB", (64, 64), "red")).startswith(b"\x89PNG")


def test_noise_is_kept_within_a_limit_by_its_quality() -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8))
    sizes = [len(bounded(noise, limit)) for limit in (10**6, 40_000)]
    assert sizes[1] <= 40_000 < sizes[0]


def rows(*names: str) -> list[Row]:
    encoded = encoded_parts([translation()] * len(names))
    return [Row(name, "p-value 0.02", "membership 0.1", parts) for name, parts in zip(names, encoded, strict=True)]


def test_a_gallery_has_a_row_a_sample_under_its_name() -> None:
    one, two = gallery(rows("a"), "title", "note"), gallery(rows("a", "b"), "title", "note")
    assert one.width == two.width == 446
    assert two.height - one.height == 148
    parts = rows("a")[0].parts
    empty = gallery([], "title")
    assert np.asarray(empty).min() < 100  # it says so in words
    # Below title, names of the parts and two lines of text: the target, a ramp from left to right.
    shown = np.asarray(gallery([Row("a", "", "", parts)], "t"))
    ramp = shown[26 + 16 + 32 + 52, 6 + 110 : 6 + 110 + 104, 0].astype(int)
    np.testing.assert_allclose(ramp, np.linspace(0, 178, 104), atol=8)


@pytest.mark.parametrize(
    "name", ["a$b", r"$\frac{$", "<b>&amp;", "häuser", "two\nlines\tand\x00", "x" * 5000, "日本", ""]
)
def test_any_id_fits_into_one_line(name: str) -> None:
    assert gallery(rows(name), name, name or " ").size == gallery(rows("a"), "a", "a").size


def test_masks_are_overlaid_in_colours_and_ignored_values_grey() -> None:
    target = torch.zeros(2, 8, 8)
    target[0, :4], target[1, 2:6] = 1.0, 1.0
    target[:, 7] = torch.nan
    output = torch.where(torch.nan_to_num(target) > 0, 20.0, -20.0)
    samples = [SampleImages(torch.rand(3, 8, 8), target, sign * output, masks=True) for sign in (1, -1)]
    parts, wrong = encoded_parts(samples)
    shown = pixels(parts["target"])
    first, both, second, none = (tuple(shown[row, 0]) for row in (0, 3, 5, 6))
    assert len({first, both, second, none}) == 4
    assert none == (0, 0, 0)
    assert tuple(shown[7, 0]) == (217, 217, 217)
    np.testing.assert_allclose(pixels(parts["output"])[:7], shown[:7], atol=1)
    assert pixels(parts["error"])[..., 0].max() < 5
    assert pixels(wrong["error"])[:7, :, 0].min() > 100
    assert pixels(wrong["error"])[7, :, 0].max() < 5


def test_a_single_mask_is_white() -> None:
    target = torch.zeros(1, 4, 4)
    target[0, :2] = 1.0
    (parts,) = encoded_parts([SampleImages(torch.rand(3, 4, 4), target, 20 * target - 10, masks=True)])
    assert pixels(parts["target"])[:, 0, 0].tolist() == [255, 255, 0, 0]
