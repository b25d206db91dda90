from __future__ import annotations

from typing import Any

import pytest
import torch
from jsonargparse import ArgumentParser

from mia_lightning.models.losses import feature_matching_loss, hinge_loss
from mia_lightning.models.spade import SPADE


def tiny(**settings: Any) -> SPADE:
    torch.manual_seed(0)
    return SPADE(**{"image_size": 32, "ngf": 2, "hidden": 8, "ndf": 4, **settings})


def test_step_follows_the_paper() -> None:
    """The losses written out once more, plainly; in evaluation, for spectral norm takes a step in each forward pass."""
    model = tiny(in_channels=5).eval()
    model.manual_backward = lambda loss: loss.backward()
    x, y = torch.rand(2, 5, 32, 32), torch.rand(2, 3, 32, 32)
    assert model.prepare(x) is x, "label maps come as they are"
    fake = model.generator(x)
    on_fake, on_real = model.discriminator(x, fake), model.discriminator(x, y)
    pairs = zip(on_fake, on_real, strict=True)
    hinge = sum((1 + f[-1]).clamp_min(0).mean() + (1 - r[-1]).clamp_min(0).mean() for f, r in pairs)
    torch.testing.assert_close(model.backward_d(x, y, fake), hinge.detach())
    assert all(p.grad is None for p in model.generator.parameters()), "the fake must be detached"
    loss, matching = model.backward_g(x, y, fake)
    torch.testing.assert_close(matching, feature_matching_loss(on_fake, on_real).detach())
    fool = -sum(f[-1].mean() for f in on_fake)
    torch.testing.assert_close(loss, (fool + 10 * matching).detach())


def test_verdicts_that_are_sure_teach_nothing() -> None:
    sure = torch.tensor([1.5, 3.0])
    assert hinge_loss(sure, is_real=True) == 0
    assert hinge_loss(-sure, is_real=False) == 0
    assert hinge_loss(sure, is_real=False) == pytest.approx(3.25)


def test_features_of_real_pairs_get_no_gradient() -> None:
    fake, real = (torch.rand(3, requires_grad=True) for _ in range(2))
    feature_matching_loss([[fake, fake]], [[real, real]]).backward()
    assert real.grad is None
    assert fake.grad is not None


def test_trains_at_two_time_scales(train, pairs) -> None:
    model = tiny(constant_epochs=1, decay_epochs=1)
    before = [p.detach().clone() for p in model.parameters()]
    rates: list[list[float]] = []
    model.on_train_epoch_start = lambda: rates.append([o.param_groups[0]["lr"] for o in model.optimizers()])
    trainer = train(model, pairs("triple"), max_epochs=2, limit_train_batches=1)
    assert rates == [[1e-4, 4e-4], [pytest.approx(0.5e-4), pytest.approx(2e-4)]]
    assert all(not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert torch.isfinite(trainer.callback_metrics["train/feature_matching"])
    assert "train/perceptual" not in trainer.callback_metrics


def test_an_output_depends_on_its_input_alone() -> None:
    model, x = tiny().eval(), torch.rand(2, 3, 33, 47)
    with torch.no_grad():
        torch.testing.assert_close(model(x)[:1], model(x[:1]), rtol=1e-4, atol=1e-5)


def test_arguments_parse_from_a_command_line() -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(SPADE, "model")
    parsed = parser.parse_args(["--model.in_channels=12", "--model.image_size=[64,128]", "--model.betas=[0.1,0.9]"])
    assert (parsed.model.in_channels, parsed.model.image_size, parsed.model.betas) == (12, (64, 128), (0.1, 0.9))
