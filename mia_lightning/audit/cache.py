"""Predictability errors, and what else pairs show: computed once per pair and settings, found again by content."""

import hashlib
import os
import sqlite3
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mia_lightning.audit.interpretation import Interpretation
from mia_lightning.audit.protocols import DescribingScorer, Scorer
from mia_lightning.functional.feature_means import FEATURES
from mia_lightning.functional.picture_technique import TECHNIQUE, technique_statistics
from mia_lightning.registry import Task
from mia_lightning.result.cache_file import open_cache

SEEN = (*FEATURES, *(f"{side}_{name}" for side in ("input", "target") for name in TECHNIQUE))
"""What pairs show beside their predictability errors, by name."""


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
    """A map from content to a number and what belongs to it, in memory and, given a folder, in SQLite below it.

    Several processes may share the folder: writes are transactions, and a process that is killed in the middle of one
    leaves the file as it was before it.

    Args:
        directory: Folder for ``predictability.sqlite``; None keeps everything in memory.

    Raises:
        ValueError: If the file there is no such cache.
    """

    def __init__(self, directory: str | Path | None = None) -> None:
        self._memory: dict[bytes, float] = {}
        self._seen: dict[bytes, bytes] = {}
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
        self._read("predictability", keys, self._memory)
        return [self._memory.get(k) for k in keys]

    def get_seen(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Look up what else was stored under keys; None where nothing was, as in caches of earlier versions."""
        self._read(_PICTURES, keys, self._seen)
        return [self._seen.get(k) for k in keys]

    def put(self, keys: Sequence[bytes], values: Sequence[float], seen: Sequence[bytes] = ()) -> None:
        """Store numbers, and what else there is; on disk in one transaction."""
        self._memory.update(zip(keys, values, strict=True))
        self._seen.update(zip(keys, seen, strict=False))
        if self._path is not None:
            with self._database() as database:
                rows = zip(keys, values, strict=True)
                database.executemany("INSERT OR REPLACE INTO predictability VALUES (?, ?)", rows)
                others = zip(keys, seen, strict=False)
                database.executemany(f"INSERT OR REPLACE INTO {_PICTURES} VALUES (?, ?)", others)  # noqa: S608 - a constant

    def __len__(self) -> int:
        """Number of values known to this process."""
        return len(self._memory)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the open connection behind when copied to another process."""
        return self.__dict__ | {"_connection": None}

    def _read(self, table: str, keys: Sequence[bytes], known: dict[bytes, Any]) -> None:
        """Read what is not known yet from a table on disk."""
        missing = [k for k in keys if k not in known]
        if missing and self._path is not None:
            marks = ",".join("?" * len(missing))
            query = f"SELECT key, value FROM {table} WHERE key IN ({marks})"  # noqa: S608 - only question marks
            known.update(self._database().execute(query, missing).fetchall())

    def _database(self) -> sqlite3.Connection:
        # A connection must not cross a fork: the child opens its own.
        if self._connection is None or self._connection[0] != os.getpid():
            assert self._path is not None
            columns = "(key BLOB PRIMARY KEY, value REAL)"
            table = f"CREATE TABLE IF NOT EXISTS predictability {columns} WITHOUT ROWID"
            connection = open_cache(self._path, table, "a predictability cache", check_same_thread=False)
            with connection:
                columns = "(key BLOB PRIMARY KEY, value BLOB)"
                connection.execute(f"CREATE TABLE IF NOT EXISTS {_PICTURES} {columns} WITHOUT ROWID")
            self._connection = (os.getpid(), connection)
        return self._connection[1]


_PICTURES = "pictures_1"  # another name where what pairs show is defined anew


class PredictabilityLookup:
    """Gives predictability errors, and what else pairs show, and keeps them, so that each is computed once.

    ``cache_dir``, the folder of the cache, may be set until the first batch; None keeps it in memory.
    """

    def __init__(self, scorer: Scorer, cache_dir: str | Path | None) -> None:
        self.scorer, self.cache_dir = scorer, cache_dir
        self._cache: PredictabilityCache | None = None
        self._fingerprint: str | None = None
        self._range_checked = False

    def __call__(
        self, interpretation: Interpretation, input: Tensor, target: Tensor, classes: int | None, device: torch.device
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Look up the errors of inputs as the loader gave them and prepared targets; compute and keep missing ones.

        Returns:
            The predictability errors, and whole numbers that are equal for equal pairs: both (B,); and what else pairs
            show, (B, 34) in the order of :data:`SEEN`, 0 where there is no such number. All are float64, on the device,
            where missing ones are computed, too.
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
        errors, seen = self._cache.get(keys), self._cache.get_seen(keys)
        missing = [i for i, known in enumerate(zip(errors, seen, strict=True)) if None in known]
        if missing:
            some = torch.stack([input[i] for i in missing])  # older versions of torch do not index 16-bit integers
            images, targets = interpretation.as_image(some).to(device), target[missing].to(device)
            self._warn_of_range(images)
            computed, shown = self._compute(images, targets, task, classes, s.ignore_index, slices)
            self._cache.put([keys[i] for i in missing], computed.tolist(), [row.tobytes() for row in shown])
            errors, seen = self._cache.get(keys), self._cache.get_seen(keys)
        found = torch.tensor([errors, content_numbers(keys)], dtype=torch.float64, device=device)
        rows = np.frombuffer(b"".join(row for row in seen if row is not None), dtype=np.float32)
        shows = torch.from_numpy(rows.astype(np.float64).reshape(len(keys), len(SEEN))).to(device)
        return found[0], found[1], shows

    def _compute(
        self,
        images: Tensor,
        targets: Tensor,
        task: Task,
        classes: int | None,
        ignore_index: int,
        slices: dict[str, Any],
    ) -> tuple[Tensor, NDArray[np.float32]]:
        """Errors, (B,), and what else pairs show, (B, 34)."""
        arguments: dict[str, Any] = {"num_classes": classes, "ignore_index": ignore_index, **slices}
        features = None
        if _describes(self.scorer):
            errors, features = self.scorer.with_features(images, targets, task, **arguments)
        else:
            errors = self.scorer(images, targets, task, **arguments)
        nothing = torch.zeros(len(images), len(TECHNIQUE), dtype=torch.float64, device=images.device)
        columns = [nothing.new_zeros(len(images), len(FEATURES)) if features is None else features.to(images.device)]
        for pictures, shown in ((images, True), (targets, task == "translation")):
            readable = shown and pictures.is_floating_point() and pictures.ndim in (4, 5)
            columns.append(technique_statistics(pictures) if readable else nothing)
        table = torch.nan_to_num(torch.cat([column.double() for column in columns], 1), 0.0, 0.0, 0.0)
        # Some digits less make results shorter, and what devices differ by is below them.
        return errors, table.cpu().numpy().round(5).astype(np.float32)

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


def _describes(scorer: Scorer) -> TypeGuard[DescribingScorer]:
    """Whether a scorer says what its extractor makes of pictures, by the class by which it scores pairs."""
    owners = [
        next((kind for kind in type(scorer).__mro__ if name in vars(kind)), None)
        for name in ("with_features", "__call__")
    ]
    return owners[0] is not None and owners[0] is owners[1]
