from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from mia_lightning.data.assignment import MembershipRule, assign
from mia_lightning.data.records import Record

NOWHERE = Path("x.png")


def make_records(count: int, per_group: int | None = None, split: str = "train") -> list[Record]:
    return [
        Record(f"{split}/{i:04d}", split, None if per_group is None else f"{split}-g{i // per_group}", NOWHERE, NOWHERE)
        for i in range(count)
    ]


def ids(records):
    return [record.id for record in records]


def test_split_mode_takes_the_two_splits():
    data = make_records(5) + make_records(3, split="val") + make_records(2, split="test")
    result = assign(data, MembershipRule())
    assert ids(result.members) == [f"train/{i:04d}" for i in range(5)]
    assert {record.split for record in result.nonmembers} == {"val"}
    assert result.info == {
        "assignment": "split",
        "unit": "sample",
        "seed": 0,
        "independent": False,
        "capped": False,
        "one_per_group": False,
        "member_count": 5,
        "nonmember_count": 3,
        "nonmembers_validate": True,
    }


@pytest.mark.parametrize("membership", ["split", "coin"])
@pytest.mark.parametrize("cap", [None, 7])
@pytest.mark.parametrize("one_per_group", [False, True])
def test_results_do_not_depend_on_order_and_are_plain(membership, cap, one_per_group):
    data = make_records(60, 3) + make_records(40, 2, split="val")
    rule = MembershipRule(membership, one_per_group=one_per_group, max_per_side=cap, seed=3)
    shuffled = [data[i] for i in np.random.default_rng(1).permutation(len(data))]
    result = assign(data, rule)
    assert result == assign(shuffled, rule)
    assert json.loads(json.dumps(result.info)) == result.info
    assert not set(ids(result.members)) & set(ids(result.nonmembers))
    assert result.info["capped"] is (cap is not None)
    assert result.info["unit"] == "group"


def test_coin_pools_all_splits_and_is_fair():
    data = make_records(2000) + make_records(2000, split="test")
    result = assign(data, MembershipRule("coin", seed=5))
    assert len(result.members) + len(result.nonmembers) == 4000
    assert abs(len(result.members) - 2000) < 4 * np.sqrt(1000)
    assert {record.split for record in result.members} == {"train", "test"}
    assert result.info["independent"] is True
    assert ids(assign(data, MembershipRule("coin", seed=6)).members) != ids(result.members)


def test_neighbouring_coins_are_independent():
    data = make_records(2)
    outcomes = []
    for seed in range(400):
        try:
            outcomes.append(len(assign(data, MembershipRule("coin", seed=seed)).members))
        except ValueError:  # both on one side
            outcomes.append(0)
    assert 150 < outcomes.count(1) < 250


def test_groups_stay_whole_under_the_coin():
    result = assign(make_records(300, 3), MembershipRule("coin"))
    member_groups = {record.group for record in result.members}
    assert not member_groups & {record.group for record in result.nonmembers}
    assert len(result.members) == 3 * len(member_groups)
    assert result.info["unit"] == "group"
    # Three crops share one coin: as samples they are not independent, as groups they are.
    assert result.info["independent"] is False
    assert result.info["independent_units"] is True


def test_one_per_group_draws_before_the_coin():
    data = make_records(300, 3)
    result = assign(data, MembershipRule("coin", one_per_group=True))
    chosen = [*result.members, *result.nonmembers]
    assert len({record.group for record in chosen}) == len(chosen) == 100
    assert result.info["independent"] is True
    assert len({record.id[-1] for record in chosen}) > 3  # not always the first of a group
    whole = assign(data, MembershipRule("coin"))
    assert {record.group for record in result.members} == {record.group for record in whole.members}


def test_one_per_group_needs_groups():
    with pytest.raises(ValueError, match="needs groups, but no record has one: set group_column"):
        assign(make_records(4), MembershipRule("coin", one_per_group=True))


def test_cap_draws_a_subset_before_the_coins_which_stay_as_they_were():
    data = make_records(100)
    free = assign(data, MembershipRule("coin"))
    capped = assign(data, MembershipRule("coin", max_per_side=10))
    assert len(capped.members) + len(capped.nonmembers) == 20
    assert set(capped.members) < set(free.members)
    assert set(capped.nonmembers) < set(free.nonmembers)
    assert capped.info["capped"] is True
    assert capped.info["independent"] is capped.info["independent_units"] is True
    loose = assign(data, MembershipRule("coin", max_per_side=50))
    assert loose.members == free.members
    assert loose.info["capped"] is False


def test_coins_of_a_capped_subset_are_fair_and_independent():
    """Sides of a fixed size would have no variance."""
    data = make_records(60)
    members = [len(assign(data, MembershipRule("coin", max_per_side=20, seed=seed)).members) for seed in range(300)]
    assert abs(np.mean(members) - 20) < 4 * np.sqrt(10 / 300)
    assert 0.75 < np.var(members) / 10 < 1.3


def test_a_cap_of_grouped_records_draws_records_whose_groups_keep_their_coin():
    data = make_records(300, 3)
    free, capped = (assign(data, MembershipRule("coin", max_per_side=cap)) for cap in (None, 30))
    assert len(capped.members) + len(capped.nonmembers) == 60
    assert set(capped.members) < set(free.members)
    assert capped.info["unit"] == "group"
    assert capped.info["independent_units"] is True
    assert capped.info["independent"] is False


def test_a_cap_of_splits_is_that_of_each_side():
    data = make_records(100) + make_records(8, split="val")
    result = assign(data, MembershipRule(max_per_side=10))
    assert (len(result.members), len(result.nonmembers)) == (10, 8)
    assert result.info["independent"] is False
    assert "independent_units" not in result.info


def test_a_group_in_both_splits_is_named():
    data = [
        Record("1", "train", "town hall", NOWHERE, NOWHERE),
        Record("2", "val", "town hall", NOWHERE, NOWHERE),
        Record("3", "test", "town hall", NOWHERE, NOWHERE),
    ]
    with pytest.raises(ValueError, match=r"1 group\(s\) lie in both 'train' and 'val': 'town hall'"):
        assign(data, MembershipRule())


def test_unknown_split_lists_the_existing_ones():
    data = make_records(2) + make_records(2, split="test")
    with pytest.raises(ValueError, match=r"no split 'val': existing splits are 'test', 'train'\. Set member_split"):
        assign(data, MembershipRule())


def test_data_without_splits():
    with pytest.raises(ValueError, match="no split 'train': the data has no splits at all"):
        assign(make_records(3, split="all"), MembershipRule())


def test_one_side_empty():
    with pytest.raises(ValueError, match=r"no (non)?members: membership='coin' with seed 0 gave . members and"):
        assign(make_records(1), MembershipRule("coin"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"membership": "dice"}, "expected membership to be 'split' or 'coin' but got 'dice'"),
        ({"nonmember_split": "train"}, "are both 'train'"),
        ({"max_per_side": 0}, "expected max_per_side to be None or at least 1 but got 0"),
        ({"seed": -1}, "expected seed to be 0 or more but got -1"),
    ],
)
def test_rule_errors(settings, message):
    with pytest.raises(ValueError, match=message):
        MembershipRule(**settings)
