"""How many audits corrected p-values and simultaneous bands allow for, and what they know of each other."""

from __future__ import annotations

import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lightning_package import EarlyStopping, ModelCheckpoint, TrainerFn

from mia_lightning import MembershipAudit
from mia_lightning.callbacks.schedule import looks_left
from mia_lightning.functional.error_spending import OPEN_LOOKS, RESERVE


def planned_trainer(
    epochs: int | None,
    batches: float = 8,
    between: float = 8,
    now: int = 0,
    done: int = 8,
    *,
    steps: int = -1,
    validated: int = 1,
    callbacks: tuple = (),
):
    loop = SimpleNamespace(epoch_loop=SimpleNamespace(batch_idx=done - 1))
    return SimpleNamespace(
        state=SimpleNamespace(fn=TrainerFn.FITTING),
        max_epochs=epochs,
        max_steps=steps,
        num_training_batches=batches,
        val_check_batch=between,
        current_epoch=now,
        check_val_every_n_epoch=validated,
        accumulate_grad_batches=1,
        fit_loop=loop,
        callbacks=list(callbacks),
    )


@pytest.mark.parametrize(
    ("settings", "every", "expected"),
    [
        ({"epochs": 10}, 1, 10),
        ({"epochs": 10, "now": 9}, 1, 1),
        ({"epochs": 10, "now": 3}, 4, 3),  # epochs 4 and 8, and the last
        ({"epochs": 8, "now": 3}, 4, 2),
        ({"epochs": 3, "between": 2, "done": 2}, 1, 12),
        ({"epochs": 3, "between": 2, "now": 1, "done": 6}, 1, 6),
        ({"epochs": 5, "batches": float("inf"), "between": float("inf")}, 1, 5),
        ({"epochs": 12, "now": 2, "validated": 3}, 2, 3),  # of every sixth epoch; this one is the first of all
        ({"epochs": None, "steps": 40}, 1, 5),
        ({"epochs": 100, "steps": 24, "now": 1}, 1, 2),
        ({"epochs": None}, 1, None),
        ({"epochs": -1}, 1, None),
        ({"epochs": 4, "now": 7}, 1, 1),
    ],
)
def test_as_many_as_are_planned(settings, every, expected):
    assert looks_left(planned_trainer(**settings), every) == expected


def test_early_stopping_leaves_a_long_training_open():
    stopping = EarlyStopping("val/loss")
    assert looks_left(planned_trainer(OPEN_LOOKS, callbacks=(stopping,)), 1) == OPEN_LOOKS
    assert looks_left(planned_trainer(OPEN_LOOKS + 1, callbacks=(stopping,)), 1) is None
    assert looks_left(planned_trainer(OPEN_LOOKS + 1), 1) == OPEN_LOOKS + 1


def test_validations_within_epochs_count(kit, audit, loaders, trainer):
    callback = audit()
    trainer(callback, max_epochs=2, val_check_interval=0.5).fit(kit.Translator(), *loaders)
    assert [r.meta["looks"] for r in callback.history] == [len(callback.history)] * len(callback.history)
    assert len(callback.history) > 2
    assert [r.meta["look"]["number"] for r in callback.history] == [*range(1, len(callback.history) + 1)]
    assert callback.history[-1].meta["look"]["spent"] == pytest.approx(1 - RESERVE)


def test_an_open_end_is_planned_in_parts(kit, audit, loaders, trainer):
    callback = audit()
    trainer(callback, max_epochs=-1, max_time="00:00:00:03").fit(kit.Translator(), *loaders)
    assert len(callback.history) > 2
    for place, result in enumerate(callback.history[:OPEN_LOOKS]):
        assert result.meta["looks"] == OPEN_LOOKS
        assert result.meta["look"]["open"]
        assert result.meta["look"]["spent"] == pytest.approx((place + 1) * 0.5 / OPEN_LOOKS)


def sides(kit):
    return kit.Pairs(30, seed=0, name="in"), kit.Pairs(30, seed=1, name="out")


def test_resuming_gives_the_numbers_of_an_uninterrupted_training(kit, audit, trainer, loaders, tmp_path):
    saving = ModelCheckpoint(tmp_path, save_top_k=-1, filename="{epoch}")
    whole, resumed = audit(*sides(kit)), audit(*sides(kit))
    trainer(whole, saving, max_epochs=5, enable_checkpointing=True).fit(kit.Memorizer(), *loaders)
    checkpoint = torch.load(tmp_path / "epoch=1.ckpt", weights_only=True)
    assert len(checkpoint["callbacks"][whole.state_key]["looks"]["levels"]["area"]) < 5000
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer(resumed, max_epochs=5).fit(kit.Memorizer(), *loaders, ckpt_path=tmp_path / "epoch=1.ckpt")
    assert len(resumed.history) == 5
    for ours, theirs in zip(resumed.history, whole.history, strict=True):
        assert ours.meta["look"] == theirs.meta["look"]
        assert repr(ours.metrics) == repr(theirs.metrics)
        assert "audit/auc_low_simultaneous/membership" in ours.metrics


def test_bands_of_all_looks_hold_the_single_intervals(kit, audit, trainer, loaders):
    callback = audit(*sides(kit))
    trainer(callback, max_epochs=4).fit(kit.Translator(), *loaders)
    for result in callback.history:
        low, high = result.interval()
        wide = [result.metric(f"auc_{end}_simultaneous/membership") for end in ("low", "high")]
        assert wide[0] <= low < high <= wide[1]
        assert result.metric("p_value_corrected") >= result.metric("p_value")
    assert np.diff([r.meta["look"]["spent"] for r in callback.history]) == pytest.approx([(1 - RESERVE) / 4] * 3)


def test_an_audit_outside_of_a_training_is_one_look(kit, audit, trainer, loaders):
    callback = audit(*sides(kit))
    trainer(callback).validate(kit.Translator(), loaders[1])
    assert callback.result.meta["looks"] == 1
    assert "look" not in callback.result.meta
    assert callback.result.metric("p_value_corrected") == callback.result.metric("p_value")
    assert not [key for key in callback.result.metrics if "simultaneous" in key]


def test_a_failed_audit_is_no_look(kit, quick, trainer, loaders):
    class Failing(MembershipAudit):
        def _measure(self, trainer, *args, **options):
            result = super()._measure(trainer, *args, **options)
            if trainer.current_epoch == 1:
                raise OSError("the disk is full")
            return result

    callback = Failing(*sides(kit), scorer=quick)
    with pytest.warns(UserWarning, match="the disk is full"):
        trainer(callback, max_epochs=3).fit(kit.Translator(), *loaders)
    assert [r.meta["look"]["number"] for r in callback.history] == [1, 2]
    assert len(callback.failures) == 1
    assert callback.history[-1].meta["look"]["spent"] == pytest.approx(1 - RESERVE)


def test_a_rehearsal_leaves_no_files(kit, audit, loaders, trainer, tmp_path):
    folder = tmp_path / "audits"
    callback = audit(output_dir=folder)
    trainer(callback, fast_dev_run=True).fit(kit.Translator(), *loaders)
    assert len(callback.history) == 1
    assert not folder.exists() or not list(folder.iterdir())
