"""Predictability errors, computed once per pair and settings and found again by content."""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


def content_keys(fingerprint: str, *batches: Tensor) -> list[bytes]:
    """Name each sample of a batch by its content.

    Args:
        fingerprint: All else that the stored number depends on.
        *batches: Tensors whose first dimension runs over the samples.

    Returns:
        One 20-byte key a sample; equal exactly where type, shape and every bit are equal.

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
            self._path.parent.mkdir(parents=True, exist_ok=True)
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
            database = self._database()
            with database:
                rows = list(zip(keys, values, strict=True))
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
            try:
                connection = sqlite3.connect(self._path, timeout=60.0, check_same_thread=False)
                with connection:
                    create = (
                        "CREATE TABLE IF NOT EXISTS predictability (key BLOB PRIMARY KEY, value REAL) WITHOUT ROWID"
                    )
                    connection.execute(create)
            except sqlite3.OperationalError:
                raise  # locked for a minute, disk full, no permission: SQLite's own words are the right ones
            except sqlite3.DatabaseError as error:
                raise ValueError(
                    f"{self._path} is not a predictability cache ({error}); delete it, or choose another cache_dir."
                ) from error
            self._connection = (os.getpid(), connection)
        return self._connection[1]
