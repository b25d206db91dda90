from __future__ import annotations

import pytest
import torch
from torch import nn

from mia_lightning.networks.multiscale import MultiscaleDiscriminator
from mia_lightning.networks.pix2pix_hd import halved


def test_each_scale_judges_half_the_resolution() -> None:
    torch.manual_seed(0)
    discriminator = MultiscaleDiscriminator(6, 128, ndf=2).eval()
    x, y = torch.rand(1, 3, 128, 128), torch.rand(1, 3, 128, 128)
    stages = discriminator(x, y)
    assert len(stages) == 3
    for place, scale in enumerate(discriminator.scales):
        torch.testing.assert_close(stages[place][-1], scale(x, y))
        assert [maps.shape[1] for maps in stages[place]] == [2, 4, 8, 16, 1], "C64-C128-C256-C512, and verdicts"
        x, y = halved(x), halved(y)


@pytest.mark.parametrize("size", [16, 20, 33, 48, 64, 100, (16, 200)])
def test_as_many_scales_as_fit(size: int | tuple[int, int]) -> None:
    discriminator = MultiscaleDiscriminator(2, size, ndf=2)
    height, width = (size, size) if isinstance(size, int) else size
    assert len(discriminator.scales) == sum(min(height, width) >> scale >= 16 for scale in range(3))
    x = torch.rand(1, 1, height, width)
    assert all(min(stages[-1].shape[2:]) >= 1 for stages in discriminator(x, x))


def test_too_small_an_image_says_how_to_build_it() -> None:
    discriminator = MultiscaleDiscriminator(2, 64, ndf=2)
    with pytest.raises(ValueError, match=r"measure 40 x 64 pixels, .* of 3 scales needs at least 48 a side"):
        discriminator(torch.rand(1, 1, 40, 64), torch.rand(1, 1, 40, 64))
    with pytest.raises(ValueError, match="Expected scales of at least 1 but got 0"):
        MultiscaleDiscriminator(scales=0)


def test_spectral_norm_is_one() -> None:
    torch.manual_seed(0)
    discriminator = MultiscaleDiscriminator(2, 32, ndf=4, spectral=True)
    convolutions = [layer for layer in discriminator.modules() if isinstance(layer, nn.Conv2d)]
    for _ in range(30):  # one iteration of the power method each
        discriminator(torch.rand(1, 1, 32, 32), torch.rand(1, 1, 32, 32))
    assert len(convolutions) == 5 + 4
    for layer in convolutions:
        assert torch.linalg.matrix_norm(layer.weight.flatten(1), 2).item() == pytest.approx(1, abs=0.02)
