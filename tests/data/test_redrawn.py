from __future__ import annotations

import numpy as np
import pytest

from mia_lightning import DemoDataModule
from mia_lightning.data.assignment import MembershipRule, assign, redraw
from mia_lightning.data.auditable import AuditableDataModule
from mia_lightning.data.records import NO_SPLIT, Record


def make_records(count, per_group=None):
    return [
        Record(f"{i:04d}", NO_SPLIT, None if per_group is None else f"g{i // per_group}", None, None)
        for i in range(count)
    ]


def ids(records):
    return {record.id for record in records}


@pytest.fixture(scope="module")
def target():
    return assign(make_records(400), MembershipRule("coin", seed=3))


@pytest.fixture(scope="module")
def demo():
    return DemoDataModule(num_pairs=20, image_size=32, seed=1, batch_size=4)


def ids_of(loader):
    return {record.id for record in loader.dataset.records}


def test_the_same_pairs_are_parted_anew(target):
    drawn = redraw(target, 7)
    assert ids(drawn.members) | ids(drawn.nonmembers) == ids(target.members) | ids(target.nonmembers)
    assert not ids(drawn.members) & ids(drawn.nonmembers)
    assert [r.id for r in drawn.members] == sorted(r.id for r in drawn.members)
    assert 150 < len(drawn.members) < 250  # 5 standard deviations of 400 fair coins
    assert drawn == redraw(target, 7)
    assert ids(drawn.members) != ids(redraw(target, 8).members)


def test_a_complement_is_the_other_half(target):
    half, other = redraw(target, 7), redraw(target, 7, complement=True)
    assert ids(half.members) == ids(other.nonmembers)
    assert ids(half.nonmembers) == ids(other.members)
    assert (half.info["complement"], other.info["complement"]) == (False, True)


@pytest.mark.parametrize("seed", [0, 3, 11])
def test_new_coins_tell_nothing_of_the_target_even_with_its_own_seed(seed):
    target = assign(make_records(2000), MembershipRule("coin", seed=seed))
    known = ids(redraw(target, seed).members)
    shares = [np.mean([record.id in known for record in side]) for side in (target.members, target.nonmembers)]
    assert abs(shares[0] - shares[1]) < 0.1  # 4.5 standard deviations


def test_groups_stay_together_and_are_not_independent():
    drawn = redraw(assign(make_records(60, per_group=3), MembershipRule("coin")), 1)
    assert not {r.group for r in drawn.members} & {r.group for r in drawn.nonmembers}
    assert drawn.info["independent"] is False
    assert drawn.info["independent_units"] is True


def test_what_a_cap_left_out_stays_out():
    target = assign(make_records(100), MembershipRule("coin", max_per_side=10))
    drawn = redraw(target, 1)
    assert ids(drawn.members) | ids(drawn.nonmembers) == ids(target.members) | ids(target.nonmembers)
    assert (target.info["capped"], drawn.info["capped"], drawn.info["independent"]) == (True, False, True)
    assert drawn.info["member_count"] + drawn.info["nonmember_count"] == 20


def test_an_empty_side_is_refused():
    target = assign(make_records(2, per_group=1), MembershipRule("coin", seed=1))
    lonely = next(seed for seed in range(50) if not members_or_none(target, seed))
    with pytest.raises(ValueError, match=rf"with seed {lonely} gave [02] members and [02] nonmembers"):
        redraw(target, lonely)


def members_or_none(target, seed):
    try:
        return ids(redraw(target, seed).members)
    except ValueError:
        return None


def test_a_data_module_trains_on_the_new_half_and_is_left_alone(demo):
    before = [ids_of(loader) for loader in demo.audit_dataloaders()]
    half, other = demo.redrawn(5), demo.redrawn(5, complement=True)
    members, nonmembers = (ids_of(loader) for loader in half.audit_dataloaders())
    assert type(half) is DemoDataModule
    assert ids_of(half.train_dataloader()) == members
    assert ids_of(half.val_dataloader()) == nonmembers
    assert ids_of(other.train_dataloader()) == nonmembers
    assert members | nonmembers == before[0] | before[1]
    assert [ids_of(loader) for loader in demo.audit_dataloaders()] == before
    assert half.audit_info()["seed"] == 5
    assert {item["id"] for item in half.train_dataloader().dataset} == members  # pictures are found


def test_redrawing_works_before_setup_and_again():
    fresh = DemoDataModule(num_pairs=20, image_size=32, seed=1)
    assert isinstance(fresh, AuditableDataModule)
    once, twice = fresh.redrawn(5), fresh.redrawn(9).redrawn(5)
    assert ids_of(once.train_dataloader()) == ids_of(twice.train_dataloader())
