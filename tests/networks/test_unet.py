from __future__ import annotations

import re

import pytest
import torch
from torch import nn

from mia_lightning.networks.norms import make_norm
from mia_lightning.networks.unet import UNet


def test_default_is_as_large_as_the_classic() -> None:
    with torch.device("meta"):
        network = UNet(in_channels=1, num_classes=2, norm="none")
    assert sum(p.numel() for p in network.parameters()) == 31_030_658


def test_norm_can_be_injected() -> None:
    network = UNet(base_channels=8, depth=2, norm=lambda channels: nn.GroupNorm(4, channels))
    kinds = {type(module) for module in network.modules()}
    assert nn.GroupNorm in kinds
    assert nn.BatchNorm2d not in kinds


def test_group_norm_divides_any_number_of_channels() -> None:
    norm = make_norm("group", 24)
    assert isinstance(norm, nn.GroupNorm)
    assert norm.num_groups == 8


def test_dropout_acts_in_training_only() -> None:
    network = UNet(base_channels=4, depth=2, norm="none", dropout=0.5)
    x = torch.rand(1, 3, 16, 16)
    assert not torch.equal(network(x), network(x))
    network.eval()
    assert torch.equal(network(x), network(x))


def test_compiles_without_a_graph_break() -> None:
    explanation = torch._dynamo.explain(UNet(base_channels=4, depth=2).eval())(torch.rand(1, 3, 17, 19))
    assert explanation.graph_break_count == 0


@pytest.mark.parametrize("name", ["in_channels", "num_classes", "base_channels", "depth"])
def test_sizes_must_be_positive(name: str) -> None:
    with pytest.raises(ValueError, match=f"Expected {name} of at least 1 but got 0"):
        UNet(**{name: 0})


def test_unknown_norm_lists_the_known() -> None:
    message = "Unknown norm 'layer'; choose one of batch, instance, group, none, or pass a callable"
    with pytest.raises(ValueError, match=re.escape(message)):
        UNet(norm="layer")
