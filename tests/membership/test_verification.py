"""When the members of an audit are those of a training, by keys, digests or settings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.utils.data import IterableDataset, TensorDataset

from mia_lightning.membership.record import MembershipRecord, MembershipSummary, find_record, record_sides
from mia_lightning.membership.verification import RunMembership, compare_members, compare_reference, too_many


def side(numbers):
    return TensorDataset(torch.tensor(list(numbers), dtype=torch.float32)[:, None])


MEMBERS, NONMEMBERS = range(30), range(100, 130)


@pytest.fixture
def run():
    summary, record = record_sides(side(MEMBERS), side(NONMEMBERS), {"seed": 0}, "Data")
    return RunMembership(summary, record, Path("membership.json"))


def compare(run, members, nonmembers, seed=0, **options):
    return compare_members(run, SimpleNamespace(hparams={"seed": seed}), side(members), side(nonmembers), **options)


@pytest.mark.parametrize(("count", "total", "rate", "refused"), [
    (0, 10, 0.01, False), (1, 2, 0.01, True), (1, 24, 0.01, False), (3, 24, 0.01, True), (10, 1000, 0.01, False),
    (20, 1000, 0.01, True), (1, 24, 0.001, True), (1, 1000, 0.001, False),
])  # fmt: skip
def test_error_rates(count, total, rate, refused):
    assert too_many(count, total, rate) is refused


def test_parts_of_the_sides_in_any_order_are_the_training_s(run):
    for members, nonmembers in ((MEMBERS, NONMEMBERS), (range(20, 5, -1), range(100, 110))):
        found = compare(run, members, nonmembers)
        assert (found.verified, found.basis, found.notes) == (True, "keys", ())


@pytest.mark.parametrize(
    ("members", "nonmembers", "reason"),
    [
        (NONMEMBERS, MEMBERS, "60 of 60 samples stand on the other side"),
        (range(10, 40), NONMEMBERS, "10 of 60 samples are none of the training's"),
        ([*MEMBERS, 100, 101], NONMEMBERS[2:], "2 of 60 samples stand on the other side"),
        (MEMBERS[:-2], [*NONMEMBERS, 28, 29], "2 of 60 samples stand on the other side"),
        (range(500, 530), range(600, 630), "30 of 30 samples are none of the training's"),
    ],
)
def test_others_are_refused_by_keys(run, members, nonmembers, reason):
    found = compare(run, members, nonmembers, seed=1)
    assert found.refused
    assert found.reason.startswith(f"data.seed 0 in the run, 1 now; {reason}")
    with pytest.raises(ValueError, match=r"not the members that the model was trained on: data\.seed 0"):
        found.or_refuse(unverified_members=False)
    accepted = found.or_refuse(unverified_members=True)
    assert (accepted.verified, accepted.refused, accepted.to_meta()["accepted_by_user"]) == (False, False, True)


def test_settings_that_decide_nothing_are_noted(run):
    found = compare(run, MEMBERS, NONMEMBERS, seed=1)
    assert found.verified
    assert found.notes == (
        "Settings differ, but the samples are those of the training: data.seed 0 in the run, 1 now.",
    )


def test_digests_where_the_record_is_not_at_hand(run):
    published = RunMembership(run.summary)
    assert compare(published, MEMBERS, NONMEMBERS).basis == "digests"
    assert compare(published, MEMBERS[::-1], NONMEMBERS).verified
    assert compare(published, MEMBERS[1:], NONMEMBERS).refused
    assert "swapped" in compare(published, NONMEMBERS, MEMBERS).reason
    other = compare(published, MEMBERS, [*range(200, 210), 3])
    assert (other.verified, len(other.notes)) == (True, 1)
    assert "1 of them are also members" in other.notes[0]


def test_settings_alone_refuse_and_do_not_verify():
    foreign = RunMembership(hyperparameters={"seed": 0, "root": "/there", "batch_size": 2})
    assert compare(foreign, MEMBERS, NONMEMBERS, seed=1).reason == "data.seed 0 in the run, 1 now."
    found = compare(foreign, MEMBERS, NONMEMBERS)
    assert (found.verified, found.refused, found.basis) == (False, False, "settings")
    anything = compare_members(
        RunMembership(hyperparameters={"n": 6}), SimpleNamespace(hparams={"n": 5}), side(MEMBERS), side(NONMEMBERS)
    )
    assert (anything.verified, anything.refused) == (False, False)
    assert anything.reason.startswith("data.n 6 in the run, 5 now; ")
    by_hand = compare(foreign, MEMBERS, NONMEMBERS, seed=1, by_hand=True)
    assert (by_hand.verified, by_hand.refused) == (False, False)


def test_without_a_record_nothing_is_refused_or_verified():
    found = compare(RunMembership(), MEMBERS, NONMEMBERS)
    assert (found.verified, found.refused, found.basis) == (False, False, "nothing")


def test_a_record_found_by_its_place_refuses_but_does_not_verify(run):
    found_near = replace(run, named=False)
    assert compare(found_near, NONMEMBERS, MEMBERS).refused
    found = compare(found_near, MEMBERS, NONMEMBERS)
    assert (found.verified, found.refused) == (False, False)
    assert "does not name its training" in found.reason


def test_samples_of_another_kind_cannot_be_compared(run):
    class Stream(IterableDataset):
        def __iter__(self):
            return iter([1])

    for members in ([(torch.zeros(1),)], Stream()):
        found = compare_members(run, None, members, members)
        assert (found.verified, found.refused) == (False, False)
        assert "cannot be compared" in found.reason


def test_a_reference_must_not_have_been_trained_on(run):
    assert compare_reference(run, side(NONMEMBERS)).verified
    assert compare_reference(run, side(range(900, 910))).verified
    assert compare_reference(run, side([1, 2, *NONMEMBERS])).refused
    assert not compare_reference(RunMembership(run.summary), side(NONMEMBERS)).verified


def test_records_are_found_by_their_training_s_name(run, tmp_path):
    path = run.record.write(tmp_path / "run")
    assert find_record([tmp_path, tmp_path / "run"], run.record.run) == (run.record, path)
    assert find_record([tmp_path / "run"], None)[1] == path
    assert find_record([tmp_path / "run"], "another") == (None, None)
    _, other = record_sides(side(MEMBERS), side(NONMEMBERS), {}, None)
    other.write(tmp_path / "run")
    assert find_record([tmp_path / "run"], None) == (None, None), "nobody knows which"
    path.write_text("{")
    assert find_record([tmp_path / "run"], run.record.run) == (None, None)
    assert MembershipSummary.from_plain({"format": 99}) is None
    assert MembershipSummary.from_plain(run.summary.to_plain()) == run.summary
    assert MembershipRecord.read(tmp_path / "none.json") is None
