"""Regularised linear discriminant, cross-fitted, of many labelings at once: for many features beside few samples."""

import numpy as np
from numpy.typing import NDArray

from mia_lightning.functional.roc import Floats

_FAR = 5.0  # deviations beyond which a value counts as this far
_MOST = 20_000
_PENALTY = 0.1  # of the number of samples: directions with less than a tenth of a feature's variance hardly count


def discriminant_scores(x: Floats, labels: NDArray[np.bool_], fold: NDArray[np.intp]) -> Floats:
    """Score each fold by the linear discriminants fitted on the others, one a labeling.

    Features are standardised by the samples that are fitted, one constant among them counts for nothing, and values
    beyond five deviations count as five. The discriminant is the ridge regression on the labels with a penalty of a
    tenth of the number of samples, which has Fisher's direction where the penalty is small and that of the difference
    of the means where it is large. In trials on photographs penalties of 0.03 to 0.3 found the same differences. Of
    more than 20,000 samples to fit on, as many evenly spaced ones are taken.

    Args:
        x: Features, (N, d), finite.
        labels: Labelings, (L, N), True for members.
        fold: The fold of each sample, (N,).

    Returns:
        The scores, (L, N), higher = more likely member, rounded to nine decimals so that equal samples tie.

    Example:
        >>> x = np.arange(8.0)[:, None] % 4 + 2.0 * (np.arange(8) >= 4)[:, None]
        >>> scores = discriminant_scores(x, (np.arange(8) >= 4)[None], np.arange(8) % 2)
        >>> bool(scores[0, 7] > scores[0, 1])
        True
    """
    scores = np.empty(labels.shape)
    for number in range(int(fold.max()) + 1):
        here = fold == number
        others = np.flatnonzero(~here)
        others = others[:: max(1, -(-others.size // _MOST))]
        mean, deviation = x[others].mean(0), x[others].std(0)
        # A constant column's deviation is rounding noise; dividing it by infinity leaves zeros.
        scale = np.where(deviation > 1e-10 * np.abs(mean), deviation, np.inf)
        fitted = np.clip((x[others] - mean) / scale, -_FAR, _FAR)
        response = labels[:, others].astype(np.float64)
        response -= response.mean(1, keepdims=True)
        gram = fitted.T @ fitted + _PENALTY * len(fitted) * np.eye(x.shape[1])
        weights = np.linalg.solve(gram, fitted.T @ response.T)
        scores[:, here] = (np.clip((x[here] - mean) / scale, -_FAR, _FAR) @ weights).T
    return scores.round(9)
