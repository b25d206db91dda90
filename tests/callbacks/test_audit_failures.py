"""An audit that fails ends no training, and leaves no trace in it; what failed, and why, is kept."""

from __future__ import annotations

import errno
import json
import math
import random
import sqlite3
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning_package import CSVLogger, EarlyStopping, Logger, ModelCheckpoint

from mia_lightning import MembershipAudit, PredictabilityScorer
from mia_lightning.result.failed_audit import FailedAudit, read_failures
from mia_lightning.result.history import read_audits


class Trouble:
    """What fails in each epoch, counted from 0; the check before the training succeeds."""

    def __init__(self, **epochs: int) -> None:
        self.epochs, self.trainer = epochs, None

    def now(self, what: str) -> bool:
        running = self.trainer is not None and self.trainer.validating
        return running and self.epochs.get(what) == self.trainer.current_epoch


def audit_in_trouble(kit: Any, trouble: Trouble, **settings: Any) -> MembershipAudit:
    class Samples(kit.Pairs):
        def __getitem__(self, index: int) -> Any:
            if index == 3 and trouble.now("sample"):
                raise OSError("image file is truncated (12 bytes not processed)")
            if trouble.now("draws"):
                torch.rand(1), np.random.rand(), random.random()
            return super().__getitem__(index)

    class Scorer(PredictabilityScorer):
        def __call__(self, *args: Any, **options: Any) -> Any:
            if trouble.now("disk"):
                raise OSError(errno.ENOSPC, "No space left on device", "/cache/predictability.sqlite")
            if trouble.now("cache"):
                raise sqlite3.OperationalError("database or disk is full")
            return super().__call__(*args, **options)

        def fingerprint(self) -> str:  # nothing is found again: each audit computes
            return f"{super().fingerprint()} {trouble.trainer.current_epoch if trouble.trainer else ''}"

    class Audit(MembershipAudit):
        def _measure(self, *args: Any, **options: Any) -> Any:
            self.auditor._predictability._fingerprint = None
            return super()._measure(*args, **options)

        def setup(self, trainer: Any, *args: Any, **options: Any) -> None:
            trouble.trainer = trainer
            super().setup(trainer, *args, **options)

    scorer = Scorer(torch.nn.AvgPool2d(4), grid=8)
    return Audit(Samples(6, 0), Samples(5, 1), **{"scorer": scorer, "batch_size": 4, **settings})


def module_in_trouble(kit: Any, trouble: Trouble) -> Any:
    class Module(kit.Translator):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if len(x) == 4 and trouble.now("memory"):  # validation has batches of two
                torch.rand(3)
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
            return super().forward(x)

    return Module()


class Down(Logger):
    name, version = "down", 0

    def log_hyperparams(self, *args: Any, **options: Any) -> None: ...

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        if any(key.startswith("audit/") for key in metrics):
            raise ConnectionError("the server is down")


REASONS = {"sample": 0, "memory": 1, "disk": 2, "cache": 4, "draws": 5}


def train(
    kit: Any, trainer: Any, loaders: Any, *callbacks: Any, trouble: Trouble | None = None, **settings: Any
) -> Any:
    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)
    module = module_in_trouble(kit, trouble or Trouble())
    run = trainer(*callbacks, **settings)
    run.fit(module, *loaders)
    state = [v.clone() for s in run.optimizers[0].state.values() for v in s.values() if isinstance(v, torch.Tensor)]
    draws = torch.rand(3).tolist(), float(np.random.rand()), random.random()
    return run, module, state, draws


def test_a_different_failure_in_each_epoch_leaves_the_training_as_it_is(kit, trainer, loaders, tmp_path: Path) -> None:
    trouble = Trouble(**REASONS)
    callback = audit_in_trouble(kit, trouble, output_dir=tmp_path / "audit")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run, module, state, draws = train(kit, trainer, loaders, callback, trouble=trouble, max_epochs=7, logger=Down())
    _, plain, plain_state, plain_draws = train(kit, trainer, loaders, max_epochs=7)
    assert run.current_epoch == 7
    assert draws == plain_draws
    assert all(torch.equal(a, b) for a, b in zip(state, plain_state, strict=True))
    for name, value in plain.state_dict().items():
        assert torch.equal(module.state_dict()[name], value), name

    assert [r.epoch for r in callback.history] == [3, 5, 6]
    assert [(f.epoch, f.step) for f in callback.failures] == [(0, 3), (1, 6), (2, 9), (4, 15)]
    reasons = [f.reason for f in callback.failures]
    assert reasons[0] == "OSError: image file is truncated (12 bytes not processed)"
    assert reasons[1].startswith("OutOfMemoryError: CUDA out of memory")
    assert "No space left on device" in reasons[2]
    assert reasons[3] == "OperationalError: database or disk is full"
    messages = [str(w.message) for w in caught]
    assert any("after epoch 2 failed: OutOfMemoryError" in m and "smaller batch_size" in m for m in messages)
    assert any("after epoch 3 failed: OSError" in m and "space left on the disk" in m for m in messages)
    assert sum("Down did not take the audit's metrics" in m for m in messages) == 1

    assert read_failures(tmp_path / "audit") == callback.failures
    assert [r.epoch for r in read_audits(tmp_path / "audit")] == [3, 5, 6]
    written = json.loads((tmp_path / "audit" / "audit-epoch=0001-step=00000006.failed.json").read_text())
    assert written["reason"].startswith("OutOfMemoryError")


def test_monitors_live_on_with_the_last_values(kit, trainer, loaders, tmp_path: Path) -> None:
    trouble, spy = Trouble(memory=1), kit.Spy()
    callback = audit_in_trouble(kit, trouble)
    saving = ModelCheckpoint(tmp_path, monitor="audit/auc", mode="min", save_top_k=-1, filename="{epoch}")
    stopping = EarlyStopping("audit/auc", mode="min", patience=9, check_finite=False)
    logger = CSVLogger(tmp_path, "", "")
    settings = {"max_epochs": 3, "enable_checkpointing": True, "logger": logger}
    with pytest.warns(UserWarning, match="audit after epoch 2 failed"):
        train(kit, trainer, loaders, callback, spy, saving, stopping, trouble=trouble, **settings)
    first, failed, after = spy.seen
    assert "audit/failed" not in first
    assert failed["audit/failed"] == 1
    assert after["audit/failed"] == 0
    audited = {key: value for key, value in first.items() if key.startswith("audit/")}
    assert audited == pytest.approx({key: failed[key] for key in audited}, nan_ok=True)
    assert after["audit/auc"] == pytest.approx(callback.result.auc)
    assert len(saving.best_k_models) == 3
    assert "audit/failed" not in callback.result.metrics
    rows = (tmp_path / "metrics.csv").read_text().splitlines()
    place = rows[0].split(",").index("audit/failed")
    assert [row.split(",")[place] for row in rows[1:] if row.split(",")[place]] == ["1.0", "0.0"]


def test_monitors_that_live_without_a_first_value(kit, trainer, loaders, tmp_path: Path) -> None:
    trouble, spy = Trouble(memory=0), kit.Spy()
    callback = audit_in_trouble(kit, trouble)
    saving = ModelCheckpoint(tmp_path, monitor="audit/auc", mode="min", save_top_k=-1, filename="{epoch}")
    stopping = EarlyStopping("audit/auc/membership", mode="min", strict=False)
    run, *_ = train(kit, trainer, loaders, callback, spy, saving, stopping, trouble=trouble, enable_checkpointing=True)
    assert run.current_epoch == 2
    assert math.isnan(spy.seen[0]["audit/auc"])
    assert "audit/auc/membership" not in spy.seen[0]
    assert len(callback.history) == 1


@pytest.mark.parametrize(
    ("options", "saves", "remedy"),
    [
        ({}, False, "give it strict=False"),
        ({}, True, "give it check_finite=False"),
        ({"strict": False}, True, "give it check_finite=False"),
        ({"strict": False}, False, None),
        ({"check_finite": False}, True, None),
    ],
)
def test_a_monitor_that_could_lack_its_first_value(kit, trainer, loaders, tmp_path, options, saves, remedy) -> None:
    """It is warned of before the training; with the remedy, the training lives through a first audit that fails."""
    keywords = dict(part.split("=") for part in [remedy.removeprefix("give it ")]) if remedy else {}
    mended = options | {key: value == "True" for key, value in keywords.items()}
    saving = [ModelCheckpoint(tmp_path, monitor="audit/auc")] if saves else []
    trouble = Trouble(memory=0)
    for settings, expected in ((options, remedy), (mended, None)):
        callback = audit_in_trouble(kit, trouble)
        stopping = EarlyStopping("audit/auc", mode="min", **settings)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            callbacks = [callback, stopping, *saving]
            run = trainer(*callbacks, enable_checkpointing=bool(saving), max_epochs=2)
            if expected is None:
                run.fit(module_in_trouble(kit, trouble), *loaders)
                assert run.current_epoch == 2
            else:
                callback.setup(run, kit.Translator(), "fit")
        found = [str(w.message) for w in caught if "if the first audit failed" in str(w.message)]
        assert len(found) == (expected is not None)
        assert all(expected in message for message in found)


def test_a_monitor_of_failures_themselves_is_warned_of(kit, trainer, loaders) -> None:
    callback = audit_in_trouble(kit, Trouble())
    with pytest.warns(
        UserWarning, match=r"'audit/failed', which is logged from the first failure on: give it strict=False"
    ):
        callback.setup(trainer(callback, EarlyStopping("audit/failed")), kit.Translator(), "fit")


def test_an_audit_may_end_the_training_where_asked_to(kit, trainer, loaders) -> None:
    trouble = Trouble(memory=1)
    callback = audit_in_trouble(kit, trouble, on_error="raise")
    with pytest.raises(torch.OutOfMemoryError):
        train(kit, trainer, loaders, callback, trouble=trouble, max_epochs=3)
    assert [r.epoch for r in callback.history] == [0]


def test_an_unknown_way_to_fail_is_refused(kit) -> None:
    with pytest.raises(ValueError, match="on_error to be 'warn' or 'raise', but got 'ignore'"):
        MembershipAudit(on_error="ignore")


def test_failures_are_kept_in_checkpoints(kit, trainer, loaders, tmp_path: Path) -> None:
    trouble = Trouble(sample=0)
    callback = audit_in_trouble(kit, trouble)
    saving = ModelCheckpoint(tmp_path, filename="end")
    train(kit, trainer, loaders, callback, saving, trouble=trouble, enable_checkpointing=True)
    again = audit_in_trouble(kit, Trouble())
    run = trainer(again, max_epochs=3)
    run.fit(kit.Translator(), *loaders, ckpt_path=tmp_path / "end.ckpt")
    assert again.failures == callback.failures
    assert [r.epoch for r in again.history] == [1, 2]
    older = {"history": []}  # a checkpoint that was written before failures were kept
    again.load_state_dict(older)
    assert again.failures == []


def test_a_late_last_audit_that_fails(kit, trainer, loaders) -> None:
    """EarlyStopping ends the training in an epoch that was passed over: the audit comes when training has ended."""

    class Broken(kit.Translator):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if len(x) == 4 and self.global_step > 0:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return super().forward(x)

    callback = audit_in_trouble(kit, Trouble(), every_n_epochs=4)
    stop = EarlyStopping("val/loss", patience=0, min_delta=1e9)
    with pytest.warns(UserWarning, match="after epoch 2 failed: OutOfMemoryError"):
        trainer(callback, stop, max_epochs=9).fit(Broken(), *loaders)
    assert callback.history == []
    assert [f.epoch for f in callback.failures] == [1]


def test_a_validation_by_itself_raises(kit, trainer, loaders) -> None:
    """There is no training to go on with, and whoever validates asks for the number."""
    trouble = Trouble(sample=0)
    callback = audit_in_trouble(kit, trouble)
    with pytest.raises(OSError, match="truncated"):
        trainer(callback).validate(kit.Translator(), loaders[1], verbose=False)


def test_a_repeated_audit_takes_the_place_of_its_failure(tmp_path: Path) -> None:
    from mia_lightning.result.failed_audit import write_failure

    failures = [FailedAudit("OSError: a", 10, 30), FailedAudit("OSError: b", 2, 6)]
    for failure in failures:
        path = write_failure(failure, tmp_path)
    assert read_failures(tmp_path) == failures[::-1]
    path.with_name("audit-epoch=0002-step=00000006.json").write_text("{}")
    assert read_failures(tmp_path) == failures[:1]
    path.write_text("[]")
    path.with_name("audit-epoch=0002-step=00000006.json").unlink()
    with pytest.warns(UserWarning, match="A record of a failed audit cannot be read"):
        assert read_failures(tmp_path) == failures[:1]
