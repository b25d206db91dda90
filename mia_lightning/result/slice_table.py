"""Slices of an audit, such as sites: what a result keeps of them, as a table and as metrics."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mia_lightning.functional.intervals import Interval
from mia_lightning.functional.slice_audit import FEWEST, RATE, Slice

_SMALL = 50  # slices of a column without numbers that a result lists
_INTERVALS = {"auc": "auc", "tpr": f"tpr_at_fpr_{RATE:g}", "blind": "blind_auc"}


@dataclass(frozen=True)
class Sliced:
    """The slices of an audit.

    Attributes:
        rows: One a slice; of a column at most 50 that are too small for numbers.
        level: Confidence of all intervals of a kind of number together, those of other looks at the training included.
        share: Share of the error that this audit may use.
        unit: What :data:`~mia_lightning.functional.slice_audit.FEWEST` counts: ``"sample"`` or ``"group"``.
        further: How many slices of each column are too small and not in ``rows``.
    """

    rows: Sequence[Slice] = ()
    level: float = 0.95
    share: float = 1.0
    unit: str = "sample"
    further: Mapping[str, int] | None = None

    @classmethod
    def of(cls, slices: Sequence[Slice], level: float, share: float, unit: str) -> Sliced:
        """Keep what is worth it: all that have numbers, and the largest of the others."""
        rows, small = list[Slice](), Counter[str]()
        by_size = sorted(slices, key=lambda one: -(one.members + one.nonmembers))
        dropped = dict[str, str]()
        for one in by_size:
            small[one.column] += not one.large_enough
            if not one.large_enough and small[one.column] > _SMALL:
                dropped[one.key] = one.column
        rows = [one for one in slices if one.key not in dropped]
        further = Counter(dropped.values())
        return cls(rows, level, share, unit, dict(further))

    def without_small(self) -> Sliced:
        """The same without the slices that are too small for numbers, which may be of one patient each: a count."""
        further = Counter(self.further or {}) + Counter(one.column for one in self.rows if not one.large_enough)
        return replace(self, rows=[one for one in self.rows if one.large_enough], further=dict(further))

    @classmethod
    def read(cls, meta: Mapping[str, Any]) -> Sliced:
        """Read what :meth:`to_meta` made; no rows where an audit was not sliced."""
        kept = meta.get("slices") or {}
        rows = [
            Slice(
                str(row["column"]),
                str(row["value"]),
                int(row["members"]),
                int(row["nonmembers"]),
                (int(row["units"][0]), int(row["units"][1])),
                p_value=_number(row.get("p_value")),
                uneven=bool(row.get("uneven")),
                of_class=bool(row.get("of_class")),
                **{name: Interval(*map(_number, row.get(name) or [None] * 3)) for name in _INTERVALS},
            )
            for row in kept.get("rows") or []
        ]
        level, share = (0.95 if kept.get("level") is None else float(kept["level"])), kept.get("share")
        share = 1.0 if share is None else float(share)  # may be 0, and then is
        return cls(rows, level, share, str(kept.get("unit", "sample")), kept.get("further") or {})

    def to_meta(self) -> dict[str, Any]:
        """What a result keeps under ``meta["slices"]``, as plain values; nothing where there are no slices."""
        if not self.rows and not self.further:
            return {}
        rows = [
            {
                "column": one.column,
                "value": one.value,
                "members": one.members,
                "nonmembers": one.nonmembers,
                "units": list(one.units),
                **({"uneven": True} if one.uneven else {}),
                **({"of_class": True} if one.of_class else {}),
                **({"p_value": one.p_value} if one.large_enough else {}),
                **({name: list(getattr(one, name)) for name in _INTERVALS} if one.large_enough else {}),
            }
            for one in self.rows
        ]
        kept = {"level": self.level, "share": self.share, "unit": self.unit, "tested": self.tested, "rows": rows}
        return {"slices": kept | ({"further": dict(self.further)} if self.further else {})}

    def metrics(self, prefix: str) -> dict[str, float]:
        """The numbers of the slices that have some, by key, such as ``audit/slice/site/A/auc_low``."""
        found = dict[str, float]()
        for one in self.rows:
            key = f"{prefix}/{one.key}"
            for name, metric in _INTERVALS.items():
                ends = zip((metric, f"{metric}_low", f"{metric}_high"), getattr(one, name), strict=True)
                found |= {f"{key}/{end}": value for end, value in ends if not math.isnan(value)}
            if not math.isnan(one.p_value):
                found[f"{key}/p_value"] = one.p_value
        return found

    @property
    def tested(self) -> int:
        """Number of slices that are large enough: they share the error."""
        return sum(one.large_enough for one in self.rows)

    def most_exposed(self, count: int) -> list[Slice]:
        """The slices in which members stand out most: lowest p-value first, then highest AUC."""
        with_numbers = [one for one in self.rows if not math.isnan(one.auc.estimate)]
        return sorted(with_numbers, key=lambda one: (one.p_value, -one.auc.estimate))[:count]

    def too_small(self, one: Slice) -> str:
        """Why a slice has no numbers, in words; empty where it has."""
        if one.large_enough:
            return "" if self.share > 0.0 else "no error is left for this look at the training"
        members, nonmembers = one.units
        if one.uneven:
            return f"a few groups outweigh the others: {members} groups of members and {nonmembers} of nonmembers"
        of = "groups of " if self.unit == "group" else ""
        return f"fewer than {FEWEST} a side: {members} {of}members and {nonmembers} {of}nonmembers"


def is_unfair(one: Slice) -> bool:
    """Whether difficulty alone, without the model, tells the sides of a slice apart."""
    return one.blind.low > 0.5 or one.blind.high < 0.5


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)
