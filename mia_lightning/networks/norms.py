"""Normalisation by name, so that it can be swapped: differential privacy, for one, forbids batch norm."""

import math
from collections.abc import Callable
from typing import Literal

from torch import nn

NormName = Literal["batch", "instance", "group", "none"]
Norm = NormName | Callable[[int], nn.Module]


def make_norm(norm: Norm, channels: int) -> nn.Module:
    """Build a normalisation layer, which keeps the shape (B, channels, H, W).

    Args:
        norm: ``"batch"``; ``"instance"`` (with learned scale and shift); ``"group"`` (as many groups as divide the
            channels, at most 32; Wu and He, 2018); ``"none"``; or your own callable from channels to a module.
        channels: Channels of the map to be normalised.

    Raises:
        ValueError: If ``norm`` is no known name.

    Example:
        >>> make_norm("group", 48).num_groups
        16
        >>> make_norm(lambda channels: nn.GroupNorm(1, channels), 48).num_groups
        1
    """
    if callable(norm):
        return norm(channels)
    if norm == "batch":
        return nn.BatchNorm2d(channels)
    if norm == "instance":
        return nn.InstanceNorm2d(channels, affine=True)
    if norm == "group":
        return nn.GroupNorm(math.gcd(32, channels), channels)
    if norm == "none":
        return nn.Identity()
    raise ValueError(
        f"Unknown norm {norm!r}; choose one of batch, instance, group, none, or pass a callable from the "
        "number of channels to a module."
    )


def needs_bias(norm: Norm) -> bool:
    """Whether a convolution in front of this norm should have a bias.

    The named norms subtract a mean and add a learned shift: a bias before them would be dead weight without
    gradient. Of a callable nothing is known, so it gets the bias.
    """
    return callable(norm) or norm == "none"
