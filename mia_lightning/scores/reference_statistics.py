"""One number a sample and model: what LiRA, RMIA and difficulty calibration are fed. High means likely member."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mia_lightning.functional.calibration import log_error
from mia_lightning.functional.roc import Floats

Flags = NDArray[np.bool_]
Likelihood = Literal["confidence", "inverse_error"]
"""What a statistic stands for: the logit of a mean confidence, or minus the logarithm of an error."""

CONFIDENCE_FLOOR = 1e-7
"""Closest that a mean confidence comes to 0 or 1: a float32 cannot tell 1 from a number nearer to it."""


@dataclass(frozen=True, eq=False)
class ReferenceStatistics:
    """A statistic of the audited model and of reference models on the same samples; **high means likely member**.

    What is given is copied to NumPy arrays and checked.

    Attributes:
        target: Statistic of the audited model, (N,), float64.
        references: The same statistic of each reference model, (R, N), float64.
        included: Whether reference model r was trained on sample n, (R, N), bool.

    Raises:
        ValueError: If shapes do not fit, a number is not finite, or ``included`` holds anything but yes and no.

    Example:
        >>> stats = ReferenceStatistics([1.0, 2.0], [[0.5, 1.5], [0.9, 1.0]], [[True, False], [True, True]])
        >>> stats.count, stats.samples, stats.in_count.tolist(), stats.out_count.tolist()
        (2, 2, [2, 1], [0, 1])
    """

    target: Floats
    references: Floats
    included: Flags

    def __post_init__(self) -> None:
        target, references = (np.asarray(x).astype(np.float64) for x in (self.target, self.references))
        if target.ndim != 1 or target.size == 0:
            raise ValueError(f"Expected one number a sample in target, (N,), but got shape {target.shape}.")
        if references.ndim != 2 or references.shape[0] == 0 or references.shape[1] != target.size:
            turned = references.ndim == 2 and references.shape[0] == target.size
            raise ValueError(
                f"Expected references of shape (models, {target.size}), one row a reference model and one column a "
                f"sample of target, but got {references.shape}." + (" Transpose it." if turned else "")
            )
        _check_finite(target, "target")
        _check_finite(references, "references")
        object.__setattr__(self, "target", target)
        object.__setattr__(self, "references", references)
        object.__setattr__(self, "included", as_flags(self.included, "included", references.shape))

    @property
    def count(self) -> int:
        """Number of reference models, R."""
        return int(self.references.shape[0])

    @property
    def samples(self) -> int:
        """Number of samples, N."""
        return int(self.target.size)

    @property
    def in_count(self) -> NDArray[np.intp]:
        """Number of reference models that were trained on each sample, (N,)."""
        counts: NDArray[np.intp] = self.included.sum(axis=0)
        return counts

    @property
    def out_count(self) -> NDArray[np.intp]:
        """Number of reference models that were not trained on each sample, (N,)."""
        return self.count - self.in_count


class References(NamedTuple):
    """Statistics that scores of reference models are computed from, and what these stand for.

    Attributes:
        statistics: What LiRA, RMIA and difficulty calibration look at: as Gaussian as may be.
        likelihood: What that is.
        log_errors: Minus the logarithms of the reconstruction errors, which columns of the audit are made of; None:
            the same as the statistics.
    """

    statistics: ReferenceStatistics
    likelihood: Likelihood
    log_errors: ReferenceStatistics | None = None

    def require_both_sides(self) -> ReferenceStatistics:
        """The statistics; a ValueError where no sample has reference models with and without it."""
        stats = self.statistics
        if not ((stats.in_count > 0) & (stats.out_count > 0)).any():
            raise ValueError(
                "no audited sample has both a reference model that was trained on it and one that was not."
            )
        return stats


def translation_statistic(reconstruction: ArrayLike) -> Floats:
    """Minus the logarithm of the reconstruction error of a translated image, in nats; **high means member**.

    Errors are positive and skewed; their logarithm is near enough to a Gaussian, which LiRA assumes. They may have any
    shape, and are floored as by :func:`~mia_lightning.functional.calibration.log_error`.

    Raises:
        ValueError: If an error is negative or not finite.

    Example:
        >>> translation_statistic([0.1, 0.0]).round(3).tolist()
        [2.303, 18.421]
    """
    error = np.asarray(reconstruction, dtype=np.float64)
    _check_finite(error, "reconstruction")
    if (error < 0.0).any():
        raise ValueError(f"Expected reconstruction errors of at least 0, but the smallest is {error.min():.6g}.")
    return -log_error(error)


def segmentation_statistic(soft_error: ArrayLike) -> Floats:
    """Logit of the mean confidence of a segmentation in the true class, in nats; **high means member**.

    Carlini et al. (2022) take the logit of the confidence because it is near enough to a Gaussian; here the confidence
    is the mean over the valid pixels of an image. Soft errors, one minus it, may have any shape, and are kept
    :data:`CONFIDENCE_FLOOR` away from 0 and 1.

    Raises:
        ValueError: If an error lies outside [0, 1] or is not finite.

    Example:
        >>> segmentation_statistic([0.5, 0.1]).round(3).tolist()
        [0.0, 2.197]
    """
    error = np.asarray(soft_error, dtype=np.float64)
    _check_finite(error, "soft_error")
    if ((error < 0.0) | (error > 1.0)).any():
        raise ValueError(
            "Expected soft errors in [0, 1] (one minus the mean probability of the true class), but they run from "
            f"{error.min():.6g} to {error.max():.6g}."
        )
    # The confidence is the smaller number near 1, so the floor is laid on both before the ratio is taken.
    kept = np.clip(error, CONFIDENCE_FLOOR, 1.0 - CONFIDENCE_FLOOR)
    statistic: Floats = np.log1p(-kept) - np.log(kept)
    return statistic


def mean_where(values: Floats, where: Flags) -> Floats:
    """Mean of (R, N) over the chosen models of each sample, (N,); NaN where none is chosen."""
    count = where.sum(axis=0)
    total = np.where(where, values, 0.0).sum(axis=0)
    mean = np.full(values.shape[1], np.nan)
    np.divide(total, count, out=mean, where=count > 0)
    return mean


def side_means(values: Floats, included: Flags) -> tuple[Floats, Floats]:
    """Means of (R, N) over the models trained on each sample and over the others, (N,) each; NaN where none is."""
    return mean_where(values, included), mean_where(values, ~included)


def fill_missing_sides(inside: Floats, outside: Floats) -> tuple[Floats, Floats]:
    """Lend a side to samples that all reference models were trained on, or none: the other side and a common gap.

    The gap is the mean difference of the two sides over the samples that have both. Where no sample has both (a
    single reference model), it is the difference of the two grand means, which is as good when the samples of a
    reference model were drawn by chance.

    Args:
        inside: Means over the reference models that were trained on each sample, (N,); NaN where there are none.
        outside: Means over those that were not, (N,); NaN where there are none.

    Raises:
        ValueError: If a side is empty for every sample.

    Example:
        >>> inside, outside = np.array([3.0, np.nan, 5.0]), np.array([1.0, 2.0, np.nan])
        >>> [side.tolist() for side in fill_missing_sides(inside, outside)]
        [[3.0, 4.0, 5.0], [1.0, 2.0, 3.0]]
    """
    no_inside, no_outside = np.isnan(inside), np.isnan(outside)
    if no_inside.all():
        raise ValueError(
            f"None of the reference models was trained on any of the {inside.size} samples, so nothing shows what "
            "training on a sample does. Train reference models on random halves of these samples, or use the "
            "offline attack."
        )
    if no_outside.all():
        raise ValueError(
            f"Every reference model was trained on all of the {inside.size} samples, so nothing shows how hard a "
            "sample is by itself. Train reference models on random halves of these samples."
        )
    both = ~(no_inside | no_outside)
    gap = (inside - outside)[both].mean() if both.any() else np.nanmean(inside) - np.nanmean(outside)
    return np.where(no_inside, outside + gap, inside), np.where(no_outside, inside - gap, outside)


def fill_outside(inside: Floats, outside: Floats) -> Floats:
    """The second side of :func:`fill_missing_sides`, for attacks that need no other.

    ``inside`` may be all NaN where ``outside`` is complete.
    """
    return fill_missing_sides(inside, outside)[1] if np.isnan(outside).any() else outside


def _check_finite(values: Floats, name: str) -> None:
    bad = ~np.isfinite(values)
    if bad.any():
        raise ValueError(
            f"Expected finite numbers in {name}, but {int(bad.sum())} of {values.size} are NaN or infinite, the first "
            f"at index {tuple(int(i) for i in np.argwhere(bad)[0])}. Leave such samples out (an image without a "
            "valid pixel has no error)."
        )


def as_flags(values: ArrayLike, name: str, shape: tuple[int, ...]) -> Flags:
    """Booleans of that shape from booleans, zeros and ones; a ValueError that names the argument for anything else."""
    found = np.asarray(values)
    if found.shape != shape:
        raise ValueError(f"Expected {name} of shape {shape}, but got {found.shape}.")
    if found.dtype != np.bool_ and not np.isin(found, (0, 1)).all():
        raise ValueError(
            f"Expected only True and False (or 1 and 0) in {name}, but found {found.dtype} of other values."
        )
    return found.astype(np.bool_)
