"""How many audits the corrected p-value allows for."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from lightning_package import TrainerFn

from mia_lightning.callbacks.schedule import looks_of


def planned_trainer(epochs: int | None, batches: float = 8, between: float = 8, stage: TrainerFn = TrainerFn.FITTING):
    return SimpleNamespace(
        state=SimpleNamespace(fn=stage), max_epochs=epochs, num_training_batches=batches, val_check_batch=between
    )


@pytest.mark.parametrize(
    ("settings", "every", "expected"),
    [
        ({"epochs": 10}, 1, 10),
        ({"epochs": 10}, 4, 3),  # epochs 4 and 8, and the last
        ({"epochs": 3, "between": 2}, 1, 12),
        ({"epochs": 5, "batches": float("inf"), "between": float("inf")}, 1, 5),
        ({"epochs": 5, "stage": TrainerFn.VALIDATING}, 1, 1),
    ],
)
def test_as_many_as_are_planned(settings, every, expected):
    for before in range(expected):
        assert looks_of(planned_trainer(**settings), before, every) == expected


@pytest.mark.parametrize(("epochs", "first"), [(None, 0), (-1, 0), (3, 3)])
def test_an_open_end_spends_one_share_of_the_error_in_all(epochs, first):
    looks = [looks_of(planned_trainer(epochs), before, 1) for before in range(first, 5000)]
    assert looks[0] == (first + 1) * (first + 2)
    # After all that was planned, what follows costs 1 / (planned + 1) more.
    assert sum(1 / k for k in looks) <= 1 / (first + 1)


def test_validations_within_epochs_count(kit, audit, loaders, trainer):
    callback = audit()
    trainer(callback, max_epochs=2, val_check_interval=0.5).fit(kit.Translator(), *loaders)
    assert [r.meta["looks"] for r in callback.history] == [len(callback.history)] * len(callback.history)
    assert len(callback.history) > 2


def test_a_rehearsal_leaves_no_files(kit, audit, loaders, trainer, tmp_path):
    folder = tmp_path / "audits"
    callback = audit(output_dir=folder)
    trainer(callback, fast_dev_run=True).fit(kit.Translator(), *loaders)
    assert len(callback.history) == 1
    assert not folder.exists() or not list(folder.iterdir())
