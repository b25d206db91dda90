"""What a project does with its batches on the way to the model is done to the audit's, as it is in validation."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from lightning_package import LightningDataModule
from torch.utils.data import DataLoader

from mia_lightning import Auditor


@pytest.fixture
def normalising(kit):
    """A data module that normalises after the transfer, and augments while training: the habit of torchgeo."""

    class Normalising(LightningDataModule):
        def __init__(self) -> None:
            super().__init__()
            self.members, self.nonmembers = kit.Pairs(6, 1, "dict", "in"), kit.Pairs(5, 2, "dict", "out")
            self.seen: list[str] = []
            self.own = random.Random(0)

        def train_dataloader(self) -> Any:
            return DataLoader(self.members, 2)

        def val_dataloader(self) -> Any:
            return DataLoader(self.nonmembers, 2)

        def audit_dataloaders(self) -> Any:
            return self.members, self.nonmembers

        def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            self.seen.append(str(self.trainer.state.stage.value))
            self.own.random()  # generators of its own must not advance either
            noise = torch.rand(()) + self.own.random() if self.trainer.training else 0.0
            return batch | {"image": (batch["image"] - 0.5) / 0.25 + noise}

    return Normalising()


def by_hand(kit, quick, model, data, **settings):
    """The audit of a data set that is normalised already."""

    def normalised(pairs):
        return [(pairs.inputs[i] * 4 - 2, pairs.targets[i], f"{pairs.name}{i}") for i in range(len(pairs))]

    auditor = Auditor(scorer=quick, batch_size=2, mean=[0.5] * 3, std=[0.25] * 3, **settings)
    return auditor.run(model, normalised(data.members), normalised(data.nonmembers))


def test_hooks_of_the_data_module_are_honoured(kit, quick, audit, trainer, normalising, tmp_path):
    from lightning_package import TensorBoardLogger

    callback = audit(mean=[0.5] * 3, std=[0.25] * 3, scores=("reconstruction", "membership", "neighbour"))
    callback.members = callback.nonmembers = None
    model = kit.Translator()
    trainer(callback, max_epochs=2, logger=TensorBoardLogger(tmp_path)).fit(model, datamodule=normalising)
    expected = by_hand(kit, quick, model, normalising, scores=("reconstruction", "membership", "neighbour"))
    assert callback.result.ids == expected.ids
    for name, values in expected.errors.items():
        np.testing.assert_allclose(callback.result.errors[name], values, atol=1e-5)
    # Training batches are seen as such; those of the audit, of its check and of its gallery as those of a validation.
    assert set(normalising.seen) == {"train", "validate"}
    assert normalising.seen[0] == "validate"


def test_hooks_of_the_module_are_honoured(kit, quick, audit, trainer, loaders):
    class Darkening(kit.Translator):
        def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            return [0.5 * batch[0], *batch[1:]]

    callback = audit()
    model = Darkening()
    trainer(callback, max_epochs=1).fit(model, *loaders)
    members, nonmembers = (
        [(0.5 * item[0], item[1]) for item in side] for side in (callback.members, callback.nonmembers)
    )
    expected = Auditor(scorer=quick).run(model, members, nonmembers)
    np.testing.assert_allclose(callback.result.errors["membership"], expected.errors["membership"], atol=1e-6)


def test_training_is_undisturbed_by_hooks_that_draw(kit, audit, trainer, normalising):
    callback = audit()
    callback.members = callback.nonmembers = None
    trained = []
    for callbacks in ([callback], []):
        torch.manual_seed(0)
        model = kit.Translator()
        normalising.own.seed(0)
        trainer(*callbacks, max_epochs=2).fit(model, datamodule=normalising)
        trained.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert torch.equal(*trained)


def test_batches_that_the_hooks_cannot_read_are_told_before_training(kit, audit, trainer, normalising):
    callback = audit(kit.Pairs(6, 1), kit.Pairs(5, 2))
    message = (
        r"on_after_batch_transfer \(of Translator or Normalising\) failed on a batch of the audit \(TypeError: .*\): "
        r"the batch is a list of \(float32 tensor \(1, 3, 16, 16\), .*Give members and nonmembers in the form"
    )
    with pytest.raises(TypeError, match=message):
        trainer(callback).fit(kit.Translator(), datamodule=normalising)
    assert normalising.seen == ["validate"]


@pytest.mark.parametrize(("share", "words"), [(2, "2 batches"), (0.5, "50% of the batches")])
def test_members_that_training_never_sees_are_told(kit, audit, trainer, loaders, share, words):
    with pytest.warns(UserWarning, match=rf"overfit_batches={share}\) trains on {words} only.*hide memorization"):
        trainer(audit(), max_epochs=1, overfit_batches=share).fit(kit.Translator(), *loaders)


def test_generators_are_refused_by_the_callback(audit, kit):
    message = "members and nonmembers that can be read at every audit, but got a generator. Wrap it in"
    with pytest.raises(TypeError, match=message):
        audit(iter(kit.Pairs(6)), kit.Pairs(5))


def test_an_audit_at_once(kit, quick, audit, trainer, loaders, tmp_path):
    """In any stage of a trainer, and without traces."""
    from lightning_package import Callback

    callback = audit(every_n_epochs=99, output_dir=tmp_path)

    class Ask(Callback):
        def on_predict_start(self, trainer: Any, pl_module: Any) -> None:
            callback.run(trainer, pl_module)

    model = kit.Translator()
    model.predict_step = lambda *_: None
    trainer(callback, Ask()).predict(model, loaders[1])
    assert [r.meta["stage"] for r in callback.history] == ["audit"]
    assert callback.result.epoch is None
    expected = Auditor(scorer=quick).run(model, callback.members, callback.nonmembers)
    np.testing.assert_allclose(callback.result.errors["membership"], expected.errors["membership"], atol=1e-6)
    assert not list(tmp_path.iterdir())
