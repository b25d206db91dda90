"""From per-sample scores to the numbers that are logged: one flat dictionary, the same keys everywhere."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from mia_lightning.functional.intervals import delong_interval
from mia_lightning.functional.roc import roc_auc, tpr_at_fpr

FPRS = (0.01, 0.001)


def summarise(
    errors: Mapping[str, NDArray[np.float64]],
    scores: Mapping[str, NDArray[np.float64]],
    member: NDArray[np.bool_],
    *,
    primary: str,
    prefix: str = "audit",
    level: float = 0.95,
) -> dict[str, float]:
    """Compute the metrics of an audit.

    Args:
        errors: Per-sample errors by name, each (N,), low = member.
        scores: Per-sample scores by name, each (N,), high = member.
        member: True for members, (N,).
        primary: The score whose AUC is the audit's headline.
        prefix: First part of every key.
        level: Confidence of the AUC intervals.

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
        auc, low, high = delong_interval(score, member, level) if both else (np.nan, np.nan, np.nan)
        values |= {f"auc/{name}": auc, f"auc_low/{name}": low, f"auc_high/{name}": high}
        for fpr in FPRS:
            rate, realised = tpr_at_fpr(score, member, fpr) if both else (np.nan, np.nan)
            values |= {f"tpr_at_fpr_{fpr}/{name}": rate, f"realised_fpr_{fpr}": realised}
    for name, error in errors.items():
        for side, mask in sides.items():
            values[f"error/{name}/{side}"] = float(error[mask].mean()) if mask.any() else np.nan
    if "predictability" in errors:
        blind = roc_auc(-errors["predictability"], member) if both else np.nan
        values |= {"blind_auc": blind, "blind_auc/predictability": blind}
    values |= {f"samples/{side}": float(mask.sum()) for side, mask in sides.items()}
    headline = {"auc": values[f"auc/{primary}"], "tpr_at_fpr_0.01": values[f"tpr_at_fpr_0.01/{primary}"]}
    return {f"{prefix}/{key}": float(value) for key, value in (headline | values).items()}
