"""With a file of random weights: what is tested is what is computed from them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from mia_lightning.models.perceptual_loss import PerceptualLoss


def test_distance_in_five_stages(vgg: Path) -> None:
    torch.manual_seed(0)
    loss = PerceptualLoss(vgg)
    fake, real = torch.rand(1, 3, 16, 16, requires_grad=True), torch.rand(1, 3, 16, 16)
    widths = [[m.out_channels for m in stage if isinstance(m, nn.Conv2d)] for stage in loss.stages]
    assert widths == [[64], [64, 128], [128, 256], [256] * 3 + [512], [512] * 4]
    assert all(isinstance(stage[-1], nn.ReLU) for stage in loss.stages)
    expected, maps = 0.0, [(image - loss.mean) / loss.std for image in (fake, real)]
    for weight, stage in zip((1 / 32, 1 / 16, 1 / 8, 1 / 4, 1), loss.stages, strict=True):
        maps = [stage(m) for m in maps]
        expected += weight * (maps[0] - maps[1]).abs().mean()
    found = loss(fake, real)
    torch.testing.assert_close(found, expected)
    found.backward()
    assert fake.grad.abs().sum() > 0
    assert not any(p.requires_grad for p in loss.parameters())
    assert loss(real, real) == 0


def test_it_draws_no_random_number(vgg: Path) -> None:
    before = torch.get_rng_state()
    PerceptualLoss(vgg)
    assert torch.equal(torch.get_rng_state(), before)


def test_one_channel_is_grey_and_two_are_no_picture(vgg: Path) -> None:
    loss = PerceptualLoss(vgg)
    one, other = torch.rand(2, 1, 1, 16, 16)
    torch.testing.assert_close(loss(one, other), loss(one.expand(-1, 3, -1, -1), other.expand(-1, 3, -1, -1)))
    with pytest.raises(ValueError, match="1 or 3 channels, but these have 2"):
        loss(torch.rand(1, 2, 16, 16), torch.rand(1, 2, 16, 16))


def test_a_download_that_fails_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*args: object, **options: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr("torchvision.models.VGG19_Weights.get_state_dict", fails)
    with pytest.raises(RuntimeError, match=r"could not be downloaded \(OSError: no route .* perceptual_weights='/path"):
        PerceptualLoss("hub")


def test_a_file_that_is_missing_or_of_another_network(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"vgg\.pth does not exist"):
        PerceptualLoss(tmp_path / "vgg.pth")
    torch.save({"features.0.weight": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(RuntimeError, match=r"other\.pth do not fit 'VGG-19': 26 of 26 tensors"):
        PerceptualLoss(str(tmp_path / "other.pth"))
