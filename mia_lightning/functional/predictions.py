"""Which of the tensors that a model returns is its prediction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mia_lightning.functional.entries import Key, entries_of, field_names, is_sequence, tensors_in
from mia_lightning.functional.resolution import is_reduced

OUTPUT_KEYS = (
    *("out", "output", "logits", "prediction", "pred"),
    *("predicted_depth", "reconstruction", "sample"),  # depth and super-resolution of transformers; diffusers
)


class Picked(NamedTuple):
    """A prediction among what a model returned.

    Attributes:
        prediction: The tensor.
        key: What leads to it, with dots through nested ones.
        reason: Why it, in words; empty where there was no other tensor.
    """

    prediction: Tensor
    key: Key
    reason: str = ""


def as_tensor(value: Any) -> Any:
    """NumPy arrays as tensors, all else as it is."""
    return torch.from_numpy(value) if isinstance(value, np.ndarray) else value


def pick_prediction(output: Any, size: Sequence[int] | None = None) -> Picked | None:
    """Pick the prediction out of a dict, sequence, NamedTuple, dataclass or object that a model returned.

    Single numbers, and one a sample, are losses and not looked at. Of several tensors the one under a key of
    :data:`OUTPUT_KEYS` is taken; of a list or tuple of alike ones (deep supervision: the same channels, one picture at
    several resolutions) the first where sizes do not grow, else the one of the target's size, or the largest where it
    comes last. What is nested is looked into where nothing lies beside it.

    Args:
        output: What the model returned, no tensor.
        size: Height and width (or depth, height and width) of the targets, where they are known.

    Returns:
        None where it could be several, or there is none.

    Example:
        >>> full, half = torch.zeros(1, 2, 8, 8), torch.zeros(1, 2, 4, 4)
        >>> pick_prediction([half, full], size=(8, 8))[1:]
        (1, "1, the one of the target's size, 8 x 8, of 2 alike")
        >>> pick_prediction({"loss": torch.tensor(1.0), "logits": full}).key
        'logits'
    """
    entries = _own(output)
    tensors = {k: t for k, v in entries.items() if isinstance(t := as_tensor(v), Tensor)}
    found = {k: t for k, t in tensors.items() if t.ndim > 1}
    if not found:
        return _nested(entries, size)
    usual = [key for key in OUTPUT_KEYS if key in found]
    if len(found) == 1 or len(usual) == 1:
        key = usual[0] if usual else next(iter(found))
        others = " and ".join(repr(k) for k in tensors if k != key)
        return Picked(found[key], key, f"{key!r}, beside {others}" if others else "")
    return _of_alike(found, size) if is_sequence(output) and not usual else None


def _own(output: Any) -> Mapping[Any, Any]:
    entries, names = entries_of(output), field_names(output)
    return {k: v for k, v in entries.items() if not (names and is_sequence(output) and isinstance(k, int))}


def _nested(entries: Mapping[Any, Any], size: Sequence[int] | None) -> Picked | None:
    """What is in the only container that holds dense tensors, or in that under a usual key."""
    holding = [k for k, v in entries.items() if any(t.ndim >= 3 for _, t in tensors_in(v))]
    usual = [key for key in OUTPUT_KEYS if key in holding]
    chosen = holding if len(holding) == 1 else usual
    if len(chosen) != 1:
        return None
    picked = pick_prediction(entries[chosen[0]], size)
    return None if picked is None else picked._replace(key=f"{chosen[0]}.{picked.key}")


def _of_alike(tensors: Mapping[Key, Tensor], size: Sequence[int] | None) -> Picked | None:
    """One of several predictions of one picture at several resolutions."""
    items = list(tensors.items())
    (first, tensor), count = items[0], len(items)
    alike = 1 if tensor.ndim == 3 else 2  # dimensions that are the same: samples, and channels where there are some
    if tensor.ndim < 3 or any(t.ndim != tensor.ndim or t.shape[:alike] != tensor.shape[:alike] for _, t in items):
        return None
    sizes = [_size(t) for _, t in items]
    largest = max(sizes, key=_area)
    if any(s != largest and not is_reduced(s, largest) for s in sizes):
        return None
    matching = [place for place, s in enumerate(sizes) if size is not None and s == tuple(size[-len(s) :])]
    falling = all(_area(a) >= _area(b) for a, b in pairwise(sizes))
    if falling and (not matching or matching[0] == 0):
        return Picked(tensor, first, f"the first of {count} alike")
    if len(matching) == 1:
        key, found = items[matching[0]]
        text = " x ".join(map(str, sizes[matching[0]]))
        return Picked(found, key, f"{key!r}, the one of the target's size, {text}, of {count} alike")
    if not matching and sizes.index(largest) == count - 1:
        return Picked(items[-1][1], items[-1][0], f"{items[-1][0]!r}, the last and largest of {count} alike")
    return None


def _size(prediction: Tensor) -> tuple[int, ...]:
    return tuple(prediction.shape[2:] if prediction.ndim > 3 else prediction.shape[1:])


def _area(size: Sequence[int]) -> int:
    return int(np.prod(size))
