"""What tells a sample from others, whatever is done to it later: digests of its files, or of its raw values."""

import bisect
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from torch.utils.data import ConcatDataset, Dataset, Subset, TensorDataset

from mia_lightning.audit.isolation import isolated
from mia_lightning.audit.loading import Side, Source
from mia_lightning.audit.machine_failures import MACHINE_FAILURES
from mia_lightning.audit.unreadable import Unreadable, require_few
from mia_lightning.data.datasets import SegmentationDataset, TranslationDataset
from mia_lightning.data.readers import ArrayReader

MOST_SAMPLES = 10_000
"""So many samples a side are read at the most, of files or of arrays in memory."""
MOST_BYTES = 2**30
"""So many bytes of files a side are read at the most."""
MOST_ITEMS = 256
"""So many samples a side are read at the most where each has to be made by its data set."""

Kind = Literal["files", "arrays", "items"]
_PROBED = 64  # samples whose files are measured
_PIECE = 2**20


class NotComparableError(Exception):
    """Why the samples of a source have no digests, in words that end a sentence."""


@dataclass(frozen=True)
class SideContents:
    """Digests of the samples of one side.

    Attributes:
        kind: Of what: ``"files"``, their bytes on the disk; ``"arrays"``, ids and values in memory; ``"items"``, what
            the data set returns.
        size: Number of samples of the side.
        names: Names of those that were read.
        digests: Their digests, in the same order. They are not keyed, and are stored nowhere.
    """

    kind: Kind
    size: int
    names: tuple[str, ...]
    digests: tuple[bytes, ...]


class Samples:
    """The samples of one side, ready to be read.

    Args:
        name: ``"member"`` or ``"nonmember"``.
        source: A data set or a loader, whose samples are taken as they are before any transform where that is possible.

    Raises:
        NotComparableError: If the source is a stream.
    """

    def __init__(self, name: str, source: Source) -> None:
        side = Side(name, source, max_samples=None, batch_size=1, num_workers=0, seed=0)
        if side.indices is None:
            raise NotComparableError("they come as a stream, which cannot be read by position")
        self.dataset, self.indices = side.dataset, side.indices
        self._columns: dict[int, list[Sequence[Any]]] = {}
        self.kind = self._kind(*_located(self.dataset, self.indices[0]))

    def __len__(self) -> int:
        return len(self.indices)

    def share(self) -> float:
        """Share of the samples, in (0, 1], that can be read within the limits."""
        if self.kind == "items":
            return min(1.0, MOST_ITEMS / len(self))
        share = min(1.0, MOST_SAMPLES / len(self))
        if self.kind == "files":
            probed = self.indices[:: max(1, len(self) // _PROBED)]
            sizes = [sum(p.stat().st_size for p in self._files(*_located(self.dataset, i))) for i in probed]
            share = min(share, MOST_BYTES / max(1.0, len(self) * sum(sizes) / len(sizes)))
        return share

    def contents(self, share: float, salt: bytes) -> SideContents:
        """Read a share of the samples, chosen by their names and the salt, so that equal names are chosen alike.

        Those few that cannot be read are left out, as audits leave them out.

        Raises:
            NotComparableError: If the data set returns something else each time.
            OSError: If more files cannot be read.
            MemoryError: As all failures of the machine, which are not a sample's.
        """
        names, digests, unreadable = list[str](), list[bytes](), dict[int, Unreadable]()
        with isolated(None, self.dataset):
            for place, index in enumerate(self.indices):
                name = self._name(place, index)
                if share >= 1.0 or _chosen(name, share, salt):
                    try:
                        digest = self._digest(index)
                    except MACHINE_FAILURES:
                        raise
                    except Exception as error:  # what a data set raises for a sample that it cannot read
                        unreadable[index] = Unreadable(error)
                        require_few("sample", unreadable, len(self))
                        continue
                    if self.kind == "items" and not digests and self._digest(index) != digest:
                        raise NotComparableError(
                            "their data set returns other values each time, as one that augments does"
                        )
                    names.append(name)
                    digests.append(digest)
        return SideContents(self.kind, len(self), tuple(names), tuple(digests))

    def _kind(self, dataset: Dataset[Any], index: int) -> Kind:
        if isinstance(dataset, TensorDataset) or _arrays_of(dataset, index) is not None:
            return "arrays"
        return "files" if self._files(dataset, index) else "items"

    def _name(self, place: int, index: int) -> str:
        dataset, inner = _located(self.dataset, index)
        if isinstance(dataset, (TranslationDataset, SegmentationDataset)):
            return dataset.records[inner].id
        files = self._files(dataset, inner) if self.kind == "files" else []
        return files[0].stem if files else f"position {place}"

    def _digest(self, index: int) -> bytes:
        dataset, inner = _located(self.dataset, index)
        if self.kind == "files":
            # In no order of their own: which of two files is the input is a matter of settings.
            return _joined(sorted(map(_digest_of_file, self._files(dataset, inner))))
        if self.kind == "arrays":
            arrays = _arrays_of(dataset, inner)
            values = cast(Any, dataset).tensors if arrays is None else arrays
            return _joined(_pieces([t[inner] for t in values] if arrays is None else values))
        return _joined(_pieces(cast(Any, dataset)[inner]))

    def _files(self, dataset: Dataset[Any], index: int) -> list[Path]:
        """Files that a sample is made of, each once; none where they are not found."""
        if isinstance(dataset, (TranslationDataset, SegmentationDataset)):
            record = dataset.records[index]
            return list(dict.fromkeys([record.input_path, *record.target_paths]))
        if id(dataset) not in self._columns:
            self._columns[id(dataset)] = _columns_of_files(dataset)
        columns = self._columns[id(dataset)]
        return list(dict.fromkeys(path for column in columns for path in _paths(column[index])))


def _located(dataset: Dataset[Any], index: int) -> tuple[Dataset[Any], int]:
    """Look through subsets and concatenations for the data set that holds a sample, and its place there."""
    while True:
        if isinstance(dataset, Subset):
            index, dataset = int(dataset.indices[index]), dataset.dataset
        elif isinstance(dataset, ConcatDataset):
            number = bisect.bisect_right(dataset.cumulative_sizes, index)
            index -= dataset.cumulative_sizes[number - 1] if number else 0
            dataset = dataset.datasets[number]
        else:
            return dataset, index


def _arrays_of(dataset: Dataset[Any], index: int) -> list[Any] | None:
    """Id and arrays of a sample of this package that is made in memory; None for others."""
    if isinstance(dataset, (TranslationDataset, SegmentationDataset)) and isinstance(dataset.read, ArrayReader):
        record = dataset.records[index]
        return [record.id, *dataset.read(record)]
    return None


def _columns_of_files(dataset: Dataset[Any]) -> list[Sequence[Any]]:
    """Lists, as long as the data set, that name files which exist: ``images`` and ``masks``, or ``samples``."""
    try:
        length, attributes = len(cast(Any, dataset)), vars(dataset)
    except TypeError:
        return []
    columns = [v for v in attributes.values() if isinstance(v, (list, tuple)) and len(v) == length > 0]
    return [column for column in columns if any(path.is_file() for path in _paths(column[0]))]


def _paths(value: Any) -> list[Path]:
    """Paths in an entry of a list: the entry itself, or those in a tuple or dict."""
    if isinstance(value, (str, Path)):
        return [Path(value)]
    values = value.values() if isinstance(value, Mapping) else value if isinstance(value, (list, tuple)) else ()
    return [Path(v) for v in values if isinstance(v, Path) or (isinstance(v, str) and Path(v).is_file())]


def _digest_of_file(path: Path) -> bytes:
    digest = hashlib.blake2b(digest_size=32)
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
    return digest.digest()


def _joined(pieces: Iterable[bytes]) -> bytes:
    digest = hashlib.blake2b(digest_size=32)
    for piece in pieces:
        digest.update(len(piece).to_bytes(8, "big") + piece)
    return digest.digest()


def _pieces(value: Any) -> Iterator[bytes]:
    """Bytes of an item, whatever it is made of."""
    if isinstance(value, torch.Tensor):
        array = value.detach().cpu().contiguous()
        yield f"{array.dtype} {tuple(array.shape)}".encode()
        yield array.view(torch.uint8).numpy().tobytes() if array.numel() and array.dim() else repr(array).encode()
    elif isinstance(value, np.ndarray):
        yield f"{value.dtype} {value.shape}".encode()
        yield value.tobytes()
    elif isinstance(value, Mapping):
        for key in sorted(value, key=str):
            yield str(key).encode()
            yield from _pieces(value[key])
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _pieces(part)
    elif callable(getattr(value, "tobytes", None)):  # a picture of Pillow, a number of NumPy
        yield f"{getattr(value, 'mode', '')} {getattr(value, 'size', '')}".encode()
        yield value.tobytes()
    else:
        yield repr(value).encode() if isinstance(value, (str, bytes, int, float, bool)) else b"-"


def _chosen(name: str, share: float, salt: bytes) -> bool:
    number = int.from_bytes(hashlib.blake2b(name.encode(), key=salt, person=b"choice", digest_size=8).digest(), "big")
    return number < share * 2**64
