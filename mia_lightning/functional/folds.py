"""Assignment of samples to folds, for cross-fitting: no sample is scored by a fit on itself."""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def assign_folds(member: ArrayLike, folds: int = 5, seed: int = 0) -> NDArray[np.intp]:
    """Assign the samples of each side at random to folds of equal size.

    A sample of fold k is scored only by what was fitted on samples outside fold k, members and nonmembers alike: where
    the two sides do not differ, they are then treated alike, and whatever is fitted cannot favour either.

    Args:
        member: (N,) booleans (or 0/1), True for members.
        folds: Number of folds, at least 2. A side with fewer samples leaves some folds without any of that side.
        seed: Seed of the assignment.

    Returns:
        The fold of every sample, (N,), in 0 .. ``folds`` - 1. Fold sizes differ by at most one: those of the members,
        those of the nonmembers, and those of both together. A ValueError if folds are fewer than two.

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
    fold = np.empty(sides.size, dtype=np.intp)
    # Nonmembers continue where the members ended, or the first folds would get the remainder of both.
    order = np.concatenate([rng.permutation(np.flatnonzero(sides)), rng.permutation(np.flatnonzero(~sides))])
    fold[order] = np.arange(sides.size) % folds
    return fold
