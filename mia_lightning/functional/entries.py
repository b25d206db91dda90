"""What batches and outputs hold, by key, place, field or attribute, whatever their form."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from torch import Tensor, nn

Key = int | str
"""Key of a dict, name of a field or attribute, or place in a tuple; dots lead through nested ones."""

_NESTED = 3  # containers within containers that are looked into
_SINGLE = (str, bytes, int, float, complex, Tensor, nn.Module, type)


def is_sequence(value: Any) -> bool:
    """Whether a value is a list, tuple or the like; text is none."""
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))


def field_names(value: Any) -> tuple[str, ...]:
    """Names of the fields of a NamedTuple or a dataclass; empty for all else."""
    if isinstance(value, tuple):
        return tuple(getattr(value, "_fields", ()))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return tuple(field.name for field in dataclasses.fields(value))
    return ()


def entries_of(value: Any) -> Mapping[Any, Any]:
    """What a dict, a sequence, a NamedTuple (by field and by place), a dataclass or another object holds.

    Of other objects these are what their ``keys()`` name, or else their public attributes. Tensors, arrays, texts and
    numbers hold nothing.

    Example:
        >>> entries_of(("a", "b"))[1]
        'b'
    """
    if isinstance(value, Mapping):
        return value
    if is_sequence(value):
        return {**dict(zip(field_names(value), value, strict=False)), **dict(enumerate(value))}
    if value is None or isinstance(value, _SINGLE) or hasattr(value, "__array__"):
        return {}
    if names := field_names(value):
        return {name: getattr(value, name) for name in names if hasattr(value, name)}
    if callable(getattr(value, "keys", None)) and hasattr(value, "__getitem__"):
        return {key: value[key] for key in value.keys()}  # noqa: SIM118 - no dict: it may not be iterable by key
    return _attributes(value)


def _attributes(value: Any) -> dict[str, Any]:
    slots = [name for kind in type(value).__mro__ for name in _names_in(getattr(kind, "__slots__", ()))]
    names = [*getattr(value, "__dict__", {}), *slots]
    return {name: getattr(value, name) for name in names if not name.startswith("_") and hasattr(value, name)}


def _names_in(slots: Any) -> tuple[str, ...]:
    return (slots,) if isinstance(slots, str) else tuple(slots)


def entry_at(value: Any, key: Key) -> Any:
    """The entry under a key; dots lead through nested entries, unless the key with its dots is one itself.

    Raises:
        KeyError: If it leads to nothing.

    Example:
        >>> entry_at({"data": [{"image": "a"}], "data.0": "b"}, "data.0.image"), entry_at({"data.0": "b"}, "data.0")
        ('a', 'b')
    """
    for step in _steps_to(value, key):
        value = entries_of(value)[step]
    return value


def way_to(value: Any, key: Key, name: str) -> str:
    """Python's way to the entry under a key, as it is written in code.

    Example:
        >>> way_to({"data": ("a", "b")}, "data.1", "batch")
        "batch['data'][1]"
    """
    for step in _steps_to(value, key):
        attribute = isinstance(step, str) and (is_sequence(value) or not hasattr(value, "__getitem__"))
        name += f".{step}" if attribute else f"[{step!r}]"
        value = entries_of(value)[step]
    return name


def _steps_to(value: Any, key: Key) -> list[Key]:
    entries = entries_of(value)
    if isinstance(key, int) and key < 0 and is_sequence(value):
        key += len(value)
    if key in entries:
        return [key]
    if isinstance(key, str):
        if key.isdecimal() and int(key) in entries:
            return [int(key)]
        dots = [place for place, letter in enumerate(key) if letter == "."]
        for dot in reversed(dots):  # the longest key that there is comes first
            head, rest = key[:dot], key[dot + 1 :]
            first: Key = int(head) if head not in entries and head.isdecimal() else head
            if first in entries:
                with suppress(KeyError):
                    return [first, *_steps_to(entries[first], rest)]
    raise KeyError(key)


def tensors_in(value: Any, depth: int = _NESTED) -> Iterator[tuple[Key, Tensor]]:
    """All tensors in a batch or an output, each once, by the key that leads to it, nested ones after their neighbours.

    Example:
        >>> import torch
        >>> [key for key, _ in tensors_in({"id": "a", "data": {"image": torch.zeros(1)}, "mask": torch.zeros(1)})]
        ['mask', 'data.image']
    """
    entries = entries_of(value)
    names = set(field_names(value))
    places = names and is_sequence(value)  # of a NamedTuple: fields have names
    own = {key: entry for key, entry in entries.items() if not (places and isinstance(key, int))}
    for key, entry in own.items():
        if isinstance(entry, Tensor):
            yield key, entry
    if depth <= 1:
        return
    for key, entry in own.items():
        if not isinstance(entry, Tensor):
            for inner, tensor in tensors_in(entry, depth - 1):
                yield f"{key}.{inner}", tensor
