"""A loader for training whose last batch is never a single sample: batch norm cannot train on one pixel a channel."""

from collections.abc import Iterator
from typing import Any

from torch.utils.data import BatchSampler, DataLoader


class TrainingLoader(DataLoader[Any]):
    """A ``DataLoader`` that joins a last batch of one sample to the one before.

    The order of the samples, and what is drawn for it, is that of a ``DataLoader``; batches of one stay where
    ``batch_size`` is one or the data set has one sample. A sampler that Lightning puts in, as for several processes, is
    treated alike.

    Example:
        >>> [len(batch) for batch in TrainingLoader(range(9), batch_size=4)]
        [4, 5]
    """

    @property
    def _index_sampler(self) -> Any:
        batches = super()._index_sampler
        return _Joined(batches) if isinstance(batches, BatchSampler) and not batches.drop_last else batches


class _Joined:
    def __init__(self, batches: BatchSampler) -> None:
        self.batches = batches

    def __len__(self) -> int:
        count, size = len(self.batches.sampler), self.batches.batch_size  # type: ignore[arg-type]  # samplers of data sets have a length
        single = size > 1 and count > 1 and count % size == 1
        return len(self.batches) - int(single)

    def __iter__(self) -> Iterator[list[int]]:
        before: list[int] = []
        for batch in self.batches:
            if len(batch) == 1 and len(before) > 1:
                batch = before + batch
            elif before:
                yield before
            before = batch
        if before:
            yield before
