"""Groups of an audit's samples, such as patients, a row each: how exposed each is, and whether it stands out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mia_lightning.functional.group_scores import group_scores
from mia_lightning.functional.groups import Codes, too_few_groups
from mia_lightning.functional.p_values import benjamini_hochberg


@dataclass(frozen=True, eq=False)
class GroupTable:
    """Groups by their scores, G rows; one with samples on both sides has two.

    Attributes:
        names: Name of each group; that of the sample, where it is a group of its own.
        member: Whether it is of the members, (G,).
        size: Number of its samples, (G,).
        mean: Mean of its samples' standardised scores, over the spread that means of so many have, (G,).
        extreme: How high its highest score is for so many samples, (G,), at most 0.
        p_value: Chance that a group of nonmembers is as high in one of both, (G,).
        flagged: Whether it is a group of members that stands out at the false discovery rate, (G,).
    """

    names: list[str]
    member: NDArray[np.bool_]
    size: NDArray[np.intp]
    mean: NDArray[np.float64]
    extreme: NDArray[np.float64]
    p_value: NDArray[np.float64]
    flagged: NDArray[np.bool_]

    @classmethod
    def of(
        cls,
        ids: Sequence[str],
        groups: Sequence[str],
        codes: Codes,
        member: NDArray[np.bool_],
        score: NDArray[np.float64],
        rate: float,
    ) -> GroupTable | None:
        """Score the groups of an audit's samples; None where there are too few of them to say anything.

        Args:
            ids: Names of the samples.
            groups: Names of their groups, empty where a sample is a group of its own.
            codes: Numbers of these groups, (N,).
            member: True for members, (N,).
            score: The score to judge by, (N,).
            rate: False discovery rate of the flags.
        """
        if member.all() or not member.any() or not np.isfinite(score).all() or too_few_groups(member, codes):
            return None
        found = group_scores(score, member, codes)
        _, first = np.unique(codes, return_index=True)  # codes count from 0
        names = [groups[row] or ids[row] for row in first[found.codes]]
        flagged = np.zeros(len(names), dtype=bool)
        flagged[found.member] = benjamini_hochberg(found.p_value[found.member], rate)
        return cls(names, found.member, found.size, found.mean, found.extreme, found.p_value, flagged)

    def most_exposed(self, count: int) -> list[int]:
        """Rows of the most exposed groups of members, so many at the most: lowest p-value first, then highest mean."""
        rows = np.flatnonzero(self.member)
        order = np.lexsort((-self.mean[rows], self.p_value[rows]))[:count]
        return [int(row) for row in rows[order]]

    def __iter__(self) -> Iterator[tuple[str, bool, int, float, float, float, bool]]:
        """Rows as plain values, in the order of the attributes."""
        columns = (self.member, self.size, self.mean, self.extreme, self.p_value, self.flagged)
        return iter(zip(self.names, *(column.tolist() for column in columns), strict=True))
