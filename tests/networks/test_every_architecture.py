"""One suite that every network which maps images to images must pass."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from mia_lightning.models.zoo import ZooNetwork
from mia_lightning.networks.pix2pix import UNetGenerator
from mia_lightning.networks.pix2pix_hd import CoarseToFineGenerator
from mia_lightning.networks.spade import SpadeGenerator
from mia_lightning.networks.unet import UNet

OUT = 2
Build = Callable[[int], nn.Module]


def unet(**settings: object) -> Build:
    return lambda channels: UNet(channels, OUT, base_channels=4, **{"depth": 3, **settings})


def generator(image_size: int = 32, **settings: object) -> Build:
    return lambda channels: UNetGenerator(channels, OUT, image_size, ngf=4, **settings)


def coarse_to_fine(**settings: object) -> Build:
    return lambda channels: CoarseToFineGenerator(
        channels, OUT, **{"image_size": 32, "ngf": 4, "global_blocks": 1, "local_blocks": 1, **settings}
    )


def zoo(architecture: str) -> Build:
    return lambda channels: ZooNetwork(architecture, "tu-test_efficientnet", None, channels, OUT)


ARCHITECTURES: dict[str, Build] = {
    "unet-batch": unet(),
    "unet-instance": unet(norm="instance"),
    "unet-group-dropout": unet(norm="group", dropout=0.5),
    "unet-none": unet(norm="none"),
    "unet-callable": unet(norm=lambda channels: nn.GroupNorm(2, channels)),
    "unet-deep": unet(depth=4),
    "generator-batch": generator(),
    "generator-instance": generator(norm="instance"),
    "generator-no-dropout": generator(dropout=False),
    "generator-16": generator(16),
    "generator-64": generator(64),
    "pix2pixhd": coarse_to_fine(),
    "pix2pixhd-global": coarse_to_fine(enhancers=0, image_size=64),
    "pix2pixhd-two-batch": coarse_to_fine(enhancers=2, norm="batch"),
    "spade": lambda channels: SpadeGenerator(channels, OUT, 32, ngf=2, hidden=8),
    "zoo-unet": zoo("unet"),
    "zoo-fpn": zoo("FPN"),
    "zoo-unetplusplus": zoo("UnetPlusPlus"),
    "zoo-linknet": zoo("linknet"),
}


# Of each network one; the others are for -m slow.
USUAL = ("unet-batch", "unet-group-dropout", "generator-batch", "pix2pixhd", "spade", "zoo-unet", "zoo-fpn")


@pytest.fixture(params=[pytest.param(n, marks=() if n in USUAL else pytest.mark.slow) for n in ARCHITECTURES])
def build(request: pytest.FixtureRequest) -> Build:
    torch.manual_seed(0)
    return ARCHITECTURES[request.param]


def images(channels: int = 3, size: tuple[int, int] = (33, 47), batch: int = 2) -> Tensor:
    return torch.rand(batch, channels, *size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("size", [(16, 16), (33, 47), (64, 64)])
def test_output_is_as_large_as_the_input(build: Build, size: tuple[int, int]) -> None:
    network = build(3).eval()
    with torch.inference_mode():
        assert network(images(size=size)).shape == (2, OUT, *size)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_any_number_of_channels(build: Build, channels: int) -> None:
    with torch.inference_mode():
        assert build(channels).eval()(images(channels)).shape == (2, OUT, 33, 47)


def test_gradients_reach_every_parameter(build: Build) -> None:
    network = build(3).train()
    network(images(size=(32, 32))).square().sum().backward()
    dead = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert dead == []


def test_trains_on_a_single_smallest_image(build: Build) -> None:
    loss = build(3).train()(images(size=(16, 16), batch=1)).square().mean()
    loss.backward()
    assert torch.isfinite(loss)


def test_state_round_trip_without_unpickling(build: Build) -> None:
    original = build(3)
    original(images())  # moves the running statistics
    file = io.BytesIO()
    torch.save(original.state_dict(), file)
    file.seek(0)
    copy = build(3)
    copy.load_state_dict(torch.load(file, weights_only=True))
    with torch.inference_mode():
        assert torch.equal(original.eval()(images()), copy.eval()(images()))


def test_evaluation_is_deterministic_and_draws_no_random_number(build: Build) -> None:
    network = build(3).eval()
    before = torch.get_rng_state()
    with torch.inference_mode():
        assert torch.equal(network(images()), network(images()))
    assert torch.equal(torch.get_rng_state(), before)


def test_evaluation_of_an_image_does_not_depend_on_its_batch(build: Build) -> None:
    network = build(3).eval()
    x = images()
    with torch.inference_mode():
        torch.testing.assert_close(network(x)[:1], network(x[:1]), rtol=1e-4, atol=1e-5)
