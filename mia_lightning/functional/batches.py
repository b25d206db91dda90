"""The one reader of batches: which key or place holds the input, the target, the ids and the groups."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, cast

from torch import Tensor

from mia_lightning.functional.descriptions import describe, is_sequence

INPUT_KEYS = ("image", "input")
TARGET_KEYS = ("mask", "target", "label")
ID_KEYS = ("id", "ids", "name")
FILE_KEYS = (
    *("filename", "file_name", "file", "filepath", "file_path", "path"),
    *("image_path", "img_path", "image_file", "image_name", "img_name"),
)
GROUP_KEY = "group"
STORED_OUTPUT_KEY = "stored_output"

_PLACES = {"input": (0,), "target": (1,), "id": (2,)}

Key = int | str
"""Key of a dict, or place in a tuple."""


@dataclass
class Batch:
    """A batch of a project's loader, taken apart.

    Attributes:
        id: One name a sample, or None where the data have none.
        input: What the model gets, (B, ...).
        target: What it should return, (B, ...).
        group: The group of each sample, such as the patient, or None where the data have none.
        stored_output: What the model returned for these inputs, where that was stored, (B, ...).
    """

    id: list[str] | None
    input: Tensor
    target: Tensor
    group: list[str] | None = None
    stored_output: Tensor | None = None


@dataclass(frozen=True)
class BatchReader:
    """Takes batches apart, in training and in audits alike.

    Without a key, dicts keep the input under ``image`` or ``input``, the target under ``mask``, ``target`` or
    ``label``, ids under ``id``, ``ids`` or ``name``, groups under ``group``, and outputs that a model returned before
    under ``stored_output``. Where there is no id, the name of a file is one: a text or path a sample under a key of
    :data:`FILE_KEYS`, such as ``filename``, ``path`` or ``image_path``. A dense tensor, one of three dimensions or
    more, comes before others, such as the class label beside a mask. ``output`` is the target beside ``input`` where
    there is no other. Tuples are ``(input, target)`` or ``(input, target, id)``; in training, what follows the target
    does not matter.

    Args:
        input_key: Key of a dict, or place in a tuple, of the input.
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
        has_places = any(isinstance(key, int) for key in self._named)
        if not isinstance(batch, Mapping) and len(_entries(batch)) > 3 and not has_places:
            raise self._unreadable(batch)
        input, target = self.pair(batch)
        stored = batch.get(STORED_OUTPUT_KEY) if isinstance(batch, Mapping) else None
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
        entries = _entries(batch)
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
        return TypeError(
            f"The batch is {describe(batch)}; expected (input, target), (input, target, id), or a dict with one of "
            f"{', '.join(INPUT_KEYS)} and one of {', '.join(TARGET_KEYS)}; input_key and target_key name others."
        )

    def _tensor(self, batch: Any, role: str, key: Key | None, usual: Sequence[Key]) -> Tensor | None:
        entries = _entries(batch)
        if key is not None:
            if isinstance(entries.get(key), Tensor):
                return cast(Tensor, entries[key])
            raise TypeError(f"{role}_key={key!r} finds no tensor in the batch, {describe(batch)}.")
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
        entries = _entries(batch)
        if key is not None and key not in entries:
            raise TypeError(f"{role}_key={key!r} finds nothing in the batch, {describe(batch)}.")
        keys = self._usual(batch, role, usual) if key is None else (key,)
        value = next((entries[k] for k in keys if k in entries), None)
        if value is None:
            return None
        values = value.tolist() if isinstance(value, Tensor) and value.ndim <= 1 else value
        if isinstance(values, (str, int, PurePath)):
            return [str(values)]  # a batch of one
        if is_sequence(values) and all(isinstance(v, (str, int, PurePath)) for v in values):
            return [str(v) for v in values]
        if role == "group" and key is None:
            return None  # a project may keep something else under this name
        in_tuple = key is None and not isinstance(batch, Mapping)
        if in_tuple and (self.input_key is not None or self.target_key is not None):
            return None  # such as weights of the pixels: what the batch holds was said
        remedy = "say which entry is the target, such as target_key=1" if in_tuple else f"name another by {role}_key"
        raise TypeError(
            f"Expected one {role} a sample (text or whole numbers), but the batch has {describe(value)}; {remedy}."
        )

    def _file_names(self, batch: Any, count: int) -> list[str] | None:
        """Files that the samples come from, where a usual key has one text or path a sample; else None."""
        if not isinstance(batch, Mapping) or self.id_key is not None:
            return None
        for key in (k for k in FILE_KEYS if k in batch and k not in self._named):
            values = [batch[key]] if isinstance(batch[key], (str, PurePath)) else batch[key]
            if is_sequence(values) and len(values) == count and all(isinstance(v, (str, PurePath)) for v in values):
                return [str(value) for value in values]
        return None

    def _usual(self, batch: Any, role: str, keys: Sequence[Key]) -> Sequence[Key]:
        """Where a role is looked for without a setting: what another setting names is left out."""
        if not isinstance(batch, Mapping):
            keys = _PLACES.get(role, ()) if role != "id" or len(batch) == 3 else ()
        return [k for k in keys if k not in self._named]


def _entries(batch: Any) -> Mapping[Any, Any]:
    """A batch by keys or places; empty where it is neither a dict nor a sequence."""
    if isinstance(batch, Mapping):
        return batch
    return dict(enumerate(batch)) if is_sequence(batch) else {}
