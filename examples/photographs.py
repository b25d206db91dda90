"""Stand-ins for your own data: pairs of 32 x 32 pictures, cut from photographs that ship with scikit-image."""

import numpy as np
import torch
from skimage import data, feature, filters


def depth():
    """Cut a workshop into images (48, 3, 32, 32) with masks (48, 32, 32): four layers of depth, 255 where unknown."""
    photo, _, disparity = data.stereo_motorcycle()
    layers = np.where(np.isfinite(disparity), np.digitize(disparity, [25, 35, 45]), 255)
    return _tiles(photo[:384:2, 100:612:2] / 255).float(), _tiles(layers[:384:2, 100:612:2])[:, 0]


def vessels():
    """Cut a retina into images (48, 3, 32, 32) with masks (48, 1, 32, 32): 1 in its vessels, else 0."""
    photo = data.retina()[513:897:2, 449:961:2] / 255
    ridges = filters.sato(photo[..., 1], sigmas=[1, 2])
    return _tiles(photo).float(), _tiles(ridges > np.quantile(ridges, 0.85)).float()


def fields():
    """Make aerial pictures (48, 1, 32, 32) of grey values 0 to 255, masks (48, 32, 32): 1 in meadows, 0 in gravel."""
    meadows = data.binary_blobs(256, blob_size_fraction=0.1, rng=0)
    ground = np.where(meadows, data.grass()[::2, ::2], data.gravel()[::2, ::2])
    return _tiles(ground[:192]).float(), _tiles(meadows[:192])[:, 0].long()


def edges():
    """Cut a cat into drawings (48, 1, 32, 32) of 0 and 1 with photographs (48, 3, 32, 32) in [0, 1]."""
    photo = data.chelsea()[:192, 100:356] / 255
    return _tiles(feature.canny(photo.mean(-1), sigma=1.5)).float(), _tiles(photo).float()


def _tiles(picture):
    tiles = torch.from_numpy(picture).unfold(0, 32, 32).unfold(1, 32, 32).flatten(0, 1)
    return tiles if picture.ndim == 3 else tiles[:, None]
