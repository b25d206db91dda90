"""Scores less what the pairs alone explain of them: what the blind test misses can still move a score."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from mia_lightning.functional.blind import is_further
from mia_lightning.functional.calibration import log_error
from mia_lightning.functional.folds import assign_folds
from mia_lightning.functional.groups import Codes
from mia_lightning.functional.roc import Floats

_FOLDS = 5


def statistics_table(blind: Mapping[str, Floats], predictability: Floats) -> Floats:
    """Columns of what is known of pairs without the model, (N, d): their statistics and log predictability.

    Those that the regularised blind classifier alone sees are left out: with as many statistics as nonmembers the
    regression would explain nothing.
    """
    few = [column for name, column in blind.items() if not is_further(name)]
    return np.column_stack([*few, log_error(predictability)])


def adjusted_score(
    score: Floats, table: Floats, member: NDArray[np.bool_], *, seed: int = 0, group: Codes | None = None
) -> Floats:
    """What the statistics of the pairs do not explain of a score.

    A ridge regression on standardised statistics, fitted on nonmembers outside the sample's fold. The penalty, the
    number of statistics, is the prior that they explain about half of the score's variance: with few nonmembers the
    regression shrinks to nothing instead of fitting noise.

    Args:
        score: (N,) finite numbers.
        table: (N, d) finite numbers, such as :func:`statistics_table` gives.
        member: (N,) booleans, True for members.
        seed: Seed of the folds.
        group: Number of each sample's group, (N,), which folds do not split.

    Returns:
        The residuals, (N,).

    Example:
        >>> bright = np.random.default_rng(0).normal(size=200)
        >>> member = np.arange(200) < 100
        >>> left = adjusted_score(3.0 * bright, bright[:, None], member)
        >>> bool(left.std() < 0.1)
        True
    """
    reference = ~member
    fold = assign_folds(member, _FOLDS, seed, group)
    adjusted = np.array(score)
    for number in range(_FOLDS):
        fitted = table[(fold != number) & reference]
        if not len(fitted):
            continue
        centre, spread = fitted.mean(0), fitted.std(0)
        varies = spread > 1e-12 * (1.0 + np.abs(centre))
        x = (table[:, varies] - centre[varies]) / spread[varies]
        statistics, response = x[(fold != number) & reference], score[(fold != number) & reference]
        gram = statistics.T @ statistics + len(x.T) * np.eye(len(x.T))
        slope = np.linalg.solve(gram, statistics.T @ (response - response.mean()))
        adjusted[fold == number] -= response.mean() + x[fold == number] @ slope
    return adjusted
