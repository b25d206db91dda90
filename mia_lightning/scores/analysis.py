"""The one way from per-sample errors to scores, metrics and what must be said about them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mia_lightning.functional.classifier import permutation_test
from mia_lightning.functional.intervals import delong_interval
from mia_lightning.functional.membership import membership_error
from mia_lightning.functional.privacy import one_run_bound, threshold_bound
from mia_lightning.scores.building import ATTACKS, SCORES, build_scores, gather_neighbours, log_errors
from mia_lightning.scores.fairness import Fairness, assess_fairness
from mia_lightning.scores.summary import summarise

Column = NDArray[np.float64]
_MATCHED = ("matched_auc", "matched_auc_low", "matched_auc_high", "samples/matched")
_TESTS = (*_MATCHED, "blind_auc", "blind_p_value", "epsilon_low", "epsilon_low/one_run", "epsilon_low/threshold")


@dataclass(frozen=True)
class Plan:
    """What is to be computed.

    Attributes:
        scores: Names of the scores to report.
        primary: The score behind the headline; an attack, never ``trained``.
        alpha: Weight of the predictability error in the membership error.
        prefix: First part of the metric keys.
        seed: Seed of folds and permutations.
        level: Confidence of intervals and bounds.
        delta: The delta of the epsilon bounds.
        looks: How many audits of the same training are looked at.
    """

    scores: tuple[str, ...] = ("reconstruction", "membership")
    primary: str = "membership"
    alpha: float = 1.0
    prefix: str = "audit"
    seed: int = 0
    level: float = 0.95
    delta: float = 1e-5
    looks: int = 1

    def __post_init__(self) -> None:
        unknown = [s for s in self.scores if s not in SCORES]
        if unknown or not self.scores:
            raise ValueError(f"Unknown scores {unknown}; choose some of {', '.join(SCORES)}.")
        if self.primary not in ATTACKS:
            attacks = [s for s in self.scores if s in ATTACKS] or ATTACKS
            known = "is told who is a member: an upper bound, not an attack, and no primary"
            raise ValueError(
                f"The score {self.primary!r} {known if self.primary in SCORES else 'is unknown'}. "
                f"Choose one of {', '.join(attacks)}."
            )
        if self.primary not in self.scores:
            raise ValueError(
                f"The primary score {self.primary!r} is not among scores={list(self.scores)}; add it there."
            )


class Analysis(NamedTuple):
    """What comes of an audit's errors.

    Attributes:
        errors: The raw errors, with the membership error.
        scores: The scores asked for.
        metrics: Metrics by key.
        notes: Sentences on fallbacks.
        epsilon: The bounds with their delta and level, as plain values; empty where there are none.
    """

    errors: dict[str, Column]
    scores: dict[str, Column]
    metrics: dict[str, float]
    notes: list[str]
    epsilon: dict[str, Any]


def analyse(
    raw: Mapping[str, Column],
    blind: Mapping[str, Column],
    member: NDArray[np.bool_],
    plan: Plan,
    *,
    fairness: Fairness | None = None,
) -> Analysis:
    """Compute scores, metrics, tests and bounds.

    Args:
        raw: Per-sample errors by name, each (N,): ``reconstruction`` and ``predictability``; where a score needs
            neighbours, log-ratios to each as ``neighbour/<name>``, or ``neighbour`` itself; others as they come.
        blind: Statistics of the pairs alone, each (N,).
        member: True for members, (N,).
        plan: What to compute.
        fairness: Outcome of the blind baseline where it is known already; it does not depend on the model.

    Returns:
        The analysis; its numbers are NaN where a side is empty.

    Example:
        >>> generator = np.random.default_rng(0)
        >>> member = np.arange(60) < 30
        >>> raw = {"reconstruction": np.exp(generator.normal(size=60) - member), "predictability": np.ones(60)}
        >>> analysis = analyse(raw, {}, member, Plan())
        >>> analysis.metrics["audit/auc"] > 0.6, sorted(analysis.scores)
        (True, ['membership', 'reconstruction'])
    """
    errors = gather_neighbours(raw, member, plan.scores, seed=plan.seed)
    errors["membership"] = membership_error(errors["reconstruction"], errors["predictability"], plan.alpha)
    both = bool(member.any() and (~member).any())
    if not both:
        scores = {name: np.full(len(member), np.nan) for name in plan.scores}
        unknown = _keyed(
            plan, dict.fromkeys(_TESTS if "trained" not in scores else (*_TESTS, "p_value/trained"), np.nan)
        )
        return Analysis(errors, scores, _metrics(errors, scores, member, plan) | unknown, [], {})
    scores, notes = build_scores(errors, member, plan.scores, seed=plan.seed)
    metrics = _metrics(errors, scores, member, plan)
    fairness = fairness or assess_fairness(blind, errors["predictability"], member, seed=plan.seed)
    metrics |= _keyed(plan, {"blind_p_value": fairness.p_value} | dict.fromkeys(_MATCHED, math.nan))
    if not math.isnan(fairness.auc):  # too few samples for a classifier: predictability alone stays
        metrics |= _keyed(plan, {"blind_auc": fairness.auc})
    if fairness.matched is not None:
        metrics |= _keyed(plan, _on_matched(errors, member, plan, fairness.matched))
    if "trained" in scores:
        test = permutation_test(log_errors(errors), member, seed=plan.seed)
        metrics |= _keyed(plan, {"auc/trained": test.auc, "p_value/trained": test.p_value})
    epsilon = _epsilon(raw, errors, member, plan)
    bounds = {"epsilon_low": epsilon["one_run"]} | {f"epsilon_low/{k}": epsilon[k] for k in ("one_run", "threshold")}
    return Analysis(errors, scores, metrics | _keyed(plan, bounds), notes, epsilon)


def _metrics(
    errors: Mapping[str, Column], scores: Mapping[str, Column], member: NDArray[np.bool_], plan: Plan
) -> dict[str, float]:
    return summarise(
        errors,
        scores,
        member,
        primary=plan.primary,
        prefix=plan.prefix,
        level=plan.level,
        looks=plan.looks,
        seed=plan.seed,
    )


def _on_matched(
    errors: Mapping[str, Column], member: NDArray[np.bool_], plan: Plan, rows: NDArray[np.intp]
) -> dict[str, float]:
    """Repeat the audit on the rows that are alike without the model."""
    auc, low, high = math.nan, math.nan, math.nan
    if len(rows):
        part = {name: error[rows] for name, error in errors.items()}
        score = build_scores(part, member[rows], [plan.primary], seed=plan.seed)[0][plan.primary]
        auc, low, high = delong_interval(score, member[rows], plan.level)
    return dict(zip(_MATCHED, (auc, low, high, float(len(rows))), strict=True))


def _epsilon(
    raw: Mapping[str, Column], errors: Mapping[str, Column], member: NDArray[np.bool_], plan: Plan
) -> dict[str, Any]:
    """Bound epsilon from below with a score that looks at nobody's membership.

    The bounds ask that guesses depend on the model alone. Scales and weights fitted on nonmembers depend on the coins,
    so here every sample counts as one for the fits.
    """
    nobody = np.zeros_like(member)
    blindly = {**errors, **gather_neighbours(raw, nobody, plan.scores, seed=plan.seed)}
    score = build_scores(blindly, nobody, [plan.primary], seed=plan.seed)[0][plan.primary]
    bounds = {
        "one_run": one_run_bound(score, member, delta=plan.delta, level=plan.level).epsilon,
        "threshold": threshold_bound(score, member, delta=plan.delta, level=plan.level).epsilon,
    }
    return {"delta": plan.delta, "level": plan.level, **bounds}


def _keyed(plan: Plan, values: Mapping[str, float]) -> dict[str, float]:
    return {f"{plan.prefix}/{key}": float(value) for key, value in values.items()}
