"""Columns that a data set knows of its samples, without reading them: its attribute ``metadata``."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence, Sized
from typing import Any

import numpy as np
from torch.utils.data import ConcatDataset, IterableDataset, Subset

from mia_lightning.functional.entries import is_sequence

Column = Callable[[int], Any]
"""Gives the value of a sample by its place in the data set; nothing is read of samples that are not asked for."""


def column_names(dataset: Any) -> tuple[str, ...]:
    """Names of the columns that a data set has, also one in which others are joined, or of which some are taken."""
    if isinstance(dataset, Subset):
        return column_names(dataset.dataset)
    if isinstance(dataset, ConcatDataset):
        parts = [column_names(part) for part in dataset.datasets]
        return tuple(name for name in parts[0] if all(name in part for part in parts))
    columns = getattr(dataset, "metadata", None)
    names = [name for name in columns if isinstance(name, str)] if isinstance(columns, Mapping) else []
    return tuple(name for name in names if column_of(dataset, name) is not None)


def column_of(dataset: Any, name: str) -> Column | None:
    """Find the values of samples, by their places in the data set; None where it has no such column.

    A column is a sequence or an array (N,) with one value a sample: what else ``metadata`` holds, such as a licence, is
    none. Streams have none, since their order need not be that of a column.
    """
    if isinstance(dataset, Subset):
        whole, indices = column_of(dataset.dataset, name), dataset.indices
        return None if whole is None else lambda place: whole(indices[place])
    if isinstance(dataset, ConcatDataset):
        return _joined([column_of(part, name) for part in dataset.datasets], dataset.cumulative_sizes)
    columns = getattr(dataset, "metadata", None)
    if isinstance(dataset, IterableDataset) or not isinstance(columns, Mapping) or name not in columns:
        return None
    values = _listed(columns[name])
    if values is None or not isinstance(dataset, Sized) or len(values) != len(dataset):
        return None
    return lambda place: _plain(values[place])


def _joined(parts: Sequence[Column | None], ends: Sequence[int]) -> Column | None:
    columns = [part for part in parts if part is not None]
    if len(columns) < len(parts):
        return None

    def value_at(place: int) -> Any:
        part = bisect_right(ends, place)
        return columns[part](place - (ends[part - 1] if part else 0))

    return value_at


def _listed(values: Any) -> Sequence[Any] | None:
    """One value a sample, whatever holds them; None where that is neither a sequence nor an array of one axis."""
    if hasattr(values, "tolist") or hasattr(values, "__array__"):
        if getattr(values, "ndim", 1) != 1:
            return None
        values = values.tolist() if hasattr(values, "tolist") else np.asarray(values).tolist()
    return values if is_sequence(values) else None


def _plain(value: Any) -> Any:
    """A tensor or NumPy scalar of one value as a Python number."""
    return value.item() if getattr(value, "ndim", None) == 0 and hasattr(value, "item") else value
