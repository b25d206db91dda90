"""What a checkpoint keeps of an audit, and how a resumed training goes on."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning_package import ModelCheckpoint


def plain_module(kit: Any) -> Any:
    """No random number after construction: what follows a checkpoint follows from it."""
    torch.manual_seed(7)
    module = kit.Translator()
    module.network[3] = torch.nn.Identity()
    return module


def test_a_checkpoint_loads_with_weights_only(kit, audit, trainer, loaders, tmp_path: Path) -> None:
    callback = audit()
    run = trainer(callback)
    run.fit(kit.Translator(), *loaders)
    run.save_checkpoint(tmp_path / "end.ckpt")
    states = torch.load(tmp_path / "end.ckpt", weights_only=True)["callbacks"]
    key = callback.state_key
    assert "MembershipAudit" in key
    assert "audit" in key
    fresh = audit()
    fresh.load_state_dict(states[key])
    for ours, theirs in zip(callback.history, fresh.history, strict=True):
        kit.same(ours, theirs)


def test_a_long_list_of_ids_is_kept_once(kit, audit, trainer, loaders, tmp_path: Path) -> None:
    callback = audit(kit.Pairs(6, style="triple", name="remarkable-"), kit.Pairs(5, 1, "triple", "ordinary-"))
    run = trainer(callback, max_epochs=3)
    run.fit(kit.Translator(), *loaders)
    run.save_checkpoint(tmp_path / "end.ckpt")
    with zipfile.ZipFile(tmp_path / "end.ckpt") as archive:
        pickled = next(archive.read(n) for n in archive.namelist() if n.endswith("data.pkl"))
    assert pickled.count(b"remarkable-3") == 1


def test_two_audits_side_by_side(kit, audit, trainer, loaders, tmp_path: Path) -> None:
    one, two = audit(prefix="audit"), audit(kit.Pairs(3, 5), kit.Pairs(4, 6), prefix="audit/other", every_n_epochs=2)
    assert one.state_key != two.state_key
    run = trainer(one, two)
    run.fit(kit.Translator(), *loaders)
    assert [r.epoch for r in one.history] == [0, 1]
    assert [r.epoch for r in two.history] == [1]
    assert {"audit/auc", "audit/other/auc"} <= set(run.callback_metrics)
    assert float(run.callback_metrics["audit/other/samples/members"]) == 3
    run.save_checkpoint(tmp_path / "end.ckpt")
    states = torch.load(tmp_path / "end.ckpt", weights_only=True)["callbacks"]
    assert {one.state_key, two.state_key} <= set(states)
    assert len(states[one.state_key]["history"]) == 2
    assert len(states[two.state_key]["history"]) == 1


def test_two_audits_of_one_prefix_are_refused(audit, trainer) -> None:
    with pytest.raises(RuntimeError, match="state_key"):
        trainer(audit(), audit())


@pytest.mark.parametrize("interval", [1.0, 1 / 3])
def test_resuming_continues_the_history(kit, audit, trainer, loaders, tmp_path: Path, interval: float) -> None:
    def run(name: str, resume: Path | None = None) -> Any:
        callback = audit(every_n_epochs=2)
        saving = ModelCheckpoint(tmp_path / name, save_top_k=-1, filename="{epoch}-{step}")
        fit = trainer(callback, saving, max_epochs=6, enable_checkpointing=True, val_check_interval=interval)
        fit.fit(plain_module(kit), *loaders, ckpt_path=resume)
        return callback

    whole = run("whole")
    resumed = run("resumed", tmp_path / "whole" / "epoch=3-step=12.ckpt")
    assert [(r.epoch, r.meta["step"]) for r in resumed.history] == [(r.epoch, r.meta["step"]) for r in whole.history]
    assert {r.epoch for r in whole.history} == {1, 3, 5}
    for ours, theirs in zip(whole.history, resumed.history, strict=True):
        kit.same(ours, theirs)


def test_a_checkpoint_is_audited_by_validation_as_it_was_in_training(
    kit, audit, trainer, loaders, tmp_path: Path
) -> None:
    first = audit()
    run = trainer(first, max_epochs=1)
    run.fit(plain_module(kit), *loaders)
    run.save_checkpoint(tmp_path / "end.ckpt")
    again = audit()
    trainer(again).validate(kit.Translator(), loaders[1], verbose=False)
    blank = again.result
    again = audit()
    model = kit.Translator()
    model.network[3] = torch.nn.Identity()
    trainer(again).validate(model, loaders[1], ckpt_path=tmp_path / "end.ckpt", verbose=False)
    np.testing.assert_array_equal(again.result.errors["membership"], first.result.errors["membership"])
    assert (again.result.errors["membership"] != blank.errors["membership"]).any()


def test_the_predictability_of_a_pair_is_computed_once(kit, audit, quick, trainer, loaders, tmp_path: Path) -> None:
    """In memory by default; under cache_dir for the next process too."""
    calls: list[int] = []

    class Counting:
        settings = quick.settings
        fingerprint = staticmethod(quick.fingerprint)

        def __call__(self, input: torch.Tensor, *args: Any, **options: Any) -> torch.Tensor:
            calls.append(len(input))
            return quick(input, *args, **options)

    callback = audit(scorer=Counting(), cache_dir=tmp_path / "cache")
    trainer(callback, max_epochs=3).fit(kit.Translator(), *loaders)
    assert sum(calls) == 11
    again = audit(scorer=Counting(), cache_dir=tmp_path / "cache")
    trainer(again, max_epochs=1).fit(kit.Translator(), *loaders)
    assert sum(calls) == 11
    np.testing.assert_array_equal(again.result.errors["predictability"], callback.result.errors["predictability"])
