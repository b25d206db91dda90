"""Opening the SQLite files in which caches are kept between runs."""

import sqlite3
from pathlib import Path


def open_cache(path: Path, table: str, content: str, *, check_same_thread: bool = True) -> sqlite3.Connection:
    """Open a cache, and make its table where it is new.

    Args:
        path: The file.
        table: SQL that makes the table where there is none.
        content: What the file is, for the message: ``"a predictability cache"``.
        check_same_thread: As for ``sqlite3.connect``.

    Raises:
        ValueError: If the file is none of SQLite's.
        sqlite3.OperationalError: If it is locked for a minute, the disk is full or there is no permission.
    """
    try:
        connection = sqlite3.connect(path, timeout=60.0, check_same_thread=check_same_thread)
        with connection:
            connection.execute(table)
    except sqlite3.OperationalError:
        raise  # SQLite's message says what to do
    except sqlite3.DatabaseError as error:
        raise ValueError(f"{path} is not {content} ({error}); delete it, or choose another cache_dir.") from error
    return connection
