"""Writing files so that an interrupted write never replaces a good one."""

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path


def write_atomically(path: str | Path, text: str | Iterable[str]) -> Path:
    """Write a text file in one step: whoever reads it finds the old content or the new, never half of it.

    Missing folders are made. The content is stored as UTF-8, and comes in pieces where the whole would be large.
    """
    pieces = (text,) if isinstance(text, str) else text
    return write_bytes_atomically(path, (piece.encode() for piece in pieces))


def write_bytes_atomically(path: str | Path, content: bytes | Iterable[bytes]) -> Path:
    """Write a binary file in one step, as :func:`write_atomically`."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            for piece in (content,) if isinstance(content, bytes) else content:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path
