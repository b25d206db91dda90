"""Our models and our data, audited as they come: what a user sees who does nothing about it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning_package import LightningDataModule, LightningModule, ModelCheckpoint, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader

from mia_lightning import (
    DemoDataModule,
    MembershipAudit,
    Pix2Pix,
    PredictabilityScorer,
    UNetSegmenter,
)


@pytest.fixture
def quick(monkeypatch) -> PredictabilityScorer:
    """A scorer whose features are block means, which audits without a scorer of their own take as well."""
    scorer = PredictabilityScorer(nn.AvgPool2d(4), grid=8)
    monkeypatch.setattr("mia_lightning.audit.auditor.PredictabilityScorer", lambda: scorer)
    return scorer


@pytest.fixture
def trainer(tmp_path: Path) -> Any:
    def make(*callbacks: Any, **settings: Any) -> Trainer:
        torch.manual_seed(0)
        options: dict[str, Any] = {
            "max_epochs": 1,
            "accelerator": "cpu",
            "devices": 1,
            "logger": False,
            "default_root_dir": tmp_path,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "inference_mode": False,
            "callbacks": list(callbacks),
        }
        return Trainer(**{**options, **settings})

    return make


def small(task: str, **settings: Any) -> tuple[LightningModule, DemoDataModule]:
    data = DemoDataModule(task, image_size=32, num_pairs=12, batch_size=4, seed=1)
    if task == "translation":
        return Pix2Pix(image_size=32, ngf=2, ndf=2, **settings), data
    return UNetSegmenter(data.num_classes, base_channels=2, depth=2, **settings), data


def audits(trainer: Trainer) -> list[MembershipAudit]:
    return [c for c in trainer.callbacks if isinstance(c, MembershipAudit)]


@pytest.mark.parametrize("task", ["translation", "segmentation"])
def test_a_model_brings_its_audit(task: str, trainer) -> None:
    """With the default extractor: nothing but a model, a datamodule and a trainer."""
    run = trainer()
    model, data = small(task)
    run.fit(model, datamodule=data)
    (audit,) = audits(run)
    result = audit.result
    assert result.meta["task"] == task
    assert result.epoch == 0
    assert "audit/auc" in run.callback_metrics
    members, nonmembers = data.audit_dataloaders()
    assert int(result.member.sum()) == len(members.dataset)
    assert int((~result.member).sum()) == len(nonmembers.dataset)
    assert result.ids == [item["id"] for side in (members, nonmembers) for item in side.dataset]
    assert result.meta["membership"]["assignment"] == "coin"
    assert result.meta["settings"]["scorer"]["extractor"] == "efficientnet_lite0"


def test_it_is_brought_once(trainer, quick) -> None:
    """Fitting, validating and fitting on: one audit, one history."""
    run = trainer()
    model, data = small("segmentation")
    run.fit(model, datamodule=data)
    (audit,) = audits(run)
    run.validate(model, datamodule=data, verbose=False)
    run.fit_loop.max_epochs = 2
    run.fit(model, datamodule=data)
    assert audits(run) == [audit]
    assert [r.epoch for r in audit.history] == [0, None, 1]


@pytest.mark.parametrize("task", ["translation", "segmentation"])
def test_validating_before_fitting(task: str, trainer, quick) -> None:
    """In inference mode, as Lightning validates unless told otherwise."""
    audit = MembershipAudit(scorer=quick, task=task)
    run = trainer(audit, inference_mode=True)
    model, data = small(task, audit=False)
    run.validate(model, datamodule=data, verbose=False)
    run.fit(model, datamodule=data)
    assert [r.epoch for r in audit.history] == [None, 0]


def test_the_users_own_wins(trainer, quick) -> None:
    mine = MembershipAudit(scorer=quick, task="segmentation", prefix="mine", alpha=0.25)
    run = trainer(mine)
    model, data = small("segmentation")
    run.fit(model, datamodule=data)
    assert audits(run) == [mine]
    assert mine.result.meta["settings"]["alpha"] == 0.25
    assert "mine/auc" in run.callback_metrics
    assert "audit/auc" not in run.callback_metrics


def test_several_of_the_users_own(trainer, quick) -> None:
    mine = [MembershipAudit(scorer=quick, prefix=p) for p in ("audit", "again")]
    run = trainer(*mine)
    model, data = small("translation")
    run.fit(model, datamodule=data)
    assert audits(run) == mine
    first, second = (m.result for m in mine)
    assert [*first.metrics.values()] == [*second.metrics.values()]


def test_audit_false(trainer) -> None:
    run = trainer()
    model, data = small("translation", audit=False)
    run.fit(model, datamodule=data)
    assert audits(run) == []
    assert not [k for k in run.callback_metrics if k.startswith("audit/")]


def test_without_a_datamodule_there_is_no_audit(trainer) -> None:
    run = trainer()
    model, data = small("translation")
    data.setup()
    run.fit(model, data.train_dataloader(), data.val_dataloader())
    assert audits(run) == []


def test_checkpoints_by_validation_loss_are_recorded(trainer, quick, tmp_path: Path) -> None:
    """The nonmembers are the validation set here: choosing by them makes them a little less than nonmembers."""
    for monitor, chosen in (("val/loss", True), ("train/loss", False), (None, False)):
        audit = MembershipAudit(scorer=quick)
        saving = ModelCheckpoint(tmp_path / str(monitor), monitor=monitor)
        model, data = small("segmentation")
        trainer(audit, saving, enable_checkpointing=True).fit(model, datamodule=data)
        assert audit.result.meta["nonmembers_select_checkpoints"] is chosen, monitor


def test_one_class_and_its_single_logit(trainer, quick) -> None:
    generator = torch.Generator().manual_seed(0)

    def items(count: int) -> list[dict[str, Any]]:
        return [
            {
                "image": torch.rand(3, 32, 32, generator=generator),
                "mask": torch.randint(0, 2, (32, 32), generator=generator),
                "id": f"{count}-{i}",
            }
            for i in range(count)
        ]

    members, nonmembers = items(5), items(4)
    model = UNetSegmenter(1, base_channels=2, depth=2)
    audit = MembershipAudit(members, nonmembers, scorer=quick, **model.audit_settings())
    trainer(audit).fit(model, DataLoader(members, 5), DataLoader(nonmembers, 4))
    assert audit.result.meta["task"] == "segmentation"
    assert audit.result.ids == [f"5-{i}" for i in range(5)] + [f"4-{i}" for i in range(4)]
    assert not audit.result.excluded


class Pairs(LightningDataModule):
    """Pairs under ``input`` and ``target``, if asked with a smaller picture of noise under ``image``."""

    def __init__(self, task: str, noise: bool) -> None:
        super().__init__()
        pairs = small(task)[1]
        pairs.setup()
        self.sides = tuple(self.loader(side.dataset, noise) for side in pairs.audit_dataloaders())

    def loader(self, dataset: Any, noise: bool) -> DataLoader:
        further = {"image": torch.rand(3, 20, 20, generator=torch.Generator().manual_seed(0))} if noise else {}
        items = [dict(zip(("input", "target", "id"), item.values(), strict=True)) | further for item in dataset]
        return DataLoader(items, 4)

    def train_dataloader(self) -> DataLoader:
        return self.sides[0]

    def val_dataloader(self) -> DataLoader:
        return self.sides[1]

    def audit_dataloaders(self) -> tuple[DataLoader, DataLoader]:
        return self.sides


@pytest.mark.parametrize("task", ["translation", "segmentation"])
def test_two_inputs_in_a_batch_are_refused_in_the_same_words(task: str, trainer, quick) -> None:
    words = r"'image' and 'input' could each be the input\..* name it by input_key, for example input_key='image'"
    model, _ = small(task)
    with pytest.raises(TypeError, match=words):  # by the audit, before the first batch
        trainer().fit(model, datamodule=Pairs(task, noise=True))
    model, _ = small(task, audit=False)
    with pytest.raises(TypeError, match=words):
        trainer().fit(model, datamodule=Pairs(task, noise=True))


@pytest.mark.parametrize("task", ["translation", "segmentation"])
def test_a_key_of_the_model_is_for_training_and_audit(task: str, trainer, quick) -> None:
    """Its numbers are those of batches that hold this one input."""
    results = []
    for keys, noise in (({}, False), ({"input_key": "input"}, True)):
        run = trainer()
        model, _ = small(task, **keys)
        run.fit(model, datamodule=Pairs(task, noise))
        results.append(audits(run)[0].result)
    assert results[1].meta["settings"]["input_key"] == "input"
    assert results[0].ids == results[1].ids
    assert results[0].errors.keys() == results[1].errors.keys()
    for name, values in results[0].errors.items():
        np.testing.assert_allclose(values, results[1].errors[name], rtol=1e-5)


@pytest.mark.parametrize("task", ["translation", "segmentation"])
def test_mixed_precision(task: str, trainer, quick) -> None:
    audit = MembershipAudit(scorer=quick, task=task)
    model, data = small(task, audit=False)
    trainer(audit, precision="bf16-mixed").fit(model, datamodule=data)
    assert not audit.result.excluded
    assert len(audit.result.ids) == 12


def pairs(count: int, seed: int) -> list[tuple[Tensor, Tensor]]:
    """Smooth pictures; nothing in an input tells its target, so a target can only be learned by heart."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(2, count, 3, 4, 4, generator=generator)
    x, y = (nn.functional.interpolate(c, size=(32, 32), mode="bilinear") for c in coarse)
    return list(zip(x, y, strict=True))


def test_an_overfitted_translator_is_caught_and_an_untrained_one_is_not(trainer, quick) -> None:
    members, nonmembers = pairs(12, 0), pairs(12, 3)
    audit = MembershipAudit(members, nonmembers, scorer=quick, every_n_epochs=100)
    model = Pix2Pix(image_size=32, ngf=16, ndf=4, dropout=False, lr=2e-3, constant_epochs=100, decay_epochs=0)
    loaders = DataLoader(members, 4, shuffle=True), DataLoader(nonmembers, 12)
    run = trainer(audit, max_epochs=30, num_sanity_val_steps=0, check_val_every_n_epoch=30)
    run.validate(model, loaders[1], verbose=False)
    run.fit(model, *loaders)
    untrained, overfitted = audit.history
    for score in ("reconstruction", "membership"):
        low, high = untrained.interval(score)
        assert low < 0.5 < high, score
    assert overfitted.interval()[0] > 0.5
    assert overfitted.auc > 0.9
    # The blind baseline never looks at the model.
    assert untrained.metrics["audit/blind_auc"] == overfitted.metrics["audit/blind_auc"]


def test_an_overfitted_segmenter_is_caught_and_an_untrained_one_is_not(trainer, quick) -> None:
    members, nonmembers = ([(x, y.argmax(0)) for x, y in pairs(12, seed)] for seed in (0, 3))
    audit = MembershipAudit(members, nonmembers, scorer=quick, num_classes=3, every_n_epochs=100)
    model = UNetSegmenter(3, base_channels=8, depth=3, lr=5e-3)
    loaders = DataLoader(members, 4, shuffle=True), DataLoader(nonmembers, 12)
    run = trainer(audit, max_epochs=30, num_sanity_val_steps=0, check_val_every_n_epoch=30)
    run.validate(model, loaders[1], verbose=False)
    run.fit(model, *loaders)
    untrained, overfitted = audit.history
    low, high = untrained.interval()
    assert low < 0.5 < high
    assert overfitted.interval()[0] > 0.5
