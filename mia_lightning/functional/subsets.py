"""Random subsets of a fixed size, many at a time: what permutation tests of two sides shuffle."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

_CHUNK = 1 << 17  # random keys held at a time: they stay in the cache


def random_subsets(total: int, size: int, permutations: int, seed: int) -> Iterator[NDArray[np.bool_]]:
    """Draw subsets of ``size`` out of ``total`` as rows of booleans, some rows at a time.

    Raises:
        ValueError: If there is no permutation.

    Example:
        >>> sum(len(rows) for rows in random_subsets(10, 4, permutations=7, seed=0))
        7
    """
    if permutations < 1:
        raise ValueError(f"Expected one or more permutations, but got {permutations}.")
    bits = np.random.PCG64(seed)
    rows = max(2, _CHUNK // total // 2 * 2)
    for start in range(0, permutations, rows):
        # Two keys out of each 64 bits. Where two keys tie at the border, in about total / 2**32 of the rows, one
        # sample too many is chosen: that can only raise a p-value.
        keys = bits.random_raw(rows * total // 2).view(np.uint32).reshape(rows, total)[: permutations - start]
        yield keys <= np.partition(keys, size - 1, axis=1)[:, size - 1 : size]
