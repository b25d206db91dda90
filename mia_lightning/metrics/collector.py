"""Gathers one row a sample over batches and processes, each sample once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric


class SampleTable(NamedTuple):
    """Rows of all processes, members first, each side in the order of its indices.

    Attributes:
        ids: Name of each sample.
        member: True for members, (N,).
        position: Place of each sample in its data set, (N,).
        columns: One array of values a column, each (N,).
    """

    ids: list[str]
    member: NDArray[np.bool_]
    position: NDArray[np.int64]
    columns: dict[str, NDArray[np.float64]]


class SampleCollector(Metric):
    """Collects rows of named values; ``compute`` returns them sorted and complete, the same on every process.

    Args:
        columns: Names of the values of a row.
        **kwargs: Passed on to :class:`torchmetrics.Metric`.

    Example:
        >>> collector = SampleCollector(["error"])
        >>> collector.update(["b", "a"], torch.tensor([1, 0]), True, {"error": torch.tensor([0.5, 0.25])})
        >>> collector.compute().ids
        ['a', 'b']
    """

    full_state_update = False
    is_differentiable = False
    index: list[Tensor]
    member: list[Tensor]
    values: list[Tensor]
    names: list[Tensor]
    lengths: list[Tensor]

    def __init__(self, columns: Sequence[str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.columns = list(columns)
        for state in ("index", "member", "values", "names", "lengths"):
            self.add_state(state, default=[], dist_reduce_fx="cat")

    def update(self, ids: Sequence[str], index: Tensor, member: bool, values: dict[str, Tensor]) -> None:
        """Add the rows of a batch.

        Args:
            ids: Name of each sample.
            index: Position of each sample in its data set, (B,).
            member: The side that all of them belong to.
            values: One tensor (B,) for each column.

        Raises:
            ValueError: If columns or lengths do not fit.
        """
        if sorted(values) != sorted(self.columns) or any(len(v) != len(ids) for v in values.values()):
            shapes = {name: len(value) for name, value in values.items()}
            raise ValueError(f"Expected {len(ids)} values for each of {self.columns}, but got {shapes}.")
        encoded = [name.encode() for name in ids]
        device = self.device
        self.index.append(index.to(device, torch.int64))
        self.member.append(torch.full((len(ids),), member, dtype=torch.bool, device=device))
        self.values.append(torch.stack([values[c].to(device, torch.float64) for c in self.columns], 1))
        # Text travels as bytes: collectives move tensors, and nothing needs to be pickled.
        self.names.append(torch.tensor(list(b"".join(encoded)), dtype=torch.uint8, device=device))
        self.lengths.append(torch.tensor([len(e) for e in encoded], dtype=torch.int64, device=device))

    def compute(self) -> SampleTable:
        """Return the rows of all processes.

        Raises:
            RuntimeError: If a sample was collected twice.
        """
        index, member, values = _joined(self.index), _joined(self.member).bool(), _joined(self.values)
        text = bytes(_joined(self.names).to(torch.uint8).tolist())
        ends = np.cumsum(_joined(self.lengths).tolist(), dtype=np.int64)
        ids = [text[start:end].decode() for start, end in zip([0, *ends[:-1]], ends, strict=True)] if len(ends) else []
        order = np.lexsort((index.numpy(), ~member.numpy()))
        places = np.stack([member.numpy()[order], index.numpy()[order]])
        if len(ids) > 1 and bool((places[:, 1:] == places[:, :-1]).all(0).any()):
            raise RuntimeError("A sample was collected twice; every process must audit its own part of the data.")
        table = values.reshape(-1, len(self.columns)).numpy()[order]
        columns = {name: table[:, i].copy() for i, name in enumerate(self.columns)}
        return SampleTable([ids[i] for i in order], member.numpy()[order], index.numpy()[order], columns)

    def pad(self) -> None:
        """Make an empty share visible to the gathering: every process must bring a tensor, if one without rows."""
        if not self.index:
            self.update([], torch.zeros(0), True, {c: torch.zeros(0) for c in self.columns})


def _joined(state: list[Tensor] | Tensor) -> Tensor:
    if isinstance(state, Tensor):
        return state.detach().cpu()
    return torch.cat(state).detach().cpu() if state else torch.zeros(0)
