"""Is the comparison fair? What the pairs alone give away, and the part of them on which they give nothing away."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mia_lightning.functional.blind import SIGNIFICANT, blind_test, matched_subsample
from mia_lightning.functional.groups import Codes


@dataclass(frozen=True)
class Fairness:
    """Outcome of the blind baseline.

    Attributes:
        auc: Area under the ROC of the blind classifier; NaN with fewer than 4 samples on a side.
        p_value: Chance of such an area if nothing told the sides apart; NaN where ``auc`` is.
        matched: Rows of as many members and nonmembers, or of as many groups of them, that are alike in what the blind
            classifier sees; None where it found nothing, so that no matching is called for.
    """

    auc: float
    p_value: float
    matched: NDArray[np.intp] | None


def assess_fairness(
    blind: Mapping[str, NDArray[np.float64]],
    predictability: NDArray[np.float64] | None,
    member: NDArray[np.bool_],
    *,
    seed: int = 0,
    group: Codes | None = None,
) -> Fairness:
    """Test whether members and nonmembers can be told apart without the model, and match them where they can.

    That is by statistics of the pairs, (N,) each, of which the predictability errors are one where there are any.
    Groups, (N,) numbers, are kept together in folds and permutations, and matched as wholes.

    Example:
        >>> member = np.arange(80) < 40
        >>> bright = np.random.default_rng(0).normal(size=80) + member  # members are brighter
        >>> fairness = assess_fairness({"input_mean": bright}, None, member)
        >>> fairness.p_value < SIGNIFICANT, 20 < len(fairness.matched) < 80
        (True, True)
    """
    test = blind_test(blind, member, predictability=predictability, seed=seed, group=group)
    matched = matched_subsample(test.logits, member, group=group) if test.p_value < SIGNIFICANT else None
    return Fairness(test.auc, test.p_value, matched)
