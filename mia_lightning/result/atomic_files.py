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


def require_writable(folder: str | Path) -> None:
    """Raise an OSError where files cannot be written into a folder, which may be missing so far; nothing is made.

    Raises:
        NotADirectoryError: If a file is in its place.
        PermissionError: If the folder, or the one that it would be made in, cannot be written to.
    """
    place = Path(folder).absolute()
    while not place.exists():
        place = place.parent
    if not place.is_dir():
        raise NotADirectoryError(f"{place} is a file, and results are to go into the folder {folder}: name another.")
    if not os.access(place, os.W_OK | os.X_OK):
        raise PermissionError(f"{place} cannot be written to, and results are to go into {folder}: name another.")


def keep_earlier(*paths: Path) -> list[Path]:
    """Give the files that are at these paths names of their own, all with the first number that is free: a-1.json.

    Returns:
        The new paths of those that were there.
    """

    def numbered(path: Path) -> Path:
        return path.with_stem(f"{path.stem}-{number}")

    number = 1
    while any(numbered(path).exists() for path in paths):
        number += 1
    return [path.rename(numbered(path)) for path in paths if path.exists()]
