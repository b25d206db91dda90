"""Folders of arrays: what a model was given, what it should return and what it returned, as exactly as it was.

``mia-lightning predict`` writes them and ``mia-lightning audit --outputs`` reads them. Beside the folders ``inputs``,
``targets`` and ``outputs``, with a ``.npy`` file a sample, ``samples.json`` names the samples in their order and says
what the arrays mean.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Self, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mia_lightning.data.datasets import Item
from mia_lightning.data.output_dataset import Task, UnresizedOutputs
from mia_lightning.data.output_files import read_array
from mia_lightning.data.output_layout import OutputKind
from mia_lightning.result.atomic_files import write_atomically

INDEX = "samples.json"
_ROLES = {"input": "inputs", "target": "targets", "stored_output": "outputs"}
_FORMAT = 1

Array = npt.NDArray[Any]


class ArrayWriter:
    """Writes one side; nothing reads it before :meth:`close` has written its index.

    Args:
        folder: Folder of the side.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._samples: list[dict[str, Any]] = []
        self._types: dict[str, str] = {}
        self._files: set[str] = set()
        for name in _ROLES.values():
            (folder / name).mkdir(parents=True, exist_ok=True)

    def add(
        self,
        id: str,
        input: Tensor,
        target: Tensor,
        output: Tensor,
        group: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        """Write one sample: its tensors, without the batch, and what else is known of it."""
        file = re.sub(r"[^\w.-]+", "_", PurePosixPath(id).with_suffix("").as_posix()).strip("._")[:100] or "sample"
        if file.lower() in self._files:
            file = f"{file}-{len(self._samples):06d}"
        self._files.add(file.lower())  # some file systems do not tell cases apart
        for (role, name), tensor in zip(_ROLES.items(), (input, target, output), strict=True):
            tensor = tensor.detach().cpu()
            array = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
            self._types.setdefault(role, str(array.dtype))
            np.save(self.folder / name / f"{file}.npy", _packed(array), allow_pickle=False)
        named = {"group": group, "metadata": dict(metadata or {}) or None}
        self._samples.append({"id": id, "file": file} | {k: v for k, v in named.items() if v is not None})

    def close(self, names: Sequence[str], about: Mapping[str, Any]) -> None:
        """Write the index: the samples' names, in the order in which they were added, and what the arrays mean."""
        named = [sample | {"id": name} for sample, name in zip(self._samples, names, strict=True)]
        index = {"format": _FORMAT, **about, "types": self._types, "samples": named}
        write_atomically(self.folder / INDEX, json.dumps(index, indent=1) + "\n")


class StoredArrays(UnresizedOutputs):
    """One side as :class:`ArrayWriter` wrote it; items hold the tensors that the model had, and its output as it was.

    Args:
        root: Folder of the side.

    Attributes:
        ids: Names of the samples, in the order of the data that they come from.
        groups: Group of each sample, "" where it has none; None where no sample has one.
        metadata: Further columns by name, one text a sample, which audits can be sliced by.
        task: The task.
        kind: What the outputs are.
        num_classes: Number of classes, where the settings say it.
        settings: Fields of :class:`~mia_lightning.AuditConfig` that say what the tensors mean.
        about: What is known of the weights and of the membership: fields of
            :class:`~mia_lightning.result.context.AuditContext`.

    Raises:
        OSError: If the index or a file is missing.
        ValueError: If the index is damaged. Items raise likewise and name the file.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        index = _read_index(self.root / INDEX)
        self._take([{"group": None, **sample} for sample in index["samples"]])
        self._types = {role: np.dtype(index["types"][role]) for role in _ROLES}
        self.task, self.kind = cast(Task, index["task"]), cast(OutputKind, index["kind"])
        self.settings, self.about = dict(index["settings"]), dict(index["about"])
        self.num_classes = self.settings.get("num_classes")

    def _take(self, samples: list[dict[str, Any]]) -> None:
        self._samples, groups = samples, [sample["group"] for sample in samples]
        self.groups = None if all(group is None for group in groups) else [group or "" for group in groups]
        rows = [sample.get("metadata") or {} for sample in samples]
        names = dict.fromkeys(name for row in rows for name in row)
        self.metadata = {name: [str(row.get(name, "")) for row in rows] for name in names}

    @property
    def ids(self) -> list[str]:
        """Names of the samples, in order."""
        return [sample["id"] for sample in self._samples]

    @property
    def paths(self) -> list[Path]:
        """Files of the outputs, in order."""
        return [self.root / "outputs" / f"{sample['file']}.npy" for sample in self._samples]

    @property
    def storage(self) -> list[str]:
        """How the outputs are stored."""
        return ["array"]

    def only(self, ids: Sequence[str]) -> Self:
        """Return the data set of some of the samples, in the order given."""
        places = {sample["id"]: sample for sample in self._samples}
        other = type(self)(self.root)
        other._take([places[id] for id in ids])
        return other

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> Item:
        sample = self._samples[index]
        item = {role: self._read(role, self.root / name / f"{sample['file']}.npy") for role, name in _ROLES.items()}
        group = {} if self.groups is None else {"group": self.groups[index]}
        return cast(Item, item | {"id": sample["id"]} | group)

    def _read(self, role: str, path: Path) -> Tensor:
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing, but {self.root / INDEX} names it: copy the folder again.")
        return torch.from_numpy(_unpacked(read_array(path), self._types[role]))


def _read_index(path: Path) -> Mapping[str, Any]:
    """Read an index; ValueError if it is none, is damaged, or names files elsewhere."""
    problem, index = "", None
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        if index["format"] != _FORMAT:
            problem = f"it has format {index['format']}, this version reads {_FORMAT}"
        elif not index["samples"] or not _ROLES.keys() <= index["types"].keys():
            problem = "it names no samples"
        elif any(not isinstance(s["id"], str) or not re.fullmatch(r"[\w.-]+", s["file"]) for s in index["samples"]):
            problem = "a sample has no name, or one of no file in this folder"
        elif any(not isinstance(s.get("metadata") or {}, dict) for s in index["samples"]):
            problem = "what it says of a sample (metadata) is no table of names and values"
        elif missing := [name for name in ("task", "kind", "settings", "about") if name not in index]:
            problem = f"it lacks {', '.join(missing)}"
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        problem = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
    if problem:
        raise ValueError(
            f"{path} cannot be read as the index of stored arrays: {problem}. Let mia-lightning predict write the "
            "folder again."
        )
    return cast(Mapping[str, Any], index)


def _packed(array: Array) -> Array:
    """The same values in fewer bytes, where that loses nothing: 8-bit pictures, and class numbers."""
    if array.dtype == np.float32 and array.size:
        finite = bool(np.isfinite(array).all() and array.min() >= 0 and array.max() <= 1)
        small = np.round(array * np.float32(255)).astype(np.uint8) if finite else None
    elif array.dtype.kind in "iu" and array.size:
        kinds = (np.uint8, np.int16, np.int32)
        fits = (k for k in kinds if np.iinfo(k).min <= array.min() and array.max() <= np.iinfo(k).max)
        small = array.astype(next(fits, array.dtype))
    else:
        small = None
    return small if small is not None and np.array_equal(_unpacked(small, array.dtype), array) else array


def _unpacked(array: Array, dtype: npt.DTypeLike) -> Array:
    original = np.dtype(dtype)
    if array.dtype == np.uint8 and original == np.float32:
        return np.asarray(array.astype(np.float32) / np.float32(255))
    return array.astype(original)
