"""Slices of an audit, such as the samples of one site or with one class: what a score tells of members in each."""

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm, rankdata

from mia_lightning.functional.group_shuffles import GroupShuffles
from mia_lightning.functional.groups import Codes, as_codes, too_few_groups, units
from mia_lightning.functional.intervals import Interval, delong_interval
from mia_lightning.functional.operating_point import fewest_nonmembers, tpr_interval
from mia_lightning.functional.p_values import permutation_p_value
from mia_lightning.functional.roc import Floats

FEWEST = 20
"""Members, and nonmembers, below which a slice has no numbers; of samples in groups, groups."""

RATE = 0.01
"""Nominal false-positive rate at which the true-positive rate of a slice is told."""

_SHUFFLED = 400  # units up to which membership is shuffled; above, the normal limit is as good
_NONE = Interval(math.nan, math.nan, math.nan)
_LONGEST = 64  # characters of a value in a key
_PLAIN = re.compile(r"_x[0-9A-F]+_|[^A-Za-z0-9_.-]")


class Slice(NamedTuple):
    """What an audit says of one slice.

    Attributes:
        column: What the samples are sliced by, such as ``site``.
        value: The value that the samples of this slice have there.
        members: Number of members.
        nonmembers: Number of nonmembers.
        units: Independent members and nonmembers: groups where there are groups, else samples.
        auc: Area under the ROC of the score, with an interval that holds for all slices together.
        p_value: Chance of such an area if the score knew nothing of membership, times the number of slices tested.
        tpr: True-positive rate at :data:`RATE`, with an interval likewise; NaN where that cannot be estimated.
        blind: Area under the ROC of what is known without the model, likewise.
        uneven: Whether a few groups have nearly all samples of a side, so that there are effectively too few of them.
        of_class: Whether its numbers are of an error of one class (``value``) by itself, ``column`` being the error's
            name, and not of the score that the other slices are of.
    """

    column: str
    value: str
    members: int
    nonmembers: int
    units: tuple[int, int]
    auc: Interval = _NONE
    p_value: float = math.nan
    tpr: Interval = _NONE
    blind: Interval = _NONE
    uneven: bool = False
    of_class: bool = False

    @property
    def key(self) -> str:
        """First part of the keys of its metrics, behind the audit's prefix."""
        return class_key(self.column, self.value) if self.of_class else slice_key(self.column, self.value)

    @property
    def large_enough(self) -> bool:
        """Whether it has :data:`FEWEST` units on either side, and no few groups outweigh the others."""
        return min(self.units) >= FEWEST and not self.uneven


def audit_slices(  # noqa: PLR0913 - most callers leave out all but three
    columns: Mapping[str, Sequence[str | tuple[str, ...]]],
    score: Floats,
    member: ArrayLike,
    *,
    blind: Floats | None = None,
    group: ArrayLike | None = None,
    level: float = 0.95,
    share: float = 1.0,
    seed: int = 0,
    of_classes: Mapping[tuple[str, str], Floats] | None = None,
) -> list[Slice]:
    """Audit each slice that has enough of both sides, and count the others.

    The error is shared by the slices that are tested (Bonferroni), for each kind of number by itself: the chance that
    one of the p-values of as many slices is below ``1 - level`` is ``1 - level`` at the most, however the slices
    overlap, and so is the chance that one of the intervals of the AUC lacks its area, that one of those of the TPR
    lacks its rate, and that one of those of the blind AUC lacks its area. That all three kinds hold at once is less
    sure. P-values are those of shuffles within the slice, from 400 units on of their normal limit.

    Args:
        columns: For each column one value a sample, N of them, or several values where a sample is of several slices
            (the classes that it shows); an empty text or tuple where it is of none.
        score: Score of each sample, (N,), high = member.
        member: True for members, (N,).
        blind: What is known of each sample without the model, (N,), high = member; None: nothing.
        group: Group of each sample, (N,): groups count in place of samples.
        level: Confidence of all slices together, for each kind of number.
        share: Share of the error that this audit may use, in [0, 1]; less than 1 where it is one of several.
        seed: Seed of the shuffles.
        of_classes: Errors of single classes, (N,) each, by the error's name and the class, low = member: a slice each,
            of the samples that show the class, by that error; NaN for other samples.

    Returns:
        The slices, column by column, their values in order, numbers as numbers; then those of classes.

    Raises:
        ValueError: If a column does not have one value a sample.

    Example:
        >>> rng, member = np.random.default_rng(0), np.arange(400) < 200
        >>> site = ["north" if i % 2 else "south" for i in range(400)]
        >>> score = rng.normal(size=400) + 2.0 * (member & (np.arange(400) % 2 == 1))
        >>> north, south = audit_slices({"site": site}, score, member)
        >>> north.auc.low > 0.8, north.p_value < 0.01, south.auc.low < 0.5 < south.auc.high
        (True, True, True)
    """
    sides = np.asarray(member, dtype=bool).ravel()
    codes = None if group is None else as_codes(group, sides.size)
    found: list[tuple[Slice, NDArray[np.intp], Floats]] = []
    for column, entries in columns.items():
        if len(entries) != sides.size:
            raise ValueError(f"Expected one value of {column!r} a sample, {sides.size}, but got {len(entries)}.")
        for value, rows in _rows_by_value(entries):
            found.append((_counted(column, value, rows, sides, codes), rows, score))
    for (name, value), error in (of_classes or {}).items():
        rows = np.flatnonzero(np.isfinite(error))
        one = _counted(name, value, rows, sides, codes)._replace(of_class=True)
        found.append((one, rows, -np.asarray(error, dtype=np.float64)))
    tested = sum(one.large_enough for one, *_ in found)
    if not tested or share <= 0.0:
        return [one for one, *_ in found]
    within = 1.0 - (1.0 - level) * share / tested
    return [
        _audited(one, rows, values, sides, blind, codes, within, tested / share, seed) if one.large_enough else one
        for one, rows, values in found
    ]


def _counted(column: str, value: str, rows: NDArray[np.intp], member: NDArray[np.bool_], group: Codes | None) -> Slice:
    """A slice without numbers."""
    sides, codes = member[rows], None if group is None else group[rows]
    members = int(sides.sum())
    one = Slice(column, value, members, rows.size - members, units(sides, codes))
    return one._replace(uneven=codes is not None and one.large_enough and too_few_groups(sides, codes))


def _audited(  # noqa: PLR0913 - columns of all samples, and the rows of this slice
    one: Slice,
    rows: NDArray[np.intp],
    score: Floats,
    member: NDArray[np.bool_],
    blind: Floats | None,
    group: Codes | None,
    level: float,
    factor: float,
    seed: int,
) -> Slice:
    sides, codes = member[rows], None if group is None else group[rows]
    values = np.asarray(score, dtype=np.float64)[rows]
    if np.isfinite(values).all():
        chance = min(1.0, factor * _p_value(values, sides, codes, seed))
        one = one._replace(auc=delong_interval(values, sides, level, codes), p_value=chance)
        if one.units[1] >= fewest_nonmembers(RATE):
            one = one._replace(tpr=tpr_interval(values, sides, RATE, level, codes))
    without = None if blind is None else np.asarray(blind, dtype=np.float64)[rows]
    if without is not None and np.isfinite(without).all():
        one = one._replace(blind=delong_interval(without, sides, level, codes))
    return one


def _p_value(score: Floats, member: NDArray[np.bool_], group: Codes | None, seed: int) -> float:
    if sum(units(member, group)) <= _SHUFFLED:
        return permutation_p_value(score, member, seed=seed, group=group)
    ranks, count = rankdata(score), int(member.sum())
    centred = ranks - ranks.mean()
    if group is None:
        mean, variance = 0.0, float(ranks.var(ddof=1)) * count * (ranks.size - count) / ranks.size
    else:
        mean, *deviations = GroupShuffles(member, group).normal_limit(centred)
        variance = float(sum((part**2).sum() for part in deviations))
    deviation = float(centred[member].sum()) - mean - 0.5
    return float(norm.sf(deviation / math.sqrt(variance))) if variance > 1e-12 else 1.0


def _rows_by_value(entries: Sequence[str | tuple[str, ...]]) -> list[tuple[str, NDArray[np.intp]]]:
    """The samples of each value, in the order of the values; equal entries are looked at once."""
    numbers: dict[str | tuple[str, ...], int] = {}
    codes = np.fromiter((numbers.setdefault(entry, len(numbers)) for entry in entries), np.intp, len(entries))
    order = np.argsort(codes, kind="stable")
    pieces = np.split(order, np.cumsum(np.bincount(codes, minlength=len(numbers)))[:-1]) if numbers else []
    by_value: dict[str, list[NDArray[np.intp]]] = {}
    for entry, rows in zip(numbers, pieces, strict=True):
        for value in dict.fromkeys((entry,) if isinstance(entry, str) else entry):
            if value:
                by_value.setdefault(value, []).append(rows)
    joined = {value: rows[0] if len(rows) == 1 else np.sort(np.concatenate(rows)) for value, rows in by_value.items()}
    return [(value, joined[value]) for value in sorted(joined, key=_in_order)]


def _in_order(value: str) -> tuple[bool, float, str]:
    """Numbers before texts, and as numbers."""
    try:
        number = float(value)
    except ValueError:
        return True, 0.0, value
    return False, number if math.isfinite(number) else math.inf, value


def slice_key(column: str, value: str) -> str:
    """First part of the keys of a slice's metrics, behind the audit's prefix.

    Characters other than ASCII letters, digits, ``_``, ``.`` and ``-`` become ``_x``, their number and ``_``, so that
    every logger takes the key and no two slices share one. Long names are cut, and end with a part of their digest.

    Example:
        >>> slice_key("site", "A"), slice_key("site", "St. Mary/2"), slice_key("scanner", "_x2F_")
        ('slice/site/A', 'slice/site/St._x20_Mary_x2F_2', 'slice/scanner/_x5F_x2F_')
    """
    return f"slice/{escaped(column)}/{escaped(value)}"


def class_key(error: str, name: str) -> str:
    """First part of the keys of an error of one class, behind the audit's prefix; also the name of that error.

    Example:
        >>> class_key("class", "nucleus"), class_key("class", "sign/symbol")
        ('class/nucleus', 'class/sign_x2F_symbol')
    """
    return f"{error}/{escaped(name)}"


def escaped(text: str) -> str:
    """A text as a part of a key, as :func:`slice_key` says."""

    def code(match: re.Match[str]) -> str:
        return f"_x{ord(match[0][0]):X}_" + match[0][1:]

    plain = _PLAIN.sub(code, text)
    plain = plain if plain.strip(".") else plain.replace(".", "_x2E_")
    if len(plain) > _LONGEST:
        digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=6).hexdigest()
        plain = f"{plain[: _LONGEST - 13]}-{digest}"
    return plain
