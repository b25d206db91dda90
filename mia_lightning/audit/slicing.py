"""The columns that an audit is sliced by, such as the site of each sample: found in batches, or by the ids."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import PurePath
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mia_lightning.audit.batch_plan import EACH
from mia_lightning.audit.dataset_columns import column_names, column_of
from mia_lightning.audit.distributed import gathered
from mia_lightning.audit.grouping import Grouping
from mia_lightning.audit.interpretation import Interpretation
from mia_lightning.audit.slice_columns import CLASS, RESOLUTION, Columns
from mia_lightning.functional.batches import Batch
from mia_lightning.functional.descriptions import describe
from mia_lightning.functional.entries import entry_at, is_sequence
from mia_lightning.functional.slice_audit import audit_slices, class_key
from mia_lightning.metrics.collector import SampleTable
from mia_lightning.registry import Task
from mia_lightning.result.audit_result import AuditResult
from mia_lightning.result.slice_table import Sliced

SEVERAL = ";"
"""Stands between the classes of a sample in :attr:`AuditResult.slices`."""

Entry = str | tuple[str, ...]


class BatchValues(NamedTuple):
    """What batches are read for.

    Attributes:
        interpretation: Of the batches.
        target: The prepared targets, (B, ...).
        classes: Number of classes of label maps; None where there are none.
    """

    interpretation: Interpretation
    target: Tensor
    classes: int | None


class Slicing:
    """Finds the values of the columns that an audit is sliced by.

    Files are read and functions imported when this is made, so that what is wrong with them shows before any audit.

    Args:
        columns: As the settings have them.

    Raises:
        TypeError: If a source is none.
        ValueError: If a file or an import path leads to nothing, or the file does not fit.
    """

    def __init__(self, columns: Columns) -> None:
        self._columns = tuple(columns)
        self._sources = {
            name: Grouping(source, name, "slice_by") for name, source in columns.items() if source is not None
        }
        self._datasets: tuple[Any, Any] = (None, None)
        self._of_data = set[str]()  # columns that data sets had to be asked for

    def look_into(self, members: Any, nonmembers: Any) -> None:
        """Take what batches lack from the data sets of both sides, where these know it by their ``metadata``."""
        self._datasets, self._of_data = (members, nonmembers), set()

    def agree(self) -> None:
        """Learn which columns the data sets were asked for on any process: one may have had no batch. A collective."""
        self._of_data = set(gathered(sorted(self._of_data)))

    def decisions(self, task: Task) -> dict[str, str]:
        """By what the columns are found, in words, in an audit of a task; nothing where there are none."""
        sources = {name: self._decision(name, task) for name in self._columns}
        return {"slices": "; ".join(f"{name}: {what}" for name, what in sources.items())} if sources else {}

    def _decision(self, name: str, task: Task) -> str:
        if name in self._sources:
            return self._sources[name].decision
        if name in self._of_data:
            return "the size of image files" if name == RESOLUTION else f"the data set's column {name!r}"
        if name == CLASS and task != "translation":
            return "the classes that targets show"
        return f"the batches' entry {name!r}" + (", or the size of inputs" if name == RESOLUTION else "")

    def of_batch(self, batch: Any, sample: Batch, values: BatchValues) -> list[str] | None:
        """Tell the values of each sample of a batch that the batches bring, as text; None where they bring none.

        Args:
            batch: As the loader gave it.
            sample: The same, read.
            values: What else is known of it.

        Raises:
            ValueError: If a column is neither in the batch nor in the data sets, or does not have one value a sample.
        """
        names = [name for name in self._columns if name not in self._sources]
        if not names:
            return None
        columns = [self._column(name, batch, sample, values) for name in names]
        return [json.dumps(row, separators=(",", ":")) for row in zip(*columns, strict=True)]

    def _column(
        self, name: str, batch: Any, sample: Batch, values: BatchValues
    ) -> Sequence[str | Sequence[str] | None]:
        """One value, or several, a sample; None where the data set's own column is taken."""
        count = len(sample.input)
        if name == CLASS and values.interpretation.task != "translation":
            return _classes(values)
        texts = self._texts_of(name, batch, sample)
        return ["x".join(map(str, sample.input.shape[-2:]))] * count if texts is None else texts

    def _texts_of(self, name: str, batch: Any, sample: Batch) -> Sequence[str | None] | None:
        """One value a sample, by the batch or else (None each) by the data sets; None for sizes that neither says."""
        count = len(sample.input)
        try:
            metadata = getattr(sample, "metadata", None) or {}
            found = metadata[name] if name in metadata else entry_at(batch, name)
        except KeyError:
            if self._found_in_data(name):
                return [None] * count
            if name != RESOLUTION:
                raise ValueError(self._no_such(name, batch)) from None
            return None
        texts = _texts(found, count)
        if texts is None:
            raise ValueError(
                f"Expected one {name} a sample (text or numbers), {count} of them, for slices, but the batch has "
                f"{describe(found)}."
            )
        return texts

    def _found_in_data(self, name: str) -> bool:
        """Whether the data sets of both sides have a column; they are asked once."""
        if name not in self._of_data and all(column_of(dataset, name) is not None for dataset in self._datasets):
            self._of_data.add(name)
        return name in self._of_data

    def _in_data(self, name: str, places: Sequence[tuple[bool, int]]) -> list[str]:
        """Values of samples by the data sets of their sides (True: members) and their places in these."""
        columns = dict(zip((True, False), (column_of(dataset, name) for dataset in self._datasets), strict=True))
        texts = list[str]()
        for member, place in places:
            column = columns[member]
            if column is None:
                raise ValueError(
                    f"The {'members' if member else 'nonmembers'} have no column {name!r} on this process, but on "
                    "another they do: expected the same data set on each process, with the same metadata."
                )
            texts.append(_text(column(place)))
        return texts

    def stored(self, batch: Any, sample: Batch, places: Sequence[tuple[bool, int]], task: Task) -> list[dict[str, str]]:
        """Tell what batches and data sets say of each sample in these columns, for an audit that has neither.

        Args:
            batch: As the loader gave it.
            sample: The same, read.
            places: The side (True: members) and the place of each sample in its data set.
            task: The task: targets show the classes, which need not be stored, unless it is translation.

        Raises:
            ValueError: As :meth:`of_batch`.
        """
        rows: list[dict[str, str]] = [{} for _ in places]
        for name in self._columns:
            if name in self._sources or (name == CLASS and task != "translation"):
                continue
            texts = self._texts_of(name, batch, sample)
            if texts is not None and None in texts:
                texts = self._in_data(name, places)
            for row, text in zip(rows, texts or (), strict=False):
                row[name] = text or ""
        return rows

    def _no_such(self, name: str, batch: Any) -> str:
        members, nonmembers = map(column_names, self._datasets)
        there = [column for column in members if column in nonmembers]
        data = f", and the data set has {', '.join(map(repr, there))}" if there else ""
        return (
            f"slices names {name!r}, but the batch, {describe(batch)}, has no such entry{data}. Name one of these; or "
            f"say where it comes from, such as slice_by={{{name!r}: 'patients.csv'}}, a CSV file with the columns "
            f"id and {name}, or a function of the id; or have an adapter's unpack return Batch(..., "
            f"metadata={{{name!r}: [...]}})."
        )

    def columns(
        self,
        of_batches: Sequence[str] | None,
        ids: Sequence[str],
        paths: Sequence[str],
        places: Sequence[tuple[bool, int]] = (),
    ) -> dict[str, list[Entry]]:
        """Tell the value, or values, of each sample by column; empty where a sample has none.

        Args:
            of_batches: What :meth:`of_batch` told of each sample.
            ids: The samples' names.
            paths: The same as the data have them.
            places: The side (True: members) and the place of each sample in its data set.

        Raises:
            ValueError: If a source knows none of the samples, or the data sets of processes differ.
        """
        names = [name for name in self._columns if name not in self._sources]
        read = cache(_read)  # few rows differ
        rows = (
            [read(text, len(names)) for text in of_batches]
            if of_batches is not None
            else [("",) * len(names)] * len(ids)
        )
        found = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)) if names and rows else {}
        for name in self._of_data & found.keys():
            lacking = [row for row, value in enumerate(found[name]) if value is None]
            for row, text in zip(lacking, self._in_data(name, [places[row] for row in lacking]), strict=True):
                found[name][row] = text
        for name, source in self._sources.items():
            found[name] = self._by_id(name, source, ids, paths)
        return {name: found[name] for name in self._columns if name in found}

    def require(self, ids: Sequence[str]) -> None:
        """Raise a ValueError where a source of a column knows none of these samples."""
        for name, source in self._sources.items():
            self._by_id(name, source, ids, ids)

    def _by_id(self, name: str, source: Grouping, ids: Sequence[str], paths: Sequence[str]) -> list[Entry]:
        values = source.found(ids, paths)
        values = [value.get(name) if isinstance(value, Mapping) else value for value in values]
        if ids and all(value is None for value in values):
            raise ValueError(
                f"No sample has a {name} by {source.decision}; the first are {', '.join(map(repr, ids[:3]))}. Expected "
                "their ids there."
            )
        return [_text(value) for value in values]


class ClassNames(NamedTuple):
    """The classes of an audit that is about single ones, and by what they are named: empty, by their numbers."""

    names: Sequence[str]
    source: str

    @property
    def decision(self) -> str:
        """The same in words, as results state it."""
        numbers = f"their numbers, 0 to {len(self.names) - 1}; class_names names them"
        return f"{', '.join(self.names)}, by {self.source}" if self.source else numbers


def with_slices(
    result: AuditResult,
    table: SampleTable,
    slicing: Slicing | None,
    classes: ClassNames | None = None,
    crops: tuple[int, int] = (1, 1),
) -> AuditResult:
    """Audit the slices of a result by its primary score, and the errors of single classes, beside what it has.

    All looks at a training share the error: the intervals of the slices hold at all of them together, for each kind of
    number.

    Args:
        result: Of the samples of the table that have numbers.
        table: Whom it was made of.
        slicing: Finds what they are sliced by; None: nothing.
        classes: The classes, where slices or errors are of single ones. Without both the result is returned as it is.
        crops: Samples that one entry of the members' and of the nonmembers' data set holds.

    Raises:
        ValueError: If a source knows none of the samples.
    """
    if slicing is None and classes is None:
        return result
    keep = np.flatnonzero(table.columns["reason"] == 0)
    labels = None if table.labels is None else [table.labels[i] for i in keep]
    paths = [table.ids[i] for i in keep]
    positions = zip(result.member.tolist(), table.position[keep].tolist(), strict=True)
    places = [(member, position // crops[not member]) for member, position in positions]
    columns = {} if slicing is None else slicing.columns(labels, result.ids, paths, places)
    of_classes = {} if classes is None else _errors_of_classes(table, keep, classes.names)
    level = 0.95
    share = float((result.meta.get("look") or {}).get("share", 1.0 / max(1, int(result.meta.get("looks") or 1))))
    slices = audit_slices(
        columns,
        result.scores[result.primary],
        result.member,
        blind=-result.errors["predictability"],
        group=result.group_codes,
        level=level,
        share=share,
        seed=int(result.meta["settings"]["seed"]),
        of_classes=of_classes,
    )
    found = Sliced.of(slices, level, share, "sample" if result.group_codes is None else "group")
    decisions = {**result.meta["interpretation"]}
    if slicing is not None:
        decisions |= slicing.decisions(result.meta["task"])
    if classes is not None and (of_classes or classes.source):
        decisions["classes"] = classes.decision
    names = {"class_names": list(classes.names)} if classes is not None and classes.source else {}
    errors = {class_key(*place): column for place, column in of_classes.items()}
    return replace(
        result,
        metrics=result.metrics | _means(errors, result) | found.metrics(result.prefix),
        errors=result.errors | errors,
        meta=result.meta | {"interpretation": decisions} | names | found.to_meta(),
        slices=None if slicing is None else {name: [*map(_joined, entries)] for name, entries in columns.items()},
    )


def _errors_of_classes(
    table: SampleTable, rows: NDArray[np.intp], names: Sequence[str]
) -> dict[tuple[str, str], NDArray[np.float64]]:
    """Errors of these rows by the error's name and the class's; none of classes that no sample shows."""
    found = {}
    for column, values in table.columns.items():
        if column.startswith(EACH) and np.isfinite(values[rows]).any():
            error, _, number = column.removeprefix(EACH).rpartition("/")
            found[error, names[int(number)]] = values[rows]
    return found


def _means(errors: Mapping[str, NDArray[np.float64]], result: AuditResult) -> dict[str, float]:
    """Mean of each error on either side, over the samples that have it."""
    means = {}
    for name, error in errors.items():
        for side, mask in (("members", result.member), ("nonmembers", ~result.member)):
            have = error[mask & np.isfinite(error)]
            means[f"{result.prefix}/error/{name}/{side}"] = float(have.mean()) if have.size else math.nan
    return means


def _joined(entry: Entry) -> str:
    return entry if isinstance(entry, str) else SEVERAL.join(entry)


def _read(text: str, count: int) -> tuple[Any, ...]:
    """Undo the text of a row; one that was not read has no values."""
    return tuple(tuple(v) if isinstance(v, list) else v for v in json.loads(text)) if text else ("",) * count


def _texts(found: Any, count: int) -> list[str] | None:
    """An entry as one text a sample; None where it is none."""
    found = found.tolist() if isinstance(found, Tensor) or hasattr(found, "__array__") else found
    listed = [found] if isinstance(found, (str, int, float, PurePath)) else found
    if not is_sequence(listed) or len(listed) != count or not all(_is_value(value) for value in listed):
        return None
    return [_text(value) for value in listed]


def _is_value(value: Any) -> bool:
    return value is None or isinstance(value, (str, int, float, PurePath))


def _text(value: Any) -> str:
    """A value as text; empty where it is missing. Whole numbers have no decimal point."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return str(int(value) if isinstance(value, float) and value.is_integer() else value).strip()


def _classes(values: BatchValues) -> list[list[str]]:
    """Classes that each target shows, as numbers: of masks of independent channels, those with a foreground."""
    target = values.target
    if values.classes is None:
        present = (target > 0).flatten(2).any(2)
    else:
        flat, classes = target.flatten(1).long(), values.classes
        ignored = (flat < 0) | (flat >= classes) | (flat == values.interpretation.config.ignore_index)
        present = torch.zeros(len(flat), classes + 1, dtype=torch.bool, device=flat.device)
        present = present.scatter_(1, flat.masked_fill(ignored, classes), True)[:, :classes]
    return [[str(number) for number, here in enumerate(row) if here] for row in present.tolist()]
