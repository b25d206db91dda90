"""From errors to scores: what each attack makes of a sample, and the upper bound that no attack is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from mia_lightning.functional.calibration import calibrated_error, combined_score, enough_nonmembers, log_error
from mia_lightning.functional.classifier import cross_fitted_logits
from mia_lightning.functional.weighting import weighted_neighbour_error

Column = NDArray[np.float64]

ATTACKS = ("reconstruction", "membership", "calibrated", "neighbour", "combined")
SCORES = (*ATTACKS, "trained")
NEEDS_NEIGHBOURS = ("neighbour", "combined")
NEIGHBOUR = "neighbour/"
"""What columns of log-ratios to one neighbour begin with."""
NEEDS_NONMEMBERS = ("calibrated", "combined")


def gather_neighbours(
    raw: Mapping[str, Column], member: NDArray[np.bool_], names: Sequence[str], *, seed: int = 0
) -> dict[str, Column]:
    """Make one error of many neighbours, or two.

    Args:
        raw: Per-sample values by name; those under ``neighbour/`` are log-ratios to one neighbour each.
        member: True for members, (N,).
        names: The scores asked for.
        seed: Seed of the folds.

    Returns:
        The other values as they are; ``neighbour``, the mean log-ratio; and where ``combined`` is asked for
        ``weighted_neighbour``, weighted by what nonmembers tell of each neighbour.
    """
    ratios = [column for name, column in raw.items() if name.startswith(NEIGHBOUR)]
    errors = {name: column for name, column in raw.items() if not name.startswith(NEIGHBOUR)}
    if ratios:
        table = np.stack(ratios, 1)
        left = np.isfinite(table)
        errors["neighbour"] = np.where(left, table, 0.0).sum(1) / left.sum(1)
        if "combined" in names:
            errors["weighted_neighbour"] = weighted_neighbour_error(table, member, seed=seed)
    return errors


def build_scores(
    errors: Mapping[str, Column], member: NDArray[np.bool_], names: Sequence[str], *, seed: int = 0
) -> tuple[dict[str, Column], list[str]]:
    """Compute the scores asked for; **high means member**.

    Args:
        errors: Per-sample errors by name, each (N,), low = member: ``reconstruction``, ``predictability`` and
            ``membership``; ``neighbour`` where a score needs it, and for ``combined`` preferably
            ``weighted_neighbour``.
        member: True for members, (N,). Attacks look at it to fit on nonmembers only; ``trained`` is told all of it.
        names: Some of :data:`SCORES`.
        seed: Seed of the folds in which fits are kept apart from what they score.

    Returns:
        One column a name, and notes on how a fallback came about.

    Raises:
        KeyError: If an error that a score needs is missing.

    Example:
        >>> errors = {"reconstruction": np.array([0.1, 0.4])}
        >>> build_scores(errors, np.array([True, False]), ["reconstruction"])[0]["reconstruction"].tolist()
        [-0.1, -0.4]
    """
    notes: list[str] = []
    if not enough_nonmembers(member) and (short := [n for n in names if n in NEEDS_NONMEMBERS]):
        notes.append(
            f"Only {int((~member).sum())} nonmembers: too few to fit {' and '.join(short)} on. Scales are those of "
            "both sides together, and difficulty is subtracted with slope one."
        )
    return {name: _score(name, errors, member, seed) for name in names}, notes


def _score(name: str, errors: Mapping[str, Column], member: NDArray[np.bool_], seed: int) -> Column:
    if name == "calibrated":
        return -calibrated_error(errors["reconstruction"], errors["predictability"], member, seed=seed)
    if name == "combined":
        neighbour = errors.get("weighted_neighbour", errors.get("neighbour"))
        if neighbour is None:
            raise KeyError("neighbour")
        return combined_score(errors["membership"], neighbour, member, seed=seed)
    if name == "trained":
        return cross_fitted_logits(log_errors(errors), member, seed=seed)
    return -errors[name]


def log_errors(errors: Mapping[str, Column]) -> Column:
    """Logs of all errors side by side, (N, errors): what the classifier that is told who is a member looks at.

    Neighbour errors are differences of logs already; the membership error is no news beside its two parts.
    """
    known = [v if "neighbour" in k else log_error(v) for k, v in errors.items() if k != "membership"]
    return np.stack(known, 1)
