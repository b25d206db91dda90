"""Which samples belong together: the groups that the setting ``groups`` names, or those that the batches bring."""

from __future__ import annotations

import csv
import importlib
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mia_lightning.functional.groups import count_groups, group_codes
from mia_lightning.result.spreadsheet_text import text_of_spreadsheet

_NONE = "none"
_IMPORT_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*[.:][A-Za-z_]\w*")
_EXPECTED = (
    "Expected groups to be a CSV file with the columns id and group, a function of the id (its import path on the "
    "command line, such as my_package.patients.group_of), a mapping of ids, or 'none'"
)
_NAMED = 5  # ids that an error names


class Grouping:
    """Finds the group of each sample by its id, as the setting ``groups`` says.

    A file is read and a function imported when this is made, so that what is wrong with them shows before any audit.

    Args:
        setting: A CSV file with the columns ``id`` and ``group``; a function of the id, or its import path; a mapping
            from id to group; ``"none"``: samples are taken to be independent, whatever the batches bring.

    Raises:
        TypeError: If the setting is none of these.
        ValueError: If a file or an import path leads to nothing, or the file does not fit.

    Example:
        >>> Grouping({"a_1": "a", "a_2": "a"}).of(["a_1", "a_2"])
        ['a', 'a']
        >>> Grouping(lambda id: id.split("_")[0]).of(["a_1", "b_1"])
        ['a', 'b']
    """

    def __init__(self, setting: Any) -> None:
        self._table: Mapping[str, Any] | None = None
        self._function: Callable[[str], Any] | None = None
        self.decision = "a function of the id (groups)"
        if isinstance(setting, (str, Path)):
            self._read(setting)
        elif isinstance(setting, Mapping):
            self._table, self.decision = _checked_table(setting), "a mapping of the ids (groups)"
        elif callable(setting):
            self._function = setting
        else:
            raise TypeError(f"{_EXPECTED}, but got {type(setting).__name__}.")

    @property
    def independent(self) -> bool:
        """Whether samples are said to be independent."""
        return self._table is None and self._function is None

    def of(self, ids: Sequence[str], others: Sequence[str] | None = None) -> list[str]:
        """Tell the groups of samples by their ids, or by other names that they have, such as whole paths.

        Raises:
            ValueError: If a sample has none; names them.
        """
        names = zip(ids, ids if others is None else others, strict=True)
        if self._function is not None:
            groups = [self._call(id) for id, _ in names]
        else:
            table = self._table or {}
            keys = ((_plain(id), _plain(other)) for id, other in names)
            groups = [table.get(id, table.get(other)) for id, other in keys]
        missing = [id for id, group in zip(ids, groups, strict=True) if group is None or not str(group).strip()]
        if missing:
            some = ", ".join(map(repr, missing[:_NAMED])) + (", ..." if len(missing) > _NAMED else "")
            known = list(self._table or ())[:3]
            look = f" The ids there look like {', '.join(map(repr, known))}." if known else ""
            raise ValueError(
                f"{len(missing)} of {len(ids)} samples have no group by {self.decision}: {some}.{look} Give every "
                "sample a group (one of its own where it is independent), or leave groups out."
            )
        return [str(group).strip() for group in groups]

    def _call(self, id: str) -> Any:
        assert self._function is not None
        try:
            return self._function(id)
        except Exception as error:
            raise ValueError(
                f"The function of groups failed for the id {id!r} ({type(error).__name__}: {error}). Expected it to "
                "return the group of every id, as text or a whole number."
            ) from error

    def _read(self, setting: str | Path) -> None:
        text = str(setting)
        if text == _NONE:
            self.decision = "none: samples are taken to be independent (groups)"
        elif Path(text).is_file():
            self._table, self.decision = _read_table(Path(text)), f"the file {text} (groups)"
        elif isinstance(setting, str) and _IMPORT_PATH.fullmatch(text) and not text.lower().endswith((".csv", ".txt")):
            self._function, self.decision = _imported(text), f"the function {text} (groups)"
        else:
            raise ValueError(f"{_EXPECTED}, but got {text!r}, and there is no such file.")


class Grouped(NamedTuple):
    """The groups of an audit's samples.

    Attributes:
        names: Group of each sample, (N,); None where there are none.
        decision: By what they were told; empty where nothing is said of groups.
    """

    names: list[str] | None
    decision: str

    def to_meta(self, member: NDArray[np.bool_]) -> dict[str, dict[str, int]]:
        """How many groups there are, as results record it under ``groups``; nothing where there are none."""
        codes = group_codes(self.names)
        if codes is None:
            return {}
        counts = count_groups(member, codes)
        members, nonmembers = counts.a_side
        both = int(counts.on_both.sum())
        return {"groups": {"members": members, "nonmembers": nonmembers, "on_both_sides": both}}


def groups_of(
    setting: Grouping | None, batch_groups: Sequence[str] | None, ids: Sequence[str], paths: Sequence[str], key: Any
) -> Grouped:
    """Tell the groups of an audit's samples, and by what.

    Args:
        setting: What the setting ``groups`` says, which comes first; None: nothing.
        batch_groups: What the batches brought, "" for samples without a group; None: nothing.
        ids: The samples' names.
        paths: The same as the data have them.
        key: The setting ``group_key``.
    """
    if setting is not None:
        return Grouped(None if setting.independent else setting.of(ids, paths), setting.decision)
    if batch_groups is None:
        return Grouped(None, "")
    if all(id.rpartition("-crop-")[0] == group for id, group in zip(ids, batch_groups, strict=True)):
        return Grouped(list(batch_groups), "the pictures that samples were cut out of")
    alone = sum(not group for group in batch_groups)
    rest = f"; {alone} samples without one are taken to be independent" if alone else ""
    by = f"{'group' if key is None else key!r} ({'as batches have it' if key is None else 'group_key'})"
    return Grouped(list(batch_groups), f"the batches' entry {by}{rest}")


def _plain(id: str) -> str:
    return unicodedata.normalize("NFC", id.strip())


def _checked_table(table: Mapping[Any, Any]) -> dict[str, Any]:
    return {_plain(str(id)): group for id, group in table.items()}


def _read_table(path: Path) -> dict[str, str]:
    """Read a CSV file with the columns id and group; ValueError where it does not fit."""
    table: dict[str, str] = {}
    try:
        # "utf-8-sig" also reads the mark that spreadsheet programs put before the first column's name.
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            header = [name.strip() for name in reader.fieldnames or []]
            if missing := [name for name in ("id", "group") if name not in header]:
                raise ValueError(
                    f"{path} (groups) lacks the column(s) {', '.join(missing)}: expected a comma-separated file with "
                    f"the columns id and group, but found {header}."
                )
            reader.fieldnames = header
            for row in reader:
                id, group = (_plain(text_of_spreadsheet((row[name] or "").strip())) for name in ("id", "group"))
                if not id or not group:
                    raise ValueError(f"{path} (groups), line {reader.line_num}: no {'group' if id else 'id'}; fill it.")
                if table.setdefault(id, group) != group:
                    raise ValueError(
                        f"{path} (groups), line {reader.line_num}: {id!r} is in the groups {table[id]!r} and "
                        f"{group!r}; expected one group an id."
                    )
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} (groups) is not UTF-8 text ({error}): save it as CSV in UTF-8.") from error
    return table


def _imported(text: str) -> Callable[[str], Any]:
    module, _, name = text.replace(":", ".").rpartition(".")
    try:
        function = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"{_EXPECTED}, but got {text!r}: there is no such file, and it cannot be imported ({error})."
        ) from error
    if not callable(function):
        raise ValueError(f"{_EXPECTED}, but {text!r} is a {type(function).__name__}.")  # noqa: TRY004 - a setting's value
    found: Callable[[str], Any] = function
    return found
