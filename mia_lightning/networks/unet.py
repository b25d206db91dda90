"""The classic U-Net for segmentation (Ronneberger, Fischer, Brox, 2015, arXiv 1505.04597)."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from mia_lightning.networks.norms import Norm, make_norm, needs_bias
from mia_lightning.networks.padding import crop_back, pad_to_multiple


class UNet(nn.Module):
    """Contract, expand, and hand the details across.

    Two departures from the paper, both today's habit: convolutions are padded, so the output is as large as the input,
    and each is followed by a norm. Any height and width work: the input is padded by its border until the coarsest map
    measures at least 2 x 2 (a norm cannot train on a single pixel), and the output is cropped back.

    Args:
        in_channels: Channels of the input.
        num_classes: Channels of the output, one logit each.
        base_channels: Channels of the finest level; each coarser level doubles them.
        depth: How often the resolution is halved.
        norm: ``"batch"``, ``"instance"``, ``"group"``, ``"none"``, or a callable from channels to a module.
            Opacus rejects batch norm: give it ``"group"``.
        dropout: Probability of dropping a value at the end of the contracting path, as in the paper.

    Raises:
        ValueError: If an argument is out of range or the norm is unknown.

    Example:
        >>> UNet(in_channels=1, num_classes=5, base_channels=4, depth=2)(torch.rand(2, 1, 33, 47)).shape
        torch.Size([2, 5, 33, 47])
    """

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 2,
        base_channels: int = 64,
        depth: int = 4,
        norm: Norm = "batch",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        sizes = {"in_channels": in_channels, "num_classes": num_classes, "base_channels": base_channels, "depth": depth}
        for name, value in sizes.items():
            if value < 1:
                raise ValueError(f"Expected {name} of at least 1 but got {value}.")
        self.multiple = 2**depth
        widths = [base_channels * 2**level for level in range(depth + 1)]
        self.stem = _double_conv(in_channels, widths[0], norm)
        self.encoder = nn.ModuleList(
            nn.Sequential(nn.MaxPool2d(2), _double_conv(fine, coarse, norm)) for fine, coarse in pairwise(widths)
        )
        self.dropout = nn.Dropout(dropout)
        self.decoder = nn.ModuleList(_Expand(coarse, fine, norm) for coarse, fine in pairwise(reversed(widths)))
        self.head = nn.Conv2d(widths[0], num_classes, kernel_size=1)
        self.apply(_init_he)

    def forward(self, x: Tensor) -> Tensor:
        """Score every pixel of images, (B, in_channels, H, W): logits, (B, num_classes, H, W)."""
        height, width = x.shape[-2:]
        x = self.stem(pad_to_multiple(x, self.multiple, minimum=2 * self.multiple))
        skips = []
        for contract in self.encoder:
            skips.append(x)
            x = contract(x)
        x = self.dropout(x)
        for expand in self.decoder:
            x = expand(x, skips.pop())
        logits: Tensor = self.head(x)
        return crop_back(logits, height, width)


class _Expand(nn.Module):
    """Double the resolution, join the skip, convolve twice."""

    def __init__(self, coarse: int, fine: int, norm: Norm) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(coarse, fine, kernel_size=2, stride=2)
        self.convs = _double_conv(2 * fine, fine, norm)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        joined: Tensor = self.convs(torch.cat([skip, self.up(x)], 1))
        return joined


def _double_conv(channels_in: int, channels_out: int, norm: Norm) -> nn.Sequential:
    bias = needs_bias(norm)
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, kernel_size=3, padding=1, bias=bias),
        make_norm(norm, channels_out),
        nn.ReLU(),
        nn.Conv2d(channels_out, channels_out, kernel_size=3, padding=1, bias=bias),
        make_norm(norm, channels_out),
        nn.ReLU(),
    )


def _init_he(module: nn.Module) -> None:
    # The paper's section 3: Gaussian weights of variance 2 / fan-in, so that maps keep unit variance through ReLUs.
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
