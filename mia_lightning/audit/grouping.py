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
_NAMED = 5  # ids that an error names


class Grouping:
    """Finds the group of each sample by its id, as the setting ``groups`` says.

    A file is read and a function imported when this is made, so that what is wrong with them shows before any audit.

    Args:
        setting: A CSV file with the columns ``id`` and ``group``; a function of the id, or its import path; a mapping
            from id to group; ``"none"``: samples are taken to be independent, whatever the batches bring.
        column: The column of a file that holds the groups.
        option: The setting's name, for messages; those of another one than ``groups`` know no ``"none"``, and a sample
            may lack a value.

    Raises:
        TypeError: If the setting is none of these.
        ValueError: If a file or an import path leads to nothing, or the file does not fit.

    Example:
        >>> Grouping({"a_1": "a", "a_2": "a"}).of(["a_1", "a_2"])
        ['a', 'a']
        >>> Grouping(lambda id: id.split("_")[0]).of(["a_1", "b_1"])
        ['a', 'b']
    """

    def __init__(self, setting: Any, column: str = "group", option: str = "groups") -> None:
        self._table: Mapping[str, Any] | None = None
        self._function: Callable[[str], Any] | None = None
        self._column, self._option = column, option
        self.decision = f"a function of the id ({option})"
        if isinstance(setting, (str, Path)):
            self._read(setting)
        elif isinstance(setting, Mapping):
            self._table, self.decision = _checked_table(setting), f"a mapping of the ids ({option})"
        elif callable(setting):
            self._function = setting
        else:
            raise TypeError(f"{self._expected}, but got {type(setting).__name__}.")

    @property
    def _expected(self) -> str:
        none = ", or 'none'" if self._option == "groups" else ""
        return (
            f"Expected {self._option} to be a CSV file with the columns id and {self._column}, a function of the id "
            f"(its import path on the command line, such as my_package.patients.{self._column}_of), "
            f"{'' if none else 'or '}a mapping of ids{none}"
        )

    @property
    def independent(self) -> bool:
        """Whether samples are said to be independent."""
        return self._table is None and self._function is None

    def of(self, ids: Sequence[str], others: Sequence[str] | None = None) -> list[str]:
        """Tell the groups of samples by their ids, or by other names that they have, such as whole paths.

        Raises:
            ValueError: If a sample has none; names them.
        """
        groups = self.found(ids, others)
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

    def found(self, ids: Sequence[str], others: Sequence[str] | None = None) -> list[Any]:
        """What there is for each sample, as it is; None where there is nothing. Arguments are those of :meth:`of`."""
        names = zip(ids, ids if others is None else others, strict=True)
        if self._function is not None:
            return [self._call(id) for id, _ in names]
        table = self._table or {}
        keys = ((_plain(id), _plain(other)) for id, other in names)
        return [table.get(id, table.get(other)) for id, other in keys]

    def _call(self, id: str) -> Any:
        assert self._function is not None
        try:
            return self._function(id)
        except Exception as error:
            raise ValueError(
                f"The function of {self._option} failed for the id {id!r} ({type(error).__name__}: {error}). Expected "
                f"it to return the {self._column} of every id, as text or a whole number."
            ) from error

    def _read(self, setting: str | Path) -> None:
        text = str(setting)
        if text == _NONE and self._option == "groups":
            self.decision = "none: samples are taken to be independent (groups)"
        elif Path(text).is_file():
            self._table = _read_table(Path(text), self._column, self._option)
            self.decision = f"the file {text} ({self._option})"
        elif isinstance(setting, str) and _IMPORT_PATH.fullmatch(text) and not text.lower().endswith((".csv", ".txt")):
            self._function, self.decision = _imported(text, self._expected), f"the function {text} ({self._option})"
        else:
            raise ValueError(f"{self._expected}, but got {text!r}, and there is no such file.")


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


def _read_table(path: Path, column: str = "group", option: str = "groups") -> dict[str, str]:
    """Read a CSV file with the columns id and `column`; ValueError where it does not fit. Groups may not be empty."""
    table: dict[str, str] = {}
    try:
        # "utf-8-sig" also reads the mark that spreadsheet programs put before the first column's name.
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            header = [name.strip() for name in reader.fieldnames or []]
            if missing := [name for name in ("id", column) if name not in header]:
                raise ValueError(
                    f"{path} ({option}) lacks the column(s) {', '.join(missing)}: expected a comma-separated file with "
                    f"the columns id and {column}, but found {header}."
                )
            reader.fieldnames = header
            for row in reader:
                id, group = (_plain(text_of_spreadsheet((row[name] or "").strip())) for name in ("id", column))
                if not id or (not group and option == "groups"):
                    raise ValueError(
                        f"{path} ({option}), line {reader.line_num}: no {column if id else 'id'}; fill it."
                    )
                if table.setdefault(id, group) != group:
                    several = "in the groups" if option == "groups" else f"of the {column}s"
                    one = "one group" if option == "groups" else f"one {column}"
                    raise ValueError(
                        f"{path} ({option}), line {reader.line_num}: {id!r} is {several} {table[id]!r} and "
                        f"{group!r}; expected {one} an id."
                    )
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} ({option}) is not UTF-8 text ({error}): save it as CSV in UTF-8.") from error
    return table


def _imported(text: str, expected: str) -> Callable[[str], Any]:
    module, _, name = text.replace(":", ".").rpartition(".")
    try:
        function = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"{expected}, but got {text!r}: there is no such file, and it cannot be imported ({error})."
        ) from error
    if not callable(function):
        raise ValueError(f"{expected}, but {text!r} is a {type(function).__name__}.")  # noqa: TRY004 - a setting's value
    found: Callable[[str], Any] = function
    return found
