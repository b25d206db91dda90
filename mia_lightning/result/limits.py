"""Limits on what an audit may find: a model is above one, below it, or the data cannot tell."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from mia_lightning import registry
from mia_lightning.functional.intervals import upper_bound_at_chance
from mia_lightning.functional.slice_audit import FEWEST, RATE
from mia_lightning.functional.suggestions import suggestion
from mia_lightning.registry import MetricSpec
from mia_lightning.result.audit_result import AuditResult
from mia_lightning.result.remarks import not_estimable, unverified
from mia_lightning.result.slice_table import is_unfair
from mia_lightning.result.verdict import REVERSED
from mia_lightning.result.verdict_score import OF_THE_SCORE, ByVerdictScore

ABOVE, UNDECIDED = 3, 4
"""Exit codes: the lower bound of a metric is above its limit; the data cannot tell."""

_ALPHA = 0.05
_BOUND = "epsilon_low"  # a lower bound itself, to which there is no upper one
_SLICE = "slice/"  # what keys of slices begin with; those of errors of one class begin with the error's name
_OF_SLICES = ("auc", f"tpr_at_fpr_{RATE:g}", "blind_auc")
_NAMED = 5  # slices that a reason names
_EXAMPLE = "such as auc=0.6 or tpr_at_fpr_0.01=0.05"

Finding = Literal["above", "below", "undecided"]


class LimitExceededError(RuntimeError, SystemExit):
    """A training was stopped because a metric of an audit is above its limit, with certainty.

    Where nothing catches it, the program ends with exit code 3; of several processes the first does, and the others
    end with 0, since a launcher kills the first as soon as another has failed. Processes that are spawned
    (``ddp_spawn``) pass it on inside their launcher's own error.

    Args:
        outcome: What the audit found of each limit, also an attribute.
        code: The exit code; by default that of the outcome.
    """

    def __init__(self, outcome: LimitsOutcome, code: int | None = None) -> None:
        super().__init__(str(outcome))
        self.outcome = outcome
        self.code = outcome.exit_code if code is None else code

    def __reduce__(self) -> tuple[type[LimitExceededError], tuple[LimitsOutcome, int]]:
        """Pickle by the outcome, not by the message."""
        return type(self), (self.outcome, int(str(self.code)))


class LimitCheck(NamedTuple):
    """What an audit says of one limit.

    Attributes:
        key: The metric, such as ``auc`` or ``auc/combined``.
        limit: What it should not exceed.
        finding: ``above``: the whole interval is, ``below``: the whole interval is not, ``undecided``.
        reason: Why, in words.
    """

    key: str
    limit: float
    finding: Finding
    reason: str

    def __str__(self) -> str:
        said = {"above": "exceeded", "below": "kept", "undecided": "cannot tell"}[self.finding]
        return f"{self.key} <= {self.limit:g}: {said}; {self.reason}"


@dataclass(frozen=True)
class LimitsOutcome:
    """What an audit says of all limits.

    Attributes:
        checks: One check a limit.
    """

    checks: tuple[LimitCheck, ...]

    @property
    def finding(self) -> Finding:
        """``above`` where one limit is exceeded, else ``undecided`` where one cannot be told, else ``below``."""
        findings = {check.finding for check in self.checks}
        return "above" if "above" in findings else "undecided" if "undecided" in findings else "below"

    @property
    def exit_code(self) -> int:
        """3 where a limit is exceeded, 4 where the data cannot tell, else 0."""
        return {"above": ABOVE, "undecided": UNDECIDED, "below": 0}[self.finding]

    def __str__(self) -> str:
        """One line: the limits that decide."""
        deciding = [str(check) for check in self.checks if check.finding == self.finding]
        head = {"above": "exceeded", "below": "kept", "undecided": "not decided"}[self.finding]
        return f"Limits {head}: {' | '.join(deciding)}"


def read_limits(settings: Iterable[str]) -> dict[str, float]:
    """Read limits as they are written on a command line; :func:`checked_limits` says whether there are such metrics.

    Raises:
        ValueError: If one is not a name and a number, or a metric has two.

    Example:
        >>> read_limits(["auc=0.6", "tpr_at_fpr_0.01=0.05"])
        {'auc': 0.6, 'tpr_at_fpr_0.01': 0.05}
    """
    limits: dict[str, float] = {}
    for text in settings:
        key, _, number = text.rpartition("=")  # values of slices may have one, too
        try:
            limit = float(number)
        except ValueError:
            raise ValueError(f"Expected fail_above to be NAME=NUMBER, {_EXAMPLE}, but got {text!r}.") from None
        name = key.strip()
        if name in limits and limits[name] != limit:
            raise ValueError(f"fail_above names {name!r} twice, with {limits[name]:g} and {limit:g}.")
        limits[name] = limit
    return limits


def checked_limits(limits: Mapping[str, float], *, in_training: bool = False) -> dict[str, float]:
    """Check limits before anything is trained or audited.

    Args:
        limits: Number by metric: its name for the score that the verdict rests on, ``name/score`` for another. Metrics
            of scores that have an interval, metrics of audits that have one, and epsilon_low, a lower bound itself.
            AUC, TPR and blind AUC of a slice by the primary score, ``slice/<column>/<value>/auc``, and of an error of
            one class, ``class/<class>/auc``; which slices and classes there are, the audit says.
        in_training: Whether they are checked at several looks at a training: only metrics of scores are known then with
            a certainty that holds at all looks.

    Raises:
        ValueError: If there is no such metric or score, or a limit is no number that the metric could exceed.
    """
    keys = _metrics_of_scores() if in_training else [*_metrics_of_scores(), *_metrics_of_audits(), _BOUND]
    for key, limit in limits.items():
        name, _, score = (key, "", "") if key in keys or _is_slice(key) else key.partition("/")
        if _is_slice(key):
            _read_slice(key)
        elif name not in keys or (score and name not in _metrics_of_scores()):
            raise ValueError(
                f"fail_above: {key!r} is no metric with an interval{suggestion(key, keys)}; there are "
                f"{', '.join(keys)}, {_EXAMPLE}; auc/combined is that of another score than the verdict's, "
                "slice/site/A/auc that of a slice."
            )
        if score and not (score in registry.scores and registry.scores.has_interval(score)):
            named = [spec.name for spec in registry.scores if registry.scores.has_interval(spec.name)]
            raise ValueError(f"fail_above: {key!r} names no score with an interval; there are {', '.join(named)}.")
        if isinstance(limit, bool) or not isinstance(limit, (int, float)) or not 0.0 <= limit < math.inf:
            raise ValueError(f"Expected fail_above of {key!r} to be a number, at least 0, but got {limit!r}.")
        if limit >= 1.0 and name != _BOUND:
            raise ValueError(f"fail_above: {key!r} is at most 1, so that a limit of {limit:g} has no effect.")
    return {key: float(limit) for key, limit in limits.items()}


def check_limits(limits: Mapping[str, float], result: AuditResult) -> LimitsOutcome:
    """Compare an audit with limits, by both ends of the intervals.

    An audit during a training is one of several looks: its intervals hold at all of them together, and metrics that
    have no such interval decide nothing. Where the
    comparison is unfair, or the sides seem swapped, nothing can be told.

    Args:
        limits: As :func:`checked_limits` has them.
        result: The audit.
    """
    return LimitsOutcome(tuple(_check(result, key, limit) for key, limit in limits.items()))


def _check(result: AuditResult, key: str, limit: float) -> LimitCheck:
    if reason := _no_comparison(result):
        return LimitCheck(key, limit, "undecided", reason)
    if _is_slice(key):
        return _check_slice(result, key, limit)
    name, _, score = (key, "", "") if key in _metrics_of_audits() else key.partition("/")
    if name == _BOUND:
        return _check_bound(result, limit)
    rate = float(name.rpartition("_fpr_")[2]) if name.startswith(("tpr_at_fpr_", "tpr_at_population_fpr_")) else 0.0
    if rate and (reason := not_estimable(result, rate)):
        return LimitCheck(key, limit, "undecided", reason)
    spec = registry.metrics.find(name)
    if spec is not None and spec.of == "score":
        column = score or result.verdict_score
        if column not in result.scores:
            return LimitCheck(key, limit, "undecided", f"the audit has no score {column}")
        value, low, high = _bounds(result, spec, column)
        what = f"{name} of {column}"
    else:
        value, low, high = (ByVerdictScore(result).metric(k) for k in (name, f"{name}_low", f"{name}_high"))
        what = f"{name} of {result.verdict_score}" if name in OF_THE_SCORE else name
        if _is_look(result):
            why = f"{what} has no interval that holds at all looks at a training: audit the trained model"
            return LimitCheck(key, limit, "undecided", why)
    if math.isnan(low) or math.isnan(high):
        return LimitCheck(key, limit, "undecided", f"{what} has no interval in this audit")
    together = ", at all looks together" if _is_look(result) else ""
    doubt = "; members are unverified" if unverified(result) and high <= limit else ""
    if name == "auc":  # by chance it may be below 0.5, which makes nothing more certain
        high = max(high, upper_bound_at_chance(value, high))
    reason = f"{what} is {value:.3g} (95 % interval {low:.3g} to {high:.3g}{together}){doubt}"
    return LimitCheck(key, limit, "above" if low > limit else "below" if high <= limit else "undecided", reason)


def _is_slice(key: str) -> bool:
    """Whether a key is of a slice, or of an error of one class."""
    return key.startswith((_SLICE, *(f"{spec.name}/" for spec in registry.errors if spec.each_class is not None)))


def _read_slice(key: str) -> tuple[str, str, str]:
    """Column, value and metric of a slice's key; ValueError where it names no metric of slices.

    Of errors of one class, the error's name and the class.
    """
    column, _, rest = key.removeprefix(_SLICE).partition("/")
    value, _, metric = rest.rpartition("/")
    if not column or not value or metric not in _OF_SLICES:
        form, example = ("slice/<column>/<value>", "slice/site/A/auc")
        if not key.startswith(_SLICE):
            form, example = (f"{column}/<class>", f"{column}/1/auc")
        raise ValueError(
            f"fail_above: expected {key!r} to be {form}/<metric>, such as {example}; metrics of "
            f"slices and classes are {', '.join(_OF_SLICES)}."
        )
    return column, value, metric


def _check_slice(result: AuditResult, key: str, limit: float) -> LimitCheck:
    """Judge a slice by its interval, which for that kind of number holds for all slices and looks together."""
    column, value, metric = _read_slice(key)
    sliced = result.sliced
    rows = [s for s in sliced.rows if s.of_class != key.startswith(_SLICE)]
    what = "slice" if key.startswith(_SLICE) else "class"
    one = next((s for s in rows if s.key == key.rpartition("/")[0]), None)
    one = one or next((s for s in rows if (s.column, s.value) == (column, value)), None)
    if one is None:
        there = ", ".join(s.key for s in rows[:_NAMED])
        without = "it is not sliced" if what == "slice" else f"errors={column!r} was not asked for"
        there = f"there are {there}{', ...' if len(rows) > _NAMED else ''}" if there else without
        if sliced.further and not sliced.rows:
            there = f"all of its slices have fewer than {FEWEST} a side"
        return LimitCheck(key, limit, "undecided", f"the audit has no such {what}; {there}")
    if reason := sliced.too_small(one):
        return LimitCheck(key, limit, "undecided", reason)
    if is_unfair(one) and metric != "blind_auc":
        return LimitCheck(key, limit, "undecided", f"difficulty alone tells the sides of this {what} apart")
    area, low, high = {"auc": one.auc, "blind_auc": one.blind}.get(metric, one.tpr)
    if math.isnan(low) or math.isnan(high):
        return LimitCheck(key, limit, "undecided", f"{metric} has no interval in this {what}")
    if metric != _OF_SLICES[1]:
        high = max(high, upper_bound_at_chance(area, high))
    looks = " and looks" if sliced.share < 1.0 else ""
    of = "" if metric == "blind_auc" else f" of {registry.errors.label(column) if one.of_class else result.primary}"
    together = f"those of {metric} hold for all slices{looks} together"
    reason = f"{metric}{of} is {area:.3g} (95 % interval {low:.3g} to {high:.3g}; {together})"
    return LimitCheck(key, limit, "above" if low > limit else "below" if high <= limit else "undecided", reason)


def _no_comparison(result: AuditResult) -> str:
    """Why no limit can be judged; empty where it can."""
    verdict = result.verdict
    if verdict.grade == "unfair":
        return f"the comparison is unfair ({verdict.reason})"
    return f"the audit is inconclusive ({verdict.reason})" if verdict.reason in (REVERSED, "no result") else ""


def _check_bound(result: AuditResult, limit: float) -> LimitCheck:
    """Judge epsilon by its lower bound, which is all there is: what is not shown to be above is below."""
    epsilon = result.metric(_BOUND)
    standing = result.meta.get("epsilon") or {}
    if math.isnan(epsilon) or not standing.get("valid"):
        why = "there is no bound" if math.isnan(epsilon) else f"the bound is {standing.get('standing', 'indicative')}"
        return LimitCheck(_BOUND, limit, "undecided", why)
    reason = f"epsilon is at least {epsilon:.3g} with 95 % confidence; more may be overlooked"
    return LimitCheck(_BOUND, limit, "above" if epsilon > limit else "below", reason)


def _bounds(result: AuditResult, spec: MetricSpec, score: str) -> tuple[float, float, float]:
    """Value and interval of a score's metric: at all looks together, where the audit is one of several."""
    value, low, high = (result.metric(f"{name}/{score}") for name in (spec.name, *spec.bounds))
    if not _is_look(result):
        return value, low, high
    if spec.name == "auc" and not math.isnan(result.band(score)[0]):
        return value, *result.band(score)
    look = result.meta.get("look") or {}
    share = float(look.get("share", 1.0 / max(1, int(result.meta.get("looks") or 1))))
    level = 1.0 - _ALPHA * share  # those of all looks add up to alpha
    assert spec.function is not None
    groups = () if result.group_codes is None else (result.group_codes,)
    if math.isnan(low) or share <= 0.0 or (groups and not spec.grouped):
        return value, math.nan, math.nan
    estimate = spec.function(result.scores[score], result.member, level, *groups)
    return value, float(estimate[1]), float(estimate[2])


def _is_look(result: AuditResult) -> bool:
    """Whether an audit is one of several of a training; those of trained weights have an epoch as well."""
    stage = result.meta.get("stage")
    return stage == "fit" or (stage is None and result.epoch is not None)


def _metrics_of_scores() -> list[str]:
    return [spec.name for spec in registry.metrics if spec.of == "score" and spec.bounds]


def _metrics_of_audits() -> list[str]:
    """Those with an interval, by their keys: some make several."""
    specs = [spec for spec in registry.metrics if spec.of == "audit"]
    keys = [key for spec in specs for key in spec.keys if f"{key}_low" in spec.keys]
    return keys + [s.name for s in specs if s.bounds == (f"{s.name}_low", f"{s.name}_high")]
