"""The table that a training leaves behind: every sample at every audit, and since when it is flagged."""

from __future__ import annotations

import csv
import signal
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning_package import Callback, ModelCheckpoint

from mia_lightning import AuditContext
from mia_lightning.result.history import flagged_since, read_audits, write_history


@pytest.fixture(autouse=True)
def _as_csv(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)


def rows_of(folder: Path, name: str = "samples.csv") -> list[dict[str, str]]:
    with (folder / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


class Breaks(Callback):
    """Ends the training at an epoch."""

    def __init__(self, epoch: int, error: BaseException) -> None:
        self.epoch, self.error = epoch, error

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        if trainer.current_epoch == self.epoch:
            raise self.error


def test_a_training_leaves_its_history(kit, audit, trainer, loaders, tmp_path: Path) -> None:
    callback = audit(output_dir=tmp_path / "audits", every_n_epochs=2, fdr=0.9)
    trainer(callback, max_epochs=4).fit(kit.Memorizer(), *loaders)
    rows = rows_of(tmp_path / "audits")
    assert [r["epoch"] for r in rows] == ["1"] * 11 + ["3"] * 11
    assert [r["id"] for r in rows] == [name for result in callback.history for name in result.ids]
    since = flagged_since(callback.history)
    assert {r["id"]: r["flagged_since"] for r in rows if r["side"] == "member"} == {
        name: "" if epoch is None else str(epoch) for name, epoch in since.items()
    }
    assert len(list((tmp_path / "audits").glob("audit-epoch=*"))) == 2 * 2


def test_nothing_is_written_without_a_folder_or_an_audit(kit, audit, trainer, loaders, tmp_path: Path) -> None:
    trainer(audit(), max_epochs=1).fit(kit.Translator(), *loaders)
    callback = audit(output_dir=tmp_path / "audits")
    trainer(callback, max_epochs=1, limit_val_batches=0).fit(kit.Translator(), *loaders)
    assert callback.history == []
    assert list(tmp_path.rglob("*.csv")) == []


def test_resuming_continues_the_history(kit, audit, trainer, loaders, tmp_path: Path) -> None:
    saving = ModelCheckpoint(tmp_path, save_top_k=-1, filename="{epoch}")
    whole = audit(output_dir=tmp_path / "whole")
    trainer(whole, saving, max_epochs=4, enable_checkpointing=True).fit(kit.Translator(), *loaders)
    resumed = audit(output_dir=tmp_path / "resumed")
    trainer(resumed, max_epochs=4).fit(kit.Translator(), *loaders, ckpt_path=tmp_path / "epoch=1.ckpt")
    rows, ours = rows_of(tmp_path / "whole"), rows_of(tmp_path / "resumed")
    assert [r["epoch"] for r in ours[::11]] == ["0", "1", "2", "3"]
    assert ours[:22] == [r | {"flagged_since": o["flagged_since"]} for r, o in zip(rows[:22], ours, strict=False)]
    assert [r["id"] for r in ours] == [r["id"] for r in rows]
    assert len(read_audits(tmp_path / "resumed")) == 2, "the audits of before are in the checkpoint and in the table"


@pytest.fixture
def _interruptible() -> Iterator[None]:
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)  # Lightning ignores Ctrl-C from the first one on


@pytest.mark.usefixtures("_interruptible")
@pytest.mark.parametrize(
    ("error", "raised"), [(RuntimeError("out of memory"), RuntimeError), (KeyboardInterrupt(), SystemExit)]
)
def test_a_training_that_is_broken_off_leaves_its_history(
    kit, audit, trainer, loaders, tmp_path: Path, error: BaseException, raised: type[BaseException]
) -> None:
    callback = audit(output_dir=tmp_path / "audits")
    with pytest.raises(raised):
        trainer(callback, Breaks(2, error), max_epochs=5).fit(kit.Translator(), *loaders)
    assert [r["epoch"] for r in rows_of(tmp_path / "audits")[::11]] == ["0", "1"]


def test_a_killed_run_is_rebuilt_from_its_audits(kit, audit, trainer, loaders, tmp_path: Path) -> None:
    folder = tmp_path / "audits"
    callback = audit(output_dir=folder)
    trainer(callback, max_epochs=3).fit(kit.Translator(), *loaders)
    last = sorted(folder.glob("audit-*step=*.json"))[-1]
    last.write_bytes(last.read_bytes()[:200])
    with pytest.warns(UserWarning, match="goes on without a broken file"):
        history = read_audits(folder)
    write_history(history, tmp_path / "rebuilt")
    write_history(callback.history[:2], tmp_path / "kept")
    assert rows_of(tmp_path / "rebuilt") == rows_of(tmp_path / "kept")


def test_audits_side_by_side_keep_a_history_each(kit, audit, trainer, loaders, tmp_path: Path) -> None:
    one = audit(output_dir=tmp_path / "audits")
    other = audit(kit.Pairs(3, 5), kit.Pairs(4, 6), prefix="audit/hard", output_dir=tmp_path / "audits")
    trainer(one, other, max_epochs=1).fit(kit.Translator(), *loaders)
    assert len(rows_of(tmp_path / "audits")) == 11
    assert len(rows_of(tmp_path / "audits", "audit_hard-samples.csv")) == 7


def test_an_audit_is_kept_where_the_project_fails_before_its_validation_ends(
    kit, audit, trainer, loaders, tmp_path: Path
) -> None:
    class Fails(kit.Translator):
        def on_validation_epoch_end(self) -> None:
            if self.current_epoch == 1:
                raise RuntimeError("a mistake of the project")

    callback = audit(output_dir=tmp_path / "audits")
    with pytest.raises(RuntimeError, match="a mistake of the project"):
        trainer(callback, max_epochs=3).fit(Fails(), *loaders)
    assert [r.epoch for r in callback.history] == [r.epoch for r in read_audits(tmp_path / "audits")] == [0, 1]
    assert ["utility" in r.meta for r in callback.history] == [True, False]
    assert [r["epoch"] for r in rows_of(tmp_path / "audits")[::11]] == ["0", "1"]


def test_nobody_gets_an_audit_before_it_is_complete(kit, audit, trainer, loaders) -> None:
    class Looks(kit.Translator):
        lengths: list[int] = []  # noqa: RUF012 - of one test

        def on_validation_epoch_end(self) -> None:
            self.lengths.append(len(callback.history))

    class LooksLater(Callback):
        def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
            assert set(callback.result.meta["utility"]) == {"val/loss"}

    callback = audit()
    trainer(callback, LooksLater()).fit(Looks(), *loaders)
    assert Looks.lengths == [0, 1]


def test_an_audit_with_a_context_of_its_own_disturbs_none_after_it(kit, audit, trainer, loaders) -> None:
    class ByHand(Callback):
        def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
            if trainer.current_epoch == 1:
                callback.run(trainer, pl_module, context=AuditContext(checkpoint="mine.pt"))

    callback = audit()
    trainer(callback, ByHand()).fit(kit.Translator(), *loaders)
    assert [r.meta.get("stage") for r in callback.history] == ["fit", None, "fit"]


def test_the_score_over_two_audits_goes_on_with_the_training(kit, audit, trainer, loaders, tmp_path: Path) -> None:
    """As in a training without a break, and the training as without the score."""

    def run(name: str, *scores: str, resume: Path | None = None) -> tuple[Any, Any]:
        torch.manual_seed(7)
        callback, module = audit(scores=("membership", "combined", *scores)), kit.Translator()
        module.network[3] = torch.nn.Identity()  # no random number after construction
        saving = ModelCheckpoint(tmp_path / name / "checkpoints", save_top_k=-1, filename="{epoch}")
        trainer(callback, saving, max_epochs=2, enable_checkpointing=True).fit(module, *loaders, ckpt_path=resume)
        return callback.history, module

    whole, module = run("whole", "combined_history")
    resumed, _ = run("resumed", "combined_history", resume=tmp_path / "whole" / "checkpoints" / "epoch=0.ckpt")
    for ours, theirs in zip(whole, resumed, strict=True):
        kit.same(ours, theirs)
    assert np.isnan(whole[0].scores["combined_history"]).all()
    for before, now in pairwise(whole):
        mean = (before.scores["combined"] + now.scores["combined"]) / 2
        np.testing.assert_allclose(now.scores["combined_history"], mean, atol=1e-12)
        assert np.isfinite(now.metric("auc/combined_history"))
    _, plain = run("plain")
    for name, weight in module.state_dict().items():
        assert weight.equal(plain.state_dict()[name])
