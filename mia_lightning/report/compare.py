"""Compares runs by the differences of their AUCs, on the samples that they share where there are enough."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from mia_lightning import registry
from mia_lightning.functional.feature_means import is_feature
from mia_lightning.functional.intervals import (
    Difference,
    check_level,
    delong_difference,
    delong_interval,
    independent_difference,
)
from mia_lightning.functional.p_values import holm
from mia_lightning.report.run import Run
from mia_lightning.result.audit_result import AuditResult
from mia_lightning.result.verdict import ENOUGH, REVERSED

_ALIKE = 1e-4  # relative to a statistic's spread: differences between devices
_EQUAL = 2e-5  # of a statistic that hardly varies, likewise


@dataclass(frozen=True)
class Pair:
    """One run against another, by their names.

    Attributes:
        difference: AUC of the first minus that of the second, its interval, and the p-value by itself.
        corrected: The p-value corrected for the number of pairs (Holm).
        members: Common members that the difference is of; 0 where it is not paired.
        nonmembers: Common nonmembers likewise.
        reason: Why it is not paired; empty where it is.
        ranked: Whether the higher AUC gives away more: neither lies below 0.5, and no splits are distinguishable.
    """

    first: str
    second: str
    difference: Difference
    corrected: float
    members: int
    nonmembers: int
    reason: str
    ranked: bool

    @property
    def paired(self) -> bool:
        """Whether both runs were compared on the same samples."""
        return not self.reason


@dataclass(frozen=True)
class Comparison:
    """Runs with distinct names, the score that they are compared by, and every run against every later one."""

    runs: Sequence[Run]
    score: str
    pairs: Sequence[Pair]


def compare(runs: Sequence[Run], *, level: float = 0.95) -> Comparison:
    """Compare the last audits of two or more runs by the AUC of a score that all of them have.

    Where two audits have at least 20 members and 20 nonmembers in common, they are compared on those by DeLong's paired
    test; otherwise as independent samples. Samples are common where id and side agree and, as far as both audits have
    statistics of the pairs, these do, too. Each interval has its level, in (0, 1), by itself; p-values are corrected
    for the number of pairs by Holm's method.

    Returns:
        The comparison; the score is the first run's primary where all have it, else the first that they share.

    Raises:
        ValueError: If there are fewer than two runs, no score is in all of them, or one has an empty side.
    """
    check_level(level)
    if len(runs) < 2:
        raise ValueError(f"Expected at least two runs to compare, but got {len(runs)}.")
    score = _common_score(runs)
    for run in runs:
        if run.result.member.all() or not run.result.member.any():
            raise ValueError(f"The run {run.name!r} has no sample left on one side: it cannot be compared.")
        if not np.isfinite(run.result.scores[score]).all():
            raise ValueError(f"The run {run.name!r} has too few samples for the score {score!r}.")
    named = _numbered(runs)
    pairs = [_pair(a, b, score, level) for a, b in combinations(named, 2)]
    tested = [pair.difference.p_value for pair in pairs if not math.isnan(pair.difference.p_value)]
    corrected = iter(holm(tested) if tested else ())
    pairs = [p if math.isnan(p.difference.p_value) else replace(p, corrected=float(next(corrected))) for p in pairs]
    return Comparison(named, score, pairs)


def common_rows(a: AuditResult, b: AuditResult) -> tuple[NDArray[np.intp], NDArray[np.intp], str]:
    """Find the samples that two audits share.

    Returns:
        Rows of the same samples in either, in the same order, and what keeps others apart; empty where nothing does.
        Samples whose id occurs twice on a side are left out.
    """
    at_a, at_b = _rows(a), _rows(b)
    keys = [key for key in at_a if key in at_b]
    crossed = sum((name, not member) in at_b for name, member in at_a)
    rows_a = np.array([at_a[key] for key in keys], dtype=np.intp)
    rows_b = np.array([at_b[key] for key in keys], dtype=np.intp)
    same = np.ones(len(keys), dtype=bool)
    for name in a.blind.keys() & b.blind.keys():
        if is_feature(name):
            continue  # audits whose scorers differ see other features in the same pixels
        one, other = a.blind[name][rows_a], b.blind[name][rows_b]
        same &= np.isclose(one, other, rtol=0.0, atol=max(_ALIKE * float(np.ptp(a.blind[name])), _EQUAL))
    reasons = []
    if not same.all():
        reasons.append(f"{int((~same).sum())} have the same id and side, but other pixels")
    if crossed:
        reasons.append(f"{crossed} are a member in one run and a nonmember in the other")
    return rows_a[same], rows_b[same], "; ".join(reasons)


def _rows(result: AuditResult) -> dict[tuple[str, bool], int]:
    keys = list(zip(result.ids, result.member.tolist(), strict=True))
    often = Counter(keys)
    return {key: row for row, key in enumerate(keys) if often[key] == 1}


def _pair(a: Run, b: Run, score: str, level: float) -> Pair:
    rows_a, rows_b, apart = common_rows(a.result, b.result)
    member = a.result.member[rows_a]
    members, nonmembers = int(member.sum()), int((~member).sum())
    ranked = _is_ranked(a.result, score) and _is_ranked(b.result, score)
    if min(members, nonmembers) >= ENOUGH:
        scores = a.result.scores[score][rows_a], b.result.scores[score][rows_b]
        groups = ((a.result.group_codes, rows_a), (b.result.group_codes, rows_b))  # an older audit may have none
        codes = next((codes[rows] for codes, rows in groups if codes is not None), None)
        difference = delong_difference(*scores, member, level, codes)
        return Pair(a.name, b.name, difference, difference.p_value, members, nonmembers, "", ranked)
    why = f"only {members} members and {nonmembers} nonmembers are in both" if len(rows_a) else "no sample is in both"
    difference = _unpaired(a.result, b.result, score, level)
    return Pair(a.name, b.name, difference, difference.p_value, 0, 0, f"{why} ({apart})" if apart else why, ranked)


def _is_ranked(result: AuditResult, score: str) -> bool:
    """Whether a higher AUC means that more is given away."""
    return result.metric(f"auc/{score}") >= 0.5 and result.grade != "unfair" and result.verdict.reason != REVERSED


def _unpaired(a: AuditResult, b: AuditResult, score: str, level: float) -> Difference:
    """The p-value is that at which the interval begins to hold 0, so that the two never disagree."""

    def at(confidence: float) -> tuple[float, float, float]:
        intervals = (delong_interval(r.scores[score], r.member, confidence, r.group_codes) for r in (a, b))
        return independent_difference(*intervals)

    difference, low, high = at(level)
    if math.isnan(low):  # too few groups on a side
        return Difference(difference, math.nan, math.nan, math.nan)

    def reach(confidence: float) -> float:
        _, lower, upper = at(confidence)
        return lower if difference > 0 else -upper

    most = 1.0 - 1e-9
    if difference == 0:
        p_value = 1.0
    elif reach(most) > 0:
        p_value = 1.0 - most
    else:
        p_value = 1.0 - float(brentq(reach, 1e-9, most, xtol=1e-10))
    return Difference(difference, max(low, -1.0), min(high, 1.0), p_value)


def _common_score(runs: Sequence[Run]) -> str:
    first = runs[0].result
    names = [first.primary, *(n for n in first.scores if n != first.primary)]
    shared = [n for n in names if registry.scores.has_interval(n) and all(n in run.result.scores for run in runs)]
    if not shared:
        have = "; ".join(f"{run.name}: {', '.join(run.result.scores)}" for run in runs)
        raise ValueError(f"No score is in all runs, so that they cannot be compared ({have}).")
    return shared[0]


def _numbered(runs: Sequence[Run]) -> list[Run]:
    """Number the names of runs that are called alike."""
    often = Counter(run.name for run in runs)
    numbers: Counter[str] = Counter()
    named = []
    for run in runs:
        numbers[run.name] += 1
        name = run.name if often[run.name] == 1 else f"{run.name} ({numbers[run.name]})"
        named.append(replace(run, name=name))
    return named
