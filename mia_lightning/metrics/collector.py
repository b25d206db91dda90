"""Collects one row of values a sample over batches and processes, each sample once."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric


class SampleTable(NamedTuple):
    """Rows of all processes, members first, each side by index: ids, sides, places in the data set, and columns.

    Groups are None where no sample has one; one that has none beside others that have is in the group "". Likewise
    labels, any further text of each sample.
    """

    ids: list[str]
    member: NDArray[np.bool_]
    position: NDArray[np.int64]
    columns: dict[str, NDArray[np.float64]]
    groups: list[str] | None = None
    labels: list[str] | None = None


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
    group_names: list[Tensor]
    group_lengths: list[Tensor]
    label_names: list[Tensor]
    label_lengths: list[Tensor]

    def __init__(self, columns: Sequence[str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.columns = list(columns)
        texts = ("names", "lengths", "group_names", "group_lengths", "label_names", "label_lengths")
        for state in ("index", "member", "values", *texts):
            self.add_state(state, default=[], dist_reduce_fx="cat")
        self._forget()

    def update(
        self,
        ids: Sequence[str],
        index: Tensor,
        member: bool,
        values: dict[str, Tensor],
        groups: Sequence[str | None] | None = None,
        labels: Sequence[str | None] | None = None,
    ) -> None:
        """Add the rows of a batch of one side.

        Args:
            ids: Name of each sample.
            index: Position of each sample in its data set, (B,).
            member: The side that all of them belong to.
            values: One tensor (B,) for each column.
            groups: Group of each sample; None: they have none.
            labels: A further text of each sample; None: they have none.

        Raises:
            ValueError: If columns or lengths do not fit.
        """
        groups = [None] * len(ids) if groups is None else groups
        labels = [None] * len(ids) if labels is None else labels
        for what, texts in (("groups", groups), ("labels", labels)):
            if len(texts) != len(ids):
                raise ValueError(f"The batch holds {len(ids)} samples but {len(texts)} {what}: {list(texts)[:8]}.")
        if sorted(values) != sorted(self.columns) or any(len(v) != len(ids) for v in values.values()):
            shapes = {name: len(value) for name, value in values.items()}
            raise ValueError(f"Expected {len(ids)} values for each of {self.columns}, but got {shapes}.")
        # Growing arrays until the end: a small tensor a batch, kept between large ones that come and go, would fragment
        # the heap by a hundred times its own size, and a Python float a number would take three times the room.
        self._names.extend(ids)
        self._groups.extend(groups)
        self._labels.extend(labels)
        self._places.extend(int(place) for place in index.tolist())
        self._sides.extend([member] * len(ids))
        for row in zip(*(values[c].tolist() for c in self.columns), strict=True):
            self._numbers.extend(row)

    def reset(self) -> None:
        """Forget all rows."""
        super().reset()
        self._forget()

    def sync(self, *args: Any, **kwargs: Any) -> None:
        """Gather the rows of all processes; a process without rows brings empty tensors."""
        self._store()
        super().sync(*args, **kwargs)

    def _forget(self) -> None:
        self._names: list[str] = []
        self._groups: list[str | None] = []
        self._labels: list[str | None] = []
        self._places, self._sides, self._numbers = array("q"), array("b"), array("d")

    def _store(self) -> None:
        """Turn the pending rows into tensors, once."""
        if self._is_synced or (self.index and not self._names):
            return
        self.index.append(self._tensor(self._places, torch.int64))
        self.member.append(self._tensor(self._sides, torch.int8).bool())
        self.values.append(self._tensor(self._numbers, torch.float64).reshape(-1, len(self.columns)))
        texts = (
            (self._names, self.names, self.lengths),
            (self._groups, self.group_names, self.group_lengths),
            (self._labels, self.label_names, self.label_lengths),
        )
        for pending, names, lengths in texts:
            # Text travels as bytes: collectives move tensors, and nothing needs to be pickled.
            encoded = [None if text is None else text.encode() for text in pending]
            names.append(self._tensor(bytearray().join(e for e in encoded if e is not None), torch.uint8))
            sizes = [-1 if e is None else len(e) for e in encoded]
            lengths.append(torch.tensor(sizes, dtype=torch.int64, device=self.device))
        self._forget()

    def _tensor(self, buffer: array[Any] | bytearray, dtype: torch.dtype) -> Tensor:
        flat = torch.frombuffer(buffer, dtype=dtype) if len(buffer) else torch.zeros(0, dtype=dtype)
        return flat.to(self.device)

    def compute(self) -> SampleTable:
        """Return the rows of all processes.

        Raises:
            RuntimeError: If a sample was collected twice.
        """
        self._store()
        index, member, values = _joined(self.index), _joined(self.member).bool(), _joined(self.values)
        ids = _texts(self.names, self.lengths)
        further = (self.group_names, self.group_lengths), (self.label_names, self.label_lengths)
        groups, labels = (_texts(*state) if (_joined(state[1]) >= 0).any() else None for state in further)
        order = np.lexsort((index.numpy(), ~member.numpy()))
        places = np.stack([member.numpy()[order], index.numpy()[order]])
        if len(ids) > 1 and bool((places[:, 1:] == places[:, :-1]).all(0).any()):
            raise RuntimeError("A sample was collected twice; every process must audit its own part of the data.")
        table = values.reshape(-1, len(self.columns)).numpy()
        columns = {name: table[order, i] for i, name in enumerate(self.columns)}  # copies, and no sorted table beside
        return SampleTable(
            [ids[i] for i in order],
            member.numpy()[order],
            index.numpy()[order],
            columns,
            None if groups is None else [groups[i] for i in order],
            None if labels is None else [labels[i] for i in order],
        )


def _texts(names: list[Tensor] | Tensor, lengths: list[Tensor] | Tensor) -> list[str]:
    """Take apart texts that were joined; what has no text is empty."""
    text = _joined(names).to(torch.uint8).numpy().tobytes()
    ends = np.cumsum(np.maximum(_joined(lengths).numpy(), 0), dtype=np.int64).tolist()
    return [text[start:end].decode() for start, end in zip([0, *ends[:-1]], ends, strict=True)] if ends else []


def _joined(state: list[Tensor] | Tensor) -> Tensor:
    if isinstance(state, Tensor):
        return state.detach().cpu()
    whole = state[0] if len(state) == 1 else torch.cat(state) if state else torch.zeros(0)
    return whole.detach().cpu()
