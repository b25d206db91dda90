"""The looks at one training: what the p-values and intervals of the next one must allow for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from mia_lightning import registry
from mia_lightning.functional.error_spending import Spending
from mia_lightning.functional.groups import FEWEST_GROUPS, effective_groups, too_few_groups, units
from mia_lightning.functional.look_shuffles import SHUFFLES, LookShuffles, UnitKeys
from mia_lightning.functional.sequential_tests import Levels, band_width, corrected_levels, level_of, widened_for_few
from mia_lightning.registry import Column, GroupNumbers, Look, Sides

TESTS = ("area", "most_exposed")
"""What is tested at each look, each by itself: the area under the ROC, and the members among the highest scores."""

_NONE: Levels = np.ones(1 + SHUFFLES, dtype=np.float32)


@dataclass(frozen=True, eq=False)
class LookState:
    """What a look must know of those before it: some kilobytes, however many there were.

    The shuffles are not kept, since they follow from the seed, nor what each look has made of them: of that later looks
    need one number a shuffle.

    Attributes:
        number: Looks so far.
        spending: The error that they have used up.
        lost: The share of it that was used up by looks of which no shuffles are known.
        levels: By test (:data:`TESTS`), the smallest level at which each shuffle would have been a finding so far,
            (1 + SHUFFLES,), the observed membership first.
        outside: By score, which drawn errors were outside of its band so far, (SHUFFLES,).
    """

    number: int = 0
    spending: Spending = field(default_factory=Spending)
    lost: float = 0.0
    levels: Mapping[str, Levels] = field(default_factory=lambda: dict.fromkeys(TESTS, _NONE))
    outside: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)

    def to_plain(self) -> dict[str, Any]:
        """Plain Python values and tensors, for checkpoints."""
        return {
            "number": self.number,
            "spending": list(self.spending),
            "lost": self.lost,
            "levels": {test: torch.tensor(levels) for test, levels in self.levels.items()},
            "outside": {name: torch.tensor(np.packbits(flags)) for name, flags in self.outside.items()},
        }

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Self:
        """Read what :meth:`to_plain` gives; of another number of shuffles only what was spent is kept."""
        spent, left, step = plain["spending"]
        state = cls(int(plain["number"]), Spending(float(spent), int(left), float(step)), float(plain["lost"]))
        levels = {test: np.asarray(plain["levels"].get(test, ()), dtype=np.float32) for test in TESTS}
        if any(column.shape != _NONE.shape for column in levels.values()):
            return replace(state, lost=state.spending.spent)
        flags = {name: np.unpackbits(np.asarray(bits), count=SHUFFLES) > 0 for name, bits in plain["outside"].items()}
        return replace(state, levels=levels, outside=flags)


class LookSequence:
    """The looks at one training, in order, by the same shuffles of membership.

    A look takes effect when it is kept: one whose audit fails afterwards costs nothing. The last one, which the verdict
    of the training rests on, may be taken again with further scores (:meth:`take_back`).

    Attributes:
        state: What the next look must know of those before it.
        last: Whether the next look is the last, as far as is known.

    Example:
        >>> from mia_lightning.functional.look_shuffles import unit_keys
        >>> member = np.arange(40) < 20
        >>> scores, keys = {"membership": 1.0 * member}, unit_keys(member, np.arange(40) % 20)
        >>> looks = LookSequence()
        >>> looks.plan(left=10)
        >>> look = looks.look(scores, ["membership"], member, None, keys=keys)
        >>> look.number, look.planned, round(look.p_values["membership"], 3)
        (1, 10, 0.005)
    """

    def __init__(self) -> None:
        self.state = LookState()
        self.last = False
        self._planned: int | None = 1
        self._before: tuple[LookState, int | None] | None = None  # the latest kept look, and how it was planned
        self._taken: LookState | None = None  # after the look that is not kept yet
        self._shuffles: LookShuffles | None = None

    def plan(self, left: int | None, before: int = 0, *, last: bool = False) -> None:
        """Announce the next look.

        Args:
            left: How many looks are to come, it included; None where that is open.
            before: Looks so far; where more than are known, as after the checkpoint of an earlier version, those share
                the error as well, and nothing is gained by what they have in common with others.
            last: Whether the look is the last, as far as is known.
        """
        self.last = last
        missing = before - self.state.number
        if missing > 0:
            spending = self.state.spending
            for place in range(missing):
                spending = spending.after(None if left is None else left + missing - place)
            lost = self.state.lost + spending.spent - self.state.spending.spent
            self.state = replace(self.state, number=before, spending=spending, lost=lost)
        self._planned = left

    def look(
        self,
        scores: Mapping[str, Column],
        family: Sequence[str],
        member: Sides,
        group: GroupNumbers | None,
        *,
        keys: UnitKeys,
        seed: int = 0,
        level: float = 0.95,
    ) -> Look:
        """Test the scores of this look beside all others of the training; :meth:`keep` makes it count.

        Args:
            scores: Scores by name, (N,) each; those with a NaN are left out.
            family: Names of those that claims rest on: one error for all of them.
            member: True for members, (N,).
            group: Number of each sample's group, (N,); None: there are none.
            keys: Keys of the samples and their groups.
            seed: Seed of the shuffles.
            level: Confidence of the bands.
        """
        state = self.state
        spending = state.spending.after(self._planned)
        complete = {name: score for name, score in scores.items() if np.isfinite(score).all()}
        tested = [name for name in dict.fromkeys(family) if name in complete]
        both = bool(member.any() and (~member).any())
        if self._shuffles is None or not self._shuffles.fits(member, group, keys, seed):
            self._shuffles = LookShuffles(member, group, keys, seed) if both else None
        levels, p_values = dict(state.levels), {test: dict[str, float]() for test in TESTS}
        if self._shuffles is not None and tested:
            columns = [complete[name] for name in tested]
            for test, statistics in zip(
                TESTS, (self._shuffles.areas(columns), self._shuffles.exposures(columns)), strict=True
            ):
                largest = statistics.max(axis=1)
                found = corrected_levels(largest, levels[test], spending.spent - state.lost)
                for name, observed in zip(tested, statistics[0], strict=True):
                    # The larger a statistic is, the smaller is the level at which it is a finding.
                    p_values[test][name] = float(found[largest <= observed].min(initial=1.0))
                levels[test] = np.minimum(levels[test], found)
        outside, confidence = dict(state.outside), dict[str, float]()
        banded = [name for name in complete if registry.scores.has_interval(name)]
        enough = min(units(member, group)) >= FEWEST_GROUPS and not too_few_groups(member, group)
        if self._shuffles is not None and banded and enough:
            independent = sum(units(member, None) if group is None else effective_groups(member, group))
            deviations = self._shuffles.deviations([complete[name] for name in banded])
            for name, column in zip(banded, deviations.T, strict=True):
                before = outside.get(name, np.zeros(SHUFFLES, dtype=bool))
                step = spending.spent - state.spending.spent
                width, outside[name] = band_width(column, before, spending.spent - state.lost, step, level)
                confidence[name] = level_of(widened_for_few(width, independent, level))
        self._taken = LookState(state.number + 1, spending, state.lost, levels, outside)
        planned = state.number + 1 + spending.left
        return Look(
            p_values["area"],
            p_values["most_exposed"],
            confidence,
            state.number + 1,
            planned,
            spending.spent,
            self._planned is None,
            spending.spent - state.spending.spent,
        )

    def keep(self) -> None:
        """Count the look taken last."""
        if self._taken is not None:
            self._before = self.state, self._planned
            self.state, self._taken = self._taken, None

    def take_back(self) -> None:
        """Announce the look that was kept last anew, now known to be the last: it counts once, by its second taking.

        It spends what it has spent before: that the training ended here may have come of what the look showed.
        """
        if self._before is not None:
            (self.state, self._planned), self._before = self._before, None
        self.last = True
