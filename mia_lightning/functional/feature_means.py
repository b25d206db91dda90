"""What a frozen backbone makes of a picture, in a few numbers: means of its maps, brought to a fixed length."""

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

SIZE = 16
"""Numbers a picture."""

FEATURES = tuple(f"feature_{number:02d}" for number in range(SIZE))
"""Their names."""

_SEED = 20_210_702


def is_feature(name: str) -> bool:
    """Whether a statistic of pairs is one of these.

    Example:
        >>> is_feature("feature_03"), is_feature("input_mean")
        (True, False)
    """
    return name in FEATURES


def feature_means(maps: Sequence[Tensor]) -> Tensor:
    """Means over the positions of feature maps, projected at random to 16 numbers.

    The means of each map's channels, brought to length 1, are multiplied with a fixed matrix of normal numbers, which
    keeps distances of pictures (Johnson and Lindenstrauss, 1984) and, unlike principal components, needs no other
    pictures. Maps share the 16 numbers evenly.

    Args:
        maps: Feature maps of the same pictures, (B, C_i, h_i, w_i) each; of more than 16 maps the last 16 count.

    Returns:
        (B, 16), float64, on the device of the maps.

    Example:
        >>> maps = [torch.rand(2, 24, 8, 8), torch.rand(2, 40, 4, 4)]
        >>> feature_means(maps).shape
        torch.Size([2, 16])
    """
    chosen = list(maps)[-SIZE:]
    columns = []
    for number, feature in enumerate(chosen):
        means = feature.detach().double().mean((2, 3))
        means = means / means.norm(dim=1, keepdim=True).clamp_min(1e-12)
        width = SIZE * (number + 1) // len(chosen) - SIZE * number // len(chosen)
        columns.append(means @ _projection(_SEED + number, means.shape[1], width).to(means.device))
    return torch.cat(columns, 1)


@lru_cache(maxsize=2 * SIZE)
def _projection(seed: int, channels: int, width: int) -> Tensor:
    """Normal numbers, (channels, width): the same for every picture, whatever mode the first one came in."""
    with torch.inference_mode(False):
        return torch.randn(channels, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
