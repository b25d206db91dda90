"""Discriminators at several scales, as pix2pixHD and SPADE have them (Wang et al., 2018, arXiv 1711.11585)."""

import torch
from torch import Tensor, nn

from mia_lightning.networks.norms import Norm
from mia_lightning.networks.pix2pix import MIN_SIZE, PatchDiscriminator, patch_layers, smaller_side
from mia_lightning.networks.pix2pix_hd import halved


class MultiscaleDiscriminator(nn.Module):
    """PatchGANs of one architecture, of which each next one judges the pair at half the resolution.

    Args:
        in_channels: Channels of the pair: those of the input plus those of the target.
        image_size: Side, or (height, width), of the images that it will mostly see. On small images there are fewer
            scales, each of at least 16 pixels, and fewer layers where they do not fit.
        ndf: Channels of the first layer of each.
        scales: How many there are, at most.
        norm: ``"instance"`` (both papers'), another name of :func:`~mia_lightning.networks.norms.make_norm`, or a
            callable from channels to a module.
        spectral: Whether convolutions are divided by their spectral norm.

    Raises:
        ValueError: If the image is smaller than 16 pixels, ``scales`` is below 1, or the norm is unknown.

    Example:
        >>> discriminator = MultiscaleDiscriminator(in_channels=6, image_size=64, ndf=4)
        >>> stages = discriminator(torch.zeros(1, 3, 64, 64), torch.zeros(1, 3, 64, 64))
        >>> [tuple(stage[-1].shape) for stage in stages]
        [(1, 1, 6, 6), (1, 1, 2, 2), (1, 1, 2, 2)]
    """

    def __init__(
        self,
        in_channels: int = 6,
        image_size: int | tuple[int, int] = 256,
        ndf: int = 64,
        scales: int = 3,
        norm: Norm = "instance",
        spectral: bool = False,
    ) -> None:
        super().__init__()
        if scales < 1:
            raise ValueError(f"Expected scales of at least 1 but got {scales}.")
        side = smaller_side(image_size)
        sides = [side >> scale for scale in range(scales) if side >> scale >= MIN_SIZE]
        self.scales = nn.ModuleList(
            PatchDiscriminator(in_channels, ndf, patch_layers(s), norm, spectral) for s in sides
        )
        self.min_size = max(3 * 2 ** patch_layers(s) * 2**scale for scale, s in enumerate(sides))

    def forward(self, x: Tensor, y: Tensor) -> list[list[Tensor]]:
        """Judge pairs of inputs, (B, C, H, W), and real or generated targets, (B, C', H, W).

        Returns:
            For each scale, finest first, the maps after each activation and last the logits, one a patch,
            (B, 1, h, w); positive means real.

        Raises:
            ValueError: If the images are too small to hold a patch at each scale.
        """
        self.check_size(*x.shape[-2:])
        pair = torch.cat([x, y], 1)
        stages = []
        for scale in self.scales:
            assert isinstance(scale, PatchDiscriminator)
            stages.append(scale.stages(pair))
            pair = halved(pair)
        return stages

    def check_size(self, height: int, width: int) -> None:
        """Refuse images that are too small to hold a patch at each scale.

        Raises:
            ValueError: If a side is too short.
        """
        if min(height, width) < self.min_size:
            raise ValueError(
                f"The images measure {height} x {width} pixels, but this discriminator of {len(self.scales)} scales "
                f"needs at least {self.min_size} a side; build it for this size (image_size), or use larger images."
            )
