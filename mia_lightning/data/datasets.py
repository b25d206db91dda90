"""Map-style datasets: the dictionaries that models, loaders and the audit receive."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from mia_lightning.data.label_encoding import encode_image
from mia_lightning.data.readers import Read
from mia_lightning.data.record_columns import RecordColumns
from mia_lightning.data.records import Record
from mia_lightning.data.transforms import PairedTransform

Item = dict[str, Tensor | str]
Encode = Callable[[Any], Tensor]


class _OfRecords(Dataset[Item]):
    """What data sets of records have in common: what is known of their samples before these are read.

    Attributes:
        records: The pairs, in order.
        groups: Group of each sample, "" where it has none; None where no sample has one.
        metadata: Further columns by name, one text a sample, which audits can be sliced by.
    """

    def __init__(self, records: Sequence[Record], size: Callable[[Path], str] | None = None) -> None:
        self.records = tuple(records)
        self.metadata: Mapping[str, Sequence[str]] = RecordColumns(self.records, size)
        in_groups = any(record.group is not None for record in self.records)
        self.groups = [record.group or "" for record in self.records] if in_groups else None

    @property
    def ids(self) -> list[str]:
        """Name of each sample."""
        return [record.id for record in self.records]

    def _named(self, item: Item, record: Record) -> Item:
        """Add the id and, where samples have groups, the group."""
        return item | {"id": record.id} | ({} if self.groups is None else {"group": record.group or ""})


class TranslationDataset(_OfRecords):
    """Pairs for image translation: ``{"input": (C, H, W), "target": (C, H, W), "id": str}``, floats in [0, 1].

    Where records have groups, items have a ``group``, too.

    Args:
        records: The pairs, in order.
        read: Gives the input and target arrays of a record. Like the other callables it must be picklable, as
            loader workers receive a copy.
        transform: Resizes, and augments where it is for training.
        encode_input: Turns the transformed input into channels.
        encode_target: Likewise for the target.
        size: Tells the size of an input file as text, for :attr:`metadata`.

    Items raise ``OSError`` for a file that cannot be read, ``ValueError`` for content that does not fit; both name
    the file.
    """

    def __init__(
        self,
        records: Sequence[Record],
        read: Read,
        transform: PairedTransform,
        encode_input: Encode = encode_image,
        encode_target: Encode = encode_image,
        size: Callable[[Path], str] | None = None,
    ) -> None:
        super().__init__(records, size)
        self.read, self.transform = read, transform
        self.encode_input, self.encode_target = encode_input, encode_target

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Item:
        record = self.records[index]
        input, target = self.read(record)
        try:
            input, target = self.transform(input, target)
            return self._named({"input": self.encode_input(input), "target": self.encode_target(target)}, record)
        except ValueError as error:
            raise ValueError(f"{describe(record)}: {error}") from error


class SegmentationDataset(_OfRecords):
    """Pairs for segmentation: ``{"image": float (C, H, W) in [0, 1], "mask": long (H, W), "id": str}``.

    Arguments, and errors of items, are those of :class:`TranslationDataset`.
    """

    def __init__(
        self,
        records: Sequence[Record],
        read: Read,
        transform: PairedTransform,
        size: Callable[[Path], str] | None = None,
    ) -> None:
        super().__init__(records, size)
        self.read, self.transform = read, transform

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Item:
        record = self.records[index]
        image, mask = self.read(record)
        try:
            image, mask = self.transform(image, mask)
        except ValueError as error:
            raise ValueError(f"{describe(record)}: {error}") from error
        labels = torch.from_numpy(np.ascontiguousarray(mask)).long()
        return self._named({"image": encode_image(image), "mask": labels}, record)


def describe(record: Record) -> str:
    """Name a sample and its files, for messages."""
    paths = dict.fromkeys((record.input_path, record.target_path))
    return f"sample {record.id!r} ({' and '.join(map(str, paths))})"
