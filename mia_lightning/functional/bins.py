"""Equal bins for histograms of two sides, also for values that are almost equal."""

import numpy as np
from numpy.typing import NDArray


def bin_edges(low: float, high: float, bins: int) -> NDArray[np.float64]:
    """Edges, (bins + 1,), strictly rising, of equal bins between two finite ends, also where the ends are (nearly) one.

    Where too few numbers lie between the ends, as between errors that differ in their last bit only, half a unit, or as
    much as it takes, is added on either side; NumPy's own edges raise there.

    Example:
        >>> bin_edges(0.0, 1.0, 2)
        array([0. , 0.5, 1. ])
        >>> bin_edges(0.1, np.nextafter(0.1, 1.0), 2)
        array([-0.4,  0.1,  0.6])
    """
    # Halves, so that the distance between the ends of the largest numbers is finite, too; exact but for the smallest.
    low, high = low / 2, high / 2
    least = 4 * bins * float(np.spacing(max(abs(low), abs(high))))
    if high - low <= least:
        low, high = low - max(0.25, least), high + max(0.25, least)
    return np.asarray(2 * np.linspace(low, high, bins + 1), dtype=np.float64)
