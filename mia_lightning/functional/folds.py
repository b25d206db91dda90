"""Assignment of samples to folds, for cross-fitting: no sample is scored by a fit on itself."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mia_lightning.functional.groups import as_codes, count_groups


def assign_folds(member: ArrayLike, folds: int = 5, seed: int = 0, group: ArrayLike | None = None) -> NDArray[np.intp]:
    """Assign the samples of each side at random to folds of equal size.

    A sample of fold k is scored only by what was fitted on samples outside fold k, members and nonmembers alike: where
    the two sides do not differ, they are then treated alike, and whatever is fitted cannot favour either.

    Args:
        member: (N,) booleans (or 0/1), True for members.
        folds: Number of folds, at least 2. A side with fewer samples leaves some folds without any of that side.
        seed: Seed of the assignment.
        group: The group of each sample, (N,): a group is never split, since its samples tell of each other. None: each
            sample by itself.

    Returns:
        The fold of every sample, (N,), in 0 .. ``folds`` - 1. Fold sizes differ by at most one: those of the members,
        those of the nonmembers, and those of both together; of groups, their numbers do, and large ones are dealt
        before small ones. A ValueError if folds are fewer than two.

    Example:
        >>> member = np.array([True] * 4 + [False] * 6)
        >>> fold = assign_folds(member, folds=2)
        >>> np.bincount(fold[member]).tolist(), np.bincount(fold[~member]).tolist()
        ([2, 2], [3, 3])
    """
    sides = np.asarray(member, dtype=bool)
    if sides.ndim != 1:
        raise ValueError(f"Expected membership flags of shape (N,), but got {sides.shape}.")
    if folds < 2:
        raise ValueError(f"Expected at least 2 folds, but got {folds}: samples would be scored by a fit on themselves.")
    rng = np.random.default_rng(seed)
    if group is not None:
        return _deal_groups(sides, group, folds, rng)
    fold = np.empty(sides.size, dtype=np.intp)
    # Nonmembers continue where the members ended, or the first folds would get the remainder of both.
    order = np.concatenate([rng.permutation(np.flatnonzero(sides)), rng.permutation(np.flatnonzero(~sides))])
    fold[order] = np.arange(sides.size) % folds
    return fold


def _deal_groups(sides: NDArray[np.bool_], group: ArrayLike, folds: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Deal whole groups: those on both sides, then those of members, then those of nonmembers, each kind evenly."""
    codes = as_codes(group, sides.size)
    counts = count_groups(sides, codes)
    size = counts.members + counts.nonmembers
    kinds = (counts.on_both, counts.nonmembers == 0, counts.members == 0)
    dealt = []
    for kind in kinds:
        shuffled = rng.permutation(np.flatnonzero(kind))
        # Large ones first, each in a fold of its own: two in one fold would leave little to fit on.
        dealt.append(shuffled[np.argsort(-size[shuffled], kind="stable")])
    fold = np.empty(size.size, dtype=np.intp)
    order = np.concatenate(dealt)
    fold[order] = np.arange(order.size) % folds
    return np.asarray(fold[codes], dtype=np.intp)
