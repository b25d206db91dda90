"""The generator of pix2pixHD (Wang et al., 2018, arXiv 1711.11585, section 3.2 and appendix A)."""

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from mia_lightning.networks.norms import Norm, make_norm, needs_bias
from mia_lightning.networks.padding import crop_back, pad_to_multiple
from mia_lightning.networks.pix2pix import init_normal_, smaller_side


class CoarseToFineGenerator(nn.Module):
    """A global generator at low resolution, and local enhancers that each double it.

    As in the paper: the global generator is c7s1-64, d128, d256, d512, d1024, nine residual blocks, u512, u256, u128,
    u64; an enhancer is c7s1-32, d64, three residual blocks, u32. The residual blocks of an enhancer get the sum of its
    own map and of the last map of the generator below, which sees the input at half the resolution. One c7s1 with tanh
    makes the image of the last map. Convolutions are padded by reflection.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        image_size: Side, or (height, width), of the images that it will mostly see. The global generator halves what
            it gets four times, on small images as often as leaves 4 pixels. Other sizes still work: the input is
            padded by its border and the output cropped back.
        ngf: Channels of the global generator's outermost stage; each enhancer has half of those below it.
        enhancers: How many local enhancers; 0 is the global generator alone.
        global_blocks: Residual blocks of the global generator.
        local_blocks: Residual blocks of each enhancer.
        norm: ``"instance"`` (the paper's), another name of :func:`~mia_lightning.networks.norms.make_norm`, or a
            callable from channels to a module.

    Raises:
        ValueError: If the image is smaller than 16 pixels, the norm is unknown, or ``ngf`` cannot be halved for each
            enhancer.

    Example:
        >>> import torch
        >>> generator = CoarseToFineGenerator(in_channels=5, image_size=32, ngf=4, global_blocks=1)
        >>> generator(torch.zeros(2, 5, 33, 47)).shape
        torch.Size([2, 3, 33, 47])
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 3,
        image_size: int | tuple[int, int] = 512,
        ngf: int = 64,
        enhancers: int = 1,
        global_blocks: int = 9,
        local_blocks: int = 3,
        norm: Norm = "instance",
    ) -> None:
        super().__init__()
        if enhancers < 0 or ngf % 2**enhancers:
            raise ValueError(
                f"Expected ngf to be a multiple of 2**enhancers, since each enhancer has half the channels of the "
                f"generator below it, but got ngf={ngf} and enhancers={enhancers}."
            )
        downs = downsamplings(image_size, enhancers)
        self.multiple = 2 ** (downs + enhancers)
        self.global_generator = _GlobalGenerator(in_channels, ngf, downs, global_blocks, norm)
        widths = [ngf // 2**level for level in range(1, enhancers + 1)]
        self.enhancers = nn.ModuleList(_LocalEnhancer(in_channels, width, local_blocks, norm) for width in widths)
        last = nn.Conv2d(ngf // 2**enhancers, out_channels, 7)
        self.head = nn.Sequential(nn.ReflectionPad2d(3), last, nn.Tanh())
        init_normal_(self)

    def forward(self, x: Tensor) -> Tensor:
        """Translate inputs, (B, in_channels, H, W), to images, (B, out_channels, H, W) in [-1, 1]."""
        height, width = x.shape[-2:]
        # Two pixels a side are left at the coarsest: reflections and instance norms need more than one.
        pyramid = [pad_to_multiple(x, self.multiple, minimum=2 * self.multiple)]
        for _ in self.enhancers:
            pyramid.append(halved(pyramid[-1]))
        maps = self.global_generator(pyramid.pop())
        for enhancer in self.enhancers:
            maps = enhancer(pyramid.pop(), maps)
        image: Tensor = self.head(maps)
        return crop_back(image, height, width)


class _GlobalGenerator(nn.Module):
    """From the input at its resolution to maps of ``ngf`` channels."""

    def __init__(self, in_channels: int, ngf: int, downs: int, blocks: int, norm: Norm) -> None:
        super().__init__()
        widths = [ngf * 2**stage for stage in range(downs + 1)]
        down = [_down(fine, coarse, norm) for fine, coarse in pairwise(widths)]
        self.front = nn.Sequential(_first(in_channels, ngf, norm), *down)
        self.blocks = nn.Sequential(*(_ResidualBlock(widths[-1], norm) for _ in range(blocks)))
        up = [_up(coarse, fine, norm) for fine, coarse in pairwise(widths)]
        self.back = nn.Sequential(*reversed(up))

    def forward(self, x: Tensor) -> Tensor:
        maps: Tensor = self.back(self.blocks(self.front(x)))
        return maps


class _LocalEnhancer(nn.Module):
    """Doubles the resolution of maps by what the input shows there."""

    def __init__(self, in_channels: int, width: int, blocks: int, norm: Norm) -> None:
        super().__init__()
        self.front = nn.Sequential(_first(in_channels, width, norm), _down(width, 2 * width, norm))
        self.blocks = nn.Sequential(*(_ResidualBlock(2 * width, norm) for _ in range(blocks)))
        self.back = _up(2 * width, width, norm)

    def forward(self, x: Tensor, coarse: Tensor) -> Tensor:
        maps: Tensor = self.back(self.blocks(self.front(x) + coarse))
        return maps


class _ResidualBlock(nn.Module):
    def __init__(self, width: int, norm: Norm) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.ReflectionPad2d(1), nn.Conv2d(width, width, 3, bias=needs_bias(norm)), make_norm(norm, width)),
            nn.ReLU(),
            *(nn.ReflectionPad2d(1), nn.Conv2d(width, width, 3, bias=needs_bias(norm)), make_norm(norm, width)),
        )

    def forward(self, x: Tensor) -> Tensor:
        total: Tensor = x + self.layers(x)
        return total


def halved(x: Tensor) -> Tensor:
    """Halve images, (B, C, H, W), by averages of 3 x 3 pixels; odd sides are rounded up.

    Example:
        >>> import torch
        >>> halved(torch.ones(1, 1, 5, 8)).shape
        torch.Size([1, 1, 3, 4])
    """
    return F.avg_pool2d(x, 3, stride=2, padding=1, count_include_pad=False)


def downsamplings(image_size: int | tuple[int, int], enhancers: int) -> int:
    """How often the global generator halves its input: four times, or as often as leaves 4 pixels, once at least.

    Raises:
        ValueError: If a side is shorter than 16 pixels.

    Example:
        >>> [downsamplings(size, enhancers=1) for size in (16, 64, 256, (512, 1024))]
        [1, 3, 4, 4]
    """
    side = smaller_side(image_size) >> enhancers
    return max(1, min(4, side.bit_length() - 3))


def _first(channels_in: int, channels_out: int, norm: Norm) -> nn.Sequential:
    conv = nn.Conv2d(channels_in, channels_out, 7, bias=needs_bias(norm))
    return nn.Sequential(nn.ReflectionPad2d(3), conv, make_norm(norm, channels_out), nn.ReLU())


def _down(channels_in: int, channels_out: int, norm: Norm) -> nn.Sequential:
    conv = nn.Conv2d(channels_in, channels_out, 3, stride=2, padding=1, bias=needs_bias(norm))
    return nn.Sequential(conv, make_norm(norm, channels_out), nn.ReLU())


def _up(channels_in: int, channels_out: int, norm: Norm) -> nn.Sequential:
    conv = nn.ConvTranspose2d(
        channels_in, channels_out, 3, stride=2, padding=1, output_padding=1, bias=needs_bias(norm)
    )
    return nn.Sequential(conv, make_norm(norm, channels_out), nn.ReLU())
