from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mia_lightning import Auditor, MembershipAudit, PredictabilityScorer
from mia_lightning.models.perceptual_loss import PerceptualLoss
from mia_lightning.models.pix2pix_hd import Pix2PixHD


def tiny(**settings: Any) -> Pix2PixHD:
    torch.manual_seed(0)
    options = {"image_size": 32, "ngf": 4, "ndf": 4, "global_blocks": 1, "local_blocks": 1, **settings}
    return Pix2PixHD(**options)


def test_step_follows_the_paper(vgg: Path) -> None:
    """The losses written out once more, plainly."""
    model = tiny(perceptual_weights=str(vgg), lambda_perceptual=2.0)
    model.manual_backward = lambda loss: loss.backward()
    model.setup("fit")
    x, y = torch.rand(2, 3, 32, 32), torch.rand(2, 3, 32, 32)
    fake = model.generator(x)
    on_fake, on_real = model.discriminator(x, fake), model.discriminator(x, y)
    assert len(on_fake) == 2
    square = sum((f[-1].square().mean() + (r[-1] - 1).square().mean()) for f, r in zip(on_fake, on_real, strict=True))
    torch.testing.assert_close(model.backward_d(x, y, fake), (0.5 * square).detach())
    assert all(p.grad is None for p in model.generator.parameters()), "the fake must be detached"
    model.discriminator.requires_grad_(False)
    loss, matching, perceptual = model.backward_g(x, y, fake)
    pairs = [(a, b) for f, r in zip(on_fake, on_real, strict=True) for a, b in zip(f[:-1], r[:-1], strict=True)]
    expected = sum((a - b).abs().mean() for a, b in pairs)
    assert len(pairs) == 4 + 3
    torch.testing.assert_close(matching, expected.detach())
    torch.testing.assert_close(perceptual, PerceptualLoss(vgg)((fake + 1) / 2, (y + 1) / 2).detach())
    fool = sum((f[-1] - 1).square().mean() for f in on_fake)
    torch.testing.assert_close(loss, (fool + 10 * matching + 2 * perceptual).detach())
    assert all(p.grad is not None for p in model.generator.parameters())


def test_trains_and_logs_and_keeps_the_network_of_the_perceptual_loss_out(train, pairs, vgg: Path, tmp_path) -> None:
    model = tiny(perceptual_weights=str(vgg))
    before = [p.detach().clone() for p in model.parameters()]
    trainer = train(model, pairs(), limit_train_batches=1)
    assert all(not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    names = {"loss_g", "loss_d", "feature_matching", "perceptual"}
    assert {f"train/{n}" for n in names} | {"val/l1", "val/psnr", "val/ssim"} <= set(trainer.callback_metrics)
    assert all(torch.isfinite(trainer.callback_metrics[f"train/{n}"]) for n in names)
    trainer.save_checkpoint(tmp_path / "model.ckpt")
    vgg.rename(vgg.with_suffix(".gone"))  # the weights of the loss are not needed to use the model
    try:
        copy = Pix2PixHD.load_from_checkpoint(tmp_path / "model.ckpt", map_location="cpu")
        assert copy.predict_step(next(iter(pairs())), 0).shape == (2, 3, 32, 32)
        with pytest.raises(FileNotFoundError, match=r"vgg19\.pth does not exist; perceptual_weights .* resumed too"):
            train(copy, pairs())
    finally:
        vgg.with_suffix(".gone").rename(vgg)
    assert copy.state_dict().keys() == model.state_dict().keys()
    assert not [name for name in model.state_dict() if "perceptual" in name]


def test_a_generator_trained_before_is_kept_as_it_is_for_some_epochs(train, pairs, tmp_path: Path) -> None:
    coarse = tiny(image_size=16, enhancers=0)
    train(coarse, pairs(), limit_train_batches=1).save_checkpoint(tmp_path / "coarse.ckpt")
    model = tiny(global_weights=str(tmp_path / "coarse.ckpt"), fixed_global_epochs=1)
    inner = coarse.generator.global_generator.state_dict()

    def moved() -> bool:
        return any(not torch.equal(v, inner[k]) for k, v in model.generator.global_generator.state_dict().items())

    assert moved()
    states: list[bool] = []
    model.on_validation_epoch_end = lambda: states.append(moved())
    before = model.generator.enhancers[0].back[0].weight.detach().clone()
    train(model, pairs(), max_epochs=2, limit_train_batches=1, num_sanity_val_steps=0)
    assert states == [False, True]
    assert not torch.equal(model.generator.enhancers[0].back[0].weight, before)
    other = tiny(global_weights=str(tmp_path / "coarse.ckpt"), ngf=8)
    with pytest.raises(RuntimeError, match=r"coarse\.ckpt do not fit 'the global generator'"):
        train(other, pairs())


def test_a_training_that_goes_on_needs_no_file_of_the_generator_again(tmp_path: Path) -> None:
    model = tiny(global_weights=str(tmp_path / "gone.ckpt"))
    trainer = SimpleNamespace(ckpt_path="own.ckpt")
    model._trainer = trainer  # type: ignore[assignment]  # a stand-in for the trainer
    model.setup("fit")
    model.on_fit_start()
    trainer.ckpt_path = None
    with pytest.raises(FileNotFoundError, match=r"gone\.ckpt does not exist"):
        model.on_fit_start()


def test_only_what_was_kept_fixed_is_trained_again() -> None:
    model = tiny(global_weights="coarse.ckpt", fixed_global_epochs=1)
    weights = list(model.generator.global_generator.parameters())
    weights[0].requires_grad_(False)  # by the user
    trainer = SimpleNamespace(current_epoch=0)
    model._trainer = trainer  # type: ignore[assignment]  # a stand-in for the trainer
    model.on_train_epoch_start()
    assert not any(weight.requires_grad for weight in weights)
    for trainer.current_epoch in (1, 2):
        model.on_train_epoch_start()
        assert [weight.requires_grad for weight in weights] == [False] + [True] * (len(weights) - 1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fixed_global_epochs": 5}, "on top of a random generator .* with global_weights, or"),
        ({"fixed_global_epochs": 5, "global_weights": "a.ckpt", "enhancers": 0}, "last convolution alone"),
        ({"fixed_global_epochs": -1}, "fixed_global_epochs to be 0 .* but got -1"),
        ({"lambda_features": -1.0}, "lambda_features to be 0.* but got -1"),
        ({"lambda_perceptual": -1.0}, "lambda_perceptual to be 0.* but got -1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny(**settings)


def objects(count: int, seed: int) -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 2, (count, 32, 32), generator=generator)
    planes = nn.functional.one_hot(labels, 2).permute(0, 3, 1, 2).float()
    targets = torch.rand(count, 3, 32, 32, generator=generator)
    numbers = torch.arange(1024).view(32, 32) // 100
    return [{"input": planes[i], "target": targets[i], "instance": numbers + labels[i]} for i in range(count)]


def test_borders_between_objects_reach_training_audit_and_prediction(train) -> None:
    model = tiny(in_channels=2, instance_key="instance", audit=False)
    widths: list[int] = []
    model.generator.register_forward_pre_hook(lambda _, inputs: widths.append(inputs[0].shape[1]))
    settings = {"scorer": PredictabilityScorer(nn.AvgPool2d(4), grid=8), "verdict": "primary", **model.audit_settings()}
    audit = MembershipAudit(objects(4, 0), objects(4, 1), **settings)
    loader = torch.utils.data.DataLoader(objects(4, 0), batch_size=2)
    trainer = train(model, loader, callbacks=[audit])
    assert set(widths) == {3}
    assert not audit.result.excluded
    (outputs, _) = trainer.predict(model, loader)
    batch = next(iter(loader))
    x = torch.cat([batch["input"], model.edges.unpack(batch).input[:, 2:]], 1)
    with torch.no_grad():
        torch.testing.assert_close(outputs, model.eval()(x))
        torch.testing.assert_close(
            torch.tensor(audit.result.errors["reconstruction"][:2]).float(),
            (outputs - batch["target"]).abs().mean((1, 2, 3)),
            rtol=1e-4,
            atol=1e-5,
        )


def test_batches_without_objects_are_refused(train, pairs) -> None:
    with pytest.raises(TypeError, match="instance_key='instance' finds no tensor in the batch"):
        train(tiny(instance_key="instance"), pairs())


def test_images_of_the_data_module_that_are_too_small_are_refused_before_the_training() -> None:
    class Data:
        image_size = (32, 32)

    model = tiny(image_size=64)
    model._trainer = type("Trainer", (), {"datamodule": Data})  # type: ignore[assignment]  # a stand-in for the trainer
    with pytest.raises(ValueError, match=r"measure 32 x 32 pixels, .* needs at least 48 a side"):
        model.on_fit_start()


def test_pictures_alone_have_a_perceptual_loss() -> None:
    with pytest.raises(ValueError, match="1 or 3 channels, but out_channels is 2"):
        tiny(out_channels=2, perceptual_weights="hub")


def test_the_audit_of_callables_takes_it() -> None:
    def sides(seed: int) -> list[tuple[Tensor, Tensor]]:
        torch.manual_seed(seed)
        return [(torch.rand(3, 33, 39), torch.rand(3, 33, 39)) for _ in range(3)]

    scorer = PredictabilityScorer(nn.AvgPool2d(4), grid=8)
    assert not Auditor(scorer=scorer).run(tiny().eval(), sides(0), sides(1)).excluded
