"""Audits of a run as plain values, for other programs."""

from collections.abc import Sequence
from typing import Any

from mia_lightning.result.audit_result import AuditResult


def json_summary(history: Sequence[AuditResult]) -> dict[str, Any]:
    """Sum audits of one model up, at least one, in order: the last in full, of all the AUCs and intervals."""
    last = history[-1]
    points = [("auc", f"auc/{last.primary}"), *((k, f"{k}/{last.primary}") for k in ("auc_low", "auc_high"))]
    curve = [
        {"epoch": r.epoch, "step": r.meta.get("step"), **{name: r.metric(key) for name, key in points}} for r in history
    ]
    verdict = last.verdict
    return {
        "prefix": last.prefix,
        "primary": last.primary,
        "epoch": last.epoch,
        "step": last.meta.get("step"),
        "verdict": {
            "grade": verdict.grade,
            "score": verdict.score,
            "reason": verdict.reason,
            "sentences": list(verdict.sentences),
            "remarks": list(verdict.remarks),
        },
        "metrics": last.metrics,
        "curve": curve,
    }
