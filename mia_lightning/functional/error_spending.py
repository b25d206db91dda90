"""How much of the chance of a false finding each look at a training may use up, so that all together use one share."""

from typing import NamedTuple

OPEN_LOOKS = 20
"""Looks that are planned at a time where the length of a training is open: half of what remains is theirs."""

RESERVE = 0.05
"""Share of what remains that a training of known length keeps, for looks beyond it (a training that is resumed)."""

_OPEN_RESERVE = 0.5


class Spending(NamedTuple):
    """What has been spent of the error, as a share of it, and what the looks of the present plan spend.

    Attributes:
        spent: Share of the error that looks so far have used up, 0 to 1.
        left: Looks of the present plan that are still to come.
        step: Share that each of these uses up.
    """

    spent: float = 0.0
    left: int = 0
    step: float = 0.0

    def after(self, left: int | None) -> "Spending":
        """Spend the share of one more look.

        A plan spreads its share of what remains evenly over its looks. If its length changes, what it has not spent
        yet is spread over the new length. However many looks there will be, the shares never add up to more than one.

        Args:
            left: How many looks are still to come, this one included; None where that is open: :data:`OPEN_LOOKS` at a
                time then share half of what remains.

        Example:
            >>> first = Spending().after(left=19)
            >>> round(first.spent, 3), first.left, round(first.after(left=18).spent, 3)
            (0.05, 18, 0.1)
            >>> Spending().after(left=None).left
            19
        """
        if left is None:
            looks = self.left or OPEN_LOOKS
            unspent = self.step * self.left if self.left else (1.0 - _OPEN_RESERVE) * (1.0 - self.spent)
        else:
            looks = max(1, left)
            unspent = self.step * self.left if self.left else (1.0 - RESERVE) * (1.0 - self.spent)
        step = self.step if looks == self.left else unspent / looks
        return Spending(min(1.0, self.spent + step), looks - 1, step)
