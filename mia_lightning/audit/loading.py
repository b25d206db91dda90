"""Reads one side of the comparison: data sets, loaders and generators become batches with each sample's position."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import AbstractContextManager, contextmanager
from itertools import chain, islice, pairwise
from typing import Any, cast

import torch
from torch.utils.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    default_collate,
    get_worker_info,
)
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter
from torch.utils.data.distributed import DistributedSampler

from mia_lightning.audit.collation import Collate, Loaded, explain_failure, is_crops
from mia_lightning.audit.drawn_keys import keyed
from mia_lightning.audit.grouping import Grouping
from mia_lightning.audit.isolation import OwnDraws, generators_in, isolated
from mia_lightning.audit.place_names import name_by_place
from mia_lightning.audit.ready_batches import Unbatched, hands_out_batches, loads_in_processes
from mia_lightning.audit.sample_memory import own
from mia_lightning.audit.unreadable import Unreadable, end_of_stream, read_sample, read_stream, require_few, with_count
from mia_lightning.functional.entries import entries_of, tensors_in
from mia_lightning.functional.groups import draw_by_group

Source = Dataset[Any] | DataLoader[Any]
Samples = Source | Iterator[Any]
NumberedBatch = tuple[list[int], Any]
Prepare = Callable[[Any], Any]
_TRIES = 32  # samples that are looked at to find one that is not left out
_HEAD = 32  # samples of a stream that are read twice, so that a change of their order is seen
_COMPARED = 16  # samples of a batch that are looked at for their order
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
        groups: Groups of samples by their ids, where the setting ``groups`` says them. A subset is drawn by groups,
            where these are known before samples are read: by the ``ids`` of the data set, or by its own ``groups``.
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
        groups: Grouping | None = None,
        prepare: Prepare = as_loaded,
    ) -> None:
        self.name, self.max_samples, self.prepare = name, max_samples, prepare
        self.batch_size, self.num_workers = batch_size, num_workers
        self.collate: Callable[[list[Any]], Any] = default_collate
        self.dataset: Dataset[Any]
        self.indices: list[int] | None = None
        self.capped = max_samples is not None  # a stream may have more samples
        self.left_out: list[int] = []  # positions, of those read so far, that the batches hold no row of
        self.unreadable: dict[int, Unreadable] = {}  # likewise, of those that could not be read
        self._begun = False  # whether it is known what an entry of the data set is
        self._resolves = True  # whether rows that are missing can be explained
        self.workers: dict[str, Any] = {}
        self.notes: list[str] = []  # what a reader of the result must know of how the samples were taken
        self.crops: int | None = None  # samples that one entry of the data set holds, where it holds a list of them
        self.seed = seed
        self.heads: list[tuple[list[int], Any]] = []  # of a stream: its first samples, by places and as a batch
        if isinstance(source, DataLoader):
            sampled = self._take(source)
        elif isinstance(source, Iterator):
            self.dataset, sampled, self.num_workers = _Once(source), None, 0
        elif not isinstance(source, (str, bytes, dict)) and (
            hasattr(source, "__getitem__") or hasattr(source, "__iter__")
        ):
            self.dataset, sampled = source, None
        else:
            raise TypeError(f"Expected a Dataset or a DataLoader of {name}s, but got {type(source).__name__}.")
        if loads_in_processes(self.dataset):
            self.num_workers = 0  # processes of loaders cannot start others
        if hands_out_batches(self.dataset):
            self.dataset = Unbatched(cast(Iterable[Any], self.dataset), name)
        if not isinstance(self.dataset, IterableDataset) and isinstance(self.dataset, Sized):
            available = sampled if sampled is not None else range(len(self.dataset))
            self.indices = _subset(available, max_samples, seed, known_groups(self.dataset, groups))
            self.capped = len(self.indices) < len(available)
            if not self.indices:
                raise ValueError(empty_side(name))

    def _take(self, source: DataLoader[Any]) -> Sequence[int] | None:
        """Take over what a loader reads and how; return the positions, None for all."""
        if source.batch_sampler is None and hands_out_batches(source) is None:
            raise ValueError(
                f"The loader of {self.name}s has batch_size=None: its data set hands out ready-made batches, and "
                "samples cannot be told apart. Pass a data set of single samples, or a stream that takes the batches "
                "apart: a torch.utils.data.IterableDataset whose __iter__ yields sample by sample."
            )
        own = ("worker_init_fn", "multiprocessing_context")
        self.workers = {option: getattr(source, option) for option in own}
        self.dataset = source.dataset
        if source.batch_sampler is not None:  # without one, torch collates nothing
            self.collate = source.collate_fn
        # A loader that was given a batch sampler tells no size itself.
        self.batch_size = source.batch_size or getattr(source.batch_sampler, "batch_size", None) or self.batch_size
        self.num_workers = source.num_workers
        return self._sampled(source)

    def _sampled(self, loader: DataLoader[Any]) -> Sequence[int] | None:
        """Positions that a loader reads, None for all; where its sampler has other keys, they are drawn here, once."""
        sampler, in_batches = _sampler_of(loader)
        if isinstance(loader.dataset, IterableDataset) or _is_known(sampler):
            return _indices_of(loader)
        drawn = keyed(loader.dataset, sampler, in_batches=in_batches, seed=self.seed)
        if drawn is None:
            return _indices_of(loader)
        self.dataset = drawn
        if drawn.random:
            self.notes.append(
                f"{type(sampler).__name__} draws other pieces of the {self.name}s each time: the audit has drawn "
                f"{len(drawn)}, with its own seed, and takes the same at each audit. The training draws others, which "
                "overlap with these: what is said of a piece is said of a place, not of a picture that was trained on."
            )
        return None

    def __len__(self) -> int:
        """Number of entries of the data set to audit on all processes, 0 where the source does not tell."""
        return len(self.indices) if self.indices is not None else 0

    @property
    def samples(self) -> int:
        """Number of samples in these entries, as far as is known; in most data sets they are the entries."""
        return len(self) * (self.crops or 1)

    @property
    def source(self) -> object:
        """What it reads from: the data set or stream, also where it was given in a loader."""
        return self.dataset.batches if isinstance(self.dataset, Unbatched) else self.dataset

    @property
    def read_once(self) -> bool:
        """Whether the source is a generator, whose samples cannot be read again."""
        return isinstance(self.dataset, _Once)

    def first(self) -> Any:
        """Read the first sample, as a batch of one."""
        return self.beginning(1)[0]

    def beginning(self, count: int) -> list[Any]:
        """Read up to `count` samples, each as a batch of one: the first, and others evenly over the side.

        Of a stream, which cannot be indexed, they are the first ones.
        """
        count, self._begun = min(count, self.max_samples or count), True
        if self.indices is not None:
            count = min(count, len(self.indices))
            starts = [int(i * len(self.indices) / count) for i in range(count + 1)]
            parts = [self.indices[a : min(b, a + _TRIES)] for a, b in pairwise(starts)]
            unreadable: dict[int, Unreadable] = {}
            usable = [batch for part in parts if (batch := self._first_usable(part, unreadable)) is not None]
        else:
            stream = apart(read_stream(cast(Iterable[Any], self.dataset), self._draws()))
            items = [own(item) for item in islice(stream, max(count, self._head_size()))]
            unreadable = {place: item for place, item in enumerate(items) if isinstance(item, Unreadable)}
            self._require_end(unreadable)
            if isinstance(self.dataset, _Once):
                self.dataset.put_back(items)
            else:
                self._read_heads(items)
            read = [item for item in items[:count] if not (item is None or isinstance(item, Unreadable))]
            usable = [self.batch_of([item]) for item in read]
        if not usable and unreadable:
            raise with_count(self.name, unreadable, len(unreadable), len(self) or len(unreadable))
        if not usable:
            raise ValueError(empty_side(self.name))
        return usable

    @property
    def is_stream(self) -> bool:
        """Whether it is read from its start at each audit, in whatever order it then has."""
        return self.indices is None and not isinstance(self.dataset, _Once)

    def _draws(self) -> OwnDraws | None:
        """What a stream draws while it is read: the same each time. A generator goes on as it is."""
        return OwnDraws(self.seed, self.dataset) if self.is_stream else None

    def _head_size(self) -> int:
        """Samples by which two readings of a stream are compared; as many as are collated together, or 0."""
        if not self.is_stream or (self.collate is not default_collate and self.batch_size > _HEAD):
            return 0
        return min(self.batch_size, _HEAD, self.max_samples or _HEAD)

    def _read_heads(self, items: Sequence[Any]) -> None:
        """Keep the first samples of a stream, and those of its next epoch, where it counts these."""
        self.heads, size = [], self._head_size()
        of_epochs = [items[:size]]
        if size and (next_epoch := in_next_epoch(self.source)) is not None:
            with next_epoch:
                stream = apart(read_stream(cast(Iterable[Any], self.dataset), self._draws()))
                of_epochs.append([own(item) for item in islice(stream, size)])
        for read in of_epochs:
            places = [p for p, item in enumerate(read) if not (item is None or isinstance(item, Unreadable))]
            try:
                self.heads += [(places, self.batch_of([read[place] for place in places]))] if places else []
            except Exception:
                return  # the audit meets it again, and says where

    def opening(self, count: int) -> Iterator[NumberedBatch]:
        """Read the first batches, of about ``count`` samples together, as :meth:`batches` will, but without workers."""
        limit = min(max(count, self.batch_size), 2 * count)
        yield from self._fitting(self._loaded(0, 1, limit))

    def _first_usable(self, indices: Sequence[int], unreadable: dict[int, Unreadable]) -> Any:
        """The first sample that can be read and that the collation does not leave out, as a batch of one; else None.

        Those that cannot be read are noted.
        """
        failure = None
        for index in indices:
            item = self._read(index)
            if is_crops(item) and self.crops is None:
                self._note_crops(len(item))
                item = self._read(index)  # with draws of its own
            item = item[0] if is_crops(item) else item
            if isinstance(item, Unreadable):
                unreadable[index] = item
                require_few(self.name, unreadable, len(self))
                continue
            if item is None:
                continue
            try:
                batch = self.batch_of([item])
            except Exception as error:
                if self.collate is default_collate:
                    if isinstance(error, TypeError):
                        explain_failure(error, self.name, [(index, item)])
                    raise
                failure = error  # so ends a collation that has left out all it got
                continue
            if rows_of(batch) != 0:
                return batch
        if failure is not None:
            raise failure
        return None

    def _begin(self) -> None:
        """Find out what an entry of the data set is, where its beginning was not read."""
        if not self._begun and self.indices is not None and is_crops(first := self._read(self.indices[0])):
            self._note_crops(len(first))
        self._begun = True

    def _read(self, index: int) -> Any:
        return read_entry(self.dataset, index, self.seed if self.crops else None)

    def _note_crops(self, count: int) -> None:
        self.crops = count
        self.notes.append(
            f"Each entry of the {self.name}s is a list of {count} samples, such as crops of a picture. Each is a "
            f"sample by itself, named after its picture ({name_by_place(self.name, 0)}-crop-0) and grouped with its "
            "others; what they are cut by draws the same at each audit, and not what it draws in training."
        )

    def batches(self, rank: int = 0, world: int = 1) -> Iterator[NumberedBatch]:
        """Read this process's share, in order: pairs of sample positions and the collated, prepared batch."""
        self.left_out, self.unreadable = [], {}
        self._begin()
        loaded = self._loaded(rank, world)
        try:
            yield from self._fitting(loaded)
        finally:
            _end_workers(loaded)

    def _fitting(self, loaded: Iterable[Loaded]) -> Iterator[NumberedBatch]:
        """Batches with the positions of their rows; who has none is in :attr:`left_out` or :attr:`unreadable`."""
        unordered = self.collate is not default_collate and self.indices is not None  # as far as is known
        for positions, absent, batch in loaded:
            self._note(absent)
            if self.crops is None and positions and self._resolves and rows_of(batch) not in (None, len(positions)):
                kept = self._kept(positions, rows_of(batch))
                self.left_out += [place for place in positions if place not in kept]
                positions = kept
            if unordered and positions and self.crops is None:
                self._require_order(positions, batch)
                unordered = False
            if positions:
                yield positions, self.prepare(batch)

    def _note(self, absent: Mapping[int, Unreadable | None]) -> None:
        """Note who has no row; raise the error where too many cannot be read, or nothing can be read after one."""
        unreadable = {place: item for place, item in absent.items() if item is not None}
        self.left_out += [place for place in absent if place not in unreadable]
        self.unreadable |= unreadable
        self._require_end(unreadable)
        if unreadable and self.indices is not None:  # of a stream the size is known in the end
            require_few(self.name, self.unreadable, len(self))

    def _require_end(self, unreadable: Mapping[int, Unreadable]) -> None:
        for place, item in unreadable.items():
            if item.ends:
                raise end_of_stream(self.name, place, item)

    def _require_order(self, positions: Sequence[int], batch: Any) -> None:
        """Refuse a collation that puts samples into another order, by collating some of a batch alone.

        Samples that are drawn anew each time they are read are like none, and tell nothing.
        """
        rows = _images(batch)
        if rows is None or len(rows) != len(positions):
            return
        alone = []
        with isolated(None):
            for place in positions[:_COMPARED]:
                try:
                    alone.append(_images(self._join([item_of(self.dataset, place)])))
                except Exception:
                    alone.append(None)  # a collation that needs several samples
        for place, row in zip(positions, rows, strict=False):
            same = [p for p, images in zip(positions, alone, strict=False) if _are_same(images, row)]
            if same and place not in same:
                raise ValueError(
                    f"The {self.name} at position {same[0]} came in the row of that at position {place}: the loader's "
                    "collate_fn changes the order of samples, and numbers would be written beside the wrong names. "
                    "Give the data set itself, or a collate_fn that keeps the order."
                )

    def _kept(self, positions: list[int], rows: int | None) -> list[int]:
        """Who of a batch has a row, by collating each sample alone; all, where that does not explain the batch."""
        kept = []
        for place in positions if self.indices is not None else ():
            try:
                alone = rows_of(self._join([item_of(self.dataset, place)]))
            except Exception:
                alone = 0  # a collation that has left out all it got
            kept += [place] * (alone or 0)
        if len(kept) == rows and len(set(kept)) == rows:
            return kept
        self._resolves = False
        return positions

    def _loaded(self, rank: int, world: int, limit: int | None = None) -> Iterator[Loaded]:
        shared: dict[str, Any] = {
            **self.workers,
            "batch_size": self.batch_size,
            "num_workers": self.num_workers if limit is None else 0,
            "collate_fn": Collate(self.collate, self.name, self.crops),
            # Its own generator: a loader otherwise draws its base seed from the global one.
            "generator": torch.Generator().manual_seed(0),
        }
        if self.indices is not None:
            starts = range(rank * self.batch_size, len(self.indices), world * self.batch_size)
            share = [i for start in starts for i in self.indices[start : start + self.batch_size]][:limit]
            numbered = _Numbered(self.dataset, share, self.seed if self.crops else None)
            return iter(DataLoader(numbered, shuffle=False, drop_last=False, **shared)) if share else iter(())
        most = min((n for n in (self.max_samples, limit) if n is not None), default=None)
        stream = _NumberedStream(
            self.dataset, rank, world, self.batch_size, most, self.seed if self.is_stream else None
        )
        # One worker: a stream read by several would be repeated by each.
        shared["num_workers"] = min(1, shared["num_workers"])
        return iter(DataLoader(stream, **shared))

    def names(self, ids: Sequence[str] | None, positions: Sequence[int]) -> Sequence[str]:
        """Name samples: their ids, ValueError if there are not as many, or their places where the data have none."""
        crops = self.crops or 1
        names = ids or self.names_of_entries([position // crops for position in positions])
        if len(names) != len(positions):
            raise ValueError(f"The batch holds {len(positions)} samples but {len(names)} ids: {ids}.")
        if self.crops is None:
            return names
        return [f"{name}-crop-{position % crops}" for name, position in zip(names, positions, strict=True)]

    def pictures_of(self, names: Sequence[str]) -> list[str] | None:
        """What samples were cut out of, by their names; None where each is an entry of the data set."""
        return None if self.crops is None else [name.rpartition("-crop-")[0] for name in names]

    def names_of_entries(self, places: Iterable[int]) -> list[str]:
        """Names of entries of the data set by their places, such as :attr:`left_out`, whose ids nobody has read."""
        return [name_by_place(self.name, place) for place in places]

    def positions_of_entries(self, places: Iterable[int]) -> list[int]:
        """Positions of entries of the data set: of the first sample of each."""
        return [place * (self.crops or 1) for place in places]

    def item(self, index: int) -> Any:
        """Read one sample by its position, as a batch of one; only where the source can be indexed."""
        self._begin()
        if self.crops is None:
            return self.batch_of([item_of(self.dataset, index)])
        entry = self._read(index // self.crops)
        if isinstance(entry, Unreadable):
            raise entry.error
        return self.batch_of([entry[index % self.crops]])

    def batch_of(self, items: list[Any]) -> Any:
        """Collate and prepare samples that were read."""
        return self.prepare(self._join([*apart(items)]))

    def _join(self, items: list[Any]) -> Any:
        return Collate(self.collate, self.name).join(items)


class _Numbered(Dataset[tuple[int, Any]]):
    def __init__(self, dataset: Dataset[Any], indices: Sequence[int], seed: int | None) -> None:
        self.dataset, self.indices, self.seed = dataset, indices, seed
        self._generators: list[Any] | None = None  # sought where they draw: a worker process has its own

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, place: int) -> tuple[int, Any]:
        if self.seed is not None and self._generators is None:
            self._generators = list(generators_in(self.dataset))
        return self.indices[place], own(read_entry(self.dataset, self.indices[place], self.seed, self._generators))


class _NumberedStream(IterableDataset[tuple[int, Any]]):
    def __init__(
        self, dataset: Dataset[Any], rank: int, world: int, batch_size: int, limit: int | None, seed: int | None
    ) -> None:
        self.dataset, self.rank, self.world, self.batch_size, self.limit = dataset, rank, world, batch_size, limit
        self.seed = seed

    def __iter__(self) -> Iterator[tuple[int, Any]]:
        worker = get_worker_info()
        assert worker is None or worker.num_workers == 1
        draws = None if self.seed is None else OwnDraws(self.seed, self.dataset)
        items = apart(read_stream(cast(Iterable[Any], self.dataset), draws))
        for place, item in enumerate(islice(items, self.limit)):
            ends = isinstance(item, Unreadable) and item.ends  # of which all processes must know
            if ends or place // self.batch_size % self.world == self.rank:
                yield place, own(item)


class _Once(IterableDataset[Any]):
    """A generator, read once; the items that were looked at first can be put back."""

    def __init__(self, items: Iterator[Any]) -> None:
        self._items = items

    def put_back(self, items: Iterable[Any]) -> None:
        self._items = chain(items, self._items)

    def __iter__(self) -> Iterator[Any]:
        return self._items


def _end_workers(loaded: Iterator[Loaded]) -> None:
    """End a loader's workers while its queues are there: after an error both may be collected at once.

    Who collects them then waits for each worker, five seconds long, since nothing tells it to end. Lightning, too, uses
    this method of torch's iterators.
    """
    if isinstance(loaded, _MultiProcessingDataLoaderIter):
        loaded._shutdown_workers()


def in_next_epoch(stream: Any) -> AbstractContextManager[None] | None:
    """A context in which a stream that is told its epoch (``set_epoch``) is in the next one; None for others."""
    epoch, set_epoch = getattr(stream, "epoch", None), getattr(stream, "set_epoch", None)
    if type(epoch) is not int or not callable(set_epoch):
        return None

    @contextmanager
    def moved() -> Iterator[None]:
        set_epoch(epoch + 1)
        try:
            yield
        finally:
            set_epoch(epoch)

    return moved()


def apart(items: Iterable[Any]) -> Iterator[Any]:
    """The samples of a stream, of which some may come as lists."""
    for item in items:
        yield from item if is_crops(item) else [item]


def read_entry(dataset: Dataset[Any], index: int, seed: int | None, generators: Iterable[Any] | None = None) -> Any:
    """Read an entry of a data set; with a seed, what it draws is the same each time, and its own.

    Its generators are then left as they are after it: :func:`isolated` puts them back. They are sought in the data set
    unless they are given.
    """
    if seed is None:
        return read_sample(dataset, index)
    with OwnDraws(seed + index, *([dataset] if generators is None else generators)):
        return read_sample(dataset, index)


def item_of(dataset: Dataset[Any], index: int) -> Any:
    """Read a sample; raises what the data set raises, a RuntimeError in place of StopIteration."""
    item = read_sample(dataset, index)
    if isinstance(item, Unreadable):
        raise item.error
    return item


def rows_of(batch: Any) -> int | None:
    """How many samples a batch holds, by the first dimension of its images and label maps; None where they differ.

    Example:
        >>> rows_of({"image": torch.zeros(2, 3, 4, 4), "mask": torch.zeros(2, 4, 4), "id": ["a", "b"]})
        2
    """
    rows = {len(images) for images in _all_images(batch)}
    return rows.pop() if len(rows) == 1 else None


def _images(batch: Any) -> torch.Tensor | None:
    """The first images or label maps of a batch."""
    return next(iter(_all_images(batch)), None)


def _all_images(batch: Any) -> list[torch.Tensor]:
    """The images and label maps of a batch; nested ones where there are no others."""
    values = [batch] if isinstance(batch, torch.Tensor) else entries_of(batch).values()
    own = [value for value in values if isinstance(value, torch.Tensor) and value.ndim > 2]
    return own or [value for _, value in tensors_in(batch) if value.ndim > 2]


def _are_same(images: torch.Tensor | None, row: torch.Tensor) -> bool:
    return images is not None and len(images) == 1 and torch.equal(images[0], row)


def empty_side(name: str) -> str:
    """Message for a side without samples."""
    return f"There are no {name}s: the {name} data set is empty. An audit compares two sides."


def known_groups(dataset: Dataset[Any], grouping: Grouping | None = None) -> list[str] | None:
    """Group of each sample as far as it is known before any is read, "" where it has none; None where none is known."""
    if grouping is not None:
        ids = None if grouping.independent else _listed(dataset, "ids")
        return None if ids is None else grouping.of(ids)
    return _listed(dataset, "groups")


def _listed(dataset: Dataset[Any], name: str) -> list[str] | None:
    """One text a sample that a data set keeps under a name, as far as its parts have that."""
    if isinstance(dataset, Subset):
        whole = _listed(dataset.dataset, name)
        return None if whole is None else [whole[i] for i in dataset.indices]
    if isinstance(dataset, ConcatDataset):
        parts = [_listed(part, name) for part in dataset.datasets]
        return None if any(part is None for part in parts) else [text for part in parts for text in part or ()]
    found = getattr(dataset, name, None)
    if isinstance(found, (list, tuple)) and len(found) == len(cast(Sized, dataset)):
        return ["" if text is None else str(text) for text in found]
    return None


def _subset(indices: Sequence[int], limit: int | None, seed: int, groups: Sequence[str] | None = None) -> list[int]:
    if limit is None or len(indices) <= limit:
        return list(indices)
    if groups is not None:
        chosen = draw_by_group([groups[i] for i in indices], limit, seed)
        return [indices[i] for i in chosen.tolist()]
    order = torch.randperm(len(indices), generator=torch.Generator().manual_seed(seed))[:limit]
    return [indices[i] for i in sorted(order.tolist())]


def _sampler_of(loader: DataLoader[Any]) -> tuple[Any, bool]:
    """What decides which samples a loader takes, and whether it gives lists of them."""
    # A loader that was given a batch sampler still has a sampler of its own, which it does not use.
    batches: Any = loader.batch_sampler if loader.batch_sampler is not None else loader.sampler
    if loader.batch_sampler is None:
        return batches, False
    plain = isinstance(batches, BatchSampler) and type(batches).__iter__ is BatchSampler.__iter__
    return (batches.sampler, False) if plain else (batches, True)


def _kind_of(sampler: Any) -> type[Any] | None:
    # A subclass that iterates in its own way may take any part of the samples.
    return next((k for k in _KNOWN_SAMPLERS if isinstance(sampler, k) and type(sampler).__iter__ is k.__iter__), None)


def _is_known(sampler: Any) -> bool:
    return _kind_of(sampler) is not None


def _indices_of(loader: DataLoader[Any]) -> Sequence[int] | None:
    """Tell which samples a loader reads: None for all, a list for a subset."""
    sampler, _ = _sampler_of(loader)
    if isinstance(loader.dataset, IterableDataset):
        return None
    kind = _kind_of(sampler)
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
