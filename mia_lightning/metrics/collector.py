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
        self._pending: list[tuple[str, int, bool, tuple[float, ...]]] = []

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
        # Plain numbers until the end: a small tensor a batch, kept between large ones that come and go, would fragment
        # the heap by a hundred times its own size.
        rows = zip(*(values[c].tolist() for c in self.columns), strict=True)
        for name, place, row in zip(ids, index.tolist(), rows, strict=True):
            self._pending.append((name, int(place), member, row))

    def reset(self) -> None:
        """Forget all rows."""
        super().reset()
        self._pending = []

    def sync(self, *args: Any, **kwargs: Any) -> None:
        """Gather the rows of all processes; a process without rows brings empty tensors."""
        self._store()
        super().sync(*args, **kwargs)

    def _store(self) -> None:
        """Turn the pending rows into tensors, once."""
        if self._is_synced or (self.index and not self._pending):
            return
        names, places, sides, rows = zip(*self._pending, strict=True) if self._pending else ((), (), (), ())
        encoded = [name.encode() for name in names]
        device = self.device
        self.index.append(torch.tensor(places, dtype=torch.int64, device=device))
        self.member.append(torch.tensor(sides, dtype=torch.bool, device=device))
        values = torch.tensor(rows, dtype=torch.float64, device=device)
        self.values.append(values.reshape(len(rows), len(self.columns)))
        # Text travels as bytes: collectives move tensors, and nothing needs to be pickled.
        self.names.append(torch.tensor(list(b"".join(encoded)), dtype=torch.uint8, device=device))
        self.lengths.append(torch.tensor([len(e) for e in encoded], dtype=torch.int64, device=device))
        self._pending = []

    def compute(self) -> SampleTable:
        """Return the rows of all processes.

        Raises:
            RuntimeError: If a sample was collected twice.
        """
        self._store()
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


def _joined(state: list[Tensor] | Tensor) -> Tensor:
    if isinstance(state, Tensor):
        return state.detach().cpu()
    return torch.cat(state).detach().cpu() if state else torch.zeros(0)
