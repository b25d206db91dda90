"""Calling the audited model: where it is, what it is given, and what is said where it fails."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from mia_lightning.audit.adapters import write_one
from mia_lightning.audit.protocols import Adapter
from mia_lightning.functional.descriptions import describe

# Failures of the machine, not of a model that was given something else than it takes.
_OF_THE_MACHINE = tuple(
    kind
    for owner, name in ((torch, "OutOfMemoryError"), (torch, "AcceleratorError"), (dist, "DistError"))
    if (kind := getattr(owner, name, None)) is not None
)


def device_of(module: Callable[..., Any], device: torch.device | str | None = None) -> torch.device:
    """The device asked for, or else where a model's weights are; the CPU for a callable that has none."""
    if device is not None:
        return torch.device(device)
    if isinstance(module, nn.Module):
        first = next(itertools.chain(module.parameters(), module.buffers()), None)
        if first is not None:
            return first.device
    return torch.device("cpu")


def to_model(input: Tensor, module: Callable[..., Any], device: torch.device) -> Tensor:
    """Bring an input to the model's device and, unless it holds integers, to the precision of the model's weights."""
    parameters = module.parameters() if isinstance(module, nn.Module) else ()
    weights = next((p for p in parameters if p.is_floating_point()), input)
    return input.to(device, weights.dtype if input.is_floating_point() else input.dtype)


def predict(adapter: Adapter, module: Callable[..., Any], input: Tensor) -> Tensor:
    """Ask the model, and say what it was given where it cannot answer.

    Args:
        adapter: Calls the model.
        module: The model.
        input: Its input, (B, ...), on its device.

    Returns:
        The prediction, wherever the adapter left it.

    Raises:
        ValueError: If the forward pass fails, as it does on pictures with another number of channels than the model
            takes. Failures of the machine, such as too little memory, pass as they are.
    """
    try:
        return adapter.predict(module, input)
    except RuntimeError as error:
        if isinstance(error, _OF_THE_MACHINE):
            raise
        raise ValueError(
            f"The model failed on a batch of the audit, {describe(input)} ({type(error).__name__}: {error}). Expected "
            "members and nonmembers that it can be called with as they come: check their number of channels and their "
            "size, and give them the evaluation transforms of the project's own validation data. "
            + write_one("predict(self, module, input)", "module(input)  # called as the project calls it")
        ) from error
