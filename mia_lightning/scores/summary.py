"""From per-sample scores to the numbers that are logged: one flat dictionary, the same keys everywhere."""

import math
from collections.abc import Mapping

import numpy as np

from mia_lightning import registry
from mia_lightning.functional.groups import units
from mia_lightning.registry import Column, Estimate, GroupNumbers, Look, MetricInputs, MetricSpec, Sides


def summarise(  # noqa: PLR0913 - most callers leave out all but four
    errors: Mapping[str, Column],
    scores: Mapping[str, Column],
    member: Sides,
    *,
    primary: str,
    prefix: str = "audit",
    level: float = 0.95,
    looks: int = 1,
    seed: int = 0,
    group: GroupNumbers | None = None,
    look: Look | None = None,
) -> dict[str, float]:
    """Compute the registered metrics of an audit, by key; NaN where a side has no sample left.

    Args:
        errors: Per-sample errors by name, each (N,), low = member.
        scores: Per-sample scores by name, each (N,), high = member.
        member: True for members, (N,).
        primary: The score whose AUC is the audit's headline.
        prefix: First part of every key.
        level: Confidence of the intervals.
        looks: How many audits of the same training are looked at, where no more than that is known of them.
        seed: Seed of the permutations.
        group: Number of each sample's group, (N,): groups count in place of samples. None: there are none.
        look: What the tests of all looks at a training make of this one; None outside of a training.

    Example:
        >>> member = np.array([True, True, False, False])
        >>> error = {"reconstruction": np.array([0.1, 0.2, 0.3, 0.4])}
        >>> summary = summarise(error, {"reconstruction": -error["reconstruction"]}, member, primary="reconstruction")
        >>> summary["audit/auc"], round(summary["audit/error/reconstruction/nonmembers"], 2)
        (1.0, 0.35)
    """
    both = bool(member.any() and (~member).any())
    values: dict[str, float] = {}
    for name, score in scores.items():
        complete = both and bool(np.isfinite(score).all())  # a classifier needs a few samples a side
        values |= (
            score_metrics(name, score, member, level, group) if complete else _unknown_metrics(name, member, group)
        )
    inputs = MetricInputs(errors, scores, member, primary, level, looks, seed, group, look)
    has_primary = both and bool(np.isfinite(scores[primary]).all())
    for spec in _possible("audit", member, group):
        if spec.function is not None:
            computable = spec.one_sided or (both if spec.without_scores else has_primary)
            values |= _audit_metric(spec, inputs, computable=computable)
    headlines = [spec.name for spec in registry.metrics if spec.headline]
    headline = {name: values[f"{name}/{primary}"] for name in headlines}
    return {f"{prefix}/{key}": float(value) for key, value in (headline | values).items()}


def score_metrics(
    name: str, score: Column, member: Sides, level: float, group: GroupNumbers | None = None
) -> dict[str, float]:
    """Compute the metrics of one score, (N,), high = member, by key without the prefix; both sides must be there.

    An interval that counts samples, and not groups, is NaN where samples come in groups.

    Example:
        >>> metrics = score_metrics("lira_online", np.array([2.0, 1.0, 0.0]), np.array([True, True, False]), 0.95)
        >>> metrics["auc/lira_online"], metrics["tpr_at_fpr_0.01/lira_online"]
        (1.0, 1.0)
    """
    values: dict[str, float] = {}
    for spec in _possible("score", member, group):
        if spec.function is not None:
            found = spec.function(score, member, level, *((group,) if spec.grouped else ()))
            estimate = found if isinstance(found, Estimate) else Estimate(float(found))
            if group is not None and not spec.grouped:
                estimate = Estimate(estimate.value)
            keys = (spec.name, *(spec.bounds if registry.scores.has_interval(name) else ()))
            values |= {f"{key}/{name}": float(value) for key, value in zip(keys, estimate, strict=False)}
    return values


def absent_metrics() -> dict[str, float]:
    """NaN for every key of an audit that the analysis makes beside :func:`summarise`."""
    by_analysis = [spec for spec in registry.metrics if spec.of == "audit" and spec.function is None]
    return {key: math.nan for spec in by_analysis for key in _keys(spec)}


def worth_logging(metrics: Mapping[str, float], prefix: str) -> dict[str, float]:
    """Leave out what an audit has no number for, such as ``matched_auc`` where no matching was called for.

    The keys that every audit promises stay, NaN or not: stopping rules fail where the key that they watch is missing.

    Example:
        >>> worth_logging({"audit/auc": math.nan, "audit/matched_auc": math.nan, "audit/p_value": 0.5}, "audit")
        {'audit/auc': nan, 'audit/p_value': 0.5}
    """
    promised = [f"{prefix}/{key}" for spec in registry.metrics for key in spec.promised]
    return {
        key: value
        for key, value in metrics.items()
        if not math.isnan(value) or any(key == p or key.startswith(f"{p}/") for p in promised)
    }


def _audit_metric(spec: MetricSpec, inputs: MetricInputs, *, computable: bool) -> dict[str, float]:
    if spec.applies is not None and not spec.applies(inputs):
        return {}
    if spec.function is None or not computable:
        return dict.fromkeys(_keys(spec), math.nan)
    found = spec.function(inputs)
    if isinstance(found, Mapping):
        if not spec.one_sided and set(found) != set(spec.keys):
            raise ValueError(
                f"Expected the metric {spec.name!r} to return the keys that it declares, {list(spec.keys)}, but got "
                f"{list(found)}. Declare them with keys=(...), so that an audit without a number has them, too."
            )
        return {key: float(value) for key, value in found.items()}
    estimate = found if isinstance(found, Estimate) else Estimate(float(found))
    return dict(zip((spec.name, *spec.bounds), map(float, estimate), strict=False))


def _possible(of: str, member: Sides, group: GroupNumbers | None) -> list[MetricSpec]:
    """Metrics of scores, or of audits, that have nonmembers enough."""
    nonmembers = units(member, group)[1]
    return [spec for spec in registry.metrics if spec.of == of and nonmembers >= spec.fewest_nonmembers]


def _unknown_metrics(name: str, member: Sides, group: GroupNumbers | None) -> dict[str, float]:
    """The keys of a score, without numbers."""
    bounded = registry.scores.has_interval(name)
    keys = [k for s in _possible("score", member, group) for k in (s.name, *(s.bounds if bounded else ()))]
    return {f"{key}/{name}": math.nan for key in keys}


def _keys(spec: MetricSpec) -> tuple[str, ...]:
    return spec.keys or (spec.name, *spec.bounds)
