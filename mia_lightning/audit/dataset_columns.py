"""Columns that a data set knows of its samples, without reading them: its attribute ``metadata``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Sized
from typing import Any, cast

from torch.utils.data import ConcatDataset, Subset


def column_names(dataset: Any) -> tuple[str, ...]:
    """Names of the columns that a data set has, also one in which others are joined, or of which some are taken."""
    if isinstance(dataset, Subset):
        return column_names(dataset.dataset)
    if isinstance(dataset, ConcatDataset):
        parts = [column_names(part) for part in dataset.datasets]
        return tuple(name for name in parts[0] if all(name in part for part in parts))
    columns = getattr(dataset, "metadata", None)
    return tuple(name for name in columns if isinstance(name, str)) if isinstance(columns, Mapping) else ()


def column_of(dataset: Any, name: str) -> list[Any] | None:
    """One value a sample, in the order of the data set; None where it has no such column, or one of another length."""
    if isinstance(dataset, Subset):
        whole = column_of(dataset.dataset, name)
        return None if whole is None else [whole[i] for i in dataset.indices]
    if isinstance(dataset, ConcatDataset):
        parts = [column_of(part, name) for part in dataset.datasets]
        return None if any(part is None for part in parts) else [value for part in parts for value in part or ()]
    if name not in column_names(dataset):
        return None
    values: Sequence[Any] = dataset.metadata[name]
    return [*values] if len(values) == len(cast(Sized, dataset)) else None
