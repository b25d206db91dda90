from __future__ import annotations

import pytest
import torch
from torch import nn

from mia_lightning.networks.pix2pix_hd import CoarseToFineGenerator, downsamplings, halved


def test_the_generator_at_1024_by_512_is_the_papers() -> None:
    with torch.device("meta"):
        generator = CoarseToFineGenerator(in_channels=36, image_size=(512, 1024))
    below, (above,) = generator.global_generator, generator.enhancers
    assert [stage[-3].out_channels for stage in below.front] == [64, 128, 256, 512, 1024]
    assert len(below.blocks) == 9
    assert [stage[0].out_channels for stage in below.back] == [512, 256, 128, 64]
    assert [stage[-3].out_channels for stage in above.front] == [32, 64]
    assert len(above.blocks) == 3
    assert above.back[0].out_channels == 32
    assert (generator.head[1].in_channels, generator.head[1].kernel_size) == (32, (7, 7))
    assert sum(p.numel() for p in generator.parameters()) == pytest.approx(183e6, rel=0.02)


def test_an_enhancer_adds_to_what_the_global_generator_made_at_half_the_resolution() -> None:
    torch.manual_seed(0)
    generator = CoarseToFineGenerator(image_size=32, ngf=4, global_blocks=1, local_blocks=1).eval()
    x = torch.rand(1, 3, 32, 32)
    (enhancer,) = generator.enhancers
    with torch.no_grad():
        coarse = generator.global_generator(nn.functional.avg_pool2d(x, 3, 2, 1, count_include_pad=False))
        assert coarse.shape == (1, 4, 16, 16)
        maps = enhancer.back(enhancer.blocks(enhancer.front(x) + coarse))
        torch.testing.assert_close(generator(x), generator.head(maps))


@pytest.mark.parametrize(("size", "enhancers", "coarsest"), [(16, 1, 4), (64, 1, 4), (128, 0, 8), ((256, 512), 1, 8)])
def test_depth_follows_the_image(size: int | tuple[int, int], enhancers: int, coarsest: int) -> None:
    side = size if isinstance(size, int) else min(size)
    assert (side >> enhancers) >> downsamplings(size, enhancers) == coarsest


def test_halving_keeps_the_mean_of_a_constant_up_to_the_border() -> None:
    assert torch.equal(halved(torch.ones(1, 2, 7, 10)), torch.ones(1, 2, 4, 5))


@pytest.mark.parametrize("settings", [{"enhancers": -1}, {"ngf": 6, "enhancers": 2}])
def test_channels_that_cannot_be_halved(settings: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"Expected ngf to be a multiple of 2\*\*enhancers.* but got ngf="):
        CoarseToFineGenerator(image_size=32, **settings)
