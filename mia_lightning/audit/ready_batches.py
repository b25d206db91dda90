"""Streams that hand out ready-made batches: taken apart into the samples that an audit counts."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset

from mia_lightning.functional.entries import entries_of, is_sequence

# By name: no package is imported for it. Each stage of a WebDataset says whether batches or samples leave it.
_STAGES = {"_batched": True, "_listed": True, "_unbatched": False, "_unlisted": False}


class BatchFormError(ValueError):
    """A ready-made batch cannot be taken apart: no failure of a sample, which the others could do without."""


def hands_out_batches(source: Any) -> bool | None:
    """Whether a source hands out batches, and not samples, by what it is; None where that does not tell.

    Told are WebDataset's pipelines and its ``WebLoader``, what Ray Data's ``iter_torch_batches`` and ``iter_rows``
    return, streams of Hugging Face's ``datasets`` after ``batch``, and torch's loaders.
    """
    if isinstance(source, DataLoader):
        return True if source.batch_sampler is not None else hands_out_batches(source.dataset)
    if _is_of(source, "ray.data") and hasattr(source, "__iter__"):
        return "iter_rows" not in getattr(getattr(source, "iterator_gen", None), "__qualname__", "")
    if _is_of(source, "datasets"):
        return _is_batched_stream(source)
    if not _is_of(source, "webdataset") or not isinstance(getattr(source, "pipeline", None), list):
        return None
    batches = None
    for stage in source.pipeline:
        known = hands_out_batches(stage) if isinstance(stage, (DataLoader, IterableDataset)) else None
        named = _STAGES.get(getattr(getattr(stage, "f", None), "__name__", ""), known)
        batches = batches if named is None else named
    return bool(batches)


def _is_batched_stream(source: Any) -> bool | None:
    step = getattr(source, "_ex_iterable", None)
    while step is not None:
        if getattr(getattr(step, "function", None), "__name__", "").startswith(("_batch_fn", "_batch_arrow")):
            return True
        step = getattr(step, "ex_iterable", None)
    return None


def loads_in_processes(source: Any) -> bool:
    """Whether a source is, or begins with, a loader, which starts worker processes of its own."""
    stages = getattr(source, "pipeline", None)
    return isinstance(source, DataLoader) or (
        isinstance(stages, list) and any(isinstance(s, DataLoader) for s in stages)
    )


class Unbatched(IterableDataset[Any]):
    """The samples of a stream of batches, in order.

    Args:
        batches: Batches, each a dict, a tuple, a list or an object whose entries have one row a sample.
        name: What the samples are called in messages.
    """

    def __init__(self, batches: Iterable[Any], name: str) -> None:
        self.batches, self.name = batches, name

    def __iter__(self) -> Iterator[Any]:
        return _Rows(iter(self.batches), self.name)


class _Rows(Iterator[Any]):
    """Row by row; no generator, so that an error of one batch does not end the others."""

    def __init__(self, batches: Iterator[Any], name: str) -> None:
        self._batches, self._name = batches, name
        self._rows: Iterator[Any] = iter(())

    def __next__(self) -> Any:
        while True:
            for row in self._rows:
                return row
            self._rows = iter(rows_of_batch(next(self._batches), self._name))


def rows_of_batch(batch: Any, name: str = "sample") -> list[Any]:
    """Take a batch apart: into rows of its form, dicts where it is a dataclass or another object with entries.

    A list of samples, which nothing has collated, is taken as it is.

    Raises:
        BatchFormError: If its entries do not have one row a sample, or could be samples as well.

    Example:
        >>> rows_of_batch({"image": torch.tensor([[1.0], [2.0]]), "id": ["a", "b"]})
        [{'image': tensor([1.]), 'id': 'a'}, {'image': tensor([2.]), 'id': 'b'}]
    """
    if isinstance(batch, list) and _are_samples(batch, name):
        return list(batch)
    entries = dict(enumerate(batch)) if is_sequence(batch) else dict(entries_of(batch)) or {0: batch}
    sizes = {key: len(value) for key, value in entries.items() if hasattr(value, "__len__") and not _is_scalar(value)}
    if len(set(sizes.values())) != 1 or len(sizes) != len(entries):
        found = f"{sizes} rows" if sizes else f"a {type(batch).__name__}"
        raise BatchFormError(
            f"A ready-made batch of {name}s cannot be taken apart: expected entries with one row a sample, but got "
            f"{found}. Pass a data set of single samples."
        )
    rows = [{key: value[i] for key, value in entries.items()} for i in range(next(iter(sizes.values())))]
    if not is_sequence(batch):
        return rows if entries_of(batch) else [row[0] for row in rows]
    make = getattr(type(batch), "_make", tuple)  # of a NamedTuple: its names tell input from target
    return [make(row.values()) for row in rows]


def _are_samples(entries: list[Any], name: str) -> bool:
    """Whether a list holds samples, as WebDataset's ``listed`` leaves them, and not the columns of a batch."""
    if all(isinstance(entry, Mapping) for entry in entries):
        return bool(entries)
    if not all(isinstance(entry, (tuple, list)) for entry in entries) or len({len(entry) for entry in entries}) > 1:
        return False
    samples, columns = all(map(_are_alike, zip(*entries, strict=True))), all(map(_are_alike, entries))
    if samples and columns:
        raise BatchFormError(
            f"A ready-made batch of {name}s is a list of {len(entries)} tuples that hold {len(entries[0])} entries of "
            "one kind each, which could be its samples or its columns. Pass a stream of single samples (WebDataset: "
            "unlisted() behind listed), or batches that are tensors."
        )
    return samples


def _are_alike(values: Iterable[Any]) -> bool:
    return len({(type(value), getattr(value, "shape", None)) for value in values}) < 2


def _is_scalar(value: Any) -> bool:
    return isinstance(value, (str, bytes)) or (isinstance(value, torch.Tensor) and value.ndim == 0)


def _is_of(source: Any, package: str) -> bool:
    return any(f"{kind.__module__}.".startswith(f"{package}.") for kind in type(source).__mro__)
