"""Checkpoints of reference models and of a benchmark's targets, audited with other sides than their own coins made."""

from __future__ import annotations

import pytest
import torch
from small_checkpoints import MEMBERS, NONMEMBERS, SCORER, Net, model
from torch.utils.data import TensorDataset

from mia_lightning import AutoAdapter, audit_checkpoint
from mia_lightning.attacks.reference_folder import Reference
from mia_lightning.posthoc.recorded_half import recorded_half

IDS = [[f"p{number:02d}" for number in range(start, start + 24)] for start in (0, 24)]


def named(dataset: TensorDataset, ids: list[str]) -> list[tuple[torch.Tensor, torch.Tensor, str]]:
    return [(*pair, name) for pair, name in zip(dataset, ids, strict=True)]


def audit(path, **options):
    return audit_checkpoint(
        Net(), None, str(path), members=named(MEMBERS, IDS[0]), nonmembers=named(NONMEMBERS, IDS[1]), scorer=SCORER,
        accelerator="cpu", verdict="primary", **options,
    )  # fmt: skip


@pytest.fixture
def half(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "half").mkdir()
    for seed, file in enumerate(("half/last.ckpt", "last.ckpt")):
        torch.save({"state_dict": model(seed).state_dict()}, file)
    return Reference(0, tmp_path / "half")


def test_other_sides_are_refused_or_audited_at_the_users_word(half):
    half.assign([*IDS[0][2:], IDS[1][0]], [*IDS[0][:2], *IDS[1][1:]])
    found = r"members\.json, 2 of 24 members were left out of the training \('p00', 'p01'\) and 1 of 24 nonmembers were"
    with pytest.raises(ValueError, match=f"not the members that the model was trained on: by .*{found} trained on"):
        audit(half.checkpoint)
    members = audit(half.checkpoint, unverified_members=True).meta["members"]
    assert (members["verified"], members["accepted_by_user"]) == (False, True)
    with pytest.raises(ValueError, match=rf"earlier_ckpt \(--earlier_ckpt\): .*half/last\.ckpt: .*{found}"):
        audit("last.ckpt", earlier_ckpt=half.checkpoint)


def test_its_own_sides_and_what_has_no_such_record_are_let_pass(half):
    sides = named(MEMBERS, IDS[0]), named(NONMEMBERS, IDS[1])

    def found(file, sides=sides):
        return recorded_half(half.folder / file, *sides, owner="Data", adapter=AutoAdapter())

    half.assign([*IDS[0], "elsewhere"], IDS[1])
    assert found("last.ckpt").verified
    members = audit(half.checkpoint).meta["members"]
    assert members["verified"]
    assert members["reason"].startswith("24 members and 24 nonmembers were compared, by their ids, with the coins in ")
    assert found("last.ckpt", (sides[0], named(NONMEMBERS, ["new", *IDS[1][1:]]))) is None
    (half.folder / "members.json").unlink()
    half.assign(IDS[1], IDS[0])
    assert found("last.ckpt").refused
    assert found("other.ckpt") is None
    assert found("last.ckpt", (MEMBERS, NONMEMBERS)) is None  # without ids
    (half.folder / "members.json").write_text("a list of the club's members")
    assert found("last.ckpt") is None
