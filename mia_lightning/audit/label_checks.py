"""Label maps and masks in which a value means something else than it is read as, told by what all targets hold."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mia_lightning.audit.batch_plan import BACKGROUND, FOREGROUND, FURTHER, IGNORED, LABELS, NEGATIVE, BatchPlan
from mia_lightning.audit.interpretation import Interpretation
from mia_lightning.audit.protocols import Adapter


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
    rows: Sequence[Mapping[str, Tensor]], batches: Iterable[Any], plan: BatchPlan, adapter: Adapter
) -> None:
    """As :func:`check_labels`, before an audit: where the first rows leave it open, by the targets of all batches.

    Args:
        rows: The columns of the first batches.
        batches: All batches, as loaded and prepared, read until nothing speaks against them.
        plan: What is computed.
        adapter: Reads the batches.

    Raises:
        ValueError: As :func:`check_labels`.
    """
    if not rows or FOREGROUND not in rows[0]:
        return
    ignore_index = plan.interpretation.config.ignore_index
    held = {name: np.array([any(bool(columns[name].any()) for columns in rows)]) for name in LABELS}
    for batch in batches if _fault_of(held, ignore_index) else ():
        sample = adapter.unpack(batch)
        own = label_columns(plan.interpretation, sample.target, plan.interpretation.prepare_target(sample))
        held = {name: before | bool(own[name].any()) for name, before in held.items()}
        if not _fault_of(held, ignore_index):
            return
    check_labels(held, ignore_index)


def check_labels(columns: Mapping[str, NDArray[Any]], ignore_index: int) -> None:
    """Refuse label maps of which one class alone would be audited, since what marks the other one is ignored.

    Args:
        columns: Those of :func:`label_columns` for all samples of all processes, (N,) each.
        ignore_index: Label of ignored pixels.

    Raises:
        ValueError: If no target holds a class other than 0 where some hold ignored pixels, or none holds another class
            than 1 where some have negative labels.
    """
    if fault := _fault_of(columns, ignore_index):
        raise ValueError(fault)


def differences_of_sides(
    columns: Mapping[str, NDArray[Any]], member: NDArray[np.bool_], ignore_index: int
) -> list[str]:
    """Warn where one side alone holds ignored pixels, and no class other than 0; it may be so, or the form of masks.

    Arguments are those of :func:`check_labels` and whether samples are members, (N,).

    Returns:
        The warning, for the result; nothing without one.
    """
    if IGNORED not in columns:
        return []
    for name, side in (("members", member), ("nonmembers", ~member)):
        own, other = ({label: bool(np.any(columns[label][rows])) for label in LABELS} for rows in (side, ~side))
        if own[IGNORED] and not own[FOREGROUND] and other[FOREGROUND] and not other[IGNORED]:
            difference = (
                f"The masks of the {name} hold {ignore_index} (ignore_index) and no class other than 0, those of the "
                f"other side classes and no {ignore_index}: of the {name} the background alone was audited. "
                f"{_if_foreground(ignore_index)}. Give both sides masks of one form."
            )
            warnings.warn(difference, stacklevel=3)
            return [difference]
    return []


def _fault_of(columns: Mapping[str, NDArray[Any]], ignore_index: int) -> str:
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
    return ""


def _if_foreground(ignore_index: int) -> str:
    return (
        f"If {ignore_index} marks the foreground, make it 1 in the masks (stored outputs: --foreground {ignore_index}, "
        f"with label maps --num_classes 1 --foreground {ignore_index}); if it is a class, set ignore_index "
        "(--ignore_index) to an id that marks no class"
    )
