"""The combined score: how surprising the error beside those on neighbours is, and how low it is for its difficulty.

The two kinds of evidence differ in shape. What neighbours tell is near nothing for most members and overwhelming for
those that were memorised, so that the far end of its scale must count for more than in proportion: it is taken as the
negative logarithm of how many nonmembers would be as far out. Errors relative to difficulty move a little for all
members, and are added in proportion. On sets where difficulty is a poor guide it then cannot drown what neighbours
tell of the memorised; where neighbours are poor, their surprises say little either way.

Neighbours tell three things: by how much the error is lower than an average over them, whether it is lower than even
that on the easiest of them, and on how many tiles it is. A pair that is odd in one direction has some copy on which the
model errs no more, unless it was the pair itself that the model learned; and the error of a whole picture is that of
its few hardest places. Surprises of the three are averaged.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm

from mia_lightning.functional.calibration import cross_fits, robust_units, standardise
from mia_lightning.functional.roc import Floats

DIFFICULTY_WEIGHT = 0.45
"""Nats of surprise that a unit of the mean error relative to difficulty is worth; measured on seven data sets."""

REFERENCE_WEIGHT = 0.25
"""Nats that a unit of the error beside reference models' is worth where nothing shows how far training moves it."""

TAIL = 0.975
"""The quantile of nonmembers that scales values above their median; one minus it scales those below."""

MOST_UNITS = 8.0
"""Units beyond which all values count alike: nobody knows a tail so far out."""


def side_units(values: Floats) -> tuple[float, float, float]:
    """Median of finite numbers, and a normal variable's scale from the quantile of either side: below and above it.

    Logarithms of errors are skewed, each data set's in its own way; with a scale a side, values equally rare on either
    side are equally many units from the median. A side without spread takes the robust scale of all.

    Example:
        >>> centre, below, above = side_units(np.r_[np.linspace(-1.0, 0.0, 51), np.linspace(0.0, 3.0, 51)])
        >>> round(centre, 2), round(above / below, 1)
        (0.0, 3.0)
    """
    centre, scale = robust_units(values)
    if not values.size:
        return centre, scale, scale
    low, high = np.quantile(values, (1.0 - TAIL, TAIL)) - centre
    far, least = float(norm.ppf(TAIL)), 1e-12 * abs(centre)
    below, above = (float(distance) / far for distance in (-low, high))
    return centre, below if below > least else scale, above if above > least else scale


def in_side_units(
    values: ArrayLike, member: ArrayLike, *, folds: int = 5, seed: int = 0, group: ArrayLike | None = None
) -> Floats:
    """Express values in units of the nonmembers, with a scale for either side of their median (:func:`side_units`).

    Cross-fitted as :func:`~mia_lightning.functional.calibration.standardise`, whose arguments these are; clipped at
    :data:`MOST_UNITS`.

    Returns:
        Units, (N,); NaN where a value is not finite.

    Example:
        >>> units = in_side_units(np.r_[np.linspace(-1.0, 1.0, 41), 2.0], [False] * 41 + [True])
        >>> units[-1].round(1).item()
        4.4
    """
    column = np.asarray(values, dtype=np.float64)
    units = np.full(column.shape, np.nan)
    for applied, fitted in cross_fits(column, member, folds=folds, seed=seed, group=group):
        centre, below, above = side_units(column[fitted])
        distance = column[applied] - centre
        units[applied] = distance / np.where(distance < 0.0, below, above)
    return units.clip(-MOST_UNITS, MOST_UNITS)


def surprise(units: Floats) -> NDArray[np.float64]:
    """Negative logarithm of the chance that a standard normal variable lies as far up, in nats, of any shape.

    Near 0 far below the median, 0.69 at it, and growing with the square of the units above it.

    Example:
        >>> surprise(np.array([-2.0, 0.0, 2.0, 4.0])).round(2).tolist()
        [0.02, 0.69, 3.78, 10.36]
    """
    return np.asarray(-norm.logsf(units))


def surprise_score(
    neighbour_errors: Sequence[ArrayLike],
    difficulty_errors: Sequence[ArrayLike],
    member: ArrayLike,
    *,
    reference_error: ArrayLike | None = None,
    reference_weight: float = REFERENCE_WEIGHT,
    folds: int = 5,
    seed: int = 0,
    group: ArrayLike | None = None,
) -> Floats:
    """Add how surprising neighbours make a sample to how low its error is for its difficulty; **high means member**.

    ``mean(surprise(-u(neighbour))) - 0.45 mean(z(difficulty)) - reference_weight z(reference)`` with u
    :func:`in_side_units` and z :func:`~mia_lightning.functional.calibration.standardise`, fitted on nonmembers and
    cross-fitted; nobody's membership is used beyond that.

    Args:
        neighbour_errors: Errors relative to neighbours, at least one, (N,) each, of any unit; low for members.
        difficulty_errors: Errors relative to difficulty, at least one, (N,) each; low for members.
        member: (N,) booleans (or 0/1), True for members.
        reference_error: Error relative to reference models, (N,); low for members. None: there are no such models.
        reference_weight: Nats that a unit of it is worth.
        folds: Number of folds, at least 2.
        seed: Seed of the folds.
        group: Group of each sample, (N,), which folds do not split.

    Returns:
        The score, (N,), in nats; NaN where one of the errors is not finite.

    Raises:
        ValueError: If lengths differ, there is no error of either kind or there are fewer than two folds.

    Example:
        >>> member = np.arange(60) < 20
        >>> errors = np.random.default_rng(0).normal(size=(3, 60)) - 2.0 * member
        >>> score = surprise_score(errors[:1], errors[1:], member)
        >>> bool(score[member].mean() > score[~member].mean() + 2.0)
        True
    """
    for kind, errors in (("neighbours", neighbour_errors), ("difficulty", difficulty_errors)):
        if not len(errors):
            raise ValueError(f"Expected at least one error relative to {kind}, but got none.")
    count, further = len(neighbour_errors), [] if reference_error is None else [reference_error]
    columns = [np.asarray(c, dtype=np.float64) for c in (*neighbour_errors, *difficulty_errors, *further)]
    sides = np.asarray(member, dtype=bool)
    for column in columns:
        if sides.ndim != 1 or column.shape != sides.shape:
            raise ValueError(f"Expected errors and flags of one shape (N,), but got {column.shape} and {sides.shape}.")
    usable = np.isfinite(columns).all(axis=0)
    how: dict[str, Any] = {"folds": folds, "seed": seed, "group": None if group is None else np.asarray(group)[usable]}
    neighbours = [surprise(-in_side_units(column[usable], sides[usable], **how)) for column in columns[:count]]
    others = [standardise(column[usable], sides[usable], **how).values for column in columns[count:]]
    score = np.full(sides.shape, np.nan)
    difficulty = np.mean(others[: len(difficulty_errors)], axis=0)
    references = 0.0 if reference_error is None else others[-1]
    surprises = np.mean(neighbours, axis=0)
    score[usable] = surprises - DIFFICULTY_WEIGHT * difficulty - reference_weight * references
    return score
