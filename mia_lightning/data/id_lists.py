"""Lists of ids: which of a folder's samples are meant, as a file with one id a line or as the ids themselves."""

from collections.abc import Collection
from pathlib import Path

from mia_lightning.data.records import name_some, nfc
from mia_lightning.result.remarks import counted
from mia_lightning.result.spreadsheet_text import name_among

Ids = str | Path | Collection[str]
"""A file with one id a line (empty lines and those that begin with ``#`` are passed over), or ids."""


def read_ids(ids: Ids, available: Collection[str]) -> list[str]:
    """Read a list of ids, each once, out of those of the samples that there are, `available`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If no id is named, or one that there is not.
    """
    if isinstance(ids, (str, Path)):
        source = str(ids)
        if not Path(ids).is_file():
            raise FileNotFoundError(f"There is no file {ids}: expected one with an id a line.")
        lines = [line.strip() for line in Path(ids).read_text(encoding="utf-8-sig").splitlines()]
        names = [line for line in lines if line and not line.startswith("#")]
    else:
        source, names = "The list of ids", list(ids)
    if not names:
        raise ValueError(f"{source} names nothing: expected an id a line, such as {name_some(available, most=3)}.")
    existing = set(available)
    names = [name_among(nfc(name), existing) for name in names]
    if unknown := list(dict.fromkeys(name for name in names if name not in existing)):
        raise ValueError(
            f"{source} names {counted(len(unknown), 'id')} that the data do not have: {name_some(unknown)}. "
            f"Ids look like {name_some(available, most=3)}."
        )
    return list(dict.fromkeys(names))
