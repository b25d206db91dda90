"""Predictability errors: computed once per pair and settings, found again by content."""

import hashlib
import os
import sqlite3
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mia_lightning.audit.interpretation import Interpretation
from mia_lightning.audit.protocols import Scorer
from mia_lightning.result.cache_file import open_cache


def content_keys(fingerprint: str, *batches: Tensor) -> list[bytes]:
    """Name each sample, along the first dimension of the tensors, by its content and by all else that matters.

    Returns:
        One 20-byte key a sample; equal exactly where fingerprint, type, shape and every bit are equal.

    Example:
        >>> a, b = content_keys("settings", torch.tensor([[1.0], [1.0]]))
        >>> a == b, a == content_keys("others", torch.tensor([[1.0]]))[0]
        (True, False)
    """
    keys = []
    for sample in zip(*batches, strict=True):
        digest = hashlib.blake2b(fingerprint.encode(), digest_size=20)
        for part in sample:
            digest.update(f"{part.dtype}{tuple(part.shape)}".encode())
            digest.update(memoryview(part.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()))
        keys.append(digest.digest())
    return keys


def content_numbers(keys: Sequence[bytes]) -> list[int]:
    """Shorten keys to whole numbers below 2^53, which floating point numbers hold exactly.

    Two different samples share one with a chance of 1e-16, any two of a million a side with one of 1e-4.

    Example:
        >>> one, two = content_keys("settings", torch.tensor([[1.0], [1.0]]))
        >>> content_numbers([one]) == content_numbers([two])
        True
    """
    return [int.from_bytes(key[:8], "big") >> 11 for key in keys]


class PredictabilityCache:
    """A map from content to a number, in memory and, given a folder, in SQLite below it.

    Several processes may share the folder: writes are transactions, and a process that is killed in the middle of one
    leaves the file as it was before it.

    Args:
        directory: Folder for ``predictability.sqlite``; None keeps everything in memory.

    Raises:
        ValueError: If the file there is no such cache.
    """

    def __init__(self, directory: str | Path | None = None) -> None:
        self._memory: dict[bytes, float] = {}
        self._path = Path(directory) / "predictability.sqlite" if directory is not None else None
        self._connection: tuple[int, sqlite3.Connection] | None = None
        if self._path is not None:
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise OSError(
                    f"cannot make the folder of the predictability cache, {directory} ({error}): give a folder that "
                    "can be written as cache_dir, or leave cache_dir out to keep the cache in memory."
                ) from error
            self._database()

    def get(self, keys: Sequence[bytes]) -> list[float | None]:
        """Look up keys; None where a number is not known yet."""
        missing = [k for k in keys if k not in self._memory]
        if missing and self._path is not None:
            marks = ",".join("?" * len(missing))
            query = f"SELECT key, value FROM predictability WHERE key IN ({marks})"  # noqa: S608 - only question marks
            self._memory.update(self._database().execute(query, missing).fetchall())
        return [self._memory.get(k) for k in keys]

    def put(self, keys: Sequence[bytes], values: Sequence[float]) -> None:
        """Store numbers; on disk in one transaction."""
        self._memory.update(zip(keys, values, strict=True))
        if self._path is not None:
            with self._database() as database:
                rows = zip(keys, values, strict=True)
                database.executemany("INSERT OR REPLACE INTO predictability VALUES (?, ?)", rows)

    def __len__(self) -> int:
        """Number of values known to this process."""
        return len(self._memory)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the open connection behind when copied to another process."""
        return self.__dict__ | {"_connection": None}

    def _database(self) -> sqlite3.Connection:
        # A connection must not cross a fork: the child opens its own.
        if self._connection is None or self._connection[0] != os.getpid():
            assert self._path is not None
            columns = "(key BLOB PRIMARY KEY, value REAL)"
            table = f"CREATE TABLE IF NOT EXISTS predictability {columns} WITHOUT ROWID"
            connection = open_cache(self._path, table, "a predictability cache", check_same_thread=False)
            self._connection = (os.getpid(), connection)
        return self._connection[1]


class PredictabilityLookup:
    """Gives predictability errors and keeps them, so that each is computed once.

    ``cache_dir``, the folder of the cache, may be set until the first batch; None keeps it in memory.
    """

    def __init__(self, scorer: Scorer, cache_dir: str | Path | None) -> None:
        self.scorer, self.cache_dir = scorer, cache_dir
        self._cache: PredictabilityCache | None = None
        self._fingerprint: str | None = None
        self._range_checked = False

    def __call__(
        self, interpretation: Interpretation, input: Tensor, target: Tensor, classes: int | None, device: torch.device
    ) -> tuple[Tensor, Tensor]:
        """Look up the errors of inputs as the loader gave them and prepared targets; compute and keep missing ones.

        Returns:
            The predictability errors, and whole numbers that are equal for equal pairs: both (B,) float64, on the
            device, where missing ones are computed, too.
        """
        if self._cache is None:
            self._cache = PredictabilityCache(self.cache_dir)
        if self._fingerprint is None:
            self._fingerprint = self.scorer.fingerprint()
        s, task = interpretation.config, interpretation.task
        depends: tuple[object, ...] = (self._fingerprint, task, classes, s.ignore_index, s.mean, s.std)
        depends += (interpretation.target_range,)
        depends += interpretation.input.key(input)
        slices: dict[str, Any] = {}
        if interpretation.volumes and s.slices is not None:
            slices = {"slices": s.slices}
            depends += (slices,)
        keys = content_keys(repr(depends), input, target)
        errors = self._cache.get(keys)
        missing = [i for i, error in enumerate(errors) if error is None]
        if missing:
            some = torch.stack([input[i] for i in missing])  # older versions of torch do not index 16-bit integers
            images, targets = interpretation.as_image(some).to(device), target[missing].to(device)
            self._warn_of_range(images)
            computed = self.scorer(images, targets, task, num_classes=classes, ignore_index=s.ignore_index, **slices)
            self._cache.put([keys[i] for i in missing], computed.tolist())
            errors = self._cache.get(keys)
        found = torch.tensor([errors, content_numbers(keys)], dtype=torch.float64, device=device)
        return found[0], found[1]

    def _warn_of_range(self, images: Tensor) -> None:
        if self._range_checked or not images.is_floating_point():
            return
        self._range_checked = True
        low, high = (float(v) for v in torch.aminmax(images))
        if low < -0.05 or high > 1.05:
            warnings.warn(
                f"The feature extractor expects images in [0, 1], but the inputs span [{low:.3g}, {high:.3g}]. If they "
                "were normalised, pass mean and std, so that predictability is measured on images.",
                stacklevel=2,
            )
