"""Where and how an audit runs a model: device, preparation of batches, context of forward passes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from mia_lightning.audit.loading import Prepare, as_loaded


@dataclass(frozen=True)
class Runtime:
    """What a trainer adds to an audit; the defaults do without one.

    Attributes:
        device: Where the model gets its inputs and errors, predictability included, are computed. None: where the
            model's weights are; the CPU for a callable that has none.
        prepare: Applied to each batch, as loaded, before it is read: a trainer's batch-transfer hooks.
        forward_context: Gives the context of each forward pass, for example a trainer's precision.
    """

    device: torch.device | str | None = None
    prepare: Prepare = as_loaded
    forward_context: Callable[[], AbstractContextManager[Any]] = nullcontext
