"""Sizes that a network refuses are told before a training, with the least that it takes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from mia_lightning.models.size_check import check_sizes
from mia_lightning.models.unet_segmenter import UNetSegmenter
from mia_lightning.models.zoo import ZooNetwork

smp = pytest.importorskip("segmentation_models_pytorch", reason="needs segmentation-models-pytorch")

# DPT takes encoders of transformers alone, of one size each.
ARCHITECTURES = [name for name in smp.MODEL_ARCHITECTURES_MAPPING if name != "dpt"]
REFUSES = {"pan": 128}
ONE_PIXEL = {"pan", "deeplabv3", "deeplabv3plus", "upernet"}
USUAL = ("unet", "fpn", "pan", "deeplabv3plus")  # of each kind one; the others are for -m slow


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n in USUAL else pytest.mark.slow) for n in ARCHITECTURES])
def test_each_architecture_trains_at_each_size_or_says_why_not(name: str) -> None:
    torch.manual_seed(0)
    network = ZooNetwork(name, "tu-test_resnet" if name in ("unet", "fpn") else "resnet18", num_classes=2)
    for side in (48, 64, 100):
        for batch_size in (1, 2):
            try:
                check_sizes(network, 3, (side, side), batch_size, name)
            except ValueError as error:
                message = str(error)
                if side < REFUSES.get(name, 0) - 31:
                    assert message.count(f"does not take images of {side} x {side}") == 1
                    assert f"Give it images of {REFUSES[name]} x {REFUSES[name]} or more (image_size)" in message
                else:
                    assert batch_size == 1
                    assert name in ONE_PIXEL
                    assert "batch_size=2 or more" in message
                with pytest.raises((ValueError, RuntimeError)):
                    network.train()(torch.rand(batch_size, 3, side, side))
            else:
                assert network.train()(torch.rand(batch_size, 3, side, side)).shape == (batch_size, 2, side, side)


def test_the_check_changes_nothing() -> None:
    network = ZooNetwork("deeplabv3plus", "resnet18").train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    draws = torch.get_rng_state()
    check_sizes(network, 3, (64, 64), 8, "DeepLabV3Plus")
    assert torch.equal(torch.get_rng_state(), draws)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(module.training for module in network.modules())
    assert not any(module._forward_pre_hooks for module in network.modules())


def test_a_network_that_takes_no_size() -> None:
    class Refuses(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("no")

    with pytest.raises(ValueError, match=r"images of 40 x 60 \(no\), nor of any other size"):
        check_sizes(Refuses(), 3, (40, 60), 2, "Refuses")


@pytest.mark.parametrize(
    ("architecture", "data", "message"),
    [
        ("PAN", {"image_size": (64, 64), "batch_size": 8}, "PAN does not take images of 64 x 64 .* 128 x 128 or more"),
        ("DeepLabV3Plus", {"image_size": (64, 64), "batch_size": 1}, "DeepLabV3Plus normalises single pixels"),
        ("DeepLabV3Plus", {"image_size": (64, 64), "batch_size": 2}, None),
        ("unet", {"image_size": (16, 16), "batch_size": 1}, None),
    ],
)
def test_the_data_module_is_asked_before_the_training(architecture: str, data: dict[str, Any], message: Any) -> None:
    model = UNetSegmenter(2, architecture=architecture, encoder_name="resnet18", base_channels=2)
    model._trainer = SimpleNamespace(datamodule=SimpleNamespace(**data))  # type: ignore[assignment]  # a stand-in for the trainer
    if message is None:
        model.on_fit_start()
    else:
        with pytest.raises(ValueError, match=message):
            model.on_fit_start()


def test_without_a_data_module_the_first_batch_tells() -> None:
    network = ZooNetwork("deeplabv3plus", "resnet18").train()
    with pytest.raises(ValueError, match=r"DeepLabV3Plus normalises single pixels .* The batch is \(1, 3, 64, 64\)"):
        network(torch.rand(1, 3, 64, 64))
    with pytest.raises(ValueError, match=r"PAN does not take images of 64 x 64 .* Give it images of 128 x 128 or more"):
        ZooNetwork("pan", "resnet18").eval()(torch.rand(1, 3, 64, 64))
    with pytest.raises(RuntimeError, match="channels"):
        network.network(torch.rand(2, 4, 64, 64))
