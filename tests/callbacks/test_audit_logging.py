"""What is logged, under which names, and who can monitor it."""

from __future__ import annotations

import csv
import math
import warnings
from pathlib import Path

import pytest
import torch
from lightning_package import CSVLogger, EarlyStopping, ModelCheckpoint

from mia_lightning.scores.summary import worth_logging

SCORES = ("reconstruction", "membership")
ERRORS = ("reconstruction", "predictability", "membership")
FPRS = ("0.01", "0.001", "0")
PARTS = (
    *("auc", "auc_low", "auc_high"),
    *(f"{part}_at_fpr_{fpr}" for part in ("tpr", "tpr_low", "tpr_high") for fpr in FPRS),
)
PROMISED = {
    "auc",
    "tpr_at_fpr_0.01",
    "blind_auc",
    "blind_auc/predictability",
    *(f"{part}/{score}" for part in PARTS for score in SCORES),
    *(f"error/{error}/{side}" for error in ERRORS for side in ("members", "nonmembers")),
}
BESIDE = {
    *(f"realised_fpr_{fpr}" for fpr in FPRS),
    *(f"population_fpr_{end}{fpr}" for end in ("", "low_", "high_") for fpr in FPRS),
    *(f"tpr_at_fpr_{fpr}/estimable" for fpr in ("0.01", "0.001")),
    *(f"partial_auc_fpr_0.1/{score}" for score in SCORES),
    *("samples/members", "samples/nonmembers"),
    *("p_value", "p_value_corrected", "blind_p_value"),
    *("auc_gain", "auc_gain_low", "auc_gain_high"),
    *("adjusted_auc", "adjusted_auc_low", "adjusted_auc_high", "adjusted_p_value", "blind_detectable_shift"),
    *("epsilon_low", "epsilon_low/one_run", "epsilon_low/threshold", "epsilon_low_fdp", "mu_low_fdp"),
}


MATCHED = {"matched_auc", "matched_auc_low", "matched_auc_high", "matched_imbalance", "samples/matched"}
CONTROL = {"control_auc", "control_auc_low", "control_auc_high"}  # of 8 samples a side and more


@pytest.mark.parametrize("prefix", ["audit", "privacy/strict"])
def test_the_promised_keys_are_logged(kit, audit, trainer, loaders, prefix) -> None:
    callback, spy = audit(prefix=prefix, verdict="primary"), kit.Spy()
    run = trainer(callback, spy, max_epochs=1)
    run.fit(kit.Translator(), *loaders)
    logged = {k: v for k, v in spy.seen[0].items() if k.startswith(f"{prefix}/")}
    assert {k.removeprefix(f"{prefix}/") for k in logged} == PROMISED | BESIDE
    kept = callback.result.metrics
    assert logged == pytest.approx({key: kept[key] for key in logged}, nan_ok=True)
    assert {
        k.removeprefix(f"{prefix}/") for k in kept.keys() - logged.keys()
    } == MATCHED | CONTROL  # nothing to match for
    assert all(math.isnan(kept[f"{prefix}/{name}"]) for name in MATCHED | CONTROL)
    assert logged[f"{prefix}/auc"] == logged[f"{prefix}/auc/membership"]
    assert logged[f"{prefix}/samples/members"] == 6


def test_the_primary_score_leads(kit, audit, trainer, loaders) -> None:
    callback = audit(scores=("reconstruction",), primary="reconstruction")
    trainer(callback, max_epochs=1).fit(kit.Translator(), *loaders)
    metrics = callback.result.metrics
    assert "audit/auc/membership" not in metrics
    assert metrics["audit/auc"] == metrics["audit/auc/reconstruction"]
    assert set(callback.result.errors) == set(ERRORS)
    assert set(callback.result.scores) == {"reconstruction"}


def test_the_csv_logger_has_every_epoch(kit, audit, trainer, loaders, tmp_path: Path) -> None:
    callback = audit()
    trainer(callback, logger=CSVLogger(tmp_path, name="", version="")).fit(kit.Translator(), *loaders)
    with (tmp_path / "metrics.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["audit/auc"]]
    assert [row["epoch"] for row in rows] == ["0", "1"]
    for row, result in zip(rows, callback.history, strict=True):
        written = {k: float(v) for k, v in row.items() if k.startswith("audit/") and v}  # the last has further attacks
        assert written == pytest.approx(worth_logging(result.metrics, "audit"), nan_ok=True)


class Watcher(EarlyStopping):
    """Remembers each value that it judged."""

    def _evaluate_stopping_criteria(self, current: torch.Tensor) -> tuple[bool, str | None]:
        self.__dict__.setdefault("judged", []).append(float(current))
        return super()._evaluate_stopping_criteria(current)


@pytest.mark.parametrize("at_train_end", [None, False])
def test_monitors_see_the_value_of_the_same_epoch(kit, audit, trainer, loaders, tmp_path: Path, at_train_end) -> None:
    callback = audit(kit.Pairs(30, 0), kit.Pairs(30, 1))
    stopping = Watcher("audit/auc", mode="min", patience=50, check_on_train_epoch_end=at_train_end)
    saving = ModelCheckpoint(tmp_path, monitor="audit/auc", mode="min", save_top_k=-1, filename="{epoch}")
    # The callbacks that monitor come first: the order in the list must not matter.
    run = trainer(stopping, saving, callback, max_epochs=4, enable_checkpointing=True)
    run.fit(kit.Memorizer(lr=3e-5), *loaders)
    values = [r.metrics["audit/auc"] for r in callback.history]
    assert len(set(values)) > 1
    assert stopping.judged == pytest.approx(values)
    kept = {Path(path).name: float(value) for path, value in saving.best_k_models.items()}
    assert kept == pytest.approx({f"epoch={i}.ckpt": value for i, value in enumerate(values)})
    assert float(saving.best_model_score) == pytest.approx(min(values))


def test_training_stops_when_it_memorises(kit, audit, trainer, loaders) -> None:
    """Members are told ever better, so the first epoch without progress ends it."""
    callback = audit()
    stopping = EarlyStopping("audit/auc/reconstruction", mode="min", patience=2)
    run = trainer(stopping, callback, max_epochs=40)
    run.fit(kit.Memorizer(), *loaders)
    assert run.current_epoch < 40
    assert len(callback.history) == run.current_epoch


def test_training_stops_where_memorization_passes_a_threshold(kit, audit, trainer, loaders) -> None:
    """The first audits lie below it and do not stop anything, whichever way they go."""
    callback = audit()
    stopping = EarlyStopping("audit/auc/reconstruction", mode="min", divergence_threshold=0.9, patience=10**6)
    run = trainer(stopping, callback, max_epochs=60)
    run.fit(kit.Memorizer(lr=3e-5), *loaders)
    *before, last = (r.metrics["audit/auc/reconstruction"] for r in callback.history)
    assert 1 < len(callback.history) < 60
    assert max(before) <= 0.9 < last


def test_a_strict_monitor_is_warned_of(kit, audit, trainer, loaders) -> None:
    callback = audit(every_n_epochs=2)
    stopping = EarlyStopping("audit/auc", mode="min")
    with (
        pytest.warns(UserWarning, match="'audit/auc', which is logged every 2 epochs only: give it strict=False"),
        pytest.raises(RuntimeError, match="audit/auc"),
    ):
        trainer(callback, stopping, max_epochs=3).fit(kit.Translator(), *loaders)


def test_a_checkpoint_of_another_cadence_is_warned_of(kit, audit, trainer, loaders, tmp_path: Path) -> None:
    """ModelCheckpoint has no strict: Lightning raises where its key is missing after a validation."""
    saving = ModelCheckpoint(tmp_path, monitor="audit/auc", mode="min")
    with (
        pytest.warns(UserWarning, match="ModelCheckpoint monitors 'audit/auc', .* give it every_n_epochs=2"),
        pytest.raises(Exception, match="could not find the monitored key"),
    ):
        trainer(audit(every_n_epochs=2), saving, enable_checkpointing=True).fit(kit.Translator(), *loaders)


def test_monitors_that_suit_the_cadence_are_not_warned_of(kit, audit, trainer, loaders, tmp_path: Path) -> None:
    callback = audit(every_n_epochs=2)
    stopping = EarlyStopping("audit/auc", mode="min", strict=False, patience=20)
    saving = ModelCheckpoint(tmp_path, monitor="audit/auc", mode="min", every_n_epochs=2, save_top_k=-1)
    other = EarlyStopping("val/loss", patience=20)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run = trainer(callback, stopping, saving, other, max_epochs=4, enable_checkpointing=True)
        run.fit(kit.Translator(), *loaders)
    assert not [w for w in caught if "every 2 epochs only" in str(w.message)]
    assert [r.epoch for r in callback.history] == [1, 3]
    assert len(saving.best_k_models) == 2


def test_whether_nonmembers_chose_the_checkpoints_is_recorded(kit, audit, trainer, loaders) -> None:
    """Only a datamodule can tell that the nonmembers validate; see end_to_end for ours."""
    from lightning_package import LightningDataModule

    class Data(LightningDataModule):
        def __init__(self, validates: bool) -> None:
            super().__init__()
            self.validates = validates

        def train_dataloader(self):
            return loaders[0]

        def val_dataloader(self):
            return loaders[1]

        def audit_dataloaders(self):
            return loaders

        def audit_info(self):
            return {"assignment": "coin", "nonmembers_validate": self.validates}

    def recorded(validates: bool, *callbacks: object) -> object:
        from mia_lightning import MembershipAudit

        callback = MembershipAudit(scorer=audit().auditor.scorer)
        trainer(callback, *callbacks, max_epochs=1).fit(kit.Translator(), datamodule=Data(validates))
        assert callback.result.meta["membership"]["assignment"] == "coin"
        return callback.result.meta["nonmembers_select_checkpoints"]

    assert recorded(True) is False
    assert recorded(True, EarlyStopping("val/loss")) is True
    assert recorded(True, EarlyStopping("train/loss", strict=False)) is False
    assert recorded(False, EarlyStopping("val/loss")) is False
