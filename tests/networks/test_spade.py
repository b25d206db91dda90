from __future__ import annotations

import pytest
import torch
from torch.nn.utils.parametrize import is_parametrized

from mia_lightning.networks.spade import Spade, SpadeGenerator


def test_the_generator_at_256_pixels_is_the_papers() -> None:
    generator = SpadeGenerator(in_channels=2, image_size=256, ngf=1)  # in place of 64
    widths = [64 * block.second.conv.out_channels for block in generator.blocks]
    assert widths == [1024, 1024, 1024, 512, 256, 128, 64]
    assert generator.upsamplings == 6, "from 4 x 4"
    assert [block.skip is not None for block in generator.blocks] == [False] * 3 + [True] * 4
    assert all(block.first.norm.shared[0].out_channels == 128 for block in generator.blocks)


@pytest.mark.parametrize(("size", "upsamplings"), [(16, 2), (64, 4), (512, 6), ((64, 512), 4)])
def test_depth_follows_the_image(size: int | tuple[int, int], upsamplings: int) -> None:
    assert SpadeGenerator(image_size=size, ngf=1, hidden=1).upsamplings == upsamplings


def test_normalisation_is_modulated_by_the_label_map() -> None:
    torch.manual_seed(0)
    spade = Spade(4, label_channels=3, hidden=8)
    x, labels = torch.randn(5, 4, 8, 8), torch.rand(5, 3, 32, 32)
    small = labels[:, :, ::4, ::4]
    hidden = spade.shared(small)
    mean, variance = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), unbiased=False, keepdim=True)
    expected = (1 + spade.gamma(hidden)) * (x - mean) / (variance + 1e-5).sqrt() + spade.beta(hidden)
    torch.testing.assert_close(spade(x, labels), expected)
    assert not list(spade.norm.parameters()), "scale and shift come from the label map alone"


def test_a_class_changes_the_image_where_it_is() -> None:
    torch.manual_seed(0)
    generator = SpadeGenerator(3, 3, 64, ngf=2, hidden=8).eval()
    labels = torch.zeros(1, 3, 64, 64)
    labels[:, 0] = 1
    changed = labels.clone()
    changed[:, 0, 32:40, 32:40], changed[:, 1, 32:40, 32:40] = 0, 1
    with torch.no_grad():
        difference = (generator(labels) - generator(changed)).abs().sum(1)[0]
    assert difference[32:40, 32:40].mean() > 5 * difference[:8, :8].mean()


def test_convolutions_of_the_blocks_have_spectral_norm() -> None:
    generator = SpadeGenerator(3, 3, 32, ngf=2, hidden=4)
    for block in generator.blocks:
        for part in (block.first, block.second, *filter(None, [block.skip])):
            assert is_parametrized(part.conv, "weight")
            assert not is_parametrized(part.norm.gamma)
