from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from mia_lightning.models.losses import (
    SEGMENTATION_LOSSES,
    cross_entropy_loss,
    dice_loss,
    focal_loss,
    gan_loss,
)


@pytest.fixture
def logits() -> torch.Tensor:
    return torch.randn(2, 3, 5, 7, generator=torch.Generator().manual_seed(0), requires_grad=True)


@pytest.fixture
def labels() -> torch.Tensor:
    target = torch.randint(0, 3, (2, 5, 7), generator=torch.Generator().manual_seed(1))
    target[0, 0], target[1, 1] = 255, -1
    return target


def test_cross_entropy_is_torchs(logits: torch.Tensor, labels: torch.Tensor) -> None:
    wanted = F.cross_entropy(logits, labels.masked_fill(labels < 0, 255), ignore_index=255)
    torch.testing.assert_close(cross_entropy_loss(logits, labels), wanted)


def test_binary_cross_entropy_is_torchs(logits: torch.Tensor, labels: torch.Tensor) -> None:
    binary = labels.clamp_max(1).masked_fill(labels == 255, 255)
    valid = (binary >= 0) & (binary < 2)
    wanted = F.binary_cross_entropy_with_logits(logits[:, 0][valid], binary[valid].float())
    torch.testing.assert_close(cross_entropy_loss(logits[:, :1], binary), wanted)


def test_focal_by_hand() -> None:
    # True class at probability 3/4, then at 1/4; the third pixel is void.
    x = torch.tensor([math.log(3.0), -math.log(3.0), 0.0]).view(1, 1, 1, 3)
    target = torch.tensor([[[1, 1, 255]]])
    wanted = (-(0.25**2) * math.log(0.75) - 0.75**2 * math.log(0.25)) / 2
    assert focal_loss(x, target).item() == pytest.approx(wanted, rel=1e-5)


def test_focal_without_focus_is_cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> None:
    torch.testing.assert_close(focal_loss(logits, labels, gamma=0.0), cross_entropy_loss(logits, labels))


def test_dice_by_hand() -> None:
    # Two classes at probabilities (3/4, 1/4) and (1/2, 1/2); class 2 and the void pixel count nowhere.
    probability = torch.tensor([[0.75, 0.5, 0.2], [0.25, 0.5, 0.2], [1e-30, 1e-30, 0.6]])
    target = torch.tensor([[[0, 1, 255]]])
    first, second = 2 * 0.75 / (0.75 + 0.5 + 1), 2 * 0.5 / (0.25 + 0.5 + 1)
    loss = dice_loss(probability.log().view(1, 3, 1, 3), target)
    assert loss.item() == pytest.approx(1 - (first + second) / 2, rel=1e-5)


def test_binary_dice_looks_at_the_foreground_only() -> None:
    x = torch.tensor([math.log(3.0), 0.0]).view(1, 1, 1, 2)
    assert dice_loss(x, torch.tensor([[[1, 0]]])).item() == pytest.approx(1 - 1.5 / 2.25, rel=1e-5)
    assert dice_loss(x, torch.tensor([[[0, 0]]])).item() == 0


def test_perfect_dice_is_zero(labels: torch.Tensor) -> None:
    certain = 100.0 * F.one_hot(labels.clamp(0, 2), 3).permute(0, 3, 1, 2)
    assert dice_loss(certain, labels).item() == pytest.approx(0, abs=1e-6)


def test_cross_entropy_and_dice_add_up(logits: torch.Tensor, labels: torch.Tensor) -> None:
    wanted = cross_entropy_loss(logits, labels) + dice_loss(logits, labels)
    torch.testing.assert_close(SEGMENTATION_LOSSES["cross_entropy+dice"](logits, labels, 255), wanted)


@pytest.mark.parametrize("name", SEGMENTATION_LOSSES)
def test_void_pixels_get_no_gradient(name: str, logits: torch.Tensor, labels: torch.Tensor) -> None:
    SEGMENTATION_LOSSES[name](logits, labels, 255).backward()
    void = (labels < 0) | (labels == 255)
    assert not logits.grad.permute(0, 2, 3, 1)[void].any()
    assert logits.grad.permute(0, 2, 3, 1)[~void].all()


@pytest.mark.parametrize("name", SEGMENTATION_LOSSES)
def test_a_batch_of_void_is_zero_and_differentiable(name: str, logits: torch.Tensor) -> None:
    loss = SEGMENTATION_LOSSES[name](logits, torch.full((2, 5, 7), 255), 255)
    loss.backward()
    assert loss.item() == 0
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("name", SEGMENTATION_LOSSES)
def test_unknown_class_id(name: str, logits: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"The label map holds class ids \[3\], but num_classes=3"):
        SEGMENTATION_LOSSES[name](logits, torch.full((2, 5, 7), 3), 255)


@pytest.mark.parametrize("name", SEGMENTATION_LOSSES)
def test_half_precision_is_lifted(name: str, logits: torch.Tensor, labels: torch.Tensor) -> None:
    loss = SEGMENTATION_LOSSES[name](logits.bfloat16(), labels, 255)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(SEGMENTATION_LOSSES[name](logits, labels, 255).item(), rel=2e-2)


@pytest.mark.parametrize(
    ("kind", "is_real", "wanted"),
    [
        ("vanilla", True, math.log1p(math.exp(-2.0))),
        ("vanilla", False, math.log1p(math.exp(2.0))),
        ("lsgan", True, 1.0),
        ("lsgan", False, 4.0),
    ],
)
def test_gan_loss_by_hand(kind: str, is_real: bool, wanted: float) -> None:
    assert gan_loss(torch.full((1, 1, 2, 2), 2.0), is_real, kind).item() == pytest.approx(wanted)


def test_unknown_gan_loss() -> None:
    with pytest.raises(ValueError, match="Unknown gan_loss 'wgan'; choose vanilla or lsgan"):
        gan_loss(torch.zeros(1), True, "wgan")
