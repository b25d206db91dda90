"""What this package brings belongs to both packages, with the methods of a trainer's own package first."""

import copy
import pickle

import lightning.pytorch
import pytest
import pytorch_lightning
import torch
from torch.utils.data import DataLoader

from mia_lightning import DemoDataModule, MembershipAudit, Pix2Pix, PredictabilityScorer
from mia_lightning.lightning_packages.bases import first_package, put_first
from mia_lightning.lightning_packages.loaded import PACKAGES, is_overridden, package_of

BOTH = (lightning.pytorch, pytorch_lightning)


class Own(MembershipAudit):
    """A project's own kind of the callback."""


@pytest.fixture
def audit():
    side = [(torch.zeros(3, 16, 16), torch.zeros(3, 16, 16))]
    return Own(side, side, prefix="own")


def test_instances_and_classes_belong_to_both(audit) -> None:
    for package in BOTH:
        assert isinstance(audit, package.Callback)
        assert issubclass(MembershipAudit, package.Callback)
        assert issubclass(Pix2Pix, package.LightningModule)
        assert isinstance(DemoDataModule(num_pairs=4), package.LightningDataModule)
        assert not isinstance(audit, package.LightningModule)


def test_there_is_one_class_whatever_is_loaded(audit) -> None:
    for one in (audit, copy.deepcopy(audit), pickle.loads(pickle.dumps(audit))):
        assert type(one) is Own
        assert one.state_key == "Own{'prefix': 'own'}"
        assert all(isinstance(one, package.Callback) for package in BOTH)


@pytest.mark.parametrize("package", BOTH, ids=PACKAGES)
def test_the_package_of_a_trainer_comes_first(package) -> None:
    put_first(package.Trainer(accelerator="cpu", logger=False))
    assert first_package() is package is package_of(Pix2Pix)
    put_first(None)  # a data module without a trainer
    assert first_package() is package


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("package", BOTH, ids=PACKAGES)
def test_our_models_and_data_train_in_either(package, again, tmp_path) -> None:
    """In turns: what is not overridden must not be taken for what is, as val_dataloader() of the other package."""
    audit = MembershipAudit(scorer=PredictabilityScorer(torch.nn.Identity(), grid=4), verbose=False)
    options = {"accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False}
    # A logger of the other package does as well.
    other = next(p for p in BOTH if p is not package)
    logger = other.loggers.CSVLogger(tmp_path, "", "")
    trainer = package.Trainer(max_epochs=1, callbacks=[audit], logger=logger, enable_checkpointing=False, **options)
    model, data = Pix2Pix(image_size=16, ngf=4, ndf=4), DemoDataModule(num_pairs=8, image_size=16, batch_size=4)
    trainer.fit(model, datamodule=data)
    assert len(audit.history) == 1
    assert "audit/auc" in (tmp_path / "metrics.csv").read_text()
    without = package.Trainer(max_epochs=1, logger=False, enable_checkpointing=False, **options)
    without.fit(model, DataLoader([model_pair() for _ in range(2)], 2))
    assert without.state.finished


def model_pair() -> dict[str, torch.Tensor]:
    return {"input": torch.rand(3, 16, 16), "target": torch.rand(3, 16, 16)}


def test_what_is_overridden_is_known_of_both(audit) -> None:
    class Theirs(pytorch_lightning.LightningModule):
        def forward(self, x):
            return x

    for module in (Theirs(), Pix2Pix(image_size=16, ngf=4, ndf=4)):
        assert is_overridden("forward", module)
        assert not is_overridden("val_dataloader", module)
    assert is_overridden("state_dict", audit)
    assert not is_overridden("on_test_start", audit)
