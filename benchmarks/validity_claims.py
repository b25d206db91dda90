"""Sections of ``validity.py`` on what an audit says in words: grades, and images that come in groups."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from mia_lightning.functional.group_scores import group_scores
from mia_lightning.functional.intervals import delong_interval
from mia_lightning.functional.p_values import benjamini_hochberg, permutation_p_value
from mia_lightning.result.audit_result import AuditResult
from mia_lightning.result.verdict import Grade
from mia_lightning.scores.analysis import Plan, analyse

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Row = tuple[str, float, float, int, str]
"""What was measured, nominal rate, measured rate, draws, and what stands beside it."""

CLAIMS: tuple[Grade, ...] = ("strong", "weak")


def false_claims(small: bool) -> Iterator[Row]:
    """Claims of single audits, coin-assigned and independent, that are wrong: at most so often."""
    for size in (48, 150) if small else (30, 48, 65, 150, 500):
        found, draws = _graded(size, 0.5, small)
        claimed = sum(found[grade] for grade in CLAIMS) / draws
        yield f"no leak, {size} a side: a claim of one", 0.05, claimed, draws, _shares(found)
        found, draws = _graded(size, 0.6, small)
        yield f"AUC 0.6, {size} a side: said to be none", 0.05, found["none"] / draws, draws, _shares(found)


def found_leaks(small: bool) -> Iterator[Row]:
    """An AUC of 0.7, coin-assigned and independent, that is graded weak or strong: at least so often."""
    for size, least in ((48, 0.8),) if small else ((48, 0.8), (150, 0.95), (500, 0.95)):
        found, draws = _graded(size, 0.7, small)
        claimed = sum(found[grade] for grade in CLAIMS) / draws
        yield f"AUC 0.7, {size} a side: found", least, claimed, draws, _shares(found)


def few_exposed(small: bool) -> Iterator[Row]:
    """A twentieth of 500 members strongly memorised, by six standard deviations: not to be called none."""
    draws, size = 10 if small else 400, 500
    rng = np.random.default_rng(size)
    exposed = np.where(np.arange(size) < size // 20, 6.0, 0.0)
    found = Counter(_audit(rng, size, exposed).grade for _ in range(draws))
    yield "5 % of 500 members memorised: said to be none", 0.0, found["none"] / draws, draws, _shares(found)


def grouped_intervals(small: bool) -> Iterator[Row]:
    """Images in groups with an intraclass correlation of 0.7: intervals of the AUC hold it at least so often."""
    draws = 150 if small else 2000
    for groups, each in ((40, 4),) if small else ((40, 4), (12, 10), (150, 4)):
        rng = np.random.default_rng(groups)
        held = plain = 0
        for _ in range(draws):
            score, member, code = _grouped(rng, groups, each)
            _, low, high = delong_interval(score, member, group=code)
            held += low <= 0.5 <= high
            _, low, high = delong_interval(score, member)
            plain += low <= 0.5 <= high
        beside = f"by single images {plain / draws:.3f}"
        yield f"{groups} groups of {each} a side: the interval holds 0.5", 0.95, held / draws, draws, beside


def grouped_tests(small: bool) -> Iterator[Row]:
    """Likewise, tests of the AUC and of single groups, where nothing was memorised: at most so often."""
    draws = 150 if small else 2000
    for groups, each in ((40, 4),) if small else ((40, 4), (12, 10), (150, 4)):
        rng = np.random.default_rng(groups)
        low = alone = flags = 0
        low_group = 0.0
        for _ in range(draws):
            score, member, code = _grouped(rng, groups, each)
            low += permutation_p_value(score, member, group=code, permutations=999) <= 0.05
            alone += permutation_p_value(score, member, permutations=999) <= 0.05
            found = group_scores(score, member, code)
            of_members = found.p_value[found.member]
            low_group += float((of_members <= 0.1).mean())
            flags += bool(benjamini_hochberg(of_members, 0.1).any())
        what = f"{groups} groups of {each} a side"
        yield f"{what}: p-value at most 0.05", 0.05, low / draws, draws, f"by single images {alone / draws:.3f}"
        yield f"{what}: a group's p-value at most 0.1", 0.1, low_group / draws, draws, ""
        yield f"{what}: any group is flagged", 0.1, flags / draws, draws, ""


SECTIONS: dict[str, Callable[[bool], Iterator[Row]]] = {
    "false claims": false_claims,
    "found leaks": found_leaks,
    "few exposed": few_exposed,
    "intervals of groups": grouped_intervals,
    "tests of groups": grouped_tests,
}


def _graded(size: int, area: float, small: bool) -> tuple[Counter[Grade], int]:
    """How often each grade is given, and of how many audits."""
    draws = 25 if small else 1000 if size < 500 else 250
    rng = np.random.default_rng(1000 * size + int(100 * area))
    shift = np.full(size, np.sqrt(2.0) * norm.ppf(area))
    return Counter(_audit(rng, size, shift).grade for _ in range(draws)), draws


def _shares(found: Counter[Grade]) -> str:
    return ", ".join(f"{grade} {found[grade] / found.total():.3f}" for grade in sorted(found))


def _audit(rng: np.random.Generator, size: int, shift: Floats) -> AuditResult:
    """An audit of `size` samples a side, whose membership scores are normal; the members' are shifted, (size,)."""
    member = np.arange(2 * size) < size
    score = rng.normal(size=2 * size)
    score[:size] += shift
    raw = {"reconstruction": 20.0 - score, "predictability": np.full(2 * size, 10.0) + 1e-6 * rng.normal(size=2 * size)}
    found = analyse(raw, {"input_mean": rng.normal(size=2 * size)}, member, Plan())
    meta = {"membership": {"assignment": "coin"}, "settings": {"primary": "membership"}}
    return AuditResult(found.metrics, [*map(str, range(2 * size))], member, found.errors, found.scores, meta)


def _grouped(rng: np.random.Generator, groups: int, each: int) -> tuple[Floats, Bools, NDArray[np.intp]]:
    code = np.repeat(np.arange(2 * groups), each)
    score = np.sqrt(0.7) * rng.normal(size=2 * groups)[code] + np.sqrt(0.3) * rng.normal(size=code.size)
    return score, code < groups, code
