"""The custom-scalar pages of TensorBoard: what is memorised, beside the utility that it is weighed against."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

_ENDS = ("", "_low", "_high")

Page = dict[str, list[Any]]


class Audited(NamedTuple):
    """What a page shows of an audit.

    Attributes:
        prefix: First part of its keys.
        primary: Score of the headline.
        scores: All its scores.
    """

    prefix: str
    primary: str
    scores: Sequence[str]


def layout(audits: Sequence[Audited], utility: Iterable[str]) -> dict[str, Page]:
    """Describe the pages of a run: for each audit bands, one page of utility for all, for each audit further lines.

    TensorBoard reads one layout a run, the last that was written, so all audits of a training share it. It shows the
    bands of a page after its lines, and in reverse; hence they have pages of their own, the most important last.

    Args:
        audits: The audits of the training.
        utility: Keys of the project's validation metrics.

    Returns:
        What ``SummaryWriter.add_custom_scalars`` takes.
    """
    pages = {_title("Memorization", a): _bands(a) for a in audits}
    if charts := {key: _lines(key) for key in plain_keys(utility)}:
        pages["Utility"] = charts
    return pages | {_title("Other scores, fairness, errors", a): _further(a) for a in audits}


def plain_keys(keys: Iterable[str]) -> list[str]:
    """Leave out keys that Lightning adds to a metric that is logged by step and by epoch.

    Example:
        >>> plain_keys(["val/loss", "val/loss_epoch", "val/loss_step", "next_step"])
        ['next_step', 'val/loss']
    """
    known = set(keys)
    return sorted(k for k in known if k.removesuffix("_step").removesuffix("_epoch") == k or _base(k) not in known)


def _base(key: str) -> str:
    return key.removesuffix("_step").removesuffix("_epoch")


def _title(name: str, audit: Audited) -> str:
    return name if audit.prefix == "audit" else f"{name} ({audit.prefix})"


def _bands(audit: Audited) -> Page:
    prefix, primary = audit.prefix, audit.primary
    charts = {
        "true positives at 1 % false positives": [f"tpr{end}_at_fpr_0.01/{primary}" for end in _ENDS],
        f"AUC of the {primary} score": [f"auc{end}/{primary}" for end in _ENDS],
    }
    return {f"{name}, 95 % interval": ["Margin", [f"{prefix}/{k}" for k in keys]] for name, keys in charts.items()}


def _further(audit: Audited) -> Page:
    at = {fpr: [f"tpr_at_fpr_{fpr}/{name}" for name in audit.scores] for fpr in ("0.01", "0.001")}
    charts = {
        "AUC of all scores and of the blind attack": [*(f"auc/{name}" for name in audit.scores), "blind_auc"],
        "true positives at 1 % false positives": at["0.01"],
        "true positives at 0.1 % false positives": at["0.001"],
        "epsilon, lower bound": ["epsilon_low"],
    }
    for error in ("reconstruction", "membership"):
        charts[f"{error} error of both sides"] = [f"error/{error}/{side}" for side in ("members", "nonmembers")]
    return {name: _lines(*(f"{audit.prefix}/{key}" for key in keys)) for name, keys in charts.items()}


def _lines(*keys: str) -> list[Any]:
    # TensorBoard takes them for expressions that a tag begins with: audit/blind_auc would bring its parts along.
    return ["Multiline", [f"^{re.escape(key)}(_epoch)?$" for key in keys]]
