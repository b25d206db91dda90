from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from jsonargparse import ArgumentParser
from lightning_package import Trainer
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from mia_lightning.models.gan_translator import lr_factor
from mia_lightning.models.pix2pix import Pix2Pix


def tiny(**settings: Any) -> Pix2Pix:
    torch.manual_seed(0)
    return Pix2Pix(**{"image_size": 32, "ngf": 4, "ndf": 4, **settings})


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("gan_loss", ["vanilla", "lsgan"])
def test_trains(train, pairs, precision: str, gan_loss: str) -> None:
    model = tiny(gan_loss=gan_loss)
    before = [p.detach().clone() for p in model.parameters()]
    trainer = train(model, pairs(), precision=precision)
    assert all(not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert all(p.dtype == torch.float32 and torch.isfinite(p).all() for p in model.parameters())
    names = {"train/loss_g", "train/loss_d", "train/l1", "val/l1", "val/psnr", "val/ssim"}
    assert names <= set(trainer.callback_metrics)
    assert all(math.isfinite(trainer.callback_metrics[name]) for name in names)


@pytest.mark.parametrize("style", ["pair", "triple"])
def test_tuples_train_as_dictionaries_do(train, pairs, style: str) -> None:
    one, other = tiny(), tiny()
    for model, batches in ((one, "dict"), (other, style)):
        torch.manual_seed(1)
        train(model, pairs(batches))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_learns_to_reproduce_four_images(train, pairs) -> None:
    model = tiny(ngf=8, norm="instance", dropout=False, lr=2e-3)
    before = train(model, pairs()).callback_metrics["val/l1"]
    after = train(model, pairs(), max_epochs=15).callback_metrics["val/l1"]
    assert after < 0.9 * before


def test_validation_metrics(train, pairs) -> None:
    model, loader = tiny(), pairs()
    logged = train(model, loader).callback_metrics
    model.eval()
    with torch.no_grad():
        output = torch.cat([model(batch["input"]) for batch in loader])
    target = loader.dataset.targets
    torch.testing.assert_close(logged["val/l1"], (output - target).abs().mean())
    torch.testing.assert_close(logged["val/psnr"], peak_signal_noise_ratio(output, target, data_range=1.0))
    wanted = structural_similarity_index_measure(output, target, data_range=1.0)
    torch.testing.assert_close(logged["val/ssim"], wanted)


def test_testing_logs_the_same_metrics(train, pairs) -> None:
    model, loader = tiny(), pairs()
    trainer = train(model, loader)
    validated = trainer.callback_metrics
    (tested,) = trainer.test(model, loader, verbose=False)
    for name, value in tested.items():
        assert value == pytest.approx(validated[name.replace("test/", "val/")].item())


def test_output_is_in_the_unit_interval_and_input_is_scaled() -> None:
    model = tiny().eval()
    x = torch.rand(2, 3, 33, 47)
    with torch.no_grad():
        output = model(x)
        torch.testing.assert_close(output, (model.generator(2 * x - 1) + 1) / 2)
    assert output.shape == x.shape
    assert output.min() >= 0
    assert output.max() <= 1


def test_step_follows_the_paper() -> None:
    """The losses written out once more, plainly, for the least-squares GAN without dropout."""
    model = tiny(gan_loss="lsgan", dropout=False)
    model.manual_backward = lambda loss: loss.backward()
    x, y = torch.rand(2, 3, 32, 32), torch.rand(2, 3, 32, 32)
    fake = model.generator(x)
    judge = model.discriminator
    wanted_d = 0.5 * (judge(x, fake).square().mean() + (judge(x, y) - 1).square().mean())
    torch.testing.assert_close(model.backward_d(x, y, fake), wanted_d.detach())
    assert all(p.grad is None for p in model.generator.parameters()), "the fake must be detached"
    loss, l1 = model.backward_g(x, y, fake)
    torch.testing.assert_close(l1, (fake - y).abs().mean().detach())
    torch.testing.assert_close(loss, ((judge(x, fake) - 1).square().mean() + 100 * (fake - y).abs().mean()).detach())
    assert all(p.grad is not None for p in model.generator.parameters())


def test_only_the_network_whose_turn_it_is_learns(train, pairs) -> None:
    model = tiny()
    turns: list[tuple[bool, bool]] = []

    def learning() -> tuple[bool, bool]:
        networks = (model.generator, model.discriminator)
        return tuple(any(p.requires_grad for p in network.parameters()) for network in networks)

    backward_d, backward_g = model.backward_d, model.backward_g
    model.backward_d = lambda *images: (turns.append(learning()), backward_d(*images))[1]
    model.backward_g = lambda *images: (turns.append(learning()), backward_g(*images))[1]
    train(model, pairs(), limit_train_batches=1)
    assert turns == [(False, True), (True, False)]
    assert learning() == (True, True)


def test_learning_rate_is_constant_and_then_falls(train, pairs) -> None:
    model = tiny(lr=1.0, constant_epochs=2, decay_epochs=2)
    rates: list[list[float]] = []
    start = model.on_train_epoch_start
    model.on_train_epoch_start = lambda: (rates.append([o.param_groups[0]["lr"] for o in model.optimizers()]), start())
    train(model, pairs(), max_epochs=4, limit_train_batches=1, limit_val_batches=0)
    assert rates == [[1.0] * 2, [1.0] * 2, [pytest.approx(2 / 3)] * 2, [pytest.approx(1 / 3)] * 2]


def test_decay_as_the_authors_have_it() -> None:
    def authors(epoch: int) -> float:
        return 1.0 - max(0, epoch + 1 - 100) / float(100 + 1)

    assert [lr_factor(e, 100, 100) for e in range(200)] == pytest.approx([authors(e) for e in range(200)])
    assert lr_factor(500, 100, 100) == 0
    assert lr_factor(500, 100, 0) == 1


def test_checkpoint_loads_without_unpickling(train, pairs, tmp_path: Path) -> None:
    model = tiny(betas=(0.6, 0.99), image_size=(32, 48))
    trainer = train(model, pairs())
    trainer.save_checkpoint(tmp_path / "model.ckpt")
    content = torch.load(tmp_path / "model.ckpt", weights_only=True)
    assert content["hyper_parameters"]["betas"] == (0.6, 0.99)
    copy = Pix2Pix.load_from_checkpoint(tmp_path / "model.ckpt", map_location="cpu").eval()
    x = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(copy(x), model.eval()(x))


def test_prediction_is_forward(pairs) -> None:
    model, loader = tiny(), pairs("triple")
    outputs = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False).predict(model, loader)
    with torch.no_grad():
        torch.testing.assert_close(torch.cat(outputs), model.eval()(loader.dataset.inputs))


def test_small_images_get_a_smaller_discriminator(train, pairs) -> None:
    assert tiny(image_size=16).discriminator.min_size == 12
    assert tiny(image_size=32).discriminator.min_size == 24


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ((torch.rand(1, 1, 32, 32), torch.rand(1, 3, 32, 32)), r"Expected input of shape \(B, 3, H, W\)"),
        ((torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 30)), "measures 32 x 32 pixels but the target 32 x 30"),
        ((torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 32) - 1), r"Expected target in \[0, 1\]"),
    ],
)
def test_bad_batches(batch: tuple[torch.Tensor, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny().training_step(batch, 0)


def test_a_batch_without_a_target() -> None:
    with pytest.raises(TypeError, match=r"The batch is a tuple of .*expected \(input, target\)"):
        tiny().training_step((torch.rand(1, 3, 32, 32),), 0)


@pytest.mark.parametrize("weight", [-1.0, math.nan])
def test_a_weight_that_would_reward_errors_is_refused(weight: float) -> None:
    with pytest.raises(ValueError, match=f"Expected lambda_l1 to be 0, .* or more but got {weight}"):
        tiny(lambda_l1=weight)


def test_unknown_gan_loss() -> None:
    with pytest.raises(ValueError, match=r"Unknown gan_loss 'wgan'; choose one of vanilla, lsgan."):
        tiny(gan_loss="wgan")


def test_arguments_parse_from_a_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(Pix2Pix, "model")
    parsed = parser.parse_args(["--model.norm=instance", "--model.betas=[0.4,0.9]", "--model.image_size=[64,128]"])
    assert (parsed.model.norm, parsed.model.betas, parsed.model.image_size) == ("instance", (0.4, 0.9), (64, 128))
    with pytest.raises(SystemExit):
        parser.parse_args(["--help"])
    assert "{vanilla,lsgan}" in capsys.readouterr().out
