"""The last audit of a training has all attacks, whatever ends it, and the others stay cheap."""

from __future__ import annotations

import csv
import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning_package import Callback, CSVLogger, EarlyStopping, WeightAveraging
from torch import Tensor

from mia_lightning import AuditResult

CHEAP = ["reconstruction", "membership"]
ALL = [*CHEAP, "calibrated", "neighbour", "combined"]


def scores_of(callback) -> list[list[str]]:
    return [list(result.scores) for result in callback.history]


def verdict_scores(callback) -> list[str]:
    return [result.meta["verdict_score"] for result in callback.history]


class StopAfter(Callback):
    """Stops a training in a hook that comes after the validation of its epoch, or in the middle of an epoch."""

    def __init__(self, epoch: int, batch: int | None = None) -> None:
        self.epoch, self.batch = epoch, batch

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        if (trainer.current_epoch, batch_idx) == (self.epoch, self.batch):
            trainer.should_stop = True

    def on_train_epoch_end(self, trainer, pl_module) -> None:
        if self.batch is None and trainer.current_epoch == self.epoch:
            trainer.should_stop = True


@pytest.mark.parametrize(
    "settings",
    [
        {"max_epochs": 3},
        {"max_epochs": -1, "max_steps": 9},
        {"max_epochs": 7, "check_val_every_n_epoch": 2},  # the last epoch is not validated
        {"max_epochs": 1, "val_check_interval": 1},  # of three validations in the epoch
    ],
    ids=["epochs", "steps", "sparse validation", "within an epoch"],
)
def test_the_last_one_that_is_planned(kit, audit, trainer, loaders, settings) -> None:
    callback, spy = audit(), kit.Spy()
    trainer(callback, spy, **settings).fit(kit.Translator(), *loaders)
    assert scores_of(callback) == [CHEAP, CHEAP, ALL]
    assert verdict_scores(callback) == ["membership", "membership", "combined"]
    assert "audit/auc/combined" in spy.seen[-1]
    for result in callback.history:
        assert result.metrics["audit/auc"] == result.metrics["audit/auc/membership"]
    last = callback.result
    assert last.verdict.score == last.verdict_score == "combined"
    # Both share the error of this look.
    assert last.metric("p_value_corrected/combined") >= last.metric("p_value/combined")
    assert [r.meta["look"]["number"] for r in callback.history] == [1, 2, 3]


def test_one_that_early_stopping_makes_the_last_is_made_again(kit, audit, trainer, loaders, tmp_path: Path) -> None:
    """The same weights, epoch and step; the one before is replaced in history, files and loggers."""

    def fit(**settings):
        torch.manual_seed(0)
        callback, model = audit(output_dir=tmp_path / str(len(settings)), **settings), kit.Translator()
        stopping = EarlyStopping("val/loss", patience=2, min_delta=1e9)
        logger = CSVLogger(tmp_path / f"csv{len(settings)}", "", "")
        trainer(callback, stopping, max_epochs=9, logger=logger).fit(model, *loaders)
        return callback, model

    callback, model = fit()
    plain, other = fit(verdict="primary")
    assert scores_of(callback) == [CHEAP, CHEAP, ALL]
    assert scores_of(plain) == [CHEAP] * 3
    for name, value in other.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name
    ours, theirs = callback.result, plain.result
    for key in ("epoch", "step", "logged_step", "utility", "stage"):
        assert ours.meta[key] == theirs.meta[key], key
    assert {k: ours.meta["look"][k] for k in ("number", "spent")} == {
        k: theirs.meta["look"][k] for k in ("number", "spent")
    }
    for name in CHEAP:
        np.testing.assert_array_equal(ours.scores[name], theirs.scores[name])
    moved = {k for k, v in theirs.metrics.items() if v == v and ours.metrics[k] != v}
    assert moved <= {"audit/p_value_corrected", "audit/p_value_corrected/most_exposed"}  # two scores share the error
    assert callback._looks.state.number == 3

    files = sorted((tmp_path / "0").glob("audit-epoch=*.json"))
    assert len(files) == 3
    assert AuditResult.from_json(files[-1]).meta["verdict_score"] == "combined"
    with (tmp_path / "csv0" / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert sum(bool(row["audit/auc"]) for row in rows) == 3  # not once more
    assert [float(row["audit/auc/combined"]) for row in rows if row["audit/auc/combined"]] == [
        ours.metrics["audit/auc/combined"]
    ]


def test_weights_that_were_trained_on_are_audited_as_well(kit, audit, trainer, loaders) -> None:
    callback = audit()
    trainer(callback, StopAfter(2), max_epochs=9, check_val_every_n_epoch=2).fit(kit.Translator(), *loaders)
    assert [r.epoch for r in callback.history] == [1, 2]
    assert scores_of(callback) == [CHEAP, ALL]
    assert any("after its last validation" in note for note in callback.result.meta["notes"])
    assert "utility" not in callback.result.meta  # of other weights


def test_a_stop_within_an_epoch(kit, audit, trainer, loaders) -> None:
    callback = audit()
    trainer(callback, StopAfter(1, batch=0), max_epochs=9).fit(kit.Translator(), *loaders)
    assert scores_of(callback)[-1] == ALL
    assert all(scores == CHEAP for scores in scores_of(callback)[:-1])


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"min_epochs": 3}, [CHEAP, ALL]),
        ({"min_steps": 11}, [CHEAP, ALL]),  # of three an epoch: after the second step of the fourth
        ({"min_epochs": 2, "val_check_interval": 1, "every_n_epochs": 1}, [CHEAP] * 5 + [ALL]),
    ],
    ids=["epochs", "steps", "within an epoch"],
)
def test_a_stop_waits_for_the_least_training(kit, audit, trainer, loaders, settings, expected) -> None:
    """A stop after the first batch: Lightning trains on until it may stop, and the audits in between stay cheap."""
    every = settings.pop("every_n_epochs", 2)
    callback = audit(every_n_epochs=every)
    trainer(callback, StopAfter(0, batch=0), max_epochs=9, **settings).fit(kit.Translator(), *loaders)
    assert scores_of(callback) == expected, [(r.epoch, r.meta["step"]) for r in callback.history]


def test_averaged_weights_that_were_validated_last(kit, audit, trainer, loaders) -> None:
    callback, stopping = audit(), EarlyStopping("val/loss", patience=2, min_delta=1e9)
    model = kit.Translator()
    trainer(callback, WeightAveraging(), stopping, max_epochs=9).fit(model, *loaders)
    assert scores_of(callback) == [CHEAP, CHEAP, ALL]
    assert callback.result.epoch == 2


def test_a_training_that_is_broken_off_keeps_what_it_has(kit, audit, trainer, loaders, tmp_path: Path) -> None:
    class Breaks(kit.Translator):
        def on_train_epoch_start(self) -> None:
            if self.current_epoch == 2:
                raise RuntimeError("broken off")

    callback = audit(output_dir=tmp_path / "audit")
    with pytest.raises(RuntimeError, match="broken off"):
        trainer(callback, max_epochs=5).fit(Breaks(), *loaders)
    assert scores_of(callback) == [CHEAP, CHEAP]
    assert verdict_scores(callback) == ["membership", "membership"]


@pytest.mark.parametrize("settings", [{"scores": CHEAP}, {"primary": "membership"}, {"verdict": "primary"}])
def test_what_was_chosen_stays(kit, audit, trainer, loaders, settings) -> None:
    callback, stopping = audit(**settings), EarlyStopping("val/loss", patience=0, min_delta=1e9)
    trainer(callback, stopping, max_epochs=9).fit(kit.Translator(), *loaders)
    assert scores_of(callback) == [CHEAP] * 2
    assert verdict_scores(callback) == ["membership"] * 2


def test_an_audit_that_cannot_be_made_again_stays_as_it_was(kit, audit, trainer, loaders, monkeypatch) -> None:
    callback, stopping = audit(), EarlyStopping("val/loss", patience=0, min_delta=1e9)
    run, calls = callback.auditor.run, []

    def fail(*args, **kwargs):
        calls.append(kwargs["looks"].last)
        if calls[-1]:
            raise RuntimeError("the disk is gone")
        return run(*args, **kwargs)

    monkeypatch.setattr(callback.auditor, "run", fail)
    with pytest.warns(UserWarning, match="could not be made with all attacks.*the disk is gone"):
        trainer(callback, stopping, max_epochs=9).fit(kit.Translator(), *loaders)
    assert calls == [False, False, True]
    assert scores_of(callback) == [CHEAP] * 2
    assert callback._looks.state.number == 2


def test_copies_cost_forward_passes_in_the_end_alone(kit, audit, trainer, loaders) -> None:
    class Counts(kit.Translator):
        audited = 0

        def forward(self, x: Tensor) -> Tensor:
            self.audited += len(x) * (not torch.is_grad_enabled() and not self.trainer.sanity_checking)
            return super().forward(x)

    model, passes = Counts(), []

    class AtEnd(Callback):
        def on_validation_end(self, trainer, pl_module) -> None:
            passes.append(pl_module.audited)
            pl_module.audited = 0

    callback = audit()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer(callback, AtEnd(), max_epochs=3).fit(model, *loaders)
    copies = len(callback.result.meta["neighbours"]["used"])
    assert passes[1:] == [11 + 5, 11 * (1 + copies) + 5]  # of the first, a few are made before the training


def test_a_resumed_training_goes_on_with_its_looks(kit, audit, trainer, loaders, tmp_path: Path) -> None:
    first = audit()
    run = trainer(first, EarlyStopping("val/loss", patience=0, min_delta=1e9), max_epochs=9)
    run.fit(kit.Translator(), *loaders)
    run.save_checkpoint(tmp_path / "last.ckpt")
    second = audit()
    trainer(second, max_epochs=3).fit(kit.Translator(), *loaders, ckpt_path=tmp_path / "last.ckpt")
    assert scores_of(second) == [CHEAP, ALL, ALL]
    assert [r.meta["look"]["number"] for r in second.history] == [1, 2, 3]
    assert json.dumps(second.history[1].meta, sort_keys=True) == json.dumps(first.result.meta, sort_keys=True)
