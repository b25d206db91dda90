"""The one reader of batches: which key or place holds the input, the target, the ids and the groups."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from torch import Tensor

from mia_lightning.functional.descriptions import describe
from mia_lightning.functional.entries import Key, entries_of, entry_at, field_names, is_sequence, tensors_in

INPUT_KEYS = ("image", "input", "pixel_values", "source")
TARGET_KEYS = ("mask", "target", "label", "labels")
ID_KEYS = ("id", "ids", "name")
FILE_KEYS = (
    *("filename", "file_name", "fname", "file", "filepath", "file_path", "path"),
    *("image_path", "img_path", "image_file", "image_name", "img_name"),
)
SLICE_KEYS = ("slice_num", "slice_number", "slice_index", "slice_idx", "slice_id", "slice")
GROUP_KEY = "group"
STORED_OUTPUT_KEY = "stored_output"

_PLACES = {"input": (0,), "target": (1,), "id": (2,)}
_ROLES = {"input": INPUT_KEYS, "target": TARGET_KEYS}


@dataclass
class Batch:
    """A batch of a project's loader, taken apart.

    Attributes:
        id: One name a sample, or None where the data have none.
        input: What the model gets, (B, ...).
        target: What it should return, (B, ...).
        group: The group of each sample, such as the patient, or None where the data have none.
        stored_output: What the model returned for these inputs, where that was stored, (B, ...).
        metadata: Further values, one a sample, by name, such as ``{"site": ["A", "B"]}``: what an adapter brings for
            ``slices=["site"]`` where the loader's batches do not have it under that name. None: nothing.
    """

    id: list[str] | None
    input: Tensor
    target: Tensor
    group: list[str] | None = None
    stored_output: Tensor | None = None
    metadata: Mapping[str, Sequence[Any]] | None = None


@dataclass(frozen=True)
class BatchReader:
    """Takes batches apart, in training and in audits alike.

    Without a key, dicts keep the input under a key of :data:`INPUT_KEYS`, such as ``image`` or ``pixel_values``, the
    target under one of :data:`TARGET_KEYS`, such as ``mask`` or ``labels``, ids under ``id``, ``ids`` or ``name``,
    groups under ``group``, and outputs that a model returned before under ``stored_output``. Where there is no id, the
    name of a file is one: a text or path a sample under a key of :data:`FILE_KEYS`, such as ``filename``, ``path`` or
    ``image_path``, with the number of the slice where there is one under a key of :data:`SLICE_KEYS`. A dense tensor,
    one of three dimensions or more, comes before others, such as the class label beside a mask. ``output`` is the
    target beside ``input`` where there is no other. Dataclasses and other objects with such attributes are read as
    dicts are. Tuples are ``(input, target)`` or ``(input, target, id)``; in training, what follows the target
    does not matter. A NamedTuple whose fields have these names is read by them.

    Args:
        input_key: Key of a dict, name of a field or attribute, or place in a tuple, of the input. Dots lead through
            nested ones: ``"data.image"``, or ``"0.image"``; a key that has dots itself comes first.
        target_key: That of the target.
        id_key: That of the ids.
        group_key: That of the groups.

    Example:
        >>> import torch
        >>> x, y = torch.zeros(2, 3, 8, 8), torch.ones(2, 8, 8)
        >>> batch = BatchReader()({"image": x, "mask": y, "label": torch.tensor([3, 7]), "id": ["a", "b"]})
        >>> batch.target is y, batch.id
        (True, ['a', 'b'])
        >>> BatchReader(target_key=2)((x, torch.ones(2), y)).target is y
        True
        >>> BatchReader("data.photo", "data.drawing")({"data": {"photo": x, "drawing": y}}).input is x
        True
    """

    input_key: Key | None = None
    target_key: Key | None = None
    id_key: Key | None = None
    group_key: Key | None = None

    def __call__(self, batch: Any) -> Batch:
        """Take a batch apart; the tensors are those of the batch.

        Raises:
            TypeError: If the batch has none of the forms above, a key leads to nothing, or two dense tensors could have
                one role. A longer tuple needs a place by a key, for what its other entries are is anybody's guess.
        """
        settled = any(key is not None for key in self._named) or all(_fields(batch).values())
        if is_sequence(batch) and len(batch) > 3 and not settled:
            raise self._unreadable(batch)
        input, target = self.pair(batch)
        stored = None if is_sequence(batch) else entries_of(batch).get(STORED_OUTPUT_KEY)
        return Batch(
            self._names(batch, "id", self.id_key, ID_KEYS) or self._file_names(batch, len(input)),
            input,
            target,
            self._names(batch, "group", self.group_key, (GROUP_KEY,)),
            stored if isinstance(stored, Tensor) else None,
        )

    def pair(self, batch: Any) -> tuple[Tensor, Tensor]:
        """Take the input and the target, (B, ...) each, and no more: a tuple may go on after them. Errors as a call."""
        input = self._tensor(batch, "input", self.input_key, INPUT_KEYS)
        target = self._tensor(batch, "target", self.target_key, TARGET_KEYS)
        entries = entries_of(batch)
        if target is None and input is not None and input is entries.get("input"):
            output = entries.get("output")
            target = output if isinstance(output, Tensor) else None
        if input is None or target is None:
            raise self._unreadable(batch)
        return input, target

    def input(self, batch: Any) -> Tensor:
        """Take the input, (B, ...); the target may be missing, as it is when predicting. Errors as a call."""
        input = batch if isinstance(batch, Tensor) else self._tensor(batch, "input", self.input_key, INPUT_KEYS)
        if input is None:
            raise TypeError(
                f"The batch is {describe(batch)}; expected an input, a tuple that begins with one, or a dict with one "
                f"of {', '.join(INPUT_KEYS)}."
            )
        return input

    @property
    def _named(self) -> tuple[Key | None, ...]:
        return self.input_key, self.target_key, self.id_key, self.group_key

    @staticmethod
    def _unreadable(batch: Any) -> TypeError:
        nested = [key for key, tensor in tensors_in(batch) if "." in str(key) and tensor.ndim >= 3]
        lists = [key for key, entry in entries_of(batch).items() if _is_nested_list(entry)]
        remedy = (
            " Nested lists are no tensors: Hugging Face's datasets give these with_format('torch')." if lists else ""
        )
        dots = f", nested ones with dots, such as input_key={nested[0]!r}" if nested else ""
        return TypeError(
            f"The batch is {describe(batch)}; expected (input, target), (input, target, id), or a dict with one of "
            f"{', '.join(INPUT_KEYS)} and one of {', '.join(TARGET_KEYS)}; input_key and target_key name others{dots}."
            + remedy
        )

    def _tensor(self, batch: Any, role: str, key: Key | None, usual: Sequence[Key]) -> Tensor | None:
        if key is not None:
            found = _found(batch, key)
            if isinstance(found, Tensor):
                return found
            raise TypeError(f"{role}_key={key!r} finds no tensor in the batch, {describe(batch)}.")
        entries = entries_of(batch)
        tensors = {k: v for k in self._usual(batch, role, usual) if isinstance(v := entries.get(k), Tensor)}
        dense = [k for k, v in tensors.items() if v.ndim >= 3]
        if len(dense) > 1:
            raise TypeError(
                f"The batch is {describe(batch)}: {' and '.join(map(repr, dense))} could each be the {role}. Leave all "
                f"but one out of the batch, or name it by {role}_key, for example {role}_key={dense[0]!r}."
            )
        return next((tensors[k] for k in (*dense, *tensors)), None)

    def _names(self, batch: Any, role: str, key: Key | None, usual: Sequence[Key]) -> list[str] | None:
        """One text a sample; None where there is none."""
        if key is not None:
            value = _found(batch, key)
            if value is _NOTHING:
                raise TypeError(f"{role}_key={key!r} finds nothing in the batch, {describe(batch)}.")
        else:
            entries = entries_of(batch)
            value = next((entries[k] for k in self._usual(batch, role, usual) if k in entries), None)
        if value is None:
            return None
        values = value.tolist() if isinstance(value, Tensor) and value.ndim <= 1 else value
        if isinstance(values, (str, int, PurePath)):
            return [str(values)]  # a batch of one
        if is_sequence(values) and key is None and all(v is None for v in values):
            return None
        if is_sequence(values) and all(isinstance(v, (str, int, PurePath)) for v in values):
            return [str(v) for v in values]
        if role == "group" and key is None:
            return None  # a project may keep something else under this name
        in_tuple = key is None and is_sequence(batch) and not any(k in field_names(batch) for k in usual)
        if in_tuple and (self.input_key is not None or self.target_key is not None or all(_fields(batch).values())):
            return None  # such as weights of the pixels: what the batch holds was said
        remedy = "say which entry is the target, such as target_key=1" if in_tuple else f"name another by {role}_key"
        raise TypeError(
            f"Expected one {role} a sample (text or whole numbers), but the batch has {describe(value)}; {remedy}."
        )

    def _file_names(self, batch: Any, count: int) -> list[str] | None:
        """Files that the samples come from, where a usual key has one text or path a sample; else None.

        Beside the number of a slice, one a sample, it goes with the name: many slices come from one file.
        """
        entries = entries_of(batch)
        if self.id_key is not None:
            return None
        for key in (k for k in FILE_KEYS if k in entries and k not in self._named):
            values = [entries[key]] if isinstance(entries[key], (str, PurePath)) else entries[key]
            if is_sequence(values) and len(values) == count and all(isinstance(v, (str, PurePath)) for v in values):
                slices = self._slices(batch, count)
                names = [str(value) for value in values]
                return names if slices is None else [f"{n}:{s}" for n, s in zip(names, slices, strict=True)]
        return None

    def _slices(self, batch: Any, count: int) -> list[int] | None:
        """Numbers of slices, one a sample; None where there are none."""
        entries = entries_of(batch)
        for key in (k for k in SLICE_KEYS if k in entries and k not in self._named):
            value = entries[key]
            values = value.tolist() if isinstance(value, Tensor) and value.ndim <= 1 else value
            values = [values] if isinstance(values, int) else values
            if is_sequence(values) and len(values) == count and all(isinstance(v, int) for v in values):
                return list(values)
        return None

    def _usual(self, batch: Any, role: str, keys: Sequence[Key]) -> Sequence[Key]:
        """Where a role is looked for without a setting: what another setting names is left out."""
        if is_sequence(batch):
            keys = _in_tuple(batch, role, keys)
        return [k for k in keys if k not in self._named]


_NOTHING = object()


def _is_nested_list(entry: Any) -> bool:
    return isinstance(entry, list) and len(entry) > 0 and isinstance(entry[0], list)


def _found(batch: Any, key: Key) -> Any:
    try:
        return entry_at(batch, key)
    except KeyError:
        return _NOTHING


def _fields(batch: Any) -> dict[str, list[str]]:
    """The fields of a NamedTuple that hold tensors under the usual names of input and target."""
    named = zip(field_names(batch), batch, strict=False) if is_sequence(batch) else ()
    held = {name for name, value in named if isinstance(value, Tensor)}
    return {role: [key for key in keys if key in held] for role, keys in _ROLES.items()}


def _in_tuple(batch: Any, role: str, keys: Sequence[Key]) -> Sequence[Key]:
    """Where a tuple has a role: the usual fields of a NamedTuple that has them, else a place that no field claims."""
    names, fields = field_names(batch), _fields(batch)
    if usual := [key for key in keys if key in fields.get(role, names)]:
        return usual
    claimed = {names.index(key): other for other, found in fields.items() for key in found}
    if any(_PLACES[other] != (place,) for place, other in claimed.items()) and role in fields:
        return ()  # the fields' names say that places are not the usual ones
    places = _PLACES.get(role, ()) if role != "id" or len(batch) == 3 else ()
    return [place for place in places if place not in claimed]
