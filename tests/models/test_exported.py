from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning_package import LightningDataModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader

from mia_lightning.audit.auditor import Auditor
from mia_lightning.callbacks.membership_audit import MembershipAudit
from mia_lightning.features import PredictabilityScorer
from mia_lightning.models.exported import ExportedModel

SIDE = 16


class Pairs(LightningDataModule):
    """Images and their negatives, some of them members."""

    def __init__(self) -> None:
        super().__init__()
        images = torch.rand(12, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
        self.pairs: list[Any] = [(x, 1 - x) for x in images]

    def val_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.pairs, batch_size=4)

    train_dataloader = predict_dataloader = val_dataloader

    def audit_dataloaders(self) -> tuple[DataLoader[Any], DataLoader[Any]]:
        return DataLoader(self.pairs[:6]), DataLoader(self.pairs[6:])


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 3, 1), nn.Sigmoid())


@pytest.fixture
def file(network: nn.Module, tmp_path: Path) -> Path:
    path = tmp_path / "model.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch would rather have another format
        torch.jit.save(torch.jit.script(network), str(path))
    return path


def trainer(tmp_path: Path, *callbacks: Any) -> Trainer:
    return Trainer(
        accelerator="cpu",
        logger=False,
        callbacks=list(callbacks),
        default_root_dir=tmp_path,
        max_epochs=1,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def test_validating_audits_the_file(file: Path, network: nn.Module, tmp_path: Path) -> None:
    scorer = PredictabilityScorer(nn.AvgPool2d(4), grid=4)
    audit, data = MembershipAudit(scorer=scorer), Pairs()
    model = ExportedModel(str(file))
    trainer(tmp_path, audit).validate(model, data, verbose=False)
    assert audit.result is not None
    wanted = Auditor(scorer=scorer).run(network, data.pairs[:6], data.pairs[6:])
    np.testing.assert_allclose(
        np.sort(audit.result.errors["reconstruction"]), np.sort(wanted.errors["reconstruction"]), rtol=1e-6
    )
    assert model.brings_weights
    assert dict(model.hparams) == {"path": str(file), "audit": True}


def test_predicts_and_copies(file: Path, network: nn.Module, tmp_path: Path) -> None:
    model, data = ExportedModel(str(file)), Pairs()
    found = trainer(tmp_path).predict(model, data.val_dataloader())
    assert found is not None
    images = torch.stack([x for x, _ in data.pairs])
    with torch.no_grad():
        wanted: Tensor = network(images)
    predicted = torch.cat([x for x in found if isinstance(x, Tensor)])
    torch.testing.assert_close(predicted, wanted)
    torch.testing.assert_close(copy.deepcopy(model)(images).detach(), wanted)


def test_brings_an_audit_only_if_asked(file: Path, tmp_path: Path) -> None:
    for wanted in (True, False):
        model = ExportedModel(str(file), audit=wanted)
        model.trainer = trainer(tmp_path)
        model.trainer.datamodule = Pairs()
        assert [type(c) for c in model.configure_callbacks()] == [MembershipAudit] * wanted


def test_is_not_trained(file: Path, tmp_path: Path) -> None:
    message = (
        r"model\.pt is an exported model: it can be audited but not trained\. Use `mia-lightning audit` or "
        r"trainer\.validate, or train the model that it was exported from\."
    )
    with pytest.raises(TypeError, match=message):
        trainer(tmp_path).fit(ExportedModel(str(file)), Pairs())


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"There is no file .*lost\.onnx; expected a TorchScript archive"):
        ExportedModel(str(tmp_path / "lost.onnx"))
