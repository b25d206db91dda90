"""Modules of one package, in a trainer of the other: for as long as they are audited."""

from types import ModuleType

import lightning.pytorch
import pytest
import pytorch_lightning
import torch
from torch.utils.data import DataLoader

from mia_lightning import MembershipAudit, PredictabilityScorer, audit_checkpoint
from mia_lightning.lightning_packages.adoption import adopt_named, adopted
from mia_lightning.posthoc.audit_trainer import AuditTrainer

SCORER = PredictabilityScorer(torch.nn.Identity(), grid=4)


def project(package: ModuleType) -> tuple[type, type]:
    class Net(package.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Conv2d(3, 3, 1)

        def forward(self, x):
            return self.layer(x).sigmoid()

        def training_step(self, batch, batch_idx):
            return self(batch[0]).sub(batch[1]).abs().mean()

        def configure_callbacks(self):
            return [package.callbacks.EarlyStopping("loss"), package.callbacks.ModelCheckpoint(monitor="loss")]

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.1)

    class Data(package.LightningDataModule):
        def setup(self, stage):
            images = torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(0))
            self.pairs = [(image, 1 - image) for image in images]

        def train_dataloader(self):
            return DataLoader(self.pairs[:4], 2)

        def test_dataloader(self):
            return DataLoader(self.pairs[4:], 2)

    return Net, Data


@pytest.mark.parametrize(
    "packages",
    [(pytorch_lightning, pytorch_lightning), (pytorch_lightning, lightning.pytorch), (lightning.pytorch,) * 2],
)
def test_models_and_data_of_either_are_audited(packages, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    package = packages[0]
    (kind, _), (_, data) = map(project, packages)
    model, path = kind(), tmp_path / "weights.pt"
    torch.save(model.state_dict(), path)
    sides = {"members": "train", "nonmembers": "test"}
    result = audit_checkpoint(model, data(), path, **sides, scorer=SCORER, accelerator="cpu")
    assert len(result.ids) == 8
    expected = audit_checkpoint(
        *(kind() for kind in project(lightning.pytorch)), path, **sides, scorer=SCORER, accelerator="cpu"
    )
    assert (result.scores["membership"] == expected.scores["membership"]).all()
    assert kind.__bases__ == (package.LightningModule,), "as it was"
    assert "configure_callbacks" not in vars(model)
    trainer = package.Trainer(max_epochs=1, accelerator="cpu", logger=False, enable_progress_bar=False, max_steps=1)
    module = data()
    module.setup("fit")
    model.configure_callbacks = list
    trainer.fit(model, module.train_dataloader())
    assert trainer.global_step == 1


def test_a_class_of_several_kinds_is_as_it_was() -> None:
    """A data module that is its own callback, and a class derived from it, have bases of both kinds."""
    pl, ours = pytorch_lightning, lightning.pytorch

    class Both(pl.LightningDataModule, pl.Callback):
        pass

    class Derived(Both):
        pass

    bases = Both.__bases__, Derived.__bases__
    for things in ((Both(), Derived()), (Derived(), Both())):
        with adopted(AuditTrainer, *things):
            assert all(isinstance(one, ours.Callback) and isinstance(one, ours.LightningDataModule) for one in things)
        assert (Both.__bases__, Derived.__bases__) == bases


def test_classes_that_are_named_are_taken_and_left_by_what_they_are() -> None:
    net, data = project(pytorch_lightning)

    def make() -> net:  # type: ignore[valid-type]  # a class made at run time
        return net()

    def make_any() -> pytorch_lightning.LightningModule:
        return net()

    for found in (make, make_any, data, MembershipAudit, 3):
        adopt_named(found, lightning.pytorch)
    assert net.__bases__ == (lightning.pytorch.LightningModule, pytorch_lightning.LightningModule)
    assert make_any.__annotations__["return"] is lightning.pytorch.LightningModule
    assert issubclass(data, lightning.pytorch.LightningDataModule)
    with adopted(AuditTrainer, None, net()):
        pass
    assert issubclass(net, lightning.pytorch.LightningModule), "what was there before stays"
