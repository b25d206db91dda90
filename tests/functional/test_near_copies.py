from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from mia_lightning.functional import near_copies as module
from mia_lightning.functional.near_copies import SIZE, NearCopies, appearance, near_copies


def pictures(count: int, seed: int = 0) -> torch.Tensor:
    noise = np.random.default_rng(seed).normal(size=(count, 3, 32, 32))
    smooth = gaussian_filter(noise, (0, 0, 6, 6)) * 20 + gaussian_filter(noise, (0, 0, 2, 2)) * 3
    return torch.from_numpy((0.5 + 0.1 * smooth).clip(0, 1)).float()


def smaller_and_back(images: torch.Tensor) -> torch.Tensor:
    small = torch.nn.functional.interpolate(images, size=24, mode="bilinear", antialias=True)
    return torch.nn.functional.interpolate(small, size=32, mode="bilinear")


def sides(count: int) -> np.ndarray:
    return np.arange(count) < count // 2


def test_different_pictures_are_no_near_copies():
    for seed in range(20):
        found = near_copies(appearance(pictures(150, seed)), sides(150))
        assert found == NearCopies(0, 0, 150)


def test_copies_are_found_whatever_was_done_to_them():
    images = pictures(120)
    copies = torch.stack(
        [
            images[0],
            (images[1] * 0.97 + 0.01),
            (images[2] + 0.01 * torch.randn(3, 32, 32, generator=torch.Generator().manual_seed(0))).clamp(0, 1),
            smaller_and_back(images[3:4])[0],
        ]
    )
    found = near_copies(appearance(torch.cat([images, copies])), sides(124))
    assert found == NearCopies(8, 8, 124)
    within = near_copies(appearance(torch.cat([images[:1], images])), sides(121))
    assert (within.samples, within.across) == (2, 0)


def test_films_of_many_frames_are_found():
    frames = pictures(6).repeat_interleave(40, 0)
    frames = (frames + 0.005 * torch.randn(frames.shape, generator=torch.Generator().manual_seed(1))).clamp(0, 1)
    assert near_copies(appearance(frames), np.arange(240) % 2 == 0).samples > 200


def test_many_samples_are_compared_in_runs(monkeypatch):
    monkeypatch.setattr(module, "MOST", 100)
    images = pictures(300)
    images[1] = images[0]
    found = near_copies(appearance(images), sides(300))
    assert found.compared == 100
    assert found.samples == 2


def test_samples_without_numbers_and_small_sets_say_nothing():
    table = np.random.default_rng(0).normal(size=(40, 3))
    table[:5] = np.nan
    assert near_copies(table, sides(40)).compared == 35
    assert near_copies(np.zeros((8, 3)), sides(8)).samples == 0
    assert near_copies(np.zeros((0, 3)), sides(0)) == NearCopies(0, 0, 0)
    assert near_copies(np.zeros((40, 3)), sides(40)).samples == 0  # nothing varies


@pytest.mark.parametrize("shape", [(2, 1, 7, 9), (2, 3, 300, 200), (2, 4, 5, 20, 20)])
def test_pictures_of_any_size_and_volumes_have_an_appearance(shape):
    image = torch.rand(shape)
    look = appearance(image)
    assert look.shape == (2, SIZE)
    assert look.dtype == torch.float64
    torch.testing.assert_close(appearance(image + 0.25), look, atol=1e-5, rtol=1e-4)  # brightness is not in it
