"""How pairs come to their splits and groups: by folders, names, a CSV file; and which splits are used at all."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mia_lightning.data.records import NO_SPLIT, Record, name_some, split_of
from mia_lightning.data.splits_file import DEFAULT_SPLITS, apply_splits


@dataclass(frozen=True)
class Arrangement:
    """Gives pairs their splits and groups.

    Args:
        splits: CSV file of splits, see :func:`~mia_lightning.data.splits_file.apply_splits`.
        group_column: Its column of groups.
        id_column: Its column of ids.
        only_splits: Splits that are used; None uses all. Pairs without any split are used.
        split_pattern: Regular expression whose first group, found in an id, is the split.
        group_pattern: Likewise of the group.
        proposed: Names of the settings that a preset proposes: a file that is not there is stated then and no error.

    Raises:
        ValueError: If a pattern is no regular expression with a group.
    """

    splits: str | None = DEFAULT_SPLITS
    group_column: str | None = None
    id_column: str = "id"
    only_splits: Sequence[str] | None = None
    split_pattern: str | None = None
    group_pattern: str | None = None
    proposed: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        for name in ("split_pattern", "group_pattern"):
            pattern = getattr(self, name)
            try:
                groups = re.compile(pattern or "()").groups
            except re.error as error:
                raise ValueError(f"{name}={pattern!r} is no regular expression: {error}") from error
            if not groups:
                raise ValueError(
                    f"{name}={pattern!r} has no group: put brackets around what it is to find, such as '^(train|test)_'"
                )

    def keeps(self, id: str) -> bool:
        """Whether a pair is of a split that is used, as far as its id tells."""
        if self.only_splits is None:
            return True
        split = self._found(self.split_pattern, id) if self.split_pattern else split_of(id)
        return split in (*self.only_splits, NO_SPLIT) or (split is None and bool(self.splits))

    def applied(
        self, records: Sequence[Record], root: Path, *, lenient: bool = False
    ) -> tuple[list[Record], dict[str, str]]:
        """Give records their splits and groups; `lenient` passes over lines of the file without files.

        Returns:
            Those that are used, and what was decided, in sentences by setting.

        Raises:
            OSError: If a file is missing.
            ValueError: If an id has no split, or the file does not fit.
        """
        notes: dict[str, str] = {}
        pairs = self._split_by_name(records) if self.split_pattern else list(records)
        splits, group_column = self.splits, self.group_column
        if "splits" in self.proposed and splits and not (root / splits).is_file():
            notes["groups"] = f"{splits} is not in {root}, so that no {group_column or 'group'} is known"
            splits, group_column = DEFAULT_SPLITS, None
        if "group_column" in self.proposed and group_column and not (splits and (root / splits).is_file()):
            notes["groups"] = f"{splits} is not in {root}, so that no {group_column} is known"
            group_column = None
        pairs = apply_splits(
            pairs,
            root,
            splits,
            group_column,
            id_column=self.id_column if splits == self.splits else "id",
            need_split=not self.split_pattern,
            lenient=lenient,
        )
        if self.only_splits is not None:
            pairs = [pair for pair in pairs if pair.split in (*self.only_splits, NO_SPLIT)]
        if self.group_pattern and group_column is None:
            pairs = [replace(pair, group=self._found(self.group_pattern, pair.id)) for pair in pairs]
        return pairs, notes

    def groups_of(self, records: Sequence[Record], root: Path) -> dict[str, str]:
        """The group of each pair that has one, by id."""
        return {pair.id: pair.group for pair in self.applied(records, root, lenient=True)[0] if pair.group is not None}

    def _split_by_name(self, records: Sequence[Record]) -> list[Record]:
        found = {record.id: self._found(self.split_pattern, record.id) for record in records}
        if strange := [id for id, split in found.items() if split is None]:
            raise ValueError(
                f"split_pattern={self.split_pattern!r} finds no split in {len(strange)} of {len(found)} ids: "
                f"{name_some(strange)}. Correct the pattern, or remove the files."
            )
        return [replace(record, split=found[record.id] or NO_SPLIT) for record in records]

    @staticmethod
    def _found(pattern: str | None, id: str) -> str | None:
        match = re.search(pattern or "()", id)
        return match.group(1) if match else None
