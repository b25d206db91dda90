from __future__ import annotations

import math
import re

import pytest
import torch
from torch import nn

from mia_lightning.networks.pix2pix import (
    PatchDiscriminator,
    UNetGenerator,
    generator_depth,
    init_normal_,
    patch_layers,
)


def test_generator_at_256_pixels_is_the_papers() -> None:
    with torch.device("meta"):
        generator = UNetGenerator(image_size=256)
    widths = [stage[-2].out_channels for stage in generator.encoder]
    assert widths == [64, 128, 256, 512, 512, 512, 512, 512]
    dropped = [any(isinstance(layer, nn.Dropout) for layer in stage) for stage in generator.decoder]
    assert dropped == [True, True, True, False, False, False, False]
    assert [stage[1].out_channels for stage in generator.decoder] == [512, 512, 512, 512, 256, 128, 64]


@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_no_norm_in_the_first_and_the_innermost_encoder_stage(norm: str) -> None:
    generator = UNetGenerator(image_size=64, ngf=2, norm=norm)
    normed = [not isinstance(stage[-1], nn.Identity) for stage in generator.encoder]
    assert normed == [False, True, True, True, True, False]


@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_bottleneck_is_alive_at_batch_size_one(norm: str) -> None:
    generator = UNetGenerator(image_size=32, ngf=4, norm=norm, dropout=False)
    seen: list[torch.Tensor] = []
    generator.encoder[-1].register_forward_hook(lambda *call: seen.append(call[-1]))
    generator(torch.rand(1, 3, 32, 32))
    assert seen[0].shape[-2:] == (1, 1)
    assert seen[0].abs().sum() > 0


def test_generator_output_lies_in_the_range_of_tanh() -> None:
    output = UNetGenerator(image_size=16, ngf=4)(100 * torch.randn(2, 3, 16, 16))
    assert output.abs().max() <= 1


def test_dropout_acts_in_training_only() -> None:
    generator, x = UNetGenerator(image_size=16, ngf=4), torch.rand(2, 3, 16, 16)
    assert not torch.equal(generator(x), generator(x))
    generator.eval()
    assert torch.equal(generator(x), generator(x))


@pytest.mark.parametrize(("n_layers", "patch"), [(1, 16), (2, 34), (3, 70)])
def test_receptive_field(n_layers: int, patch: int) -> None:
    # In evaluation batch norm looks at no neighbour, so the gradient of one verdict covers exactly its patch.
    discriminator = PatchDiscriminator(2, ndf=2, n_layers=n_layers).eval()
    x = torch.rand(1, 1, 192, 192, requires_grad=True)
    verdicts = discriminator(x, torch.rand(1, 1, 192, 192))
    verdicts[0, 0, verdicts.shape[2] // 2, verdicts.shape[3] // 2].backward()
    touched = x.grad[0, 0].abs() > 0
    assert touched.any(0).sum() == touched.any(1).sum() == patch


@pytest.mark.parametrize("size", [*range(16, 49), 64, 100])
def test_as_many_patch_layers_as_fit(size: int) -> None:
    layers = patch_layers(size)
    x = torch.rand(1, 1, size, size)
    assert min(PatchDiscriminator(2, ndf=2, n_layers=layers, norm="instance")(x, x).shape[2:]) >= 1
    if layers < 3:
        with pytest.raises(ValueError, match="needs at least"):
            PatchDiscriminator(2, ndf=2, n_layers=layers + 1)(x, x)


def test_too_small_an_image_says_how_to_build_the_discriminator() -> None:
    message = "The images measure 16 x 40 pixels, but this discriminator needs at least 24 a side"
    with pytest.raises(ValueError, match=message):
        PatchDiscriminator(2, ndf=2)(torch.zeros(1, 1, 16, 40), torch.zeros(1, 1, 16, 40))


def test_discriminator_needs_a_layer() -> None:
    with pytest.raises(ValueError, match="Expected n_layers of at least 1 but got 0"):
        PatchDiscriminator(n_layers=0)


@pytest.mark.parametrize("size", [15, (256, 8)])
def test_smallest_image(size: int | tuple[int, int]) -> None:
    message = re.escape(f"Expected image_size of at least 16 pixels a side but got {size}")
    with pytest.raises(ValueError, match=message):
        generator_depth(size)


def test_initialisation() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(64, 64, 4), nn.BatchNorm2d(4096), nn.ConvTranspose2d(64, 64, 4))
    init_normal_(network)
    for layer, mean in zip(network, (0.0, 1.0, 0.0), strict=True):
        spread = 4 * 0.02 / math.sqrt(layer.weight.numel())
        assert abs(layer.weight.mean() - mean) < spread
        assert abs(layer.weight.std() - 0.02) < spread
        assert not layer.bias.any()


def test_networks_come_initialised() -> None:
    torch.manual_seed(0)
    for network in (UNetGenerator(image_size=16, ngf=16), PatchDiscriminator(ndf=16)):
        weights = torch.cat([p.flatten() for p in network.parameters() if p.ndim == 4])
        assert abs(weights.std() - 0.02) < 2e-4
