"""Receiver operating characteristic of scores: higher score = more likely member, members are the positives."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

Floats = NDArray[np.float64]


def split_sides(scores: ArrayLike, member: ArrayLike) -> tuple[Floats, Floats]:
    """Part (N,) scores into those of members and those of nonmembers, by (N,) booleans (or 0/1).

    Raises:
        ValueError: If lengths differ, a score is not finite, or a side is empty.
    """
    s, m = np.asarray(scores, dtype=np.float64).ravel(), np.asarray(member, dtype=bool).ravel()
    if s.shape != m.shape:
        raise ValueError(f"Expected one membership flag a score, but got {s.size} scores and {m.size} flags.")
    if not np.isfinite(s).all():
        raise ValueError(f"Expected finite scores, but {int((~np.isfinite(s)).sum())} of {s.size} are NaN or infinite.")
    members, nonmembers = s[m], s[~m]
    if members.size == 0 or nonmembers.size == 0:
        raise ValueError(f"A ROC needs both sides, but got {members.size} members and {nonmembers.size} nonmembers.")
    return members, nonmembers


def roc_auc(scores: ArrayLike, member: ArrayLike) -> float:
    """Area under the ROC, in [0, 1]: the chance that a random member outscores a random nonmember, ties counting half.

    Arguments and errors are those of :func:`split_sides`; no sigmoid or rescaling is applied.

    Example:
        >>> roc_auc([20.0, 30.0, 40.0, 50.0], [False, False, True, True])
        1.0
        >>> roc_auc([1.0, 1.0], [False, True])
        0.5
    """
    members, nonmembers = split_sides(scores, member)
    # Not sklearn's roc_auc_score: importing it takes longer than most audits' statistics.
    ranks = rankdata(np.concatenate([members, nonmembers]))
    n, k = members.size, nonmembers.size
    return float((ranks[:n].sum() - n * (n + 1) / 2) / (n * k))


def tpr_at_fpr(scores: ArrayLike, member: ArrayLike, fpr: float) -> tuple[float, float]:
    """True-positive rate when at most ``floor(fpr * nonmembers)`` false positives are allowed.

    Samples are accepted from the highest score down and accepting stops before the first nonmember too many.
    Samples that share a score stand in the order of a fair coin; the rate returned is the exact mean over that
    coin, so no lucky or unlucky order of the input can change it.

    Scores and flags, and their errors, are those of :func:`split_sides`; the nominal rate ``fpr`` outside [0, 1) is a
    ValueError, too.

    Returns:
        The true-positive rate and the false-positive rate that was really spent, both in [0, 1].

    Example:
        >>> tpr_at_fpr([0.1, 0.2, 0.3, 0.9], [False, False, True, True], fpr=0.01)
        (1.0, 0.0)
        >>> tpr_at_fpr([0.5, 0.5], [False, True], fpr=0.0)  # the coin puts the member first half of the time
        (0.5, 0.0)
    """
    if not 0.0 <= fpr < 1.0:
        raise ValueError(f"Expected a false-positive rate in [0, 1), but got {fpr}.")
    members, nonmembers = split_sides(scores, member)
    # The small addend keeps 0.29 * 100 = 28.999... from losing the 29th nonmember.
    allowed = min(int(np.floor(fpr * nonmembers.size + 1e-9)), nonmembers.size - 1)
    threshold = np.partition(nonmembers, nonmembers.size - 1 - allowed)[nonmembers.size - 1 - allowed]
    above = int((nonmembers > threshold).sum())
    tied = int((nonmembers == threshold).sum())
    # Among `tied` nonmembers in random order, a tied member falls before the (allowed - above + 1)-th of them
    # with this probability: it lands in one of the tied + 1 gaps with equal chance.
    chance = (allowed - above + 1) / (tied + 1)
    hits = (members > threshold).sum() + chance * (members == threshold).sum()
    return float(hits / members.size), allowed / nonmembers.size


def roc_points(scores: ArrayLike, member: ArrayLike) -> tuple[Floats, Floats]:
    """The ROC of :func:`roc_auc` as a curve, tied scores joined by a straight line.

    Returns:
        False-positive rates and true-positive rates, both ascending from 0 to 1.

    Example:
        >>> fpr, tpr = roc_points([0.1, 0.9], [False, True])
        >>> fpr.tolist(), tpr.tolist()
        ([0.0, 0.0, 1.0], [0.0, 1.0, 1.0])
    """
    from sklearn.metrics import roc_curve  # a second and a half to import: only when a curve is drawn

    split_sides(scores, member)
    fpr, tpr, _ = roc_curve(np.asarray(member, dtype=bool), np.asarray(scores, dtype=np.float64))
    return np.asarray(fpr, dtype=np.float64), np.asarray(tpr, dtype=np.float64)
