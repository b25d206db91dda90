"""When the audit runs, and what it says about when that was."""

from __future__ import annotations

import warnings
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning_package import EarlyStopping
from torch.utils.data import DataLoader

from mia_lightning.functional.error_spending import RESERVE


def epochs(callback: Any) -> list[int | None]:
    return [result.epoch for result in callback.history]


@pytest.mark.parametrize(
    ("every", "max_epochs", "expected"),
    [
        (1, 3, [0, 1, 2]),
        pytest.param(2, 4, [1, 3], marks=pytest.mark.slow),
        (2, 5, [1, 3, 4]),
        pytest.param(3, 5, [2, 4], marks=pytest.mark.slow),
        (10, 4, [3]),
    ],
)
def test_every_n_epochs_and_the_last_one(kit, audit, trainer, loaders, every, max_epochs, expected) -> None:
    callback = audit(every_n_epochs=every)
    trainer(callback, max_epochs=max_epochs).fit(kit.Translator(), *loaders)
    assert epochs(callback) == expected


def test_the_epoch_at_which_early_stopping_stops_is_audited(kit, audit, trainer, loaders) -> None:
    callback = audit(every_n_epochs=4)
    stop = EarlyStopping("val/loss", patience=0, min_delta=1e9)  # nothing is ever good enough
    run = trainer(callback, stop, max_epochs=9)
    run.fit(kit.Translator(), *loaders)
    assert epochs(callback) == [1]
    assert callback.result.metrics["audit/auc"] >= 0


def test_an_unaudited_epoch_that_was_not_the_last_stays_so(kit, audit, trainer, loaders) -> None:
    callback = audit(every_n_epochs=3)
    trainer(callback, max_epochs=5, check_val_every_n_epoch=2).fit(kit.Translator(), *loaders)
    assert epochs(callback) == []


def test_no_audit_while_sanity_checking(kit, audit, trainer, loaders) -> None:
    callback, counts = audit(), []

    class Module(kit.Translator):
        def on_train_start(self) -> None:
            counts.append(len(callback.history))

    run = trainer(callback, max_epochs=1, num_sanity_val_steps=-1)
    run.fit(Module(), *loaders)
    assert counts == [0]
    assert epochs(callback) == [0]


def test_every_validation_run_of_an_audited_epoch(kit, audit, trainer, loaders) -> None:
    callback = audit(every_n_epochs=2)
    trainer(callback, max_epochs=3, val_check_interval=1 / 3).fit(kit.Translator(), *loaders)
    assert epochs(callback) == [1, 1, 1, 2, 2, 2]
    assert [r.meta["step"] for r in callback.history] == [4, 5, 6, 7, 8, 9]


def test_half_epochs(kit, audit, trainer) -> None:
    callback = audit()
    train, val = DataLoader(kit.Pairs(8), batch_size=2), DataLoader(kit.Pairs(4, seed=1), batch_size=2)
    trainer(callback, val_check_interval=0.5).fit(kit.Translator(), train, val)
    assert epochs(callback) == [0, 0, 1, 1]
    assert [r.meta["step"] for r in callback.history] == [2, 4, 6, 8]


def test_validation_every_other_epoch(kit, audit, trainer, loaders) -> None:
    callback = audit()
    trainer(callback, max_epochs=5, check_val_every_n_epoch=2).fit(kit.Translator(), *loaders)
    assert epochs(callback) == [1, 3]


def test_validation_alone_is_audited(kit, audit, trainer, loaders) -> None:
    callback = audit(every_n_epochs=7)
    run = trainer(callback)
    run.validate(kit.Translator(), loaders[1], verbose=False)
    assert epochs(callback) == [None]
    assert callback.result.meta["stage"] == "validate"
    assert callback.result.meta["step"] == 0
    assert float(run.callback_metrics["audit/auc"]) == pytest.approx(callback.result.metrics["audit/auc"])


def test_fit_after_validate_with_the_same_callback(kit, quick, audit, trainer, loaders) -> None:
    """The extractor is built in inference mode the first time, and used in training afterwards."""
    callback, model = audit(verdict="primary"), kit.Translator()
    run = trainer(callback, max_epochs=1)
    run.validate(model, loaders[1], verbose=False)
    run.fit(model, *loaders)
    run.validate(model, loaders[1], verbose=False)
    assert epochs(callback) == [None, 0, None]
    last, again = (dict(result.metrics) for result in callback.history[1:])
    corrected, alone = (metrics.pop("audit/p_value_corrected") for metrics in (last, again))
    # A training that goes on has something left to spend; the shuffles are others.
    assert corrected == pytest.approx(alone / (1 - RESERVE), abs=0.02)
    assert last == pytest.approx(again, rel=0, abs=0, nan_ok=True)


def test_nothing_is_audited_when_testing_or_predicting(kit, audit, trainer, loaders) -> None:
    class Module(kit.Translator):
        def test_step(self, batch: Any, batch_idx: int) -> None: ...

        def predict_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            return self(batch[0])

    callback, model = audit(), Module()
    run = trainer(callback)
    run.test(model, loaders[1], verbose=False)
    run.predict(model, loaders[1])
    assert callback.result is None
    assert callback.history == []


def test_what_a_result_says_of_itself(kit, audit, trainer, loaders) -> None:
    callback = audit(max_samples=4, seed=3, alpha=0.5)
    trainer(callback).fit(kit.Translator(), *loaders)
    assert callback.result is callback.history[-1]
    meta = callback.result.meta
    assert (meta["epoch"], meta["step"], meta["stage"], meta["task"]) == (1, 6, "fit", "translation")
    assert meta["membership"] == {"assignment": "given"}
    assert meta["nonmembers_select_checkpoints"] is None
    assert meta["settings"] | {"max_samples": 4, "seed": 3, "alpha": 0.5, "prefix": "audit"} == meta["settings"]
    assert set(meta["versions"]) >= {"mia_lightning", "torch"}


def test_max_samples_draws_the_same_subset_at_every_audit(kit, audit, trainer, loaders) -> None:
    callback = audit(kit.Pairs(12, name="in", style="triple"), kit.Pairs(9, 1, "triple", "out"), max_samples=5)
    trainer(callback).fit(kit.Translator(), *loaders)
    first, second = callback.history
    assert first.ids == second.ids
    assert len(first.ids) == 10
    assert first.member.tolist() == [True] * 5 + [False] * 5


def test_a_stopped_training_audits_its_last_validation(kit, audit, trainer, loaders) -> None:
    """The last epoch is the one that training ends with, whoever ends it."""
    by_steps = audit(every_n_epochs=100)
    trainer(by_steps, max_epochs=-1, max_steps=6).fit(kit.Translator(), *loaders)
    assert epochs(by_steps) == [1]

    class Stops(kit.Translator):
        def on_train_batch_end(self, *_: Any) -> None:
            self.trainer.should_stop = self.trainer.global_step >= 4

    by_stop = audit(every_n_epochs=100)
    trainer(by_stop, max_epochs=50).fit(Stops(), *loaders)
    assert epochs(by_stop) == [1]


def test_several_validation_loaders(kit, audit, trainer, loaders) -> None:
    callback, spy = audit(), kit.Spy()
    trainer(callback, spy, max_epochs=1).fit(kit.Translator(), loaders[0], [loaders[1], loaders[1]])
    assert epochs(callback) == [0]
    assert "audit/auc" in spy.seen[0]


def test_a_fast_development_run(kit, audit, trainer, loaders) -> None:
    callback = audit()
    trainer(callback, fast_dev_run=True).fit(kit.Translator(), *loaders)
    assert epochs(callback) == [0]


def test_training_without_validation_is_told(kit: SimpleNamespace, audit, trainer, loaders) -> None:
    callback = audit()
    with pytest.warns(UserWarning, match="runs in validation, and this training has none") as caught:
        trainer(callback, max_epochs=1).fit(kit.Translator(), loaders[0])
    assert callback.result is None
    (last,) = [str(w.message) for w in caught if "ended without an audit" in str(w.message)]
    assert last.endswith(
        "it had no validation. Give it one for the next time, or audit the model that it left: "
        "Auditor().run(model, members, nonmembers)."
    )


@pytest.mark.parametrize(
    "options",
    [
        {"val_check_interval": 100, "check_val_every_n_epoch": None},
        {"check_val_every_n_epoch": 3},
        {"max_steps": 1},
        {"check_val_every_n_epoch": 2, "max_epochs": 3},
    ],
)
def test_a_training_that_ends_without_an_audit_says_so(kit, audit, trainer, loaders, options) -> None:
    callback = audit(every_n_epochs=3)
    with pytest.warns(
        UserWarning, match=r"ended without an audit: no validation was run in .* \(every 3, and the last"
    ):
        trainer(callback, **options).fit(kit.Translator(), *loaders)
    assert callback.history == []


def test_a_training_with_audits_does_not(kit, audit, trainer, loaders) -> None:
    callback = audit()
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*without an audit")
        trainer(callback, max_epochs=1).fit(kit.Translator(), *loaders)
        trainer(audit(every_n_epochs=5), EarlyStopping("val/loss", patience=0, min_delta=9.0), max_epochs=3).fit(
            kit.Translator(), *loaders
        )
    with pytest.warns(UserWarning, match="without an audit"):  # audits of an earlier training do not count
        trainer(callback, max_steps=1).fit(kit.Translator(), *loaders)
