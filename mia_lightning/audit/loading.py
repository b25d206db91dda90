"""Reads one side of the comparison: data sets, loaders and generators become batches with each sample's position."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from itertools import chain, islice
from typing import Any, cast

import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
    default_collate,
    get_worker_info,
)
from torch.utils.data.distributed import DistributedSampler

from mia_lightning.functional.batches import INPUT_KEYS, STORED_OUTPUT_KEY, TARGET_KEYS

Source = Dataset[Any] | DataLoader[Any]
Samples = Source | Iterator[Any]
NumberedBatch = tuple[list[int], Any]
Prepare = Callable[[Any], Any]
_KNOWN_SAMPLERS: tuple[type[Any], ...] = (SubsetRandomSampler, DistributedSampler, RandomSampler, SequentialSampler)


def as_loaded(batch: Any) -> Any:
    """Leave a batch as the loader gave it."""
    return batch


class Side:
    """One side of the comparison, ready to be read by process ``rank`` of ``world``.

    Processes share whole batches, not samples: a batch of many processes holds what a batch of one would, so that the
    model gives the same numbers to the last bit.

    Args:
        name: ``"member"`` or ``"nonmember"``; names samples without an id.
        source: A data set or a loader. A loader is rebuilt: unshuffled, nothing dropped, its collation kept. A
            generator of samples is read once, as it goes; each process needs one of its own that gives all samples.
        max_samples: Size of the seeded subset; None takes all. Of a stream, which cannot be indexed, the first ones.
        batch_size: Batch size where the source has none of its own.
        num_workers: Number of worker processes where the source has none of its own.
        seed: Seed of the subset.
        prepare: Applied to each collated batch in the process that audits, as a trainer's batch-transfer hooks are.

    Raises:
        TypeError: If the source is none of these.
        ValueError: If it is empty, or a loader's sampler does not tell which samples it takes.
    """

    def __init__(
        self,
        name: str,
        source: Samples,
        *,
        max_samples: int | None,
        batch_size: int,
        num_workers: int,
        seed: int,
        prepare: Prepare = as_loaded,
    ) -> None:
        self.name, self.max_samples, self.prepare = name, max_samples, prepare
        self.batch_size, self.num_workers = batch_size, num_workers
        self.collate: Callable[[list[Any]], Any] = default_collate
        self.indices: list[int] | None = None
        self.capped = max_samples is not None  # a stream may have more samples
        self.workers: dict[str, Any] = {}
        if isinstance(source, DataLoader):
            if source.batch_size is None and source.batch_sampler is None:
                raise ValueError(
                    f"The loader of {name}s has batch_size=None: its data set hands out ready-made batches, and "
                    "samples cannot be told apart. Pass a data set of single samples."
                )
            own = ("worker_init_fn", "multiprocessing_context")
            self.workers = {option: getattr(source, option) for option in own}
            self.dataset: Dataset[Any] = source.dataset
            self.collate = source.collate_fn
            # A loader that was given a batch sampler tells no size itself.
            self.batch_size = source.batch_size or getattr(source.batch_sampler, "batch_size", None) or batch_size
            self.num_workers = source.num_workers
            sampled = _indices_of(source)
        elif isinstance(source, Iterator):
            self.dataset, sampled, self.num_workers = _Once(source), None, 0
        elif not isinstance(source, (str, bytes, dict)) and (
            hasattr(source, "__getitem__") or hasattr(source, "__iter__")
        ):
            self.dataset, sampled = source, None
        else:
            raise TypeError(f"Expected a Dataset or a DataLoader of {name}s, but got {type(source).__name__}.")
        if not isinstance(self.dataset, IterableDataset) and isinstance(self.dataset, Sized):
            available = sampled if sampled is not None else range(len(self.dataset))
            self.indices = _subset(available, max_samples, seed)
            self.capped = len(self.indices) < len(available)
            if not self.indices:
                raise ValueError(empty_side(name))

    def __len__(self) -> int:
        """Number of samples to audit on all processes, 0 where the source does not tell."""
        return len(self.indices) if self.indices is not None else 0

    def first(self) -> Any:
        """Read the first sample, as a batch of one."""
        return self.beginning(1)[0]

    def beginning(self, count: int) -> list[Any]:
        """Read up to `count` samples, each as a batch of one: the first, and others evenly over the side.

        Of a stream, which cannot be indexed, they are the first ones.
        """
        count = min(count, self.max_samples or count)
        if self.indices is not None:
            step = max(1, len(self.indices) / count)
            return [self.item(self.indices[int(i * step)]) for i in range(min(count, len(self.indices)))]
        items = list(islice(cast(Iterable[Any], self.dataset), count))
        if isinstance(self.dataset, _Once):
            self.dataset.put_back(items)
        if not items:
            raise ValueError(empty_side(self.name))
        return [self._collated([item]) for item in items]

    def batches(self, rank: int = 0, world: int = 1) -> Iterator[NumberedBatch]:
        """Read this process's share, in order: pairs of sample positions and the collated, prepared batch."""
        for positions, batch in self._loaded(rank, world):
            yield positions, self.prepare(batch)

    def _loaded(self, rank: int, world: int) -> Iterator[NumberedBatch]:
        shared: dict[str, Any] = {
            **self.workers,
            "batch_size": self.batch_size,
            "num_workers": self.num_workers,
            "collate_fn": _Collate(self.collate, self.name),
            # Its own generator: a loader otherwise draws its base seed from the global one.
            "generator": torch.Generator().manual_seed(0),
        }
        if self.indices is not None:
            starts = range(rank * self.batch_size, len(self.indices), world * self.batch_size)
            share = [i for start in starts for i in self.indices[start : start + self.batch_size]]
            numbered = _Numbered(self.dataset, share)
            return iter(DataLoader(numbered, shuffle=False, drop_last=False, **shared)) if share else iter(())
        stream = _NumberedStream(self.dataset, rank, world, self.batch_size, self.max_samples)
        # One worker: a stream read by several would be repeated by each.
        shared["num_workers"] = min(1, self.num_workers)
        return iter(DataLoader(stream, **shared))

    def names(self, ids: Sequence[str] | None, positions: Sequence[int]) -> Sequence[str]:
        """Name samples: their ids, ValueError if there are not as many, or their places where the data have none."""
        names = ids or [f"{self.name}-{place:06d}" for place in positions]
        if len(names) != len(positions):
            raise ValueError(f"The batch holds {len(positions)} samples but {len(names)} ids: {ids}.")
        return names

    def item(self, index: int) -> Any:
        """Read one sample by its position, as a batch of one; only where the source can be indexed."""
        return self._collated([self.dataset[index]])

    def _collated(self, items: list[Any]) -> Any:
        return self.prepare(_Collate(self.collate, self.name).join(items))


class _Numbered(Dataset[tuple[int, Any]]):
    def __init__(self, dataset: Dataset[Any], indices: Sequence[int]) -> None:
        self.dataset, self.indices = dataset, indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, place: int) -> tuple[int, Any]:
        return self.indices[place], self.dataset[self.indices[place]]


class _NumberedStream(IterableDataset[tuple[int, Any]]):
    def __init__(self, dataset: Dataset[Any], rank: int, world: int, batch_size: int, limit: int | None) -> None:
        self.dataset, self.rank, self.world, self.batch_size, self.limit = dataset, rank, world, batch_size, limit

    def __iter__(self) -> Iterator[tuple[int, Any]]:
        worker = get_worker_info()
        assert worker is None or worker.num_workers == 1
        for place, item in enumerate(islice(cast(Iterable[Any], self.dataset), self.limit)):
            if place // self.batch_size % self.world == self.rank:
                yield place, item


class _Once(IterableDataset[Any]):
    """A generator, read once; the items that were looked at first can be put back."""

    def __init__(self, items: Iterator[Any]) -> None:
        self._items = items

    def put_back(self, items: Iterable[Any]) -> None:
        self._items = chain(items, self._items)

    def __iter__(self) -> Iterator[Any]:
        return self._items


class _Collate:
    """Collates numbered items; an object, not a closure, so that workers can be spawned."""

    def __init__(self, collate: Callable[[list[Any]], Any], name: str) -> None:
        self.collate, self.name = collate, name

    def __call__(self, items: list[tuple[int, Any]]) -> NumberedBatch:
        places = [place for place, _ in items]
        try:
            return places, self.join([item for _, item in items])
        except RuntimeError as error:
            if "equal size" not in str(error):
                raise
            raise ValueError(
                f"The {self.name}s at positions {places[0]} to {places[-1]} differ in size and cannot be stacked. "
                "Resize them in the data set, or use batch_size=1 (of the loader, where one was given)."
            ) from error

    def join(self, items: list[Any]) -> Any:
        """Collate; in dicts keep as lists what cannot be, such as bounding boxes or coordinate systems."""
        try:
            return self.collate(items)
        except (TypeError, RuntimeError):
            if self.collate is not default_collate or not isinstance(items[0], Mapping):
                raise
            joined = _by_key(items)
            if not any(isinstance(value, torch.Tensor) for value in joined.values()):
                raise
            return joined


def _by_key(items: list[Mapping[Any, Any]]) -> dict[Any, Any]:
    joined: dict[Any, Any] = {}
    for key in items[0]:
        values = [item.get(key) for item in items]
        try:
            joined[key] = default_collate(values)
        except (TypeError, RuntimeError):
            if key in (*INPUT_KEYS, *TARGET_KEYS, STORED_OUTPUT_KEY):
                raise
            joined[key] = values
    return joined


def empty_side(name: str) -> str:
    """Message for a side without samples."""
    return f"There are no {name}s: the {name} data set is empty. An audit compares two sides."


def _subset(indices: Sequence[int], limit: int | None, seed: int) -> list[int]:
    if limit is None or len(indices) <= limit:
        return list(indices)
    order = torch.randperm(len(indices), generator=torch.Generator().manual_seed(seed))[:limit]
    return [indices[i] for i in sorted(order.tolist())]


def _indices_of(loader: DataLoader[Any]) -> Sequence[int] | None:
    """Tell which samples a loader reads: None for all, a list for a subset."""
    # A loader that was given a batch sampler still has a sampler of its own, which it does not use.
    batches: Any = loader.batch_sampler if loader.batch_sampler is not None else loader.sampler
    plain = isinstance(batches, BatchSampler) and type(batches).__iter__ is BatchSampler.__iter__
    sampler = batches.sampler if plain else batches
    if isinstance(loader.dataset, IterableDataset):
        return None
    # A subclass that iterates in its own way may take any part of the samples.
    kind = next((k for k in _KNOWN_SAMPLERS if isinstance(sampler, k) and type(sampler).__iter__ is k.__iter__), None)
    if kind is SubsetRandomSampler:
        return sorted({int(i) for i in sampler.indices})
    if kind is not None:
        source: Any = sampler.dataset if kind is DistributedSampler else sampler.data_source
        if source is loader.dataset or len(source) == len(cast(Sized, loader.dataset)):
            return None
    raise ValueError(
        f"The loader's sampler, {type(sampler).__name__}, does not tell which samples it takes. Pass the data set "
        "itself (torch.utils.data.Subset for a part of one)."
    )
