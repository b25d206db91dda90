"""How pictures were made, as far as pixels show it: tint, content by frequency, blocks of JPEG, size.

Two sets of pictures that show the same things may still have come by other cameras, resizings or files.
"""

from itertools import pairwise

import torch
from torch import Tensor

from mia_lightning.functional.volumes import is_volume, least_axis, middle_slice

TINTS = ("tint_first", "tint_last", "chroma")
BANDS = ("detail_1", "detail_2", "detail_3")
SIZES = ("height", "width")
TECHNIQUE = (*TINTS, *BANDS, "blocks", *SIZES)
"""Names of what :func:`technique_statistics` gives."""

_LEAST = 1.0 / 255.0
_EDGES = (1 / 16, 1 / 8, 1 / 4, 3 / 8, 1 / 2)  # of the bands, in waves a pixel
_MOST = 256  # pixels a side of the middle that is looked at for frequencies and blocks
_FEWEST = 16  # pixels a side below which there are neither
_NOISE = 1e-7  # of a picture's power at one frequency: less than 8 bits leave
_BLOCK = 8


def technique_statistics(image: Tensor) -> Tensor:
    """Tint, content by frequency, blocks and size of pictures.

    ``tint_first`` and ``tint_last`` are the logarithms of the mean of the first and the last channel (red and blue)
    over that of all, and ``chroma`` that of the mean deviation of channels from grey over the mean; all are 0 with one
    channel. ``detail_1`` to ``detail_3`` compare the power of neighbouring bands of frequency (1/16 to 1/8 of a wave a
    pixel, to 1/4, to 3/8, to 1/2), as differences of logarithms: blur, noise, sharpening and resizing move them.
    ``blocks`` is by how much more often steps between pixels are larger than those beside them at one of eight places
    than on average, as they are at the borders of a JPEG file's blocks. ``height`` and ``width`` are logarithms.

    Args:
        image: (B, C, H, W) or (B, C, D, H, W) floating-point numbers in [0, 1], NaN at void pixels. Of volumes the
            middle slice along the axis with the fewest voxels is looked at; of large pictures, for frequencies and
            blocks, the middle 256 x 256 pixels.

    Returns:
        (B, 9) in the order of :data:`TECHNIQUE`, float64.

    Example:
        >>> red = torch.full((1, 3, 32, 32), 0.5)
        >>> red[:, 0] *= 1.03
        >>> [round(v, 3) for v in technique_statistics(red)[0, :2].tolist()]
        [0.02, -0.01]
    """
    x = image.detach().float()
    if is_volume(x):
        x = middle_slice(x, least_axis(x.shape[-3:]))
    void = torch.isnan(x)
    if bool(void.any()):
        valid = (~void).sum((2, 3), keepdim=True).clamp_min(1)
        x = torch.where(void, torch.where(void, 0.0, x).sum((2, 3), keepdim=True) / valid, x)
    height, width = x.shape[-2:]
    size = x.new_tensor([height, width], dtype=torch.float64).log().expand(len(x), 2)
    grey = _middle(x.mean(1))
    columns = [_tints(x), _details(grey), _blocks(grey).unsqueeze(1)]
    return torch.cat([*(c.double() for c in columns), size], 1)


def _tints(x: Tensor) -> Tensor:
    means = x.mean((2, 3))
    every = means.mean(1).clamp_min(_LEAST).log()
    ends = means[:, [0, -1]].clamp_min(_LEAST).log() - every.unsqueeze(1)
    away = (x - x.mean(1, keepdim=True)).abs().mean((1, 2, 3))
    chroma = (away + _LEAST).log() - (means.mean(1).clamp_min(_LEAST) + _LEAST).log()
    return torch.cat([ends, chroma.unsqueeze(1) if x.shape[1] > 1 else torch.zeros_like(ends[:, :1])], 1)


def _middle(grey: Tensor) -> Tensor:
    for axis in (1, 2):
        size = grey.shape[axis]
        grey = grey.narrow(axis, max(0, size - _MOST) // 2, min(size, _MOST))
    return grey


def _details(grey: Tensor) -> Tensor:
    """Differences of the logarithms of neighbouring bands' mean power, (B, 3)."""
    height, width = grey.shape[1:]
    if min(height, width) < _FEWEST:
        return grey.new_zeros((len(grey), len(BANDS)))
    # A window, or the jump from one border to the opposite one would fill all bands.
    windows = [torch.hann_window(side, periodic=False, device=grey.device) for side in (height, width)]
    window = windows[0].unsqueeze(1) * windows[1]
    centred = (grey - (grey * window).sum((1, 2), keepdim=True) / window.sum()) * window
    power = torch.fft.rfft2(centred).abs().square() / window.square().sum()
    down = torch.fft.fftfreq(height, device=grey.device).unsqueeze(1)
    radius = (down.square() + torch.fft.rfftfreq(width, device=grey.device).square()).sqrt()
    bands = [(radius >= low) & (radius < high) for low, high in pairwise(_EDGES)]
    # A matrix in place of a selection a band: one product for all.
    mask = torch.stack([band.flatten() / band.sum() for band in bands], 1)
    levels: Tensor = (power.flatten(1) @ mask + _NOISE).log()
    return levels.diff(dim=1)


def _blocks(grey: Tensor) -> Tensor:
    """By how much the share of steps that are larger than those beside them is highest at one of eight places, (B,)."""
    sides = []
    for axis in (1, 2):
        step = grey.diff(dim=axis).abs()
        length = step.shape[axis] - 2
        if length < 2 * _BLOCK:
            continue
        middle = step.narrow(axis, 1, length)
        larger = (middle > step.narrow(axis, 0, length)) & (middle > step.narrow(axis, 2, length))
        shares = larger.float().mean(3 - axis)
        whole = length - length % _BLOCK
        places = shares[:, :whole].reshape(len(grey), -1, _BLOCK).mean(1)
        sides.append(places.amax(1) - places.mean(1))
    return torch.stack(sides).mean(0) if sides else grey.new_zeros(len(grey))
