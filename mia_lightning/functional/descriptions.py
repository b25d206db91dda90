"""Batches and outputs of a project described in words, for messages that say what was found."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor


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
        return "a dict with " + (", ".join(f"{k!r}: {describe(v, depth + 1)}" for k, v in value.items()) or "nothing")
    if is_sequence(value) and depth < 2:
        if any(isinstance(v, Tensor) for v in value):
            return f"a {type(value).__name__} of ({', '.join(describe(v, depth + 1) for v in value)})"
        if value and isinstance(value[0], Mapping):
            return f"a {type(value).__name__} of {len(value)}, the first {describe(value[0], depth + 1)}"
        kinds = sorted({type(v).__name__ for v in value})
        return f"a {type(value).__name__} of {', '.join(kinds) or 'nothing'}"
    return f"a {type(value).__name__}"


def is_sequence(value: Any) -> bool:
    """Whether a value is a list, tuple or the like; text is none."""
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))
