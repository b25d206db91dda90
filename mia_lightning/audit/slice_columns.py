"""What an audit is sliced by: the settings ``slices`` and ``slice_by``, brought to one form."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

CLASS, RESOLUTION = "class", "resolution"
"""Columns that an audit knows by itself: the classes in a sample's target, and the size of its input."""

Columns = Mapping[str, Any]
"""Where each column comes from: a file, a function or a mapping of ids, or None, which is the batches."""

_EXAMPLE = "such as slices=['site', 'sex']"


def resolved(slices: Any, slice_by: Any) -> tuple[int | None, Columns | None]:
    """Tell the number of a volume's slices from the columns that an audit is sliced by.

    Args:
        slices: A whole number, of a volume's slices; or the name of a column, or several; or None.
        slice_by: Names of columns, or a mapping from names to where they come from; beside names in ``slices`` also
            where all of them come from. A file alone is all of its columns.

    Returns:
        The number, and the columns; None where there is none.

    Raises:
        TypeError: If ``slices`` is neither a number nor names.
        ValueError: If columns have no names, or two sources.

    Example:
        >>> resolved(4, None), resolved(["site", "sex"], None)
        ((4, None), (None, {'site': None, 'sex': None}))
        >>> resolved(4, {"site": "patients.csv"})
        (4, {'site': 'patients.csv'})
    """
    if slices is None or (isinstance(slices, int) and not isinstance(slices, bool)):
        return slices, None if slice_by is None else _columns(slice_by)
    names = _names(slices)
    if names is None:
        raise TypeError(
            "Expected slices to be a whole number (how many slices of a volume the predictability error looks at) or "
            f"names of columns that the audit is sliced by, {_EXAMPLE}, but got {slices!r}."
        )
    if slice_by is None:
        return None, _checked(dict.fromkeys(names))
    if isinstance(slice_by, Mapping) or not _is_source(slice_by):
        raise ValueError(
            f"slices={list(names)} names columns, and so does slice_by: name them in one. Beside names in slices, "
            "slice_by is where they come from: a CSV file with a column id and one for each name, or a function of "
            "the id. slices=4 and the like is the number of a volume's slices."
        )
    return None, _checked({name: None if name in (CLASS, RESOLUTION) else slice_by for name in names})


def _columns(slice_by: Any) -> Columns | None:
    if isinstance(slice_by, Mapping):
        return _checked({str(name): source for name, source in slice_by.items()})
    if isinstance(slice_by, Path) or (isinstance(slice_by, str) and slice_by.lower().endswith((".csv", ".txt"))):
        return _checked(dict.fromkeys(_header(Path(slice_by)), slice_by))
    names = _names(slice_by)
    if names is None:
        raise TypeError(
            "Expected slice_by to be names of columns, such as ['site', 'sex'], a mapping from names to where they "
            "come from, such as {'site': 'patients.csv'}, or a CSV file with a column id and others, but got "
            f"{slice_by!r}."
        )
    return _checked(dict.fromkeys(names))


def _is_source(value: Any) -> bool:
    """Whether it is where values come from, and no names of columns."""
    return isinstance(value, Path) or callable(value) or (isinstance(value, str) and ("." in value or ":" in value))


def _names(value: Any) -> tuple[str, ...] | None:
    """Names that a setting lists; one stands for itself. None where it is anything else."""
    names = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, Iterable) else None
    return names if names is not None and all(isinstance(name, str) for name in names) else None


def _checked(columns: dict[str, Any]) -> Columns | None:
    if bad := [name for name in columns if not name.strip() or name == "id"]:
        raise ValueError(f"Expected names of columns, {_EXAMPLE}, but got {bad[0]!r}.")
    return columns or None


def _header(path: Path) -> list[str]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            header = [name.strip() for name in next(csv.reader(file, skipinitialspace=True), [])]
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"Expected slice_by to be a CSV file in UTF-8, but cannot read {path} ({error}).") from error
    if "id" not in header or len(header) < 2:
        raise ValueError(
            f"{path} (slice_by) has the columns {header}: expected a comma-separated file with the column id and one "
            "or more that the audit is sliced by."
        )
    return [name for name in header if name and name != "id"]
