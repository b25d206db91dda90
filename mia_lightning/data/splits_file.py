"""Reads ``splits.csv``: the split, and optionally the group, of each pair."""

import csv
from dataclasses import replace
from pathlib import Path, PurePosixPath

from mia_lightning.data.records import IMAGE_SUFFIXES, Record, name_some, nfc
from mia_lightning.result.spreadsheet_text import name_among, text_of_spreadsheet

DEFAULT_SPLITS = "splits.csv"
"""The splits file that is used when it is there; any other name must exist."""


def apply_splits(
    records: list[Record],
    root: Path,
    splits: str | None = DEFAULT_SPLITS,
    group_column: str | None = None,
    *,
    id_column: str = "id",
    need_split: bool = True,
    lenient: bool = False,
) -> list[Record]:
    """Give records the split (and group) that a CSV file states; pairs that it does not name are left out.

    Args:
        records: What was found on disk.
        root: Folder of the data set, which `splits` is relative to.
        splits: CSV file with columns ``id`` and ``split``; an id is the file name without suffix, with the folder of
            its split where there is one (``train/0007``). None, or no ``splits.csv``, keeps the folders' splits.
        group_column: Column that names the group of a pair.
        id_column: Column of the ids.
        need_split: Whether the file has to name splits; otherwise those that records have stay where it does not.
        lenient: Pass over ids without files.

    Returns:
        Records of the pairs that the file names, sorted by id, with all that it says of them.

    Raises:
        FileNotFoundError: If a file other than the default is absent, or groups are asked for without a file.
        ValueError: If a column is lacking, a cell is empty, an id occurs twice, or an id has no files.
    """
    path = root / splits if splits else None
    if path is None or not path.is_file():
        if splits and splits != DEFAULT_SPLITS:
            csv_files = name_some(path.name for path in root.glob("*.csv")) or "none"
            raise FileNotFoundError(f"no splits file {splits!r} in {root}; CSV files in it: {csv_files}")
        if group_column:
            raise FileNotFoundError(
                f"group_column={group_column!r} needs a splits file with that column, but {root} has no "
                f"{splits or DEFAULT_SPLITS}: add one (columns id, split, {group_column}) or drop group_column"
            )
        return records
    try:
        columns = [id_column, *(["split"] if need_split else []), *([group_column] if group_column else [])]
        rows = _read_rows(path, columns)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text ({error}): save it as CSV in UTF-8") from error
    on_disk = {record.id: record for record in records}
    rows = {name_among(id, on_disk): row for id, row in rows.items()}
    if lenient:
        rows = {id: row for id, row in rows.items() if id in on_disk}
    elif unknown := rows.keys() - on_disk.keys():
        raise ValueError(
            f"{path} names {len(unknown)} ids without files: {name_some(unknown)}. Ids on disk look like "
            f"{name_some(on_disk, most=3)}. Correct the file, or add the images."
        )
    columns_of = {id: {column: text_of_spreadsheet(value) for column, value in row.items()} for id, row in rows.items()}
    return [
        replace(
            on_disk[id],
            split=row.get("split") or on_disk[id].split,
            group=columns_of[id][group_column] if group_column else None,
            columns=columns_of[id],
        )
        for id, row in sorted(rows.items())
    ]


def _read_rows(path: Path, columns: list[str]) -> dict[str, dict[str, str]]:
    """Map id, in the first of `columns`, to the rest of its row, after checking that all are there and filled."""
    rows: dict[str, dict[str, str]] = {}
    # "utf-8-sig" also reads the mark that spreadsheet programs put before the first column's name.
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file, skipinitialspace=True)
        header = list(reader.fieldnames or [])
        if missing := [column for column in columns if column not in header]:
            raise ValueError(
                f"{path} lacks the column(s) {', '.join(map(repr, missing))}: expected a comma-separated "
                f"file with {columns}, found {header}"
            )
        for row in reader:
            if empty := [column for column in columns if not (row[column] or "").strip()]:
                raise ValueError(f"{path}, line {reader.line_num}: no value for {empty}; fill it or remove the line")
            place = PurePosixPath(nfc(row[columns[0]].strip()).replace("\\", "/"))
            # File names are ids, too: an image suffix goes, but no other dot.
            id = str(place.with_suffix("") if place.suffix.lower() in IMAGE_SUFFIXES else place)
            if id in rows:
                raise ValueError(f"{path}, line {reader.line_num}: id {id!r} occurs twice; keep one line per id")
            rows[id] = {name: nfc((row[name] or "").strip()) for name in header if name.strip() and name != columns[0]}
    if not rows:
        raise ValueError(f"{path} names no pair: expected one line per pair below the header, or no file at all")
    return rows
