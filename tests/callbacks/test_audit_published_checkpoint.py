"""A checkpoint that gets published names no sample; beside its run, a training goes on from it with all of them."""

from __future__ import annotations

import shutil
import stat
import warnings
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_package import Callback, EarlyStopping, ModelCheckpoint

from mia_lightning import MembershipAudit
from mia_lightning.checkpoints.audited_samples import FOLDER


@pytest.fixture
def run(kit, audit, trainer, loaders):
    """Train for some epochs, with checkpoints in a folder; a checkpoint to go on from may be named."""

    def train(
        folder: Path, epochs: int, resume: Path | None = None, *more: Callback, **settings: Any
    ) -> MembershipAudit:
        sides = kit.Pairs(6, style="triple", name="remarkable-"), kit.Pairs(5, 1, "triple", "ordinary-")
        callback = audit(*sides, **settings)
        saving = ModelCheckpoint(folder / "checkpoints", save_top_k=-1, filename="{epoch}")
        torch.manual_seed(7)
        fit = trainer(callback, saving, *more, max_epochs=epochs, enable_checkpointing=True)
        fit.fit(kit.Translator(), *loaders, ckpt_path=resume)
        return callback

    return train


def texts(path: Path) -> bytes:
    with zipfile.ZipFile(path) as archive:
        return b"".join(archive.read(name) for name in archive.namelist())


@pytest.mark.parametrize("written", [False, True])
def test_no_sample_is_in_the_checkpoint(run, kit, tmp_path: Path, written: bool) -> None:
    """Neither where the run keeps its audits itself, nor where this is done for it."""
    settings = {"output_dir": tmp_path / "audit"} if written else {}
    first = run(tmp_path, 2, **settings)
    checkpoint = tmp_path / "checkpoints" / "epoch=1.ckpt"
    assert b"remarkable" not in texts(checkpoint)
    assert b"ordinary" not in texts(checkpoint)
    (state,) = [s for k, s in torch.load(checkpoint, weights_only=True)["callbacks"].items() if "Membership" in k]
    for plain in state["history"]:
        assert plain["ids"] == []
        assert len(plain["member"]) == 0
        assert all(len(column) == 0 for name in ("errors", "scores", "blind") for column in plain[name].values())
    files = sorted((tmp_path / FOLDER).glob("*.json"))
    assert len(files) == (0 if written else 2)
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in files)

    resumed = run(tmp_path, 3, checkpoint, **settings)
    assert [r.epoch for r in resumed.history] == [0, 1, 2]
    for ours, theirs in zip(first.history, resumed.history, strict=False):
        kit.same(ours, theirs)


def test_no_patient_is_in_the_checkpoint(run, kit, tmp_path: Path) -> None:
    """Neither as a group nor as a slice, which may be of one patient; beside the run both come back."""
    patient = {f"{name}{i}": f"patient-{i}" for name in ("remarkable-", "ordinary-") for i in range(6)}
    settings = {"slice_by": {"patient": patient}, "groups": patient}
    first = run(tmp_path, 1, **settings)
    checkpoint = tmp_path / "checkpoints" / "epoch=0.ckpt"
    assert b"patient-" not in texts(checkpoint)
    (state,) = [s for k, s in torch.load(checkpoint, weights_only=True)["callbacks"].items() if "Membership" in k]
    kept = state["history"][0]["meta"]["slices"]
    assert (kept["rows"], kept["further"]) == ([], {"patient": 6})

    resumed = run(tmp_path, 2, checkpoint, **settings)
    assert [row.value for row in resumed.history[0].sliced.rows] == [f"patient-{i}" for i in range(6)]
    kit.same(first.history[0], resumed.history[0])


@pytest.mark.parametrize("written", [False, True])
def test_samples_of_an_audit_that_was_made_again_come_back(run, kit, tmp_path: Path, written: bool) -> None:
    """Its checkpoint is older than the audit with all attacks that has taken its place, and its file."""
    settings = {"output_dir": tmp_path / "audit"} if written else {}
    stop = EarlyStopping("val/loss", patience=0, min_delta=1e9)  # nothing is ever good enough
    first = run(tmp_path, 9, None, stop, **settings)
    checkpoint = tmp_path / "checkpoints" / "epoch=1.ckpt"
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*known by their metrics only")
        resumed = run(tmp_path, 3, checkpoint, **settings)
    before = resumed.history[1]
    assert first.history[1].ids == before.ids
    assert "combined" in first.history[1].scores
    assert "combined" not in before.scores
    (replaced,) = (tmp_path / FOLDER).glob("*-replaced.json")
    assert stat.S_IMODE(replaced.stat().st_mode) == 0o600


def test_away_from_its_run_the_curve_goes_on_with_the_metrics(run, tmp_path: Path) -> None:
    first = run(tmp_path / "run", 2)
    alone = tmp_path / "elsewhere" / "model.ckpt"
    alone.parent.mkdir()
    shutil.copy(tmp_path / "run" / "checkpoints" / "epoch=1.ckpt", alone)
    with pytest.warns(UserWarning, match="2 of 2 earlier audits are known by their metrics only"):
        resumed = run(tmp_path / "next", 3, alone, output_dir=tmp_path / "next" / "audit")
    assert [r.epoch for r in resumed.history] == [0, 1, 2]
    assert [repr(r.metrics) for r in resumed.history[:2]] == [repr(r.metrics) for r in first.history]
    assert [len(r.ids) for r in resumed.history] == [0, 0, 11]
    assert (tmp_path / "next" / "audit" / "memorization_curve.png").is_file()


def test_files_of_other_audits_are_not_taken(run, tmp_path: Path) -> None:
    run(tmp_path, 1)
    checkpoint = tmp_path / "checkpoints" / "epoch=0.ckpt"
    (path,) = (tmp_path / FOLDER).glob("*.json")
    path.write_text(path.read_text().replace('"audit/auc": ', '"audit/auc": 0.123, "audit/other": ', 1))
    with pytest.warns(UserWarning, match="known by their metrics only"):
        run(tmp_path / "next", 2, checkpoint)


def test_a_path_out_of_the_run_is_not_followed(run, tmp_path: Path) -> None:
    run(tmp_path / "run", 1)
    checkpoint = tmp_path / "run" / "checkpoints" / "epoch=0.ckpt"
    (path,) = (tmp_path / "run" / FOLDER).glob("*.json")
    shutil.move(path, tmp_path / path.name)
    content = torch.load(checkpoint, weights_only=True)
    (state,) = [s for k, s in content["callbacks"].items() if "Membership" in k]
    state["history"][0]["samples_in"] = f"../{path.name}"
    torch.save(content, checkpoint)
    with pytest.warns(UserWarning, match="known by their metrics only"):
        resumed = run(tmp_path / "next", 2, checkpoint)
    assert resumed.history[0].ids == []


def test_a_full_disk_costs_the_samples_alone(run, tmp_path: Path) -> None:
    (tmp_path / FOLDER).write_text("no folder")
    with pytest.warns(UserWarning, match=r"samples of an audit could not be written into .*audited-samples"):
        run(tmp_path, 1)
    assert (tmp_path / "checkpoints" / "epoch=0.ckpt").is_file()
