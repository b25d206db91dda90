"""Label maps and masks in which a value means something else than it is read as, told by what all targets hold."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mia_lightning.audit.batch_plan import BACKGROUND, FOREGROUND, FURTHER, IGNORED, LABELS, NEGATIVE, BatchPlan
from mia_lightning.audit.interpretation import Interpretation
from mia_lightning.audit.protocols import Adapter

Batches = Iterable[tuple[bool, Any]]
"""Batches, as loaded and prepared, each with whether it is one of members."""


def label_columns(interpretation: Interpretation, target: Tensor, prepared: Tensor) -> dict[str, Tensor]:
    """Whether each sample holds other classes than 0, ignored pixels, class 0, negative labels, classes above 1.

    Returns:
        0 or 1, (B,) by column; nothing of pictures.
    """
    if interpretation.task == "translation":
        return {}
    ignore_index = interpretation.config.ignore_index
    ignored = (prepared if interpretation.task == "segmentation" else target) == ignore_index
    valid = ~ignored if interpretation.task == "segmentation" else ~torch.isnan(prepared)
    held = {
        FOREGROUND: valid & (prepared > 0),
        IGNORED: ignored,
        BACKGROUND: valid & (prepared == 0),
        NEGATIVE: valid & (prepared < 0),
        FURTHER: valid & (prepared > 1),
    }
    return {name: pixels.flatten(1).any(1).double() for name, pixels in held.items()}


def check_all_labels(
    rows: Sequence[tuple[bool, Mapping[str, Tensor]]], batches: Batches, plan: BatchPlan, adapter: Adapter
) -> None:
    """As :func:`check_labels`, before an audit: where the first rows leave it open, by the targets of all batches.

    Args:
        rows: Whether they are members, and the columns, of the first batches.
        batches: All batches, read until nothing speaks against them.
        plan: What is computed.
        adapter: Reads the batches.

    Raises:
        ValueError: As :func:`check_labels`.
    """
    if not rows or FOREGROUND not in rows[0][1]:
        return
    member, ignore_index = np.array([True, False]), plan.interpretation.config.ignore_index
    held = {name: np.zeros(2, dtype=bool) for name in LABELS}

    def note(is_member: bool, columns: Mapping[str, Tensor]) -> None:
        for name in LABELS:
            held[name][0 if is_member else 1] |= bool(columns[name].any())

    for is_member, columns in rows:
        note(is_member, columns)
    for is_member, batch in batches if _fault_of(held, member, ignore_index) else ():
        sample = adapter.unpack(batch)
        note(is_member, label_columns(plan.interpretation, sample.target, plan.interpretation.prepare_target(sample)))
        if not _fault_of(held, member, ignore_index):
            return
    check_labels(held, member, ignore_index)


def check_labels(columns: Mapping[str, NDArray[Any]], member: NDArray[np.bool_], ignore_index: int) -> None:
    """Refuse label maps of which one class alone would be audited, since what marks the other one is ignored.

    Args:
        columns: Those of :func:`label_columns` for all samples of all processes, (N,) each.
        member: Which samples are members, (N,).
        ignore_index: Label of ignored pixels.

    Raises:
        ValueError: If no target, or none of one side, holds a class other than 0 where some hold ignored pixels (that
            side's alone, if the other has none of these), or none holds another class than 1 where some have negative
            labels.
    """
    if fault := _fault_of(columns, member, ignore_index):
        raise ValueError(fault)


def _fault_of(columns: Mapping[str, NDArray[Any]], member: NDArray[np.bool_], ignore_index: int) -> str:
    if IGNORED not in columns:
        return ""
    held = {name: bool(np.any(columns[name])) for name in LABELS}
    if held[IGNORED] and not held[FOREGROUND]:
        return (
            f"No target holds a class other than 0, and pixels of {ignore_index} (ignore_index) are ignored: the "
            f"background alone would be audited. {_if_foreground(ignore_index)}; if these pixels are to be ignored, "
            "there is no foreground to audit."
        )
    if held[NEGATIVE] and held[FOREGROUND] and not (held[BACKGROUND] or held[FURTHER]):
        return (
            "All targets hold the class 1 and negative labels, such as -1, which are ignored, and no 0: the foreground "
            "alone would be audited. If a negative label marks the background, make it 0 in the masks, or in the "
            "unpack of an adapter (adapter=Mine())."
        )
    for name, side in (("members", member), ("nonmembers", ~member)):
        own, other = ({label: bool(np.any(columns[label][rows])) for label in LABELS} for rows in (side, ~side))
        if own[IGNORED] and not own[FOREGROUND] and other[FOREGROUND] and not other[IGNORED]:
            return (
                f"The masks of the {name} hold {ignore_index} (ignore_index) and no class other than 0, those of the "
                f"other side classes and no {ignore_index}: of the {name} the background alone would be audited. "
                f"{_if_foreground(ignore_index)}. Give both sides masks of one form."
            )
    return ""


def _if_foreground(ignore_index: int) -> str:
    return (
        f"If {ignore_index} marks the foreground, make it 1 in the masks (stored outputs: --foreground {ignore_index}, "
        f"with label maps --num_classes 1 --foreground {ignore_index}); if it is a class, set ignore_index "
        "(--ignore_index) to an id that marks no class"
    )
