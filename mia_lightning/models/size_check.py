"""Whether a network takes images of a size, and batches of one, found before a training begins."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

_SIDES = (32, 64, 96, 128, 160, 192, 224, 256, 320, 384, 448, 512)


class _TooSmallError(ValueError):
    """What a network says itself of images that it does not take."""


def check_sizes(network: nn.Module, channels: int, size: tuple[int, int], batch_size: int, name: str) -> None:
    """Run a network once on an empty image, in eval mode; nothing of it or of the random generators changes.

    Args:
        network: From images (B, channels, H, W) to maps.
        channels: Channels of the images.
        size: Height and width of the images of the training.
        batch_size: Batch size of the training.
        name: What to call the network.

    Raises:
        ValueError: If the network does not take such images, naming the least size that it takes, or if it has a batch
            norm over a single pixel and batches are of one.
    """
    from mia_lightning.audit.distributed import forward_is_collective
    from mia_lightning.audit.isolation import isolated, uncompiled  # not at the top: loaded where it is needed

    if forward_is_collective(network):
        return  # sharded weights come together in the strategy's own forward pass
    pixels: list[bool] = []

    def note(module: nn.Module, inputs: Any) -> None:
        pixels.append(inputs[0].shape[2:].numel() == 1)

    hooks = [m.register_forward_pre_hook(note) for m in network.modules() if isinstance(m, _BatchNorm)]
    try:
        with isolated(network), uncompiled():
            failure = _failure(network, channels, size)
            explained = isinstance(failure, _TooSmallError)
            least = None if failure is None or explained else _least(network, channels)
    finally:
        for hook in hooks:
            hook.remove()
    if failure is not None and explained:
        raise failure
    if failure is not None:
        raise ValueError(_refusal(name, size, failure, least)) from failure
    if batch_size == 1 and any(pixels):
        raise ValueError(f"{one_image(name)} At {size[0]} x {size[1]} it is batch_size=1.")


def _refusal(name: str, size: tuple[int, ...], failure: Exception, least: int | None) -> str:
    refusal = f"{name} does not take images of {size[0]} x {size[1]} ({failure})"
    if least is None:
        return f"{refusal}, nor of any other size that was tried. Choose another architecture."
    return f"{refusal}. Give it images of {least} x {least} or more (image_size), or choose another architecture."


def one_image(name: str) -> str:
    """Why a network cannot train on a batch of one image."""
    return (
        f"{name} normalises single pixels over a batch, which cannot be trained on a batch of one image: give "
        "batch_size=2 or more, and no last batch of one (drop_last=True, or the data modules of mia_lightning)."
    )


def _failure(network: nn.Module, channels: int, size: tuple[int, int]) -> Exception | None:
    weight = next(network.parameters())
    try:
        network(torch.zeros(1, channels, *size, dtype=weight.dtype, device=weight.device))
    except (RuntimeError, ValueError, AssertionError) as error:
        return error
    return None


def _least(network: nn.Module, channels: int) -> int | None:
    """The least side of a square that a network takes; None if it is not among those tried."""
    return next((side for side in _SIDES if _failure(network, channels, (side, side)) is None), None)


def explain(name: str, network: nn.Module, image: Tensor, error: Exception) -> ValueError | None:
    """Put what PyTorch says of an image that is too small in other words; None where it says something else."""
    from mia_lightning.audit.isolation import isolated, uncompiled

    text = str(error)
    if "Expected more than 1 value per channel" in text:
        return ValueError(f"{one_image(name)} The batch is {tuple(image.shape)}.")
    if "Output size is too small" in text:
        with isolated(network), uncompiled():
            least = _least(network, image.shape[1])
        return _TooSmallError(_refusal(name, tuple(image.shape[-2:]), error, least))
    return None
