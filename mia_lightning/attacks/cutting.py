"""From loss maps to patches as a network sees them: where they are cut, in what units, which way up."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

LARGEST_SEEN = 32
"""Patches of a larger side, in pixels, are averaged in blocks down to this, to keep time and memory in bounds."""


def check_maps(maps: Tensor) -> None:
    """Refuse what are no loss maps.

    Args:
        maps: Anything.

    Raises:
        ValueError: If they are not floats of shape (N, C, H, W), finite and at least 0.
    """
    if maps.ndim != 4 or 0 in maps.shape or not maps.is_floating_point():
        raise ValueError(f"Expected float loss maps of shape (N, C, H, W), but got {maps.dtype} {tuple(maps.shape)}.")
    least, most = (float(x) for x in torch.aminmax(maps.detach()))  # both are NaN where any number is
    if not (least >= 0.0 and most < float("inf")):
        raise ValueError(
            f"Expected finite losses of at least 0 in the maps, but they run from {least:.6g} to {most:.6g}. Give "
            "pixels without a target a loss of 0."
        )


@dataclass(frozen=True, eq=False)
class PatchView:
    """How patches are cut and scaled, learned from training maps.

    A loss enters twice, as a multiple of the mean training loss and as log(1 + that), both standardised.

    Attributes:
        side: Side of a patch in pixels of the maps.
        unit: Mean loss of each channel, (1, C, 1, 1).
        centre: Means of both scales, (1, 2C, 1, 1).
        spread: Standard deviations of both scales, (1, 2C, 1, 1).
    """

    side: int
    unit: Tensor
    centre: Tensor
    spread: Tensor

    @classmethod
    def fitted(cls, maps: Tensor, side: int) -> PatchView:
        """Take units, means and standard deviations from training maps.

        Args:
            maps: (N, C, H, W), at least 0.
            side: Side of the patches to come, in pixels.

        Returns:
            The view, its tensors on the CPU.
        """
        unit = maps.mean((0, 2, 3), keepdim=True, dtype=torch.float64).cpu()
        unit = torch.where(unit > 0.0, unit, 1.0)
        # Map by map, since float64 copies of all would be large.
        moments = torch.zeros(2, 2 * maps.shape[1], dtype=torch.float64)
        for row in range(maps.shape[0]):
            scaled = _both_scales(_averaged(maps[row : row + 1].double().cpu(), side), unit)
            moments += torch.stack([scaled.mean((0, 2, 3)), scaled.square().mean((0, 2, 3))]) / maps.shape[0]
        spread = (moments[1] - moments[0].square()).clamp_min(0.0).sqrt()
        # A constant channel carries nothing; dividing by its rounding error would make noise of it.
        spread = torch.where(spread > 1e-6, spread, 1.0)
        return cls(side, unit.float(), moments[0].float().view(1, -1, 1, 1), spread.float().view(1, -1, 1, 1))

    def cut(self, maps: Tensor, rows: Tensor, top: Tensor, left: Tensor) -> Tensor:
        """Cut patches and scale them.

        Args:
            maps: (N, C, H, W); the last row and column of maps smaller than a patch are repeated.
            rows: Which map each patch comes from, (P,).
            top: First row of each patch, (P,).
            left: First column of each patch, (P,).

        Returns:
            Patches in float32 on the maps' device, (P, 2C, S, S) with S at most :data:`LARGEST_SEEN`.
        """
        span = torch.arange(self.side)
        down = (top.unsqueeze(1) + span).clamp_max(maps.shape[-2] - 1)
        along = (left.unsqueeze(1) + span).clamp_max(maps.shape[-1] - 1)
        patches = maps[rows.view(-1, 1, 1), :, down.unsqueeze(2), along.unsqueeze(1)].movedim(-1, 1).float()
        unit, centre, spread = (x.to(maps.device) for x in (self.unit, self.centre, self.spread))
        return (_both_scales(_averaged(patches, self.side), unit) - centre) / spread


def turned(patches: Tensor, generator: torch.Generator) -> Tensor:
    """Turn and mirror each patch at random.

    Args:
        patches: (P, C, S, S).
        generator: Source of chance, on the CPU.

    Returns:
        Each patch in one of its eight positions, same shape.
    """
    upright, mirrored, swapped = (torch.rand(3, len(patches), 1, 1, 1, generator=generator) < 0.5).to(patches.device)
    patches = torch.where(upright, patches, patches.flip(-2))
    patches = torch.where(mirrored, patches, patches.flip(-1))
    return torch.where(swapped, patches, patches.transpose(-1, -2))


def grid(height: int, width: int, side: int, patches: int) -> tuple[Tensor, Tensor]:
    """Spread patches evenly over a map, from border to border.

    Args:
        height: Rows of the map.
        width: Columns of the map.
        side: Side of a patch.
        patches: Number of patches to aim at.

    Returns:
        First row and first column of each patch, (P,) and (P,): about that many, fewer on small maps.

    Example:
        >>> top, left = grid(height=16, width=24, side=8, patches=6)
        >>> top.tolist(), left.tolist()
        ([0, 0, 0, 8, 8, 8], [0, 8, 16, 0, 8, 16])
    """
    rows = max(1, round((patches * height / width) ** 0.5))
    columns = max(1, round(patches / rows))
    axes = []
    for room, count in ((max(height - side, 0), rows), (max(width - side, 0), columns)):
        places = torch.linspace(0, room, count) if count > 1 else torch.tensor([room / 2.0])
        axes.append(torch.tensor(sorted({round(place) for place in places.tolist()})))
    top, left = torch.meshgrid(axes[0], axes[1], indexing="ij")
    return top.flatten(), left.flatten()


def _averaged(losses: Tensor, side: int) -> Tensor:
    """Block means where patches of that side are larger than the network is shown."""
    block = -(-side // LARGEST_SEEN)
    return F.avg_pool2d(losses, block, ceil_mode=True) if block > 1 else losses


def _both_scales(losses: Tensor, unit: Tensor) -> Tensor:
    """(N, C, H, W) -> (N, 2C, H, W)."""
    scaled = losses / unit
    return torch.cat([scaled, torch.log1p(scaled)], dim=1)
