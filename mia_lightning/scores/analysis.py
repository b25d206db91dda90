"""The one way from per-sample errors to scores, metrics and what must be said about them."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mia_lightning import registry
from mia_lightning.functional.adjustment import adjusted_score, statistics_table
from mia_lightning.functional.blind import is_further
from mia_lightning.functional.detectable_shift import detectable_shift, largest_imbalance
from mia_lightning.functional.feature_means import is_feature
from mia_lightning.functional.gaussian_privacy import gaussian_one_run_bound
from mia_lightning.functional.groups import count_groups, group_means, units
from mia_lightning.functional.intervals import Interval, delong_interval
from mia_lightning.functional.p_values import exposed_p_value, permutation_p_value
from mia_lightning.functional.privacy import one_run_bound, threshold_bound
from mia_lightning.registry import Column, GroupNumbers, Look, ScoreInputs, Sides
from mia_lightning.scores.building import build_scores, derive_errors, selectable_scores
from mia_lightning.scores.control import control_interval
from mia_lightning.scores.fairness import Fairness, assess_fairness
from mia_lightning.scores.summary import absent_metrics, summarise


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
        errors: Errors to report beside those that every audit has.
        family: Scores beside the primary one that claims rest on: they share its error over the looks at a training.
            The verdict rests on the last of them, without any on the primary one.
    """

    scores: tuple[str, ...] = ("reconstruction", "membership")
    primary: str = "membership"
    alpha: float = 1.0
    prefix: str = "audit"
    seed: int = 0
    level: float = 0.95
    delta: float = 1e-5
    looks: int = 1
    errors: tuple[str, ...] = ()
    family: tuple[str, ...] = ()

    @property
    def verdict_score(self) -> str:
        """The score that the verdict rests on."""
        return self.family[-1] if self.family else self.primary

    def __post_init__(self) -> None:
        selectable = selectable_scores()
        specs = {name: registry.scores.find(name) for name in (*self.scores, self.primary)}
        unknown = [s for s in self.scores if specs[s] is None]
        if unknown or not self.scores:
            raise ValueError(f"Unknown scores {unknown}; choose some of {', '.join(selectable)}.")
        if by_references := [s for s in self.scores if s not in selectable and s not in registry.errors]:
            raise ValueError(
                f"The scores {by_references} need reference models: audit with a folder of them (--references). "
                f"Without, choose some of {', '.join(selectable)}."
            )
        primary = specs[self.primary]
        if primary is None or not primary.attack:
            attacks = [spec.name for name in self.scores if (spec := specs[name]) is not None and spec.attack]
            reason = "is unknown" if primary is None else f"is no attack ({primary.sentence.removesuffix('.')})"
            raise ValueError(
                f"The primary score {self.primary!r} {reason}. Choose one of {', '.join(attacks or selectable)}."
            )
        if self.primary not in self.scores:
            raise ValueError(
                f"The primary score {self.primary!r} is not among scores={list(self.scores)}; add it there."
            )


class Analysis(NamedTuple):
    """What comes of an audit's errors: all errors, scores, metrics, notes, the epsilon bounds, and the look."""

    errors: dict[str, Column]
    scores: dict[str, Column]
    metrics: dict[str, float]
    notes: list[str]
    epsilon: dict[str, Any]
    look: Look | None = None


def analyse(
    raw: Mapping[str, Column],
    blind: Mapping[str, Column],
    member: Sides,
    plan: Plan,
    *,
    fairness: Fairness | None = None,
    history: Sequence[Mapping[str, Column]] = (),
    group: GroupNumbers | None = None,
    take_look: Callable[..., Look] | None = None,
) -> Analysis:
    """Compute scores, metrics, tests and bounds; the numbers are NaN where a side is empty.

    Args:
        raw: Per-sample errors by name, each (N,): ``reconstruction`` and ``predictability``; where a score needs
            neighbours, log-ratios to each as ``neighbour/<name>``, or ``neighbour`` itself; others as they come.
        blind: Statistics of the pairs alone, each (N,).
        member: True for members, (N,).
        plan: What to compute.
        fairness: Outcome of the blind baseline where it is known already; it does not depend on the model.
        history: Errors of the earlier audits of the same training, for scores that need them.
        group: Number of each sample's group, (N,), where samples come in groups: these count in place of samples.
        take_look: :meth:`~mia_lightning.scores.look_sequence.LookSequence.look` of the training's looks, with the keys
            of these samples; None outside of a training.

    Example:
        >>> generator = np.random.default_rng(0)
        >>> member = np.arange(60) < 30
        >>> raw = {"reconstruction": np.exp(generator.normal(size=60) - member), "predictability": np.ones(60)}
        >>> analysis = analyse(raw, {}, member, Plan())
        >>> analysis.metrics["audit/auc"] > 0.6, sorted(analysis.scores)
        (True, ['membership', 'reconstruction'])
    """
    errors = derive_errors(raw, member, plan.scores, plan.errors, alpha=plan.alpha, seed=plan.seed, group=group)
    tests = {name: test for name in plan.scores if (test := registry.scores.get(name).own_test) is not None}
    both = bool(member.any() and (~member).any())
    scores, notes = {name: np.full(len(member), np.nan) for name in plan.scores}, list[str]()
    if both:
        scores, notes = build_scores(errors, member, plan.scores, seed=plan.seed, history=history, group=group)
    look = None
    if take_look is not None:
        look = take_look(scores, (plan.primary, *plan.family), member, group, seed=plan.seed, level=plan.level)
    metrics = summarise(
        errors,
        scores,
        member,
        primary=plan.primary,
        prefix=plan.prefix,
        level=plan.level,
        looks=plan.looks,
        seed=plan.seed,
        group=group,
        look=look,
    )
    if not both:
        unknown = absent_metrics() | {"blind_auc": math.nan} | {f"p_value/{name}": math.nan for name in tests}
        return Analysis(errors, scores, metrics | _keyed(plan, unknown), [], {}, look)
    fairness = fairness or assess_fairness(blind, errors["predictability"], member, seed=plan.seed, group=group)
    table = statistics_table(blind, errors["predictability"])
    metrics |= _keyed(plan, _without_model(fairness, blind, table, member, group))
    for name in dict.fromkeys((plan.primary, plan.verdict_score)):
        numbers, unmade = _control(raw, member, replace(plan, primary=name), history, group)
        metrics |= _keyed(plan, {key if name == plan.primary else f"{key}/{name}": n for key, n in numbers.items()})
        notes = [*notes, *unmade]
    metrics |= _keyed(plan, _adjusted(scores[plan.primary], table, member, plan, group))
    if fairness.matched is not None:
        metrics |= _keyed(plan, _on_matched(errors, member, plan, fairness.matched, history, group))
    top = f"{plan.prefix}/p_value/most_exposed" in metrics
    for name in plan.family:
        metrics |= _keyed(plan, _claims(name, scores[name], member, plan, table, group, look, top=top))
        if fairness.matched is not None:
            of_score = _on_matched(errors, member, replace(plan, primary=name), fairness.matched, history, group)
            metrics |= _keyed(plan, {f"{key}/{name}": of_score[key] for key in _MATCHED[:3]})
    for name, test in tests.items():
        area, p_value = test(ScoreInputs(errors, member, plan.seed, history, group=group))
        metrics |= _keyed(plan, {f"auc/{name}": area, f"p_value/{name}": p_value})
    epsilon = _epsilon(raw, member, plan, group)
    bounds = {"epsilon_low": epsilon["one_run"]} | {f"epsilon_low/{k}": epsilon[k] for k in ("one_run", "threshold")}
    bounds |= {"epsilon_low_fdp": epsilon["fdp"], "mu_low_fdp": epsilon["mu"]}
    return Analysis(errors, scores, metrics | _keyed(plan, bounds), notes, epsilon, look)


def _without_model(
    fairness: Fairness,
    blind: Mapping[str, Column],
    table: NDArray[np.float64],
    member: Sides,
    group: GroupNumbers | None,
) -> dict[str, float]:
    """Numbers of the blind test and of matching that no score has a part in; what matching leaves is NaN without it."""
    statistics = int((np.ptp(table, axis=0) > 0).sum())
    shift = detectable_shift(*units(member, group), statistics, further=any(map(is_further, blind)))
    found = {"blind_p_value": fairness.p_value, "blind_detectable_shift": shift} | dict.fromkeys(_MATCHED, math.nan)
    found["matched_imbalance"] = math.nan
    if not math.isnan(fairness.auc):  # too few samples for a classifier: predictability alone stays
        found["blind_auc"] = fairness.auc
    if fairness.matched is not None:
        technique = [column for name, column in blind.items() if is_further(name) and not is_feature(name)]
        seen = np.column_stack([table, *technique])
        found["matched_imbalance"] = largest_imbalance(seen, member, fairness.matched)
    return found


def _claims(
    name: str,
    score: Column,
    member: Sides,
    plan: Plan,
    table: NDArray[np.float64],
    group: GroupNumbers | None,
    look: Look | None,
    *,
    top: bool,
) -> dict[str, float]:
    """What a claim about another score than the primary one rests on, by the primary's key and the score's name.

    In a training its p-values allow for all looks and for the primary score beside it. An audit of a trained model
    claims something of one score, which was chosen beforehand.
    """
    if not np.isfinite(score).all():
        return {}
    found = {f"{key}/{name}": value for key, value in _adjusted(score, table, member, plan, group).items()}
    tests: dict[str, Callable[..., float]] = {"": permutation_p_value}
    if top:
        tests["/most_exposed"] = exposed_p_value
    for part, test in tests.items():
        chance = test(score, member, seed=plan.seed, group=group)
        corrected = min(1.0, plan.looks * chance)
        if look is not None:
            corrected = max(chance, (look.exposed if part else look.p_values).get(name, 1.0))
        found |= {f"p_value{part}/{name}": chance, f"p_value_corrected{part}/{name}": corrected}
    return found


_MATCHED = ("matched_auc", "matched_auc_low", "matched_auc_high", "samples/matched")


_ADJUSTED = ("adjusted_auc", "adjusted_auc_low", "adjusted_auc_high", "adjusted_p_value")


def _adjusted(
    score: Column, table: NDArray[np.float64], member: Sides, plan: Plan, group: GroupNumbers | None
) -> dict[str, float]:
    """Audit what the statistics of the pairs do not explain of the primary score.

    The p-value is twice the smaller one of the area and of the most exposed.
    """
    if not np.isfinite(score).all():
        return dict.fromkeys(_ADJUSTED, math.nan)
    left = adjusted_score(score, table, member, seed=plan.seed, group=group)
    tests = [test(left, member, seed=plan.seed, group=group) for test in (permutation_p_value, exposed_p_value)]
    chance = min(1.0, 2.0 * min(tests))
    return dict(zip(_ADJUSTED, (*delong_interval(left, member, plan.level, group), chance), strict=True))


def _on_matched(
    errors: Mapping[str, Column],
    member: Sides,
    plan: Plan,
    rows: NDArray[np.intp],
    history: Sequence[Mapping[str, Column]],
    group: GroupNumbers | None,
) -> dict[str, float]:
    """Repeat the audit on the rows that are alike without the model."""
    auc, low, high = math.nan, math.nan, math.nan
    if len(rows):
        now, *before = ({name: error[rows] for name, error in table.items()} for table in (errors, *history))
        of_rows = None if group is None else group[rows]
        scores, _ = build_scores(now, member[rows], [plan.primary], seed=plan.seed, history=before, group=of_rows)
        if np.isfinite(scores[plan.primary]).all():
            auc, low, high = delong_interval(scores[plan.primary], member[rows], plan.level, of_rows)
    numbers = dict(zip(_MATCHED, (auc, low, high, float(len(rows))), strict=True))
    return numbers | ({} if group is None else {"groups/matched": float(sum(units(member[rows], group[rows])))})


def _control(
    raw: Mapping[str, Column],
    member: Sides,
    plan: Plan,
    history: Sequence[Mapping[str, Column]],
    group: GroupNumbers | None,
) -> tuple[dict[str, float], list[str]]:
    """Audit random halves of each side by the primary score, made anew with the sides that are played.

    Returns:
        The numbers, and a note where there are none since the score cannot be made of as few samples.
    """

    def score(rows: NDArray[np.intp], played: Sides) -> Column:
        own, *before = ({name: error[rows] for name, error in table.items()} for table in (raw, *history))
        of_rows, primary = None if group is None else group[rows], [plan.primary]
        errors = derive_errors(own, played, primary, alpha=plan.alpha, seed=plan.seed, group=of_rows)
        return build_scores(errors, played, primary, seed=plan.seed, history=before, group=of_rows)[0][plan.primary]

    names, notes = ("control_auc", "control_auc_low", "control_auc_high"), list[str]()
    try:
        interval = control_interval(score, member, level=plan.level, seed=plan.seed, group=group)
    except Exception as error:  # a registered score may need more samples than a half has; the audit has enough
        interval = Interval(math.nan, math.nan, math.nan)
        reason = f"{type(error).__name__}: {error}".rstrip(".")
        notes = [f"The control of the {plan.primary} score could not be made of random halves of each side: {reason}."]
    return dict(zip(names, interval, strict=True)), notes


_BOUNDS = ("one_run", "threshold", "fdp", "mu")


def _epsilon(raw: Mapping[str, Column], member: Sides, plan: Plan, group: GroupNumbers | None = None) -> dict[str, Any]:
    """Bound epsilon from below with a score that looks at nobody's membership.

    The bounds ask that guesses depend on the model alone. Scales and weights fitted on nonmembers depend on the
    assignment, so here every sample counts as a nonmember for the fits. Of a score of several epochs there is no bound:
    the errors of earlier audits were derived with the sides known.

    Those of ``fdp`` and ``mu`` suppose a Gaussian-private training, the others know nothing of its mechanism.

    Where samples come in groups that are wholly on one side, one coin was flipped a group: the guesses are about
    groups, by the mean score of each. Groups on both sides show that coins were flipped for samples, about which the
    guesses then are; the bound by thresholds, which takes samples for independent, has no number there.
    """
    unknown = {"delta": plan.delta, "level": plan.level} | dict.fromkeys(_BOUNDS, math.nan)
    if "history" in registry.scores.get(plan.primary).needs:
        return unknown
    nobody = np.zeros_like(member)
    errors = derive_errors(raw, nobody, plan.scores, plan.errors, alpha=plan.alpha, seed=plan.seed, group=group)
    score = build_scores(errors, nobody, [plan.primary], seed=plan.seed, group=group)[0][plan.primary]
    if not np.isfinite(score).all():
        return unknown
    if group is not None and len(np.unique(group)) == len(group):
        group = None  # groups of one sample are no groups
    unit = "sample"
    if group is not None and not (counts := count_groups(member, group)).on_both.any():
        unit, score, member = "group", group_means(score, group), counts.members > 0
    gaussian = gaussian_one_run_bound(score, member, delta=plan.delta, level=plan.level)
    bounds: dict[str, Any] = {
        "one_run": one_run_bound(score, member, delta=plan.delta, level=plan.level).epsilon,
        "threshold": threshold_bound(score, member, delta=plan.delta, level=plan.level).epsilon,
        "fdp": gaussian.epsilon,
        "mu": gaussian.mu,
    }
    if group is not None:
        bounds |= {"unit": unit} | ({"threshold": math.nan} if unit == "sample" else {})
    return {"delta": plan.delta, "level": plan.level, **bounds}


def _keyed(plan: Plan, values: Mapping[str, float]) -> dict[str, float]:
    return {f"{plan.prefix}/{key}": float(value) for key, value in values.items()}
