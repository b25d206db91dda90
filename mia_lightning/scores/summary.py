"""From per-sample scores to the numbers that are logged: one flat dictionary, the same keys everywhere."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from mia_lightning.functional.intervals import clopper_pearson, delong_difference, delong_interval
from mia_lightning.functional.p_values import permutation_p_value
from mia_lightning.functional.roc import roc_auc, tpr_at_fpr

FPRS = (0.01, 0.001, 0.0)
# The keys, or what stands before their slash, that are logged at every audit.
PROMISED = ("auc", "auc_low", "auc_high", "tpr_at_fpr_0.01", "tpr_at_fpr_0.001", "error", "blind_auc", "epsilon_low")
# A cross-fitted classifier breaks DeLong's assumptions: it is reported without an interval, with a permutation test.
NO_INTERVAL = ("trained",)


def summarise(
    errors: Mapping[str, NDArray[np.float64]],
    scores: Mapping[str, NDArray[np.float64]],
    member: NDArray[np.bool_],
    *,
    primary: str,
    prefix: str = "audit",
    level: float = 0.95,
    looks: int = 1,
    seed: int = 0,
) -> dict[str, float]:
    """Compute the metrics of an audit.

    Args:
        errors: Per-sample errors by name, each (N,), low = member.
        scores: Per-sample scores by name, each (N,), high = member.
        member: True for members, (N,).
        primary: The score whose AUC is the audit's headline.
        prefix: First part of every key.
        level: Confidence of the intervals.
        looks: How many audits of the same training are looked at; the corrected p-value is the p-value that many times.
        seed: Seed of the permutations.

    Returns:
        Metrics by key; all of them NaN where a side has no sample left.

    Example:
        >>> member = np.array([True, True, False, False])
        >>> error = {"reconstruction": np.array([0.1, 0.2, 0.3, 0.4])}
        >>> summary = summarise(error, {"reconstruction": -error["reconstruction"]}, member, primary="reconstruction")
        >>> summary["audit/auc"], round(summary["audit/error/reconstruction/nonmembers"], 2)
        (1.0, 0.35)
    """
    sides = {"members": member, "nonmembers": ~member}
    both = bool(member.any() and (~member).any())
    values: dict[str, float] = {}
    for name, score in scores.items():
        known = both and bool(np.isfinite(score).all())  # a classifier needs a few samples a side
        values |= score_metrics(name, score, member, level) if known else _nothing(name)
    for name, error in errors.items():
        for side, mask in sides.items():
            values[f"error/{name}/{side}"] = float(error[mask].mean()) if mask.any() else np.nan
    if "predictability" in errors:
        blind = roc_auc(-errors["predictability"], member) if both else np.nan
        values |= {"blind_auc": blind, "blind_auc/predictability": blind}
    values |= {f"samples/{side}": float(mask.sum()) for side, mask in sides.items()}
    p_value = permutation_p_value(scores[primary], member, seed=seed) if both else np.nan
    values |= {"p_value": p_value, "p_value_corrected": float(np.minimum(1.0, looks * p_value))}
    if primary != "reconstruction" and "reconstruction" in scores:
        gain = (
            delong_difference(scores[primary], scores["reconstruction"], member, level)[:3] if both else (np.nan,) * 3
        )
        values |= dict(zip(("auc_gain", "auc_gain_low", "auc_gain_high"), gain, strict=True))
    headline = {"auc": values[f"auc/{primary}"], "tpr_at_fpr_0.01": values[f"tpr_at_fpr_0.01/{primary}"]}
    return {f"{prefix}/{key}": float(value) for key, value in (headline | values).items()}


def score_metrics(name: str, score: NDArray[np.float64], member: NDArray[np.bool_], level: float) -> dict[str, float]:
    """Compute the metrics of one score.

    Args:
        name: Name of the score, last part of the keys.
        score: (N,), high = member.
        member: True for members, (N,); both sides must be there.
        level: Confidence of the intervals.

    Returns:
        Metrics by key, without the prefix.

    Example:
        >>> metrics = score_metrics("lira", np.array([2.0, 1.0, 0.0]), np.array([True, True, False]), 0.95)
        >>> metrics["auc/lira"], metrics["tpr_at_fpr_0.01/lira"]
        (1.0, 1.0)
    """
    auc, low, high = delong_interval(score, member, level)
    values = {f"auc/{name}": auc}
    if name not in NO_INTERVAL:
        values |= {f"auc_low/{name}": low, f"auc_high/{name}": high}
    members = int(member.sum())
    for fpr in FPRS:
        rate, realised = tpr_at_fpr(score, member, fpr)
        _, low, high = clopper_pearson(rate * members, members, level)
        values |= {f"tpr_at_fpr_{fpr:g}/{name}": rate, f"realised_fpr_{fpr:g}": realised}
        if name not in NO_INTERVAL:
            values |= {f"tpr_low_at_fpr_{fpr:g}/{name}": low, f"tpr_high_at_fpr_{fpr:g}/{name}": high}
    return values


def worth_logging(metrics: Mapping[str, float], prefix: str) -> dict[str, float]:
    """Leave out what an audit has no number for, such as ``matched_auc`` where no matching was called for.

    The keys that every audit promises stay, NaN or not: stopping rules fail where the key that they watch is missing.

    Args:
        metrics: Metrics by key.
        prefix: First part of the keys.

    Returns:
        Those to log.

    Example:
        >>> worth_logging({"audit/auc": math.nan, "audit/matched_auc": math.nan, "audit/p_value": 0.5}, "audit")
        {'audit/auc': nan, 'audit/p_value': 0.5}
    """
    promised = {f"{prefix}/{name}" for name in PROMISED}
    return {
        key: value
        for key, value in metrics.items()
        if not math.isnan(value) or any(key == p or key.startswith(f"{p}/") for p in promised)
    }


def _nothing(name: str) -> dict[str, float]:
    """The keys of a score, without numbers."""
    toy = score_metrics(name, np.array([0.0, 1.0]), np.array([False, True]), 0.95)
    return dict.fromkeys(toy, np.nan)
