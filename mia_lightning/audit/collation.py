"""Puts numbered samples together to batches: dicts, tuples, objects, and several samples in one entry."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import default_collate

from mia_lightning.audit.unreadable import Unreadable
from mia_lightning.functional.batches import INPUT_KEYS, STORED_OUTPUT_KEY, TARGET_KEYS
from mia_lightning.functional.entries import entries_of, is_sequence

Loaded = tuple[list[int], dict[int, Unreadable | None], Any]
"""Positions of those that have a row; those that have none, and why; the batch."""

_COLLATED = (torch.Tensor, np.ndarray, np.number, np.bool_, int, float, str, bytes, Mapping, Sequence)


class Collate:
    """Collates numbered items; an object, not a closure, so that workers can be spawned."""

    def __init__(self, collate: Callable[[list[Any]], Any], name: str, crops: int | None = None) -> None:
        self.collate, self.name, self.crops = collate, name, crops

    def __call__(self, items: list[tuple[int, Any]]) -> Loaded:
        """Collate the samples among them; None and what could not be read have no row.

        Raises:
            TypeError: If torch's collation does not know an entry of a sample.
            ValueError: If samples differ in size, or entries in how many samples they hold.
        """
        absent = {place: item for place, item in items if item is None or isinstance(item, Unreadable)}
        present = [(place, item) for place, item in items if place not in absent]
        if self.crops is not None or any(is_crops(item) for _, item in present):
            present = [one for place, item in present for one in self._apart(place, item)]
        places = [place for place, _ in present]
        try:
            return places, absent, self.join([item for _, item in present]) if places else None
        except TypeError as error:
            if self.collate is not default_collate:
                raise
            explain_failure(error, self.name, present)
            raise
        except RuntimeError as error:
            if "equal size" not in str(error):
                raise
            raise ValueError(
                f"The {self.name}s at positions {places[0]} to {places[-1]} differ in size and cannot be stacked. "
                "Resize them in the data set, or use batch_size=1 (of the loader, where one was given)."
            ) from error

    def _apart(self, place: int, item: Any) -> list[tuple[int, Any]]:
        """The samples of an entry, numbered through."""
        if self.crops is None or not is_crops(item) or len(item) != self.crops:
            found = f"{len(item)} samples" if is_crops(item) else f"a {type(item).__name__}"
            raise ValueError(
                f"The {self.name} at position {place} is {found}, but the first of them is "
                f"{self.crops or 'no list of'} samples. Expected as many in each entry of the data set, by which they "
                "are numbered."
            )
        return [(place * self.crops + number, one) for number, one in enumerate(item)]

    def join(self, items: list[Any]) -> Any:
        """Collate; in dicts keep as lists what cannot be, such as bounding boxes or coordinate systems.

        Dataclasses and other objects, for which torch's own collation knows nothing, become dicts, nested ones, too.
        What is None in all samples stays that, in tuples as well.
        """
        try:
            return self.collate(items)
        except (TypeError, RuntimeError):
            if self.collate is not default_collate or not entries_of(items[0]):
                raise
            joined = _by_place(items) if is_sequence(items[0]) else _by_key([entries_of(item) for item in items])
            values = joined.values() if isinstance(joined, Mapping) else joined
            if not any(isinstance(value, torch.Tensor) for value in values):
                raise
            return joined


def is_crops(item: Any) -> bool:
    """Whether an entry of a data set is several samples: a list of dicts, as MONAI's transforms that crop return it."""
    return isinstance(item, list) and bool(item) and all(isinstance(one, Mapping) for one in item)


def _by_place(items: list[Any]) -> Any:
    """Collate tuples, of which entries may be None in all samples, or objects; raises what torch's collation does."""
    if len({len(item) for item in items}) > 1:
        return default_collate(items)
    make = getattr(type(items[0]), "_make", list)  # of a NamedTuple
    return make(_of_place(list(values)) for values in zip(*items, strict=True))


def _of_place(values: list[Any]) -> Any:
    if all(value is None for value in values):
        return values
    if all(_is_object(value) for value in values):
        return _by_key([entries_of(value) for value in values])
    try:
        return default_collate(values)
    except TypeError:
        if not all(is_sequence(value) for value in values):
            raise
        return _by_place(values)


def _is_object(value: Any) -> bool:
    """Whether a value has entries that are looked up by names, and torch's collation does not know it."""
    return dataclasses.is_dataclass(value) or (isinstance(value, Mapping) and bool(value))


def _by_key(items: list[Mapping[Any, Any]]) -> dict[Any, Any]:
    joined: dict[Any, Any] = {}
    for key in items[0]:
        values = [item.get(key) for item in items]
        try:
            joined[key] = default_collate(values)
        except (TypeError, RuntimeError):
            if all(_is_object(value) for value in values):
                joined[key] = _by_key([entries_of(value) for value in values])
                continue
            if key in (*INPUT_KEYS, *TARGET_KEYS, STORED_OUTPUT_KEY) and getattr(values[0], "ndim", 2) > 1:
                raise
            joined[key] = values
    return joined


def explain_failure(error: TypeError, name: str, items: Sequence[tuple[int, Any]]) -> None:
    """Say of samples that torch's collation does not put together what it does not know, and what to do.

    Args:
        error: What it raised.
        name: ``"member"`` or ``"nonmember"``.
        items: Positions and samples.

    Raises:
        TypeError: If one of them has an entry that it does not know; nothing where the reason is another.
    """
    strange = [
        (place, key, value)
        for place, item in items
        for key, value in (entries_of(item) or {"": item}).items()
        if value is None or not isinstance(value, _COLLATED)
    ]
    if not strange:
        return
    place, key, value = strange[0]
    found = "None" if value is None else f"a {type(value).__name__}"
    raise TypeError(
        f"{error}. The {name} at position {place} has {found} as {key!r}. Pass the project's loader, whose collate_fn "
        "puts such samples together; leave such entries out in the data set; or return None in place of a whole sample "
        "that is incomplete, which is then left out and named."
    ) from error
