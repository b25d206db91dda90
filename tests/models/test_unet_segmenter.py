from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from jsonargparse import ArgumentParser
from lightning_package import Trainer
from torch.utils.data import DataLoader
from torchmetrics.functional.classification import (
    binary_f1_score,
    binary_jaccard_index,
    multiclass_f1_score,
    multiclass_jaccard_index,
)

from mia_lightning.models.losses import SEGMENTATION_LOSSES, cross_entropy_loss
from mia_lightning.models.unet_segmenter import UNetSegmenter


def tiny(num_classes: int = 3, **settings: Any) -> UNetSegmenter:
    torch.manual_seed(0)
    return UNetSegmenter(num_classes, **{"base_channels": 4, "depth": 2, **settings})


def valid(loader: DataLoader) -> torch.Tensor:
    return (loader.dataset.targets >= 0) & (loader.dataset.targets != 255)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("num_classes", [1, 3])
@pytest.mark.parametrize("loss", SEGMENTATION_LOSSES)
def test_trains(train, masks, precision: str, num_classes: int, loss: str) -> None:
    model = tiny(num_classes, loss=loss)
    before = [p.detach().clone() for p in model.parameters()]
    trainer = train(model, masks(num_classes=num_classes), precision=precision)
    assert all(not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    names = {"train/loss", "val/loss", "val/miou", "val/dice"}
    assert names <= set(trainer.callback_metrics)
    assert all(math.isfinite(trainer.callback_metrics[name]) for name in names)


@pytest.mark.parametrize("style", ["pair", "triple"])
def test_tuples_train_as_dictionaries_do(train, masks, style: str) -> None:
    one, other = tiny(), tiny()
    for model, batches in ((one, "dict"), (other, style)):
        train(model, masks(batches))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_validation_metrics(train, masks) -> None:
    model, loader = tiny(class_names=["sky", "road", "tree"]), masks()
    logged = train(model, loader).callback_metrics
    with torch.no_grad():
        logits = model.eval()(loader.dataset.inputs)
    prediction, target = logits.argmax(1)[valid(loader)], loader.dataset.targets[valid(loader)]
    torch.testing.assert_close(logged["val/miou"], multiclass_jaccard_index(prediction, target, 3))
    torch.testing.assert_close(logged["val/dice"], multiclass_f1_score(prediction, target, 3, average="macro"))
    torch.testing.assert_close(logged["val/loss"], cross_entropy_loss(logits, loader.dataset.targets))
    by_class = torch.stack([logged[f"val/iou/{name}"] for name in ("sky", "road", "tree")])
    torch.testing.assert_close(by_class, multiclass_jaccard_index(prediction, target, 3, average="none"))


def test_a_class_in_neither_map_is_left_out_of_the_means(train, masks) -> None:
    model, loader = tiny(4, class_names=["sky", "road", "tree", "unicorn"]), masks()
    with torch.no_grad():
        model.network.head.bias[3] = -1e9  # is never predicted either
    logged = train(model, loader).callback_metrics
    with torch.no_grad():
        prediction = model.eval()(loader.dataset.inputs).argmax(1)[valid(loader)]
    target = loader.dataset.targets[valid(loader)]
    torch.testing.assert_close(logged["val/miou"], multiclass_jaccard_index(prediction, target, 3))
    torch.testing.assert_close(logged["val/dice"], multiclass_f1_score(prediction, target, 3, average="macro"))
    assert [name for name, value in logged.items() if value.isnan()] == ["val/iou/unicorn"]


def test_binary_metrics_are_those_of_the_foreground(train, masks) -> None:
    model, loader = tiny(1, class_names=["nucleus"]), masks(num_classes=1)
    logged = train(model, loader).callback_metrics
    with torch.no_grad():
        prediction = (model.eval()(loader.dataset.inputs)[:, 0] > 0).long()[valid(loader)]
    target = loader.dataset.targets[valid(loader)]
    torch.testing.assert_close(logged["val/miou"], binary_jaccard_index(prediction, target))
    torch.testing.assert_close(logged["val/dice"], binary_f1_score(prediction, target))
    assert logged["val/iou/nucleus"] == logged["val/miou"]


@pytest.mark.parametrize("num_classes", [2, 3])
def test_ignored_class_may_be_any_label(train, masks, num_classes: int) -> None:
    model, loader = tiny(num_classes, ignore_index=2), masks()
    loader.dataset.targets[loader.dataset.targets == 255] = -1
    logged = train(model, loader).callback_metrics
    keep = (loader.dataset.targets >= 0) & (loader.dataset.targets != 2)
    with torch.no_grad():
        prediction = model.eval()(loader.dataset.inputs).argmax(1)
    wanted = multiclass_jaccard_index(prediction[keep], loader.dataset.targets[keep], num_classes, ignore_index=2)
    torch.testing.assert_close(logged["val/miou"], wanted)


def test_testing_logs_the_same_metrics(train, masks) -> None:
    model, loader = tiny(), masks()
    trainer = train(model, loader)
    validated = trainer.callback_metrics
    (tested,) = trainer.test(model, loader, verbose=False)
    for name, value in tested.items():
        assert value == pytest.approx(validated[name.replace("test/", "val/")].item())


@pytest.mark.parametrize("num_classes", [1, 3])
def test_prediction_is_a_class_map(masks, num_classes: int) -> None:
    model, loader = tiny(num_classes), masks()
    trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False)
    labels = torch.cat(trainer.predict(model, loader))
    assert labels.shape == (4, 32, 32)
    assert labels.dtype == torch.int64
    assert set(labels.unique().tolist()) <= set(range(max(2, num_classes)))


def test_cosine_falls_to_zero(train, masks) -> None:
    model = tiny(schedule="cosine", lr=0.5)
    trainer = train(model, masks(), max_epochs=2)
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0, abs=1e-8)


def test_cosine_needs_an_end() -> None:
    model = tiny(schedule="cosine")

    class Endless:
        estimated_stepping_batches = math.inf

    trainer = Endless()
    model.trainer = trainer
    with pytest.raises(ValueError, match="set max_epochs or max_steps, or choose schedule='constant'"):
        model.configure_optimizers()


@pytest.mark.parametrize(("name", "kind"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)])
def test_optimizer(name: str, kind: type) -> None:
    optimizer = tiny(optimizer=name, lr=0.1, weight_decay=0.2).configure_optimizers()
    assert type(optimizer) is kind
    assert (optimizer.defaults["lr"], optimizer.defaults["weight_decay"]) == (0.1, 0.2)


def test_checkpoint_loads_without_unpickling(train, masks, tmp_path: Path) -> None:
    model = tiny(class_names=["a", "b", "c"])
    train(model, masks()).save_checkpoint(tmp_path / "model.ckpt")
    assert torch.load(tmp_path / "model.ckpt", weights_only=True)["hyper_parameters"]["num_classes"] == 3
    copy = UNetSegmenter.load_from_checkpoint(tmp_path / "model.ckpt", map_location="cpu").eval()
    x = torch.rand(1, 3, 33, 47)
    with torch.inference_mode():
        assert torch.equal(copy(x), model.eval()(x))


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ({"image": torch.rand(1, 4, 8, 8), "mask": torch.zeros(1, 8, 8).long()}, "set in_channels to"),
        (
            {"image": torch.rand(1, 3, 8, 8), "mask": torch.zeros(1, 1, 8, 8).long()},
            r"Expected a mask of shape \(1, 8, 8\) for images of shape \(1, 3, 8, 8\) but got \(1, 1, 8, 8\)",
        ),
        (
            {"image": torch.rand(1, 3, 8, 8), "mask": torch.zeros(1, 8, 8)},
            "Expected a mask of integer class ids but got torch.float32",
        ),
        (
            {"image": torch.rand(1, 3, 8, 8), "mask": torch.full((1, 8, 8), 7)},
            r"The label map holds class ids \[7\], but num_classes=3",
        ),
    ],
)
def test_bad_batches(batch: dict[str, torch.Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny().training_step(batch, 0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"class_names": ["a"]}, r"Expected 3 class_names but got 1: \['a'\]"),
        ({"loss": "hinge"}, "Unknown loss 'hinge'; choose one of cross_entropy, dice, focal, cross_entropy"),
        ({"optimizer": "sgd"}, "Unknown optimizer 'sgd'; choose one of adamw, adam"),
        ({"schedule": "step"}, "Unknown schedule 'step'; choose one of constant, cosine"),
    ],
)
def test_bad_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny(**settings)


def test_settings_of_another_architecture_are_refused_or_said_to_do_nothing() -> None:
    pytest.importorskip("segmentation_models_pytorch", reason="needs segmentation-models-pytorch")
    for setting in ({"encoder_weights": "imagenet"}, {"encoder_mean": [0.5] * 3}, {"encoder_std": [0.5] * 3}):
        with pytest.raises(ValueError, match=f"'unet' .* {next(iter(setting))}=.*: architecture='UNet' .* has one"):
            tiny(encoder_name="resnet50", **setting)
    with pytest.warns(UserWarning, match=r"unused is encoder_name='resnet50'; architecture='UNet'"):
        tiny(encoder_name="resnet50")
    with pytest.warns(UserWarning, match=r"Of the classic U-Net .* here unused: depth=2, norm='instance'\.$"):
        UNetSegmenter(3, architecture="FPN", encoder_name="test_resnet", depth=2, norm="instance")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        UNetSegmenter(3, architecture="FPN", encoder_name="test_resnet")
        tiny()


def test_arguments_parse_from_a_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(UNetSegmenter, "model")
    parsed = parser.parse_args(["--model.num_classes=2", "--model.class_names=[a,b]", "--model.encoder_weights=null"])
    assert (parsed.model.num_classes, parsed.model.class_names, parsed.model.encoder_weights) == (2, ["a", "b"], None)
    with pytest.raises(SystemExit):
        parser.parse_args(["--help"])
    assert "{cross_entropy,dice,focal,cross_entropy+dice}" in capsys.readouterr().out
