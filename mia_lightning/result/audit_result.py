"""The result of one audit: per-sample errors and scores, metrics, and how they came about."""

import csv
import io
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from mia_lightning.functional.groups import Codes, group_codes
from mia_lightning.functional.p_values import benjamini_hochberg, member_p_values
from mia_lightning.result.atomic_files import write_atomically
from mia_lightning.result.group_table import GroupTable
from mia_lightning.result.json_values import without_nan
from mia_lightning.result.slice_table import Sliced
from mia_lightning.result.spreadsheet_text import spreadsheet_text
from mia_lightning.result.verdict import Grade, Verdict, judge
from mia_lightning.result.verdict_score import verdict_score

_FORMAT = 1
_ENTRIES = (
    "settings",
    "membership",
    "members",
    "neighbours",
    "versions",
    "utility",
    "looks",
    "notes",
    "on_both_sides",
    "interpretation",
    "plausibility",
    "groups",
    "near_copies",
    "verdict_score",
    "slices",
    "class_names",
)
_SETTINGS = ("prefix", "primary", "fdr")
_PIECE = 2**20  # characters of a table that are written at once


@dataclass(frozen=True, eq=False)
class AuditResult:
    """Outcome of an audit, complete when it is made. *Error* low = member, *score* high = member.

    Attributes:
        metrics: The numbers that are logged, under the same keys (``audit/auc`` and so on).
        ids: Name of each audited sample, N of them, members first.
        member: True for members, (N,).
        errors: Raw errors by name, each (N,): ``reconstruction``, ``predictability``, ``membership``.
        scores: Requested scores by name, each (N,).
        meta: Epoch, step, task, how membership was assigned, settings and versions, as plain JSON values.
        excluded: Samples left out, each ``{"id", "side", "reason"}``.
        positions: Place of each sample in its data set, (N,); None where not known.
        blind: Statistics of the pairs that no model was asked for, by name, each (N,).
        groups: Group of each sample, N of them, such as the patient: what counts in place of the samples in intervals,
            tests and bounds. A sample with an empty one is a group of its own. None: there are no groups.
        slices: What the audit is sliced by, such as ``site``: one text a sample, N of them, by column; several classes
            of a sample have semicolons between them, and an empty text is none. None: it is not sliced.

    Example:
        >>> result = AuditResult(
        ...     metrics={"audit/auc": 1.0}, ids=["a", "b"], member=np.array([True, False]),
        ...     errors={"reconstruction": np.array([0.1, 0.2])}, scores={"reconstruction": np.array([-0.1, -0.2])},
        ... )
        >>> result.top(1)
        ['a']
    """

    metrics: dict[str, float]
    ids: list[str]
    member: NDArray[np.bool_]
    errors: dict[str, NDArray[np.float64]]
    scores: dict[str, NDArray[np.float64]]
    meta: dict[str, Any] = field(default_factory=dict)
    excluded: list[dict[str, str]] = field(default_factory=list)
    positions: NDArray[np.int64] | None = None
    blind: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    groups: list[str] | None = None
    slices: dict[str, list[str]] | None = None

    def __post_init__(self) -> None:
        # A version string or a path of a richer type would make the checkpoint unreadable under weights_only=True.
        meta = json.loads(json.dumps(self.meta, default=_plain), parse_constant=lambda name: None)
        _leave_out_nulls(meta)
        object.__setattr__(self, "meta", meta)
        object.__setattr__(self, "member", np.asarray(self.member, dtype=bool))
        for name in ("errors", "scores"):
            table = {k: np.asarray(v, dtype=np.float64) for k, v in getattr(self, name).items()}
            object.__setattr__(self, name, table)
        columns = {**self.errors, **self.scores, **self.blind, "member": self.member}
        lengths = {name: len(column) for name, column in columns.items()}
        if self.groups is not None:
            object.__setattr__(self, "groups", ["" if name is None else str(name) for name in self.groups])
            lengths["groups"] = len(self.groups)
        lengths |= {f"slices[{name!r}]": len(column) for name, column in (self.slices or {}).items()}
        if set(lengths.values()) - {len(self.ids)}:
            raise ValueError(f"Expected {len(self.ids)} values a column, one for each id, but got {lengths}.")

    def __repr__(self) -> str:
        sides = f"{int(self.member.sum())} members, {int((~self.member).sum())} nonmembers"
        epoch = f"epoch {self.epoch}, " if self.epoch is not None else ""
        low, high = self.interval()
        return f"AuditResult({epoch}{sides}, auc={self.auc:.3f} [{low:.3f}, {high:.3f}])"

    @cached_property
    def verdict(self) -> Verdict:
        """What it means: a grade, three sentences and remarks."""
        return judge(self)

    @property
    def grade(self) -> Grade:
        """The verdict in one word: ``strong``, ``weak``, ``none``, ``inconclusive`` or ``unfair``."""
        return self.verdict.grade

    @cached_property
    def group_codes(self) -> Codes | None:
        """Number of each sample's group, (N,), for statistics; None where there are no groups."""
        return group_codes(self.groups)

    @property
    def prefix(self) -> str:
        """First part of the metric keys."""
        return str(self.meta.get("settings", {}).get("prefix", "audit"))

    @property
    def primary(self) -> str:
        """Name of the score that the headline numbers are of."""
        return str(self.meta.get("settings", {}).get("primary", next(iter(self.scores), "membership")))

    @property
    def verdict_score(self) -> str:
        """Name of the score that the verdict rests on; the primary one where the audit names no other."""
        return verdict_score(self)

    @property
    def fdr(self) -> float:
        """False discovery rate at which samples and groups are flagged, in (0, 1)."""
        return float(self.meta.get("settings", {}).get("fdr", 0.1))

    @property
    def epoch(self) -> int | None:
        """Epoch of the audit, counted from 0; None where there was no training."""
        return self.meta.get("epoch")

    @property
    def auc(self) -> float:
        """Area under the ROC of the primary score."""
        return self.metrics.get(f"{self.prefix}/auc", math.nan)

    def metric(self, key: str) -> float:
        """Look a metric up without its prefix: ``result.metric("blind_auc")``; NaN where there is none."""
        return self.metrics.get(f"{self.prefix}/{key}", math.nan)

    def interval(self, score: str | None = None) -> tuple[float, float]:
        """Confidence interval of a score's AUC (the primary's by default)."""
        name = score or self.primary
        return self.metric(f"auc_low/{name}"), self.metric(f"auc_high/{name}")

    def band(self, score: str | None = None) -> tuple[float, float]:
        """Interval of a score's AUC (the primary's by default) that holds at all looks at the training together.

        NaN where there is none: outside of a training, and with fewer than six units on a side.
        """
        name = score or self.primary
        return self.metric(f"auc_low_simultaneous/{name}"), self.metric(f"auc_high_simultaneous/{name}")

    def top(self, count: int, *, member: bool = True, score: str | None = None, lowest: bool = False) -> list[str]:
        """Ids of the most (or least) exposed samples of a side, in this order; ties in the order of the data.

        Args:
            count: How many at the most.
            member: The side: members, or nonmembers.
            score: The score to sort by; the primary by default.
            lowest: Least exposed first.
        """
        return [self.ids[i] for i in self.top_indices(count, member=member, score=score, lowest=lowest)]

    def top_indices(
        self, count: int, *, member: bool = True, score: str | None = None, lowest: bool = False
    ) -> list[int]:
        """Rows of the most (or least) exposed samples of a side, as :meth:`top` names them."""
        rows = np.flatnonzero(self.member == member)
        values = self.scores[score or self.primary][rows]
        order = np.argsort(values if lowest else -values, kind="stable")[:count]
        return [int(i) for i in rows[order]]

    def p_values(self, score: str | None = None) -> NDArray[np.float64]:
        """Conformal p-value of each sample against the nonmembers, small = unlike a nonmember, (N,).

        A nonmember is compared with the other nonmembers; where samples come in groups these count, and no sample is
        compared with its own. NaN where a side has no sample, or a sample no score.
        """
        column = self.scores[score or self.primary]
        if self.member.all() or not self.member.any() or not np.isfinite(column).all():
            return np.full(len(self.ids), np.nan)
        return member_p_values(column, self.member, self.group_codes)

    def flagged(self, rate: float | None = None, score: str | None = None) -> NDArray[np.bool_]:
        """Members that stand out from the nonmembers at a false discovery rate (Benjamini-Hochberg), (N,).

        Where samples come in groups, a group counts once.

        Args:
            rate: Share of wrong flags to be expected at the most; by default the audit's setting ``fdr``.
            score: The score to judge by; the primary by default.
        """
        flags, p_values = np.zeros(len(self.ids), dtype=bool), self.p_values(score)
        if self.member.any() and not np.isnan(p_values).any():
            chosen = self.fdr if rate is None else rate
            codes = None if self.group_codes is None else self.group_codes[self.member]
            flags[self.member] = benjamini_hochberg(p_values[self.member], chosen, codes)
        return flags

    def group_table(self, rate: float | None = None, score: str | None = None) -> GroupTable | None:
        """The groups by how exposed they are, members and nonmembers; None without groups, or with too few of them.

        Args:
            rate: Share of wrongly flagged groups to be expected at the most; by default the audit's setting ``fdr``.
            score: The score to judge by; the primary by default.
        """
        if self.groups is None or self.group_codes is None:
            return None
        chosen = self.fdr if rate is None else rate
        column = self.scores[score or self.primary]
        return GroupTable.of(self.ids, self.groups, self.group_codes, self.member, column, chosen)

    @cached_property
    def sliced(self) -> Sliced:
        """The slices of the audit, such as sites, with what it says of each; no rows where it was not sliced."""
        return Sliced.read(self.meta)

    def to_plain(self) -> dict[str, Any]:
        """Plain Python values and tensors: what a checkpoint may hold under ``torch.load(weights_only=True)``."""
        tables = {"errors": self.errors, "scores": self.scores, "blind": self.blind}
        return {
            "format": _FORMAT,
            "metrics": dict(self.metrics),
            "meta": self.meta,
            "excluded": self.excluded,
            "ids": self.ids,
            **({} if self.groups is None else {"groups": self.groups}),
            **({} if self.slices is None else {"slices": self.slices}),
            "member": torch.tensor(self.member),
            "positions": None if self.positions is None else torch.tensor(self.positions),
            **{name: {k: torch.tensor(v) for k, v in table.items()} for name, table in tables.items()},
        }

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> Self:
        """Rebuild a result from :meth:`to_plain` or from parsed JSON.

        Raises:
            ValueError: If the content was written by a newer format, lacks a part, or its primary score is none of
                its scores.
        """
        if plain.get("format") != _FORMAT:
            raise ValueError(f"Expected an audit result of format {_FORMAT}, but found {plain.get('format')!r}.")
        try:
            metrics = {k: math.nan if v is None else float(v) for k, v in plain["metrics"].items()}
            fields = {k: plain[k] for k in ("ids", "member", "errors", "scores", "meta", "excluded")}
        except KeyError as missing:
            raise ValueError(f"Expected an audit result, but the part {missing} is missing.") from missing
        blind = {k: np.asarray(v, dtype=np.float64) for k, v in plain.get("blind", {}).items()}
        positions = None if plain.get("positions") is None else np.asarray(plain["positions"], dtype=np.int64)
        groups, slices = plain.get("groups"), plain.get("slices")
        result = cls(metrics, **fields, positions=positions, blind=blind, groups=groups, slices=slices)
        if result.scores and result.primary not in result.scores:
            raise ValueError(
                f"Expected the primary score to be one of {', '.join(result.scores)}, but found {result.primary!r}."
            )
        return result

    def to_json(self, path: str | Path) -> Path:
        """Write everything as JSON, in one step, and return the path; floats keep every bit, NaN becomes null."""
        return write_atomically(path, self._json())

    def _json(self) -> Iterator[str]:
        """The file in parts, a column at a time: as one text a million samples would take gigabytes."""
        yield "{\n"
        small = {"format": _FORMAT, "metrics": without_nan(self.metrics), "meta": self.meta, "excluded": self.excluded}
        yield ",\n".join(f"{json.dumps(k)}: {json.dumps(v, indent=1, allow_nan=False)}" for k, v in small.items())
        places = None if self.positions is None else self.positions.tolist()
        texts = {name: value for name in ("groups", "slices") if (value := getattr(self, name)) is not None}
        for key, values in {"ids": self.ids, "member": self.member.tolist(), "positions": places, **texts}.items():
            yield f",\n{json.dumps(key)}: {json.dumps(values)}"
        for key, table in (("errors", self.errors), ("scores", self.scores), ("blind", self.blind)):
            yield f",\n{json.dumps(key)}: {{"
            for number, (name, column) in enumerate(table.items()):
                numbers = json.dumps([x if math.isfinite(x) else None for x in column.tolist()])
                yield f"{',' if number else ''}\n{json.dumps(name)}: {numbers}"
            yield "}"
        yield "\n}\n"

    @classmethod
    def from_json(cls, path: str | Path) -> Self:
        """Read a result written by :meth:`to_json`.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If the file is no audit result.
        """
        try:
            return cls.from_plain(json.loads(Path(path).read_text(encoding="utf-8")))
        except (AttributeError, TypeError, ValueError) as error:  # bad UTF-8 and bad JSON are ValueErrors
            raise ValueError(f"{path} is not an audit result: {error}") from error

    def to_csv(self, path: str | Path) -> Path:
        """Write one row a sample: id, side, each ``error_*``, each ``score_*``, its p-value and whether it is flagged.

        Where samples come in groups, ``group`` follows the side, then each ``slice_*`` by which the audit is sliced.
        P-value and flag are by the primary score; where the verdict rests on another, those by that one follow, under
        ``p_value_<score>`` and ``flagged_<score>``. Ids, groups and slices that look like formulas get an apostrophe,
        so that no spreadsheet runs them; files of ids, groups, slices and splits may have them so.

        The file is replaced in one step; its path is returned.
        """
        columns = {f"error_{k}": v for k, v in self.errors.items()} | {f"score_{k}": v for k, v in self.scores.items()}
        names = list(dict.fromkeys((self.primary, self.verdict_score)))
        judged = [(self.p_values(name), self.flagged(score=name)) for name in names]
        heads = [
            f"{head}{'' if name == self.primary else f'_{name}'}" for name in names for head in ("p_value", "flagged")
        ]

        def rows() -> Iterator[str]:
            text = io.StringIO()
            writer = csv.writer(text, lineterminator="\n")
            slices = list((self.slices or {}).values())
            names = [*([] if self.groups is None else ["group"]), *slice_columns([self])]
            writer.writerow(["id", "side", *names, *columns, *heads])
            for row, name in enumerate(self.ids):
                side = "member" if self.member[row] else "nonmember"
                numbers = (repr(float(v[row])) for v in columns.values())
                marks = (mark for p, flags in judged for mark in (repr(float(p[row])), bool(flags[row])))
                group = [] if self.groups is None else [spreadsheet_text(self.groups[row])]
                values = [spreadsheet_text(column[row]) for column in slices]
                writer.writerow([spreadsheet_text(name), side, *group, *values, *numbers, *marks])
                if text.tell() > _PIECE:
                    yield text.getvalue()
                    text.seek(0)
                    text.truncate()
            yield text.getvalue()

        return write_atomically(path, rows())


def slice_columns(history: Sequence[AuditResult]) -> list[str]:
    """Names of the columns of tables that have what audits are sliced by, such as ``slice_site``."""
    return list(dict.fromkeys(f"slice_{name}" for result in history for name in result.slices or {}))


def _leave_out_nulls(meta: dict[str, Any]) -> None:
    """Take a null for a missing entry, where a reader of the entry counts on what is in it."""
    for entries, names in ((meta, _ENTRIES), (meta.get("settings") or {}, _SETTINGS)):
        for name in names:
            if name in entries and entries[name] is None:
                del entries[name]


def _plain(value: Any) -> Any:
    """What JSON can hold: numbers of NumPy as numbers, everything else as text."""
    return value.item() if isinstance(value, np.generic) else str(value)
