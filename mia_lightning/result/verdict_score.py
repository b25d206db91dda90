"""A result as its verdict reads it: by the score that the verdict rests on, which may be another than the primary."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mia_lightning.functional.groups import Codes
from mia_lightning.result.remarks import Audited

OF_THE_SCORE = (
    *("p_value", "p_value_corrected", "p_value/most_exposed", "p_value_corrected/most_exposed"),
    *("adjusted_auc", "adjusted_auc_low", "adjusted_auc_high", "adjusted_p_value"),
    *("matched_auc", "matched_auc_low", "matched_auc_high"),
    *("control_auc", "control_auc_low", "control_auc_high"),
)
"""Keys of the primary score's numbers that have none in their name; another score's are ``<key>/<score>``."""


def verdict_score(result: Audited) -> str:
    """Name of the score that a verdict rests on: the primary one where a result names none, or it has no number."""
    name = result.meta.get("verdict_score")
    known = isinstance(name, str) and not math.isnan(result.metric(f"auc/{name}"))
    return str(name) if known else result.primary


def flagged_by_both(result: Audited) -> str:
    """Say how many are flagged by the score of the verdict, where that is not the primary one; else nothing."""
    if (score := verdict_score(result)) == result.primary:
        return ""
    count = int(result.flagged(score=score).sum())
    return f" That is by the {result.primary} score; by the {score} score, which the verdict rests on, {count} are."


@dataclass(frozen=True)
class ByVerdictScore:
    """A result in which the score that its verdict rests on stands in the place of the primary one.

    Attributes:
        result: The result itself.
    """

    result: Audited

    @property
    def member(self) -> NDArray[np.bool_]:
        """True for members, (N,)."""
        return self.result.member

    @property
    def group_codes(self) -> Codes | None:
        """Number of each sample's group, (N,); None where there are no groups."""
        return self.result.group_codes

    @property
    def errors(self) -> Mapping[str, NDArray[np.float64]]:
        """Errors by name, each (N,)."""
        return self.result.errors

    @property
    def meta(self) -> Mapping[str, Any]:
        """How the audit came about."""
        return self.result.meta

    @property
    def excluded(self) -> Sequence[Mapping[str, str]]:
        """Samples left out, with reasons."""
        return self.result.excluded

    @property
    def epoch(self) -> int | None:
        """Epoch of the audit, from 0."""
        return self.result.epoch

    @property
    def primary(self) -> str:
        """Name of the score that the verdict rests on."""
        return verdict_score(self.result)

    @property
    def auc(self) -> float:
        """AUC of that score."""
        return self.result.metric(f"auc/{self.primary}") if self._another else self.result.auc

    def metric(self, key: str) -> float:
        """Look a metric up without its prefix; numbers of the primary score are those of this one."""
        own = self._another and key in OF_THE_SCORE
        return self.result.metric(f"{key}/{self.primary}" if own else key)

    def interval(self, score: str | None = None) -> tuple[float, float]:
        """Interval of a score's AUC."""
        return self.result.interval(score or self.primary)

    def flagged(self, rate: float | None = None, score: str | None = None) -> NDArray[np.bool_]:
        """Members that stand out, (N,)."""
        return self.result.flagged(rate, score or self.primary)

    @property
    def _another(self) -> bool:
        return self.primary != self.result.primary
