from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_package import CSVLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mia_lightning.models.audited_module import check_choice
from mia_lightning.models.pix2pix import Pix2Pix
from mia_lightning.models.unet_segmenter import UNetSegmenter

TAG = "val/input_target_output"


class WithAudit:
    def audit_dataloaders(self) -> None: ...


class WithoutAudit:
    pass


class StubTrainer:
    def __init__(self, datamodule: object = None, callbacks: tuple[object, ...] = ()) -> None:
        self.datamodule, self.callbacks = datamodule, list(callbacks)


def callbacks_of(trainer: StubTrainer, **settings: Any) -> list[Any]:
    model = Pix2Pix(image_size=16, ngf=2, ndf=2, **settings)
    model.trainer = trainer
    return model.configure_callbacks()


def segmenter(**settings: Any) -> UNetSegmenter:
    return UNetSegmenter(**{"num_classes": 3, "base_channels": 2, "depth": 2, **settings})


def test_brings_an_audit_where_there_is_something_to_audit() -> None:
    from mia_lightning.callbacks.membership_audit import MembershipAudit

    (callback,) = callbacks_of(StubTrainer(WithAudit()))
    assert type(callback) is MembershipAudit


def test_the_users_own_audit_wins() -> None:
    from mia_lightning.callbacks.membership_audit import MembershipAudit

    class Mine(MembershipAudit):
        pass

    for audit in (MembershipAudit, Mine):
        assert callbacks_of(StubTrainer(WithAudit(), (audit(),))) == []


def test_the_audit_can_be_switched_off() -> None:
    assert callbacks_of(StubTrainer(WithAudit()), audit=False) == []


@pytest.mark.parametrize("datamodule", [None, WithoutAudit()])
def test_no_audit_without_audit_dataloaders(datamodule: object) -> None:
    assert callbacks_of(StubTrainer(datamodule)) == []


def test_models_say_what_they_are() -> None:
    assert Pix2Pix(image_size=16, ngf=2, ndf=2).audit_settings() == {"task": "translation"}
    assert segmenter(ignore_index=11).audit_settings() == {
        "task": "segmentation",
        "num_classes": 3,
        "ignore_index": 11,
    }


def test_keys_of_the_model_are_those_of_its_audit() -> None:
    assert Pix2Pix(image_size=16, ngf=2, ndf=2, input_key="t1", target_key=1).audit_settings() == {
        "task": "translation",
        "input_key": "t1",
        "target_key": 1,
    }
    assert segmenter(target_key="label").audit_settings()["target_key"] == "label"


@pytest.mark.parametrize("kind", [Pix2Pix, UNetSegmenter])
def test_checkpoints_from_before_the_keys_load(kind: Any, train, pairs, masks, tmp_path: Path) -> None:
    model = segmenter() if kind is UNetSegmenter else Pix2Pix(image_size=32, ngf=2, ndf=2)
    checkpoint = train(model, masks() if kind is UNetSegmenter else pairs()).save_checkpoint
    checkpoint(tmp_path / "new.ckpt")
    content = torch.load(tmp_path / "new.ckpt", weights_only=False)
    for key in ("input_key", "target_key"):
        del content["hyper_parameters"][key]
    torch.save(content, tmp_path / "old.ckpt")
    old = kind.load_from_checkpoint(tmp_path / "old.ckpt", map_location="cpu")
    assert "input_key" not in old.audit_settings()
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), old.parameters(), strict=True))


def images_in(folder: Path) -> list[Any]:
    board = EventAccumulator(str(folder)).Reload()
    return board.Images(TAG) if TAG in board.Tags()["images"] else []


def test_examples_are_shown_at_their_cadence_and_not_in_the_sanity_check(train, masks, tmp_path: Path) -> None:
    train(segmenter(log_images_every_n_epochs=2), masks(), max_epochs=3)
    (picture,) = images_in(tmp_path)
    assert (picture.width, picture.height) == (3 * 34 + 2, 2 * 34 + 2)  # input, target, output of a batch of 2
    scalars = EventAccumulator(str(tmp_path)).Reload().Scalars("val/loss")
    assert picture.step == scalars[1].step  # pictures and curves share an axis


def test_examples_can_be_switched_off(train, masks, tmp_path: Path) -> None:
    train(segmenter(log_images_every_n_epochs=0), masks())
    assert images_in(tmp_path) == []


def test_other_loggers_are_left_alone(train, pairs, tmp_path: Path) -> None:
    train(Pix2Pix(image_size=32, ngf=2, ndf=2, log_images_every_n_epochs=1), pairs(), logger=CSVLogger(tmp_path))


def test_showing_examples_does_not_change_the_training(train, pairs) -> None:
    def weights(every: int) -> list[torch.Tensor]:
        torch.manual_seed(0)
        model = Pix2Pix(image_size=32, ngf=2, ndf=2, log_images_every_n_epochs=every)
        train(model, pairs(), max_epochs=2)
        return [*model.state_dict().values(), torch.get_rng_state()]

    assert all(torch.equal(a, b) for a, b in zip(weights(0), weights(1), strict=True))


def test_unknown_choice() -> None:
    with pytest.raises(ValueError, match=r"Unknown schedule 'linear'; choose one of constant, cosine."):
        check_choice("schedule", "linear", ("constant", "cosine"))
