"""What is known of pairs beside their contents, by column: what a splits file says, and the size of image files."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import overload

from mia_lightning.data.exif_rule import Exif
from mia_lightning.data.image_headers import read_header
from mia_lightning.data.records import Record

RESOLUTION = "resolution"
"""Column of the height x width of input files, before anything is resized."""


class _Sizes(Sequence[str]):
    """Sizes of the input files of records; a file is read when its size is first asked for, and once."""

    def __init__(self, records: Sequence[Record], size: Callable[[Path], str]) -> None:
        self._records, self._size = records, size
        self._sizes = dict[int, str]()

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        """Return the size of a record, or those of several; empty where a file cannot be read."""
        places = range(len(self))[index]
        if isinstance(places, range):
            return [self[place] for place in places]
        if not self._sizes.get(places):
            self._sizes[places] = self._size(self._records[places].input_path)
        return self._sizes[places]

    def __len__(self) -> int:
        """Return the number of records."""
        return len(self._records)


class RecordColumns(Mapping[str, Sequence[str]]):
    """Columns of metadata of records, by name, each with one text a record; empty where a record has none.

    No file is read before its size is asked for, and nothing of it goes into batches.

    Args:
        records: The records.
        size: Tells the size of an input file, as text; None: there is no column of sizes, unless a file says them.
    """

    def __init__(self, records: Sequence[Record], size: Callable[[Path], str] | None = None) -> None:
        self._records = records
        self._sizes = None if size is None else _Sizes(records, size)
        names = dict.fromkeys(name for record in records for name in record.columns)
        self._names = tuple(names if size is None else {**names, RESOLUTION: None})

    def __getitem__(self, name: str) -> Sequence[str]:
        """Return a column."""
        if name not in self._names:
            raise KeyError(name)
        if name == RESOLUTION and self._sizes is not None and not any(name in r.columns for r in self._records):
            return self._sizes
        return [record.columns.get(name, "") for record in self._records]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names."""
        return iter(self._names)

    def __len__(self) -> int:
        """Return the number of columns."""
        return len(self._names)


def native_size(path: Path, *, exif: Exif = "pair", halves: bool = False) -> str:
    """Height x width of an image file as it is read, by its header; empty where it cannot be read.

    Args:
        path: The file.
        exif: How EXIF turns are read.
        halves: Whether it holds input and target side by side.
    """
    try:
        height, width = read_header(path).size(exif)
    except OSError:  # the sample is left out of the audit, which says why
        return ""
    return f"{height}x{width // 2 if halves else width}"
