"""Near copies: pairs of samples that look so much alike that they may show one thing, such as a patient or a film.

Two samples are near copies where the distance of their appearances is at most a fifth of the distance to the twentieth
nearest sample of either, or a tenth of that to the sample at the first quarter (films of many frames are each other's
twentieth nearest). ``benchmarks/near_copies.py`` measures how often that is wrong.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from mia_lightning.functional.roc import Floats

SIZE = 15
"""Numbers that :func:`appearance` gives."""

MOST = 4_000
"""Samples that are compared; of more, runs of neighbouring ones, since copies mostly stand side by side."""

_SIDE = 16  # pixels of the thumbnail
_WAVES = 4  # of its cosine transform along each side
_NEAR, _FAR = (20, 0.2), (0.25, 0.1)  # which neighbour (a number, a share of all), and at which part of its distance
_FEWEST = 12  # samples among which nothing counts as far
_RUN = 50
_ROWS = 64  # of distances that are held at a time: 2 MB


def appearance(image: Tensor) -> Tensor:
    """What pictures look like from afar: the coarsest waves of a grey thumbnail, without its mean, (B, 15) in float64.

    Args:
        image: Pictures, (B, C, H, W), or volumes, (B, C, D, H, W), which are averaged over their depth.

    Example:
        >>> flat, halves = torch.ones(1, 3, 32, 32), torch.ones(1, 3, 32, 32)
        >>> halves[..., :16] = 0
        >>> appearance(torch.cat([flat, halves])).abs().sum(1) > 1
        tensor([False,  True])
    """
    pixels = image.detach().float()
    if pixels.ndim == 5:
        pixels = pixels.mean(2)
    thumbnail = F.adaptive_avg_pool2d(pixels.mean(1, keepdim=True), (_SIDE, _SIDE)).squeeze(1).double()
    place = torch.arange(_SIDE, dtype=torch.float64, device=thumbnail.device) + 0.5
    wave = torch.arange(_WAVES, dtype=torch.float64, device=thumbnail.device).unsqueeze(1)
    basis = torch.cos(math.pi / _SIDE * wave * place) * math.sqrt(2.0 / _SIDE)
    return (basis @ thumbnail @ basis.mT).flatten(1)[:, 1:]


class NearCopies(NamedTuple):
    """Samples that have a near copy.

    Attributes:
        samples: How many there are.
        across: How many of them have one on the other side.
        compared: How many samples were compared.
    """

    samples: int
    across: int
    compared: int


def near_copies(descriptors: ArrayLike, member: ArrayLike) -> NearCopies:
    """Count the samples that have a near copy; the rule stands above.

    Args:
        descriptors: What samples look like, (N, d): columns of any unit, which are put in robust units. Samples with a
            value that is not finite are left out.
        member: True for members, (N,).

    Example:
        >>> descriptors = np.random.default_rng(0).normal(size=(100, 15))
        >>> member = np.arange(100) < 50
        >>> near_copies(descriptors, member)
        NearCopies(samples=0, across=0, compared=100)
        >>> descriptors[60:63] = descriptors[:3] + 0.01
        >>> near_copies(descriptors, member)
        NearCopies(samples=6, across=6, compared=100)
    """
    table, sides = np.asarray(descriptors, dtype=np.float64), np.asarray(member, dtype=bool)
    rows = _chosen(np.flatnonzero(np.isfinite(table).all(1)))
    table, sides = _in_units(table[rows]), sides[rows]
    count = len(rows)
    if count < _FEWEST or not table.shape[1]:
        return NearCopies(0, 0, count)
    near, far = min(_NEAR[0], count - 1), max(1, int(_FAR[0] * (count - 1)))
    # A square that rounding makes of equal rows is no distance.
    noise = 1e-12 * max(1.0, float((table**2).sum(1).max()))
    reach = np.empty(count)
    for start in range(0, count, _ROWS):
        squares = _squares(table[start : start + _ROWS], table)
        squares.partition((min(near, far), max(near, far)), axis=1)
        reach[start : start + _ROWS] = np.maximum(_NEAR[1] ** 2 * squares[:, near], _FAR[1] ** 2 * squares[:, far])
    has, has_across = np.zeros(count, dtype=bool), np.zeros(count, dtype=bool)
    for start in range(0, count, _ROWS):
        part = slice(start, start + _ROWS)
        alike = _squares(table[part], table) <= np.minimum(reach[part, None], reach) + noise
        alike[np.arange(len(alike)), np.arange(start, start + len(alike))] = False
        has[part] = alike.any(1)
        has_across[part] = (alike & (sides[part, None] != sides)).any(1)
    return NearCopies(int(has.sum()), int(has_across.sum()), count)


def _chosen(rows: NDArray[np.intp]) -> NDArray[np.intp]:
    """All rows, or runs of neighbouring ones, evenly."""
    if rows.size <= MOST:
        return rows
    starts = np.linspace(0, rows.size - _RUN, MOST // _RUN).astype(np.intp)
    return rows[np.unique(starts[:, None] + np.arange(_RUN))]


def _in_units(table: Floats) -> Floats:
    """Columns in robust units, without those that hardly vary."""
    if not len(table):
        return table
    centred = table - np.median(table, axis=0)
    scale = 1.4826 * np.median(np.abs(centred), axis=0)
    scale = np.where(scale > 0, scale, centred.std(0))
    varies = scale > 1e-9 * (1.0 + np.abs(table).max(0))
    return np.asarray(centred[:, varies] / scale[varies], dtype=np.float64)


def _squares(rows: Floats, table: Floats) -> Floats:
    """Squared distances, (R, N)."""
    squares: Floats = (rows**2).sum(1)[:, None] + (table**2).sum(1)
    squares -= 2.0 * rows @ table.T
    return squares.clip(0.0, out=squares)
