"""Where the record of a training goes, and who writes it."""

from __future__ import annotations

import stat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning_package import CSVLogger, ModelCheckpoint, Trainer
from torch.utils.data import DataLoader, TensorDataset

from mia_lightning import MembershipAudit
from mia_lightning.callbacks.membership_record import record_membership, run_folder
from mia_lightning.membership.record import ENTRY, MembershipRecord, MembershipSummary

SIDES = tuple(TensorDataset(*torch.rand(2, 4, 3, 16, 16, generator=torch.Generator().manual_seed(i))) for i in range(2))


def trainer_of(folder: Path | str | None, **options: Any) -> Any:
    """What a trainer tells of itself when a training begins."""
    saving = ModelCheckpoint()
    saving.dirpath = None if folder is None else str(folder)
    plain = {"loggers": [], "log_dir": None, "fast_dev_run": False, "is_global_zero": True, "datamodule": None}
    return SimpleNamespace(callbacks=[saving], **plain | options)


def test_the_record_lies_where_it_is_found_from_checkpoints(tmp_path):
    assert run_folder(trainer_of(tmp_path / "checkpoints")) == tmp_path
    assert run_folder(trainer_of(tmp_path / "weights")) == tmp_path / "weights"
    assert run_folder(trainer_of(None, loggers=["one"], log_dir=str(tmp_path))) == tmp_path
    assert run_folder(trainer_of(None, log_dir=str(tmp_path))) is None, "nothing is written of this training"
    assert run_folder(trainer_of("s3://bucket/checkpoints")) is None
    assert run_folder(trainer_of(tmp_path, fast_dev_run=1)) is None


@pytest.mark.parametrize("first", [True, False])
def test_one_process_writes(first, tmp_path):
    earlier = MembershipSummary("earlier")
    summary = record_membership(
        trainer_of(tmp_path, is_global_zero=first), *SIDES, by_hand=True, earlier=None if first else earlier
    )
    written = list(tmp_path.iterdir())
    if first:
        (path,) = written
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        record = MembershipRecord.read(path)
        assert record is not None
        assert record.summary == summary
    else:
        assert (written, summary) == ([], earlier)


def test_a_folder_that_cannot_be_written_ends_nothing(tmp_path):
    (tmp_path / "file").touch()
    summary = record_membership(trainer_of(tmp_path / "file" / "weights"), *SIDES, by_hand=True)
    assert summary is not None
    assert set(summary.digests) == {"members", "nonmembers"}


def test_a_training_keeps_the_summary_and_loads_it(tmp_path, kit, quick):
    audit = MembershipAudit(*SIDES, scorer=quick, verbose=False)
    quiet = {"accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(max_epochs=1, logger=CSVLogger(tmp_path), callbacks=[audit], **quiet)
    trainer.fit(kit.Translator(), DataLoader(SIDES[0], 2), DataLoader(SIDES[1], 2))
    (path,) = tmp_path.rglob("membership-*.json")
    (checkpoint,) = tmp_path.rglob("*.ckpt")
    assert path.parent == checkpoint.parent.parent
    state = torch.load(checkpoint, weights_only=True)["callbacks"][audit.state_key]
    other = MembershipAudit(*SIDES, scorer=quick)
    other.load_state_dict(state)
    assert other.trained_on == audit.trained_on == MembershipSummary.from_plain(state[ENTRY])
    other.load_state_dict({"history": []})  # of a checkpoint of before
    assert other.trained_on is None
