"""Sinks of third parties: what they are called with, and that they cannot harm a training."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning_package import Callback, EarlyStopping, ModelCheckpoint, TensorBoardLogger, pl
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mia_lightning import AuditSink
from mia_lightning.result.history import read_audits, write_audit
from mia_lightning.sinks import files


class Notebook(AuditSink):
    """Notes each call."""

    wants_pictures = True

    def __init__(self) -> None:
        self.opened: list[tuple[str, int]] = []
        self.held: list[Any] = []
        self.written: list[tuple[Any, int]] = []
        self.shown: list[tuple[Any, int, int]] = []
        self.validated: list[list[str]] = []
        self.closed: list[int] = []
        self.attached: list[Path] = []
        self.failed: list[tuple[Any, int]] = []

    def record_failure(self, trainer: Any, failure: Any, step: int) -> None:
        self.failed.append((failure, step))

    def open(self, trainer: Any, config: Any, history: Any) -> None:
        self.opened.append((config.prefix, len(history)))

    def hold(self, trainer: Any, result: Any) -> None:
        self.held.append(result)

    def write(self, trainer: Any, result: Any, step: int) -> None:
        self.written.append((result, step))

    def show(self, trainer: Any, result: Any, pictures: Any, step: int) -> None:
        self.shown.append((result, len(pictures), step))

    def end_validation(self, trainer: Any, utility: Any) -> None:
        self.validated.append(list(utility))

    def close(self, trainer: Any, history: Any) -> None:
        self.closed.append(len(history))

    def attach(self, trainer: Any, paths: Any) -> None:
        self.attached += paths


def test_a_sink_gets_every_audit_complete(kit, audit, trainer, loaders, capsys) -> None:
    sink = Notebook()
    callback = audit(sinks=[sink], figures_every_n_audits=2)
    run = trainer(callback, max_epochs=4)
    run.fit(kit.Translator(), *loaders)
    assert sink.opened == [("audit", 0)]
    assert [result for result, _ in sink.written] == callback.history
    assert [step for _, step in sink.written] == [2, 5, 8, 11]
    assert all(set(result.meta["utility"]) == {"val/loss"} for result, _ in sink.written)
    assert sink.held == [], "no other audit follows in the validation"
    assert sink.validated == [["val/loss"]] * 4
    assert [(result, step) for result, _, step in sink.shown] == [sink.written[n] for n in (0, 2, 3)]
    assert {count for _, count, _ in sink.shown} == {11}
    assert sink.closed == [4]
    callback.attach(run, [Path("report.html")])
    assert sink.attached == [Path("report.html")]
    run.validate(kit.Translator(), loaders[1], verbose=False)
    assert sink.opened == [("audit", 0), ("audit", 4)]
    assert [result for result, _ in sink.written] == callback.history
    assert sink.closed == [4, 5]


def test_the_audit_that_comes_after_the_last_epoch_is_told(kit, audit, trainer, loaders) -> None:
    sink = Notebook()
    callback = audit(sinks=[sink], every_n_epochs=4)
    stop = EarlyStopping("val/loss", patience=0, min_delta=1e9)
    trainer(callback, stop, max_epochs=9).fit(kit.Translator(), *loaders)
    ((result, step),) = sink.written
    assert (result.epoch, step) == (1, 6)
    assert result is callback.result
    assert [(r, s) for r, _, s in sink.shown] == sink.written


def test_an_audit_that_waits_for_another_is_held(kit, audit, trainer, loaders) -> None:
    first, second = Notebook(), Notebook()
    audits = audit(sinks=[first]), audit(sinks=[second], prefix="other", every_n_epochs=2)
    trainer(*audits, max_epochs=3).fit(kit.Translator(), *loaders)
    assert [r.epoch for r in first.held] == [1, 2], "the epochs in which the other audits, too"
    assert second.held == []
    assert not any("utility" in r.meta for r in first.held)
    assert [r.epoch for r, _ in first.written] == [0, 1, 2]


def test_a_resumed_training_opens_with_its_history(kit, audit, trainer, loaders, tmp_path: Path) -> None:
    saving = ModelCheckpoint(tmp_path, filename="first")
    trainer(audit(sinks=[]), saving, max_epochs=1, enable_checkpointing=True).fit(kit.Translator(), *loaders)
    sink = Notebook()
    trainer(audit(sinks=[sink])).fit(kit.Translator(), *loaders, ckpt_path=tmp_path / "first.ckpt")
    assert sink.opened == [("audit", 1)]
    assert sink.closed == [2]


class Interrupt(Callback):
    """Fails while a validation ends, after the audit was made."""

    def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        raise RuntimeError("a mistake of the project")


def test_a_validation_that_is_broken_off_closes_its_sinks(kit, audit, trainer, loaders) -> None:
    sink = Notebook()
    with pytest.raises(RuntimeError, match="a mistake of the project"):
        trainer(audit(sinks=[sink]), Interrupt()).validate(kit.Translator(), loaders[1], verbose=False)
    assert sink.opened == [("audit", 0)]
    assert len(sink.written) == 1
    assert sink.closed == [1]


def test_every_validation_of_a_training_is_told_audited_or_not(kit, audit, trainer, loaders) -> None:
    sink = Notebook()
    run = trainer(audit(sinks=[sink], every_n_epochs=3), max_epochs=3, num_sanity_val_steps=1)
    run.fit(kit.Translator(), *loaders)
    assert (len(sink.validated), len(sink.written)) == (3, 1)


def test_files_of_an_audit_are_written_once(kit, audit, trainer, loaders, tmp_path: Path, monkeypatch) -> None:
    written: list[str] = []

    def count(result: Any, folder: Any) -> Path:
        written.append(f"{result.prefix}-{result.epoch}")
        return write_audit(result, folder)

    monkeypatch.setattr(files, "write_audit", count)
    trainer(audit(output_dir=tmp_path / "audit")).fit(kit.Translator(), *loaders)
    assert written == ["audit-0", "audit-1"]


def test_an_audit_outlives_pictures_that_fail(kit, audit, trainer, loaders, tmp_path: Path) -> None:
    def fail(*_: Any) -> Any:
        raise RuntimeError("no memory")

    callback = audit(output_dir=tmp_path / "audit", on_error="raise")
    callback.pictures = fail
    with pytest.raises(RuntimeError, match="no memory"):
        trainer(callback).fit(kit.Translator(), *loaders)
    assert [r.epoch for r in callback.history] == [r.epoch for r in read_audits(tmp_path / "audit")] == [0]


def test_pictures_that_fail_end_no_training(kit, audit, trainer, loaders, tmp_path: Path) -> None:
    def fail(*_: Any) -> Any:
        raise RuntimeError("no memory")

    sink = Notebook()
    callback = audit(output_dir=tmp_path / "audit", sinks=[sink])
    callback.pictures = fail
    with pytest.warns(UserWarning, match=r"no pictures of samples, and the training goes on \(RuntimeError: no memory"):
        trainer(callback).fit(kit.Translator(), *loaders)
    assert [r.epoch for r in callback.history] == [r.epoch for r in read_audits(tmp_path / "audit")] == [0, 1]
    assert [count for _, count, _ in sink.shown] == [0, 0]
    assert callback.failures == []


def test_own_sinks_take_the_place_of_those_of_loggers(kit, audit, trainer, loaders, tmp_path: Path, caplog) -> None:
    """Files and the line on the screen have settings of their own."""
    logger = TensorBoardLogger(tmp_path / "board", name="", version="")
    with caplog.at_level("INFO", logger=f"{pl.__name__}.utilities.rank_zero"):
        audited = audit(sinks=[], output_dir=tmp_path / "audit")
        trainer(audited, max_epochs=1, logger=logger).fit(kit.Translator(), *loaders)
    assert len(list((tmp_path / "audit").glob("audit-*step=*.json"))) == 1
    assert "AUC" in caplog.text
    tags = EventAccumulator(str(tmp_path / "board")).Reload().Tags()
    assert "audit/auc" in tags["scalars"]
    assert "audit/verdict/text_summary" not in tags["tensors"]
    caplog.clear()
    trainer(audit(sinks=[], verbose=False), max_epochs=1).fit(kit.Translator(), *loaders)
    assert "AUC" not in caplog.text


def test_no_sample_is_run_again_where_no_sink_wants_pictures(kit, audit, trainer, loaders, monkeypatch) -> None:
    sink = Notebook()
    sink.wants_pictures = False
    callback = audit(sinks=[sink])
    monkeypatch.setattr(callback, "pictures", lambda *_: pytest.fail("samples were run again"))
    trainer(callback, max_epochs=1).fit(kit.Translator(), *loaders)
    assert [count for _, count, _ in sink.shown] == [0]


def train_and_attach(callback: Any, run: Any, kit: Any, loaders: Any) -> None:
    run.fit(kit.Translator(), *loaders)
    callback.attach(run, [Path("report.html")])


@pytest.mark.parametrize(
    "moment",
    [
        *("open", "write", "attach"),
        *(pytest.param(moment, marks=pytest.mark.slow) for moment in ("start", "show", "end_validation", "close")),
    ],
)
def test_a_sink_that_fails_ends_no_training(kit, audit, trainer, loaders, moment: str) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("no network")

    broken, sound = Notebook(), Notebook()
    setattr(broken, moment, fail)
    callback = audit(sinks=[broken, sound])
    run = trainer(callback)
    with pytest.warns(UserWarning, match=r"Notebook of the audit failed, .* goes on \(RuntimeError: no network\)"):
        train_and_attach(callback, run, kit, loaders)
    assert run.current_epoch == 2
    assert [result for result, _ in sound.written] == callback.history
    assert len(callback.history) == 2
    assert sound.closed == [2]


def test_a_sink_cannot_disturb_a_training(kit, audit, trainer, loaders) -> None:
    class Draws(AuditSink):
        def write(self, *_: Any) -> None:
            torch.rand(1), np.random.rand(), random.random()

    trained = []
    for callbacks in ([audit(sinks=[Draws()])], []):
        torch.manual_seed(0)
        np.random.seed(0)
        random.seed(0)
        module = kit.Translator()
        trainer(*callbacks).fit(module, *loaders)
        states = torch.get_rng_state().sum().item(), float(np.random.rand()), random.random()
        trained.append((states, [p.detach().clone() for p in module.parameters()]))
    assert trained[0][0] == trained[1][0]
    assert all(torch.equal(a, b) for a, b in zip(trained[0][1], trained[1][1], strict=True))
