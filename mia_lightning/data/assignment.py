"""Assignment of membership: by the split that came with the data, or randomised by a seeded fair coin.

Everything here is a pure function of the records and one seed, in whatever order a file system lists the files.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from mia_lightning.data.records import NO_SPLIT, Record, name_some

Membership = Literal["split", "coin"]


@dataclass(frozen=True)
class MembershipRule:
    """How members and nonmembers are chosen.

    Args:
        membership: ``"split"`` takes members from one split and nonmembers from another; ``"coin"`` pools all
            splits and flips a fair coin for every group (for every record where there are no groups).
        member_split: Split of the members, with ``"split"``.
        nonmember_split: Split of the nonmembers, with ``"split"``.
        one_per_group: Keep one record a group, drawn with the seed before any coin is flipped.
        max_per_side: With ``"split"``, at most so many members and so many nonmembers. With ``"coin"``, twice as many
            records are drawn before the coins are flipped, so that either side has about so many: sides of a fixed
            size would tie the coins together. None keeps all. What is left over is neither trained on nor audited.
        seed: Seed of all draws, 0 or more.

    Raises:
        ValueError: If a setting is outside its range, or both splits are the same one.
    """

    membership: Membership = "split"
    member_split: str = "train"
    nonmember_split: str = "val"
    one_per_group: bool = False
    max_per_side: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.membership not in ("split", "coin"):
            raise ValueError(f"expected membership to be 'split' or 'coin' but got {self.membership!r}")
        if self.membership == "split" and self.member_split == self.nonmember_split:
            raise ValueError(
                f"member_split and nonmember_split are both {self.member_split!r}: nothing would be left that "
                "was not trained on. Name two different splits, or use membership='coin'."
            )
        if self.max_per_side is not None and self.max_per_side < 1:
            raise ValueError(f"expected max_per_side to be None or at least 1 but got {self.max_per_side}")
        if self.seed < 0:
            raise ValueError(f"expected seed to be 0 or more but got {self.seed}")


@dataclass(frozen=True)
class Assignment:
    """Members and nonmembers, and how they were assigned.

    Args:
        members: What is trained on, sorted by id.
        nonmembers: What is never trained on, sorted by id.
        info: Plain JSON values: ``assignment`` ("coin" or "split"), ``unit`` ("sample" or "group": what one
            decision was made for), ``seed``, ``independent``, ``capped`` (whether `max_per_side` left records
            out), ``one_per_group``, ``member_count``, ``nonmember_count``, and ``nonmembers_validate`` (True:
            the nonmembers are also the validation set, so monitoring a validation metric selects checkpoints
            on them). ``independent``: every record had a fair coin of its own; False for a split, and where several
            records share the coin of their group. Of coins also ``independent_units``: every unit had a fair coin of
            its own, which is the condition for valid epsilon bounds, counted in units.
    """

    members: tuple[Record, ...]
    nonmembers: tuple[Record, ...]
    info: dict[str, object] = field(default_factory=dict)


def assign(records: Sequence[Record], rule: MembershipRule) -> Assignment:
    """Choose members and nonmembers among all pairs of a data set, with unique ids, by a rule.

    Raises:
        ValueError: If a split is unknown, a group lies in both, `one_per_group` lacks groups, or a side is empty.

    Example:
        >>> from pathlib import Path
        >>> pairs = [Record(f"{i:03d}", "train", None, Path("a"), Path("b")) for i in range(100)]
        >>> assignment = assign(pairs, MembershipRule("coin", seed=1))
        >>> len(assignment.members) + len(assignment.nonmembers), assignment.info["independent"]
        (100, True)
    """
    pool = sorted(records, key=lambda record: record.id)
    # One stream a decision: drawing fewer records does not change the coins, and so on.
    pick_rng, coin_rng, member_rng, nonmember_rng, draw_rng = np.random.default_rng(rule.seed).spawn(5)
    if rule.membership == "split":
        ids = {r.id for split in (rule.member_split, rule.nonmember_split) for r in require_split(pool, split)}
        pool = [record for record in pool if record.id in ids]
        _require_whole_groups(pool, rule)
    if rule.one_per_group:
        pool = _one_per_group(pool, pick_rng)
    if rule.membership == "split":
        drawn = pool
        chosen = {record.id for record in pool if record.split == rule.member_split}
    else:
        # The draw does not depend on the coins: every unit of it has a fair one, as if they were flipped afterwards.
        drawn = _cap(pool, None if rule.max_per_side is None else 2 * rule.max_per_side, draw_rng)
        chosen = _flip_coins(pool, coin_rng)
    members = [record for record in drawn if record.id in chosen]
    nonmembers = [record for record in drawn if record.id not in chosen]
    _require_both_sides(members, nonmembers, rule)
    if rule.membership == "split":
        members = _cap(members, rule.max_per_side, member_rng)
        nonmembers = _cap(nonmembers, rule.max_per_side, nonmember_rng)
    info: dict[str, object] = {
        "assignment": rule.membership,
        "unit": "group" if any(record.group is not None for record in pool) else "sample",
        "seed": rule.seed,
        "independent": rule.membership == "coin" and _each_alone(drawn),
        "capped": len(members) + len(nonmembers) < len(pool),
        "one_per_group": rule.one_per_group,
        "member_count": len(members),
        "nonmember_count": len(nonmembers),
        "nonmembers_validate": True,
    }
    info |= {"independent_units": True} if rule.membership == "coin" else {}
    return Assignment(tuple(members), tuple(nonmembers), info)


def redraw(assignment: Assignment, seed: int, *, complement: bool = False) -> Assignment:
    """Flip new coins for the same pairs, one a group where there are groups: the half of a reference model's training.

    Args:
        assignment: Both sides as they are; what it left out stays out.
        seed: Seed of the coins, 0 or more.
        complement: Take the other half: then every pair has one model that was trained on it and one that was not.

    Raises:
        ValueError: If a side is empty.
    """
    pool = sorted([*assignment.members, *assignment.nonmembers], key=lambda record: record.id)
    # Not the stream of `assign`: the same seed must not bring back the same coins.
    chosen = _flip_coins(pool, np.random.default_rng([seed, 1]))
    members = [record for record in pool if (record.id in chosen) != complement]
    nonmembers = [record for record in pool if (record.id in chosen) == complement]
    _require_both_sides(members, nonmembers, MembershipRule("coin", seed=seed))
    info = assignment.info | {
        "assignment": "coin",
        "seed": seed,
        "complement": complement,
        "independent": _each_alone(pool),
        "independent_units": True,
        "capped": False,
        "member_count": len(members),
        "nonmember_count": len(nonmembers),
    }
    return Assignment(tuple(members), tuple(nonmembers), info)


def require_split(records: Sequence[Record], split: str) -> list[Record]:
    """Return the records of a split; a ValueError lists the existing splits where there is none of that name."""
    chosen = [record for record in records if record.split == split]
    if chosen:
        return chosen
    splits = sorted({record.split for record in records})
    if splits == [NO_SPLIT]:
        raise ValueError(
            f"no split {split!r}: the data has no splits at all. Add a splits.csv (columns id, split), sort "
            "the files into a folder per split, or use membership='coin'."
        )
    raise ValueError(
        f"no split {split!r}: existing splits are {', '.join(map(repr, splits))}. Set member_split and "
        "nonmember_split to two of these, or use membership='coin'."
    )


def _unit(record: Record) -> tuple[str, str]:
    """Return the unit that is assigned as a whole: the group, or a record that has none."""
    return ("group", record.group) if record.group is not None else ("sample", record.id)


def _each_alone(pool: Sequence[Record]) -> bool:
    """Whether no two records share a unit."""
    return len(set(map(_unit, pool))) == len(pool)


def _require_whole_groups(pool: Sequence[Record], rule: MembershipRule) -> None:
    """Raise if a group has records in both splits: its nonmembers would not be independent of the training data."""
    groups: dict[str, set[str]] = {rule.member_split: set(), rule.nonmember_split: set()}
    for record in pool:
        if record.group is not None:
            groups[record.split].add(record.group)
    if shared := groups[rule.member_split] & groups[rule.nonmember_split]:
        raise ValueError(
            f"{len(shared)} group(s) lie in both {rule.member_split!r} and {rule.nonmember_split!r}: "
            f"{name_some(shared)}. A group must stay on one side: correct the splits file, or use "
            "membership='coin', which decides for whole groups. Where samples of a group do not depend on each other, "
            "group_column=None and group_pattern=None count them one by one."
        )


def _one_per_group(pool: Sequence[Record], rng: np.random.Generator) -> list[Record]:
    if all(record.group is None for record in pool):
        raise ValueError("one_per_group=True needs groups, but no record has one: set group_column")
    by_unit: dict[tuple[str, str], list[Record]] = {}
    for record in pool:
        by_unit.setdefault(_unit(record), []).append(record)
    picked = [by_unit[unit][int(rng.integers(len(by_unit[unit])))] for unit in sorted(by_unit)]
    return sorted(picked, key=lambda record: record.id)


def _flip_coins(pool: Sequence[Record], rng: np.random.Generator) -> set[str]:
    """Return the ids of the members: one independent fair coin a unit, in the order of the units' names."""
    units = sorted({_unit(record) for record in pool})
    heads = dict(zip(units, rng.integers(0, 2, size=len(units)).tolist(), strict=True))
    return {record.id for record in pool if heads[_unit(record)]}


def _require_both_sides(members: Sequence[Record], nonmembers: Sequence[Record], rule: MembershipRule) -> None:
    if members and nonmembers:
        return
    raise ValueError(
        f"no {'nonmembers' if members else 'members'}: membership={rule.membership!r} with seed {rule.seed} gave "
        f"{len(members)} members and {len(nonmembers)} nonmembers, but both sides need at least one. Add data, or take "
        "another seed."
    )


def _cap(records: list[Record], most: int | None, rng: np.random.Generator) -> list[Record]:
    if most is None or len(records) <= most:
        return records
    return [records[i] for i in sorted(rng.choice(len(records), size=most, replace=False).tolist())]
