"""How pictures were made."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter

from mia_lightning.functional.picture_technique import TECHNIQUE, technique_statistics

rng = np.random.default_rng(0)
NOISE = gaussian_filter(rng.normal(size=(64, 80, 3)), (1.0, 1.0, 0.0))
PHOTO = np.clip(128 + 260 * NOISE, 0, 255).astype(np.uint8)


def of(picture: np.ndarray) -> dict[str, float]:
    image = torch.from_numpy(np.asarray(picture, dtype=np.float32)).permute(2, 0, 1)[None] / 255.0
    return dict(zip(TECHNIQUE, technique_statistics(image)[0].tolist(), strict=True))


def test_a_tint_shows_by_as_much_as_it_is():
    tinted = of(PHOTO * np.array([1.03, 1.0, 1.0]))
    plain, third = of(PHOTO), np.log(1.03)
    assert tinted["tint_first"] - plain["tint_first"] == pytest.approx(third * 2 / 3, rel=0.05)
    assert tinted["tint_last"] - plain["tint_last"] == pytest.approx(-third / 3, rel=0.05)
    grey = of(np.repeat(PHOTO.mean(2, keepdims=True), 3, 2))
    assert (grey["tint_first"], grey["tint_last"]) == pytest.approx((0.0, 0.0), abs=1e-6)
    assert grey["chroma"] < plain["chroma"] - 1.0


def test_blur_takes_the_finest_band_and_noise_fills_it():
    plain, blurred = of(PHOTO), of(gaussian_filter(PHOTO.astype(float), (0.7, 0.7, 0.0)))
    noisy = of(PHOTO + 12.0 * rng.normal(size=PHOTO.shape))
    assert blurred["detail_3"] < plain["detail_3"] - 0.5
    assert noisy["detail_3"] > plain["detail_3"] + 0.3
    assert blurred["tint_first"] == pytest.approx(plain["tint_first"], abs=1e-3)


def test_jpeg_leaves_blocks_wherever_they_begin():
    smooth, file = np.clip(128 + 900 * gaussian_filter(NOISE, (4, 4, 0)), 0, 255).astype(np.uint8), io.BytesIO()
    Image.fromarray(smooth).save(file, "JPEG", quality=75)
    stored = np.asarray(Image.open(file))
    for part in (slice(None), slice(3, None)):
        assert of(stored[part, part])["blocks"] > of(smooth[part, part])["blocks"] + 0.02


def test_sizes_are_those_of_the_pictures():
    found = of(PHOTO)
    assert (np.exp(found["height"]), np.exp(found["width"])) == pytest.approx((64, 80))


def test_single_channels_small_pictures_and_constant_ones_have_numbers():
    for shape in ((2, 1, 40, 40), (2, 4, 40, 40), (2, 3, 1, 1), (2, 3, 9, 40)):
        found = technique_statistics(torch.rand(shape))
        assert found.shape == (2, len(TECHNIQUE))
        assert torch.isfinite(found).all()
        assert torch.isfinite(technique_statistics(torch.zeros(shape))).all()
    assert technique_statistics(torch.rand(1, 1, 40, 40))[0, :3].tolist() == [0.0, 0.0, 0.0]


def test_a_picture_has_the_same_numbers_in_any_company():
    images = torch.rand(3, 3, 40, 40)
    torch.testing.assert_close(
        technique_statistics(images)[1:2], technique_statistics(images[1:2]), rtol=1e-5, atol=1e-6
    )


def test_void_pixels_count_as_the_mean_and_volumes_by_their_middle_slice():
    image = torch.rand(1, 3, 32, 32)
    image[..., 5:7, 5:7] = torch.nan
    assert torch.isfinite(technique_statistics(image)).all()
    volume = torch.rand(1, 1, 4, 32, 32)
    assert torch.equal(technique_statistics(volume), technique_statistics(volume[:, :, 2]))
