"""The two networks of pix2pix (Isola, Zhu, Zhou, Efros, 2017, arXiv 1611.07004, appendix 6.1)."""

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from mia_lightning.networks.norms import Norm, make_norm, needs_bias
from mia_lightning.networks.padding import crop_back, pad_to_multiple

MIN_SIZE = 16
"""Smallest image side, in pixels, that the two networks are built for."""


class UNetGenerator(nn.Module):
    """U-Net that halves the image until one pixel is left, and grows it back with a skip at every size.

    At 256 pixels this is the paper's generator: encoder C64-C128-C256-C512-C512-C512-C512-C512, decoder
    CD512-CD512-CD512-C512-C256-C128-C64, then tanh. Smaller images get fewer stages, larger ones keep eight.

    - As in the original, neither the first nor the innermost encoder stage has a norm: an instance norm of a
      1 x 1 map is zero whatever the map holds (so is a batch norm at batch size one), and would cut the
      bottleneck out of the network.
    - Dropout of 0.5 follows the three innermost decoder stages. It is the model's only source of noise.
    - Instance norm learns a scale and a shift. That is the paper's batch norm at batch size one, its usual setting.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        image_size: Side, or (height, width), of the images that it will mostly see; the smaller side sets the
            depth. Other sizes still work: the input is padded by its border and the output cropped back.
        ngf: Channels of the outermost stage ("number of generator filters").
        norm: ``"batch"``, ``"instance"``, ``"group"``, ``"none"``, or a callable from channels to a module.
        dropout: Whether to drop in the three innermost decoder stages.

    Raises:
        ValueError: If the image is smaller than 16 pixels or the norm is unknown.

    Example:
        >>> generator = UNetGenerator(in_channels=1, image_size=32, ngf=4)
        >>> generator.depth, generator(torch.zeros(2, 1, 33, 47)).shape
        (5, torch.Size([2, 3, 33, 47]))
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 3,
        image_size: int | tuple[int, int] = 256,
        ngf: int = 64,
        norm: Norm = "batch",
        dropout: bool = True,
    ) -> None:
        super().__init__()
        self.depth = generator_depth(image_size)
        widths = [ngf * min(2**stage, 8) for stage in range(self.depth)]
        innermost = self.depth - 1
        self.encoder = nn.ModuleList(
            _down(
                in_channels if stage == 0 else widths[stage - 1],
                width,
                norm="none" if stage in (0, innermost) else norm,
                activate=stage > 0,
            )
            for stage, width in enumerate(widths)
        )
        # Every decoder stage but the innermost sees the stage below and its skip, hence twice the channels.
        self.decoder = nn.ModuleList(
            _up(
                widths[stage] * (1 if stage == innermost else 2),
                widths[stage - 1],
                norm,
                dropout and stage > innermost - 3,
            )
            for stage in range(innermost, 0, -1)
        )
        last = nn.ConvTranspose2d(2 * widths[0], out_channels, 4, stride=2, padding=1)
        self.head = nn.Sequential(nn.ReLU(), last, nn.Tanh())
        init_normal_(self)

    def forward(self, x: Tensor) -> Tensor:
        """Translate images, (B, in_channels, H, W) in [-1, 1], to (B, out_channels, H, W) in [-1, 1]."""
        height, width = x.shape[-2:]
        x = pad_to_multiple(x, 2**self.depth)
        skips = []
        for down in self.encoder:
            x = down(x)
            skips.append(x)
        x = skips.pop()
        for up in self.decoder:
            x = torch.cat([skips.pop(), up(x)], 1)
        image: Tensor = self.head(x)
        return crop_back(image, height, width)


class PatchDiscriminator(nn.Module):
    """PatchGAN: judges every patch of an (input, target) pair, 70 x 70 pixels each with three layers.

    Args:
        in_channels: Channels of the pair: those of the input plus those of the target.
        ndf: Channels of the first layer ("number of discriminator filters").
        n_layers: How often the resolution is halved. The patch measures 16, 34 or 70 pixels for 1, 2 or 3.
            Images need at least ``3 * 2**n_layers`` pixels a side; :func:`patch_layers` says how many fit.
        norm: As in :class:`UNetGenerator`; the first layer has none.
        spectral: Whether convolutions are divided by their spectral norm (Miyato et al., 2018, arXiv 1802.05957).

    Raises:
        ValueError: If ``n_layers`` is below 1 or the norm is unknown.

    Example:
        >>> discriminator = PatchDiscriminator(in_channels=6, ndf=4)
        >>> discriminator(torch.zeros(1, 3, 256, 256), torch.zeros(1, 3, 256, 256)).shape
        torch.Size([1, 1, 30, 30])
    """

    def __init__(
        self, in_channels: int = 6, ndf: int = 64, n_layers: int = 3, norm: Norm = "batch", spectral: bool = False
    ) -> None:
        super().__init__()
        if n_layers < 1:
            raise ValueError(f"Expected n_layers of at least 1 but got {n_layers}.")
        self.min_size = 3 * 2**n_layers
        layers: list[nn.Module] = [nn.Conv2d(in_channels, ndf, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        width = ndf
        for layer in range(1, n_layers + 1):
            wider = ndf * min(2**layer, 8)
            stride = 2 if layer < n_layers else 1
            layers += [
                nn.Conv2d(width, wider, 4, stride=stride, padding=1, bias=needs_bias(norm)),
                make_norm(norm, wider),
                nn.LeakyReLU(0.2),
            ]
            width = wider
        layers.append(nn.Conv2d(width, 1, 4, stride=1, padding=1))
        self.layers = nn.Sequential(*layers)
        init_normal_(self)
        if spectral:
            for convolution in [layer for layer in self.layers if isinstance(layer, nn.Conv2d)]:
                spectral_norm(convolution)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Judge pairs of inputs, (B, C, H, W), and real or generated targets, (B, C', H, W), all in [-1, 1].

        Returns:
            One logit a patch, (B, 1, h, w); positive means real.

        Raises:
            ValueError: If the images are too small to hold a patch.
        """
        self.check_size(*x.shape[-2:])
        logits: Tensor = self.layers(torch.cat([x, y], 1))
        return logits

    def stages(self, pair: Tensor) -> list[Tensor]:
        """Judge pairs, (B, in_channels, H, W), and keep what lies on the way.

        Returns:
            The maps after each activation, finest first, and last the logits of :meth:`forward`.
        """
        stages = []
        for layer in self.layers:
            pair = layer(pair)
            if isinstance(layer, nn.LeakyReLU):
                stages.append(pair)
        return [*stages, pair]

    def check_size(self, height: int, width: int) -> None:
        """Refuse images that are too small to hold a patch.

        Raises:
            ValueError: If a side is too short.
        """
        if min(height, width) < self.min_size:
            raise ValueError(
                f"The images measure {height} x {width} pixels, but this discriminator needs at "
                f"least {self.min_size} a side; build it for this size (n_layers=patch_layers(size)), or use "
                "larger images."
            )


def generator_depth(image_size: int | tuple[int, int]) -> int:
    """How many stages take an image, by its side or (height, width) in pixels, down to about one pixel.

    That is the base-2 logarithm of the smaller side, rounded down, at most 8 (the paper's, at 256 pixels).

    Raises:
        ValueError: If a side is shorter than 16 pixels.

    Example:
        >>> [generator_depth(size) for size in (16, 64, 256, 512, (48, 256))]
        [4, 6, 8, 8, 5]
    """
    return min(8, smaller_side(image_size).bit_length() - 1)


def patch_layers(image_size: int | tuple[int, int], most: int = 3) -> int:
    """How many layers of a :class:`PatchDiscriminator` fit an image, by its side or (height, width) in pixels.

    That is ``most`` (the paper's 70 x 70 patch takes 3), or the largest number with ``3 * 2**n_layers`` pixels or fewer
    a side.

    Raises:
        ValueError: If a side is shorter than 16 pixels.

    Example:
        >>> [patch_layers(size) for size in (16, 24, 256)]
        [2, 3, 3]
    """
    return min(most, (smaller_side(image_size) // 3).bit_length() - 1)


def init_normal_(module: nn.Module, gain: float = 0.02) -> None:
    """Initialise in place as the paper does: weights N(0, gain), norm weights N(1, gain), biases zero."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(layer.weight, 0.0, gain)
        elif isinstance(layer, nn.BatchNorm2d | nn.InstanceNorm2d | nn.GroupNorm) and layer.affine:
            nn.init.normal_(layer.weight, 1.0, gain)
        else:
            continue
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


def _down(channels_in: int, channels_out: int, norm: Norm, activate: bool) -> nn.Sequential:
    activation = [nn.LeakyReLU(0.2)] if activate else []
    conv = nn.Conv2d(channels_in, channels_out, 4, stride=2, padding=1, bias=needs_bias(norm))
    return nn.Sequential(*activation, conv, make_norm(norm, channels_out))


def _up(channels_in: int, channels_out: int, norm: Norm, dropout: bool) -> nn.Sequential:
    conv = nn.ConvTranspose2d(channels_in, channels_out, 4, stride=2, padding=1, bias=needs_bias(norm))
    drop = [nn.Dropout(0.5)] if dropout else []
    return nn.Sequential(nn.ReLU(), conv, make_norm(norm, channels_out), *drop)


def smaller_side(image_size: int | tuple[int, int]) -> int:
    """The smaller of two sides, or the only one; ValueError if it is below 16 pixels."""
    side = image_size if isinstance(image_size, int) else min(image_size)
    if side < MIN_SIZE:
        raise ValueError(f"Expected image_size of at least {MIN_SIZE} pixels a side but got {image_size}.")
    return side
