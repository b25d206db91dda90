"""Batches: what one holds, under whatever names a project gives it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """A batch of a project's loader, taken apart.

    Attributes:
        id: One name a sample, or None where the data have none.
        input: What the model gets, (B, ...).
        target: What it should return, (B, ...).
        group: The group of each sample, such as the patient, or None where the data have none.
        stored_output: What the model returned for these inputs, where that was stored, (B, ...).
    """

    id: list[str] | None
    input: Tensor
    target: Tensor
    group: list[str] | None = None
    stored_output: Tensor | None = None
