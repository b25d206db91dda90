"""Samples that are on both sides: a comparison of samples with themselves finds nothing."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


class OverlapCheck:
    """Compares the contents of both sides; warns of samples that are on both, once."""

    def __init__(self) -> None:
        self._warned = False

    def __call__(self, ids: Sequence[str], member: NDArray[np.bool_], content: NDArray[np.float64]) -> float:
        """Measure how much of the smaller side is on the other, too.

        Args:
            ids: Name of each sample.
            member: True for members, (N,).
            content: Number of each sample by its content, (N,): equal for equal input and target.

        Returns:
            Share of the smaller side's samples, 0 where no sample is on both sides or a side is empty.
        """
        smaller = member if 2 * member.sum() <= len(member) else ~member
        shared = np.isin(content, content[~smaller]) & smaller
        total, count = int(shared.sum()), int(smaller.sum())
        if total and not self._warned:
            self._warned = True
            names = ("member", "nonmember") if smaller is member else ("nonmember", "member")
            first = ", ".join(repr(ids[i]) for i in np.flatnonzero(shared)[:3])
            counts = f"{total} of {count} {names[0]}s {'is' if total == 1 else 'are'} also among the {names[1]}s"
            warnings.warn(
                f"{counts} (same input and target): {first}{', ...' if total > 3 else ''}. Samples on both sides pull "
                "the AUC towards 0.5; expected samples that the model was trained on as members, and others as "
                "nonmembers.",
                stacklevel=2,
            )
        return total / count if count else 0.0
