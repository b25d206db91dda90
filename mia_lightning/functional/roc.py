"""Receiver operating characteristic of scores: higher score = more likely member, members are the positives."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.integrate import trapezoid
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


def allowed_false_positives(nonmembers: int, fpr: float) -> int:
    """Number of nonmembers that a nominal false-positive rate in [0, 1) lets pass: ``floor(fpr * nonmembers)``.

    Example:
        >>> allowed_false_positives(150, 0.01), allowed_false_positives(99, 0.01)
        (1, 0)
    """
    if not 0.0 <= fpr < 1.0:
        raise ValueError(f"Expected a false-positive rate in [0, 1), but got {fpr}.")
    # The small addend keeps 0.29 * 100 = 28.999... from losing the 29th nonmember.
    return min(int(np.floor(fpr * nonmembers + 1e-9)), nonmembers - 1)


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
    members, nonmembers = split_sides(scores, member)
    allowed = allowed_false_positives(nonmembers.size, fpr)
    threshold = np.partition(nonmembers, nonmembers.size - 1 - allowed)[nonmembers.size - 1 - allowed]
    above = int((nonmembers > threshold).sum())
    tied = int((nonmembers == threshold).sum())
    # Among `tied` nonmembers in random order, a tied member falls before the (allowed - above + 1)-th of them
    # with this probability: it lands in one of the tied + 1 gaps with equal chance.
    chance = (allowed - above + 1) / (tied + 1)
    hits = (members > threshold).sum() + chance * (members == threshold).sum()
    return float(hits / members.size), allowed / nonmembers.size


def partial_auc(scores: ArrayLike, member: ArrayLike, max_fpr: float = 0.1) -> float:
    """Area under the ROC up to a false-positive rate, standardised: 0.5 is chance, 1 is perfect (McClish, 1989).

    It is ``(1 + (area - least) / (most - least)) / 2`` with the area up to ``max_fpr``, that under the diagonal there
    and that under a perfect ROC: scikit-learn's ``roc_auc_score(max_fpr=...)``. Tied scores are joined by a straight
    line.

    Scores and flags, and their errors, are those of :func:`split_sides`; ``max_fpr`` outside (0, 1] is an error, too.

    Example:
        >>> partial_auc([0.1, 0.2, 0.3, 0.9], [False, False, True, True])
        1.0
        >>> round(partial_auc([0.5, 0.5], [False, True]), 6)
        0.5
    """
    if not 0.0 < max_fpr <= 1.0:
        raise ValueError(f"Expected a highest false-positive rate in (0, 1], but got {max_fpr}.")
    alarms, hits = _corners(scores, member)
    # Not sklearn, which takes long to import, nor its rounding of the last piece.
    last = int(np.searchsorted(alarms, max_fpr, side="right"))
    if last < alarms.size:
        slope = (hits[last] - hits[last - 1]) / (alarms[last] - alarms[last - 1])
        hits = np.append(hits[:last], hits[last - 1] + slope * (max_fpr - alarms[last - 1]))
        alarms = np.append(alarms[:last], max_fpr)
    area, least = float(trapezoid(hits, alarms)), max_fpr**2 / 2.0
    return (1.0 + (area - least) / (max_fpr - least)) / 2.0


def log_partial_auc(scores: ArrayLike, member: ArrayLike, min_fpr: float = 0.001, max_fpr: float = 0.1) -> float:
    """Area under the true-positive rate over the logarithm of the false-positive rate, between two of them, normalised.

    ``integral of TPR d log10 FPR / log10(max_fpr / min_fpr)``: the mean true-positive rate where every decade of
    false-positive rates counts alike, which is what the logarithmic ROC of an attack shows. 1 is perfect, and chance is
    ``(max_fpr - min_fpr) / ln(max_fpr / min_fpr)``. It is the logAUC of Mysinger and Shoichet (J. Chem. Inf. Model.
    2010) over a part of the ROC: tied scores are joined by a line that is straight in the rates themselves. Below one
    false positive of n nonmembers there is only the rate at none: with fewer than ``1 / min_fpr - 1`` that is a guess.

    Scores and flags, and their errors, are those of :func:`split_sides`; ``0 < min_fpr < max_fpr <= 1`` is expected.

    Example:
        >>> log_partial_auc([0.1, 0.2, 0.3, 0.9], [False, False, True, True])
        1.0
        >>> round(log_partial_auc([0.5, 0.5], [False, True]), 4)  # 0.099 / ln 100
        0.0215
    """
    if not 0.0 < min_fpr < max_fpr <= 1.0:
        raise ValueError(
            f"Expected two false-positive rates, 0 < min_fpr < max_fpr <= 1, but got {min_fpr} and {max_fpr}."
        )
    alarms, hits = _corners(scores, member)
    start, end = np.clip(alarms[:-1], min_fpr, max_fpr), np.clip(alarms[1:], min_fpr, max_fpr)
    inside = end > start
    start, end, left, low = start[inside], end[inside], alarms[:-1][inside], hits[:-1][inside]
    slope = (hits[1:][inside] - low) / (alarms[1:][inside] - left)
    area = (low - slope * left) * np.log(end / start) + slope * (end - start)
    return float(area.sum() / np.log(max_fpr / min_fpr))


def _corners(scores: ArrayLike, member: ArrayLike) -> tuple[Floats, Floats]:
    """False-positive and true-positive rates at each score, from none to all; ascending."""
    members, nonmembers = split_sides(scores, member)
    levels = np.unique(np.concatenate([members, nonmembers]))[::-1]
    hits, alarms = (
        np.concatenate([[0.0], (side.size - np.searchsorted(np.sort(side), levels, side="left")) / side.size])
        for side in (members, nonmembers)
    )
    return alarms, hits


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
