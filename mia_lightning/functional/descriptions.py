"""Batches and outputs of a project described in words, for messages that say what was found."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mia_lightning.functional.entries import entries_of, field_names, is_sequence, tensors_in


def describe(value: Any, depth: int = 0) -> str:
    """Say in a few words what a batch or an output looks like.

    Example:
        >>> import torch
        >>> describe({"a": torch.zeros(2, 3), "b": [1]})
        "a dict with 'a': float32 tensor (2, 3), 'b': a list of int"
    """
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} tensor {tuple(value.shape)}"
    if isinstance(value, Mapping) and depth < 2:
        return f"a dict with {_named(value, depth)}"
    if is_sequence(value) and (names := field_names(value)) and depth < 2:
        return f"a {type(value).__name__} with {_named(dict(zip(names, value, strict=False)), depth)}"
    if is_sequence(value) and depth < 2:
        if any(isinstance(v, Tensor) for v in value):
            return f"a {type(value).__name__} of ({', '.join(describe(v, depth + 1) for v in value)})"
        if value and isinstance(value[0], Mapping):
            return f"a {type(value).__name__} of {len(value)}, the first {describe(value[0], depth + 1)}"
        kinds = sorted({type(v).__name__ for v in value})
        return f"a {type(value).__name__} of {', '.join(kinds) or 'nothing'}"
    if depth < 2 and any(True for _ in tensors_in(value)):
        return f"a {type(value).__name__} with {_named(entries_of(value), depth)}"
    return f"a {type(value).__name__}"


def _named(entries: Mapping[Any, Any], depth: int) -> str:
    return ", ".join(f"{key!r}: {describe(value, depth + 1)}" for key, value in entries.items()) or "nothing"
