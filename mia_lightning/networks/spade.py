"""The generator of SPADE (Park, Liu, Wang, Zhu, 2019, arXiv 1903.07291, section 3 and appendix A)."""

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from mia_lightning.networks.padding import crop_back, pad_to_multiple
from mia_lightning.networks.pix2pix import smaller_side

_WIDTHS = (16, 16, 16, 8, 4, 2, 1)
"""Channels of the paper's blocks, from 4 x 4 to 256 x 256 pixels, as multiples of those of the last."""


class SpadeGenerator(nn.Module):
    """Grows an image from a coarse map, told at each resolution by the label map what is where.

    At 256 pixels the residual blocks have the paper's channels, 1024-1024-1024-512-256-128-64, with an upsampling
    between each two, then a convolution and tanh. Smaller images leave out the first, larger ones begin above 4 x 4.

    - The paper's first map is a linear function of noise or of a style code. Here it is **a convolution of the label
      map at the lowest resolution**: an output is then a function of the input alone, as an audit needs it, and any
      ratio of height to width works. The style encoder, and with it outputs of several styles, is left out on purpose.
    - The paper has spectral norm on all layers. Here it is **on the convolutions of the residual blocks alone**; those
      that predict the modulation, the first and the last are free.
    - Weights are initialised as the paper does (Glorot and Bengio, 2010).

    Args:
        in_channels: Channels of the label map, one-hot, one a class.
        out_channels: Channels of the output.
        image_size: Side, or (height, width), of the images that it will mostly see. Other sizes still work: the input
            is padded by its border and the output cropped back.
        ngf: Channels of the last residual block ("number of generator filters").
        hidden: Channels between the label map and its modulation.

    Raises:
        ValueError: If the image is smaller than 16 pixels.

    Example:
        >>> import torch
        >>> generator = SpadeGenerator(in_channels=5, image_size=32, ngf=2, hidden=8)
        >>> generator(torch.zeros(2, 5, 33, 47)).shape
        torch.Size([2, 3, 33, 47])
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 3,
        image_size: int | tuple[int, int] = 256,
        ngf: int = 64,
        hidden: int = 128,
    ) -> None:
        super().__init__()
        self.upsamplings = min(6, smaller_side(image_size).bit_length() - 3)
        widths = [ngf * times for times in _WIDTHS[-1 - self.upsamplings :]]
        self.first = nn.Conv2d(in_channels, widths[0], 3, padding=1)
        self.blocks = nn.ModuleList(
            SpadeResidualBlock(before, after, in_channels, hidden) for before, after in pairwise([widths[0], *widths])
        )
        self.head = nn.Sequential(nn.LeakyReLU(0.2), nn.Conv2d(widths[-1], out_channels, 3, padding=1), nn.Tanh())
        _init_glorot(self)
        for block in self.blocks:
            assert isinstance(block, SpadeResidualBlock)
            block.normalise_weights()

    def forward(self, x: Tensor) -> Tensor:
        """Translate label maps, (B, in_channels, H, W) in [0, 1], to images, (B, out_channels, H, W) in [-1, 1]."""
        height, width = x.shape[-2:]
        multiple = 2**self.upsamplings
        # Batch norm cannot train on a single pixel.
        labels = pad_to_multiple(x, multiple, minimum=2 * multiple)
        coarse = [side // multiple for side in labels.shape[-2:]]
        maps = self.first(F.interpolate(labels, size=coarse, mode="nearest"))
        for place, block in enumerate(self.blocks):
            maps = block(maps if place == 0 else F.interpolate(maps, scale_factor=2.0, mode="nearest"), labels)
        image: Tensor = self.head(maps)
        return crop_back(image, height, width)


class SpadeResidualBlock(nn.Module):
    """Two convolutions, each after SPADE and ReLU; a third on the skip where the number of channels changes.

    Args:
        channels_in: Channels before.
        channels_out: Channels after.
        label_channels: Channels of the label map.
        hidden: As in :class:`SpadeGenerator`.
    """

    def __init__(self, channels_in: int, channels_out: int, label_channels: int, hidden: int) -> None:
        super().__init__()
        middle = min(channels_in, channels_out)
        self.first = _SpadeConv(channels_in, middle, label_channels, hidden)
        self.second = _SpadeConv(middle, channels_out, label_channels, hidden)
        changes = channels_in != channels_out
        self.skip = _SpadeConv(channels_in, channels_out, label_channels, hidden) if changes else None

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        """Transform maps, (B, channels_in, h, w), by label maps of any size: (B, channels_out, h, w)."""
        skipped = x if self.skip is None else self.skip(x, labels)
        total: Tensor = skipped + self.second(self.first(x, labels), labels)
        return total

    def normalise_weights(self) -> None:
        """Divide the convolutions by their spectral norm from now on."""
        for part in (self.first, self.second, self.skip):
            if part is not None:
                spectral_norm(part.conv)


class _SpadeConv(nn.Module):
    """SPADE, ReLU, convolution."""

    def __init__(self, channels_in: int, channels_out: int, label_channels: int, hidden: int) -> None:
        super().__init__()
        self.norm = Spade(channels_in, label_channels, hidden)
        self.conv = nn.Conv2d(channels_in, channels_out, 3, padding=1)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        maps: Tensor = self.conv(F.relu(self.norm(x, labels)))
        return maps


class Spade(nn.Module):
    """Spatially-adaptive normalisation: batch norm, scaled and shifted at each pixel by what its label map says.

    ``gamma * (x - mean) / deviation + beta``, where gamma and beta are convolutions of the label map. What is predicted
    of gamma is its difference from one.

    Args:
        channels: Channels of the maps.
        label_channels: Channels of the label map.
        hidden: Channels between the two convolutions.

    Example:
        >>> import torch
        >>> Spade(8, label_channels=5, hidden=16)(torch.rand(2, 8, 4, 4), torch.rand(2, 5, 32, 32)).shape
        torch.Size([2, 8, 4, 4])
    """

    def __init__(self, channels: int, label_channels: int, hidden: int = 128) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False)
        self.shared = nn.Sequential(nn.Conv2d(label_channels, hidden, 3, padding=1), nn.ReLU())
        self.gamma = nn.Conv2d(hidden, channels, 3, padding=1)
        self.beta = nn.Conv2d(hidden, channels, 3, padding=1)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        """Normalise maps, (B, channels, h, w), by label maps, (B, label_channels, H, W), of any size."""
        shared = self.shared(F.interpolate(labels, size=x.shape[-2:], mode="nearest"))
        modulated: Tensor = self.norm(x) * (1.0 + self.gamma(shared)) + self.beta(shared)
        return modulated


def _init_glorot(module: nn.Module) -> None:
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.xavier_normal_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
