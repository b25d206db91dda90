"""Samplers whose keys are no positions, such as bounding boxes: drawn once, and the same at each audit."""

from collections.abc import Iterable, Iterator, Mapping, Sized
from itertools import chain, islice
from numbers import Integral
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from mia_lightning.audit.isolation import OwnDraws, isolated

_MOST = 1_000_000  # of a sampler without a length


class Keyed(Dataset[Any]):
    """The samples of a data set under some keys, by their place among these.

    Attributes:
        random: Whether the sampler draws other keys each time.
    """

    def __init__(self, dataset: Any, keys: list[Any], random: bool) -> None:
        self.dataset, self.keys, self.random = dataset, keys, random

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, place: int) -> Any:
        return self.dataset[self.keys[place]]


def keyed(dataset: Any, sampler: Iterable[Any], *, in_batches: bool, seed: int) -> Keyed | None:
    """Draw the keys of a sampler once, seeded; None where they are whole numbers, or there are none.

    Args:
        dataset: The data set.
        sampler: Yields keys, or lists of keys.
        in_batches: Whether these are lists.
        seed: Seed of the draw: with the same, the keys are the same, whatever was drawn before.
    """
    if _is_position(next(_keys(sampler, in_batches, seed, most=1), 0)):
        return None
    keys = list(_keys(sampler, in_batches, seed))
    return Keyed(dataset, keys, random=not _are_same(keys, list(_keys(sampler, in_batches, seed + 1))))


def _keys(sampler: Iterable[Any], in_batches: bool, seed: int, most: int = _MOST) -> Iterator[Any]:
    with isolated(None, sampler), OwnDraws(seed, sampler):
        most = min(most, len(sampler)) if isinstance(sampler, Sized) else most
        drawn = list(islice(sampler, most))
    return chain.from_iterable(drawn) if in_batches else iter(drawn)


def _are_same(one: Any, other: Any) -> bool:
    """Whether keys are the same, which may be tensors, arrays, or tuples, lists and dicts of them."""
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, np.ndarray):
        return isinstance(other, np.ndarray) and np.array_equal(one, other)
    if isinstance(one, (list, tuple)):
        return type(one) is type(other) and len(one) == len(other) and all(map(_are_same, one, other))
    if isinstance(one, Mapping):
        return isinstance(other, Mapping) and [*one] == [*other] and all(_are_same(one[k], other[k]) for k in one)
    return bool(one == other)


def _is_position(key: Any) -> bool:
    return isinstance(key, Integral) or (isinstance(key, torch.Tensor) and key.ndim == 0)
