"""Sets for `attacks.py` that need no download: made from the photographs that scikit-image ships, or from nothing.

- edges: tiles of photographs from their edge drawings (translation);
- mosaics: mosaics of photographed textures and their maps (segmentation, 5 classes), as the demo makes them;
- retina: tiles of a fundus photograph and its vessels, found by a fixed filter (segmentation, 2 classes);
- materials: mosaics of generated noise of four spectra, and their maps (segmentation, 4 classes).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from skimage.filters import sato

from mia_lightning.data.demo_images import MIN_CONTRAST, draw_edges, find_shipped, make_mosaics
from mia_lightning.data.images import read_image

Pixels = NDArray[np.uint8]
Pairs = Iterator[tuple[str, Pixels, Pixels]]

SIDE = 64

PHOTOGRAPHS = ("astronaut.png", "chelsea.png", "coffee.png", "ihc.png", "motorcycle_left.png", "rocket.jpg")

VESSELS = 0.12
"""Share of the fundus that counts as vessels: the pixels with the strongest response."""

SLOPES = (0.6, 1.2, 1.8, 2.4)
"""Spectra of the generated materials: amplitude falls with frequency to this power."""


def edges() -> Pairs:
    tiles = {}
    for path in find_shipped([*PHOTOGRAPHS]):
        photo = read_image(path)
        for y, x in product(*(range(0, length - SIDE + 1, SIDE) for length in photo.shape[:2])):
            tile = photo[y : y + SIDE, x : x + SIDE]
            if tile.mean(-1).std() >= MIN_CONTRAST:
                tiles[f"{path.stem}-{y:04d}-{x:04d}"] = tile
    chosen = np.random.default_rng(0).permutation(sorted(tiles))[:240]
    for name in sorted(chosen.tolist()):
        yield name, draw_edges(tiles[name]), tiles[name]


def mosaics() -> Pairs:
    for name, (_, mosaic, labels) in make_mosaics(200, SIDE, 0).items():
        yield name, mosaic, labels.astype(np.uint8)


def retina() -> Pairs:
    (path,) = find_shipped(["retina.jpg"])
    photo = read_image(path)
    inside = photo.max(-1) > 40
    response = sato(photo[..., 1].astype(np.float64), sigmas=(2.0, 3.0, 4.0, 5.0), black_ridges=True)  # type: ignore[no-untyped-call]  # has no types of its own
    vessels = (response > np.quantile(response[inside], 1.0 - VESSELS)) & inside
    corners = [range(0, length - SIDE + 1, SIDE) for length in vessels.shape]
    tiles = [(y, x) for y, x in product(*corners) if inside[y : y + SIDE, x : x + SIDE].all()]
    chosen = np.random.default_rng(0).permutation(len(tiles))[:240]
    for y, x in (tiles[int(n)] for n in sorted(chosen)):
        tile = np.s_[y : y + SIDE, x : x + SIDE]
        yield f"{y:04d}-{x:04d}", photo[tile], vessels[tile].astype(np.uint8)


def materials() -> Pairs:
    rng = np.random.default_rng(0)
    frequency = np.hypot(np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE)[None]).clip(1.0 / SIDE)

    def field(slope: float) -> NDArray[np.float64]:
        noise = np.fft.irfft2(np.fft.rfft2(rng.normal(size=(SIDE, SIDE))) / frequency**slope, s=(SIDE, SIDE))
        return np.asarray((noise - noise.mean()) / noise.std())

    for number in range(200):
        # Regions are where one of four smooth fields is the highest.
        labels = np.stack([field(2.0) for _ in SLOPES]).argmax(0)
        grey = np.choose(labels, [field(slope) for slope in SLOPES]) + 0.4 * rng.normal(size=labels.shape)
        picture = (128.0 + 40.0 * grey[..., None] * rng.uniform(0.7, 1.3, 3)).clip(0, 255)
        yield f"m{number:03d}", picture.astype(np.uint8), labels.astype(np.uint8)


MADE: dict[str, tuple[Callable[[], Pairs], str, str]] = {
    "edges": (edges, "A", "B"),
    "mosaics": (mosaics, "images", "masks"),
    "retina": (retina, "images", "masks"),
    "materials": (materials, "images", "masks"),
}
"""How each set is made, and its two folders."""


def make_set(name: str, folder: Path) -> Path:
    """Write a set as PNG files, unless it is there, and return its folder."""
    root = folder / name
    if (root / "complete").exists():
        return root
    pairs, *sides = MADE[name]
    for side in sides:
        (root / side).mkdir(parents=True, exist_ok=True)
    for id, *pictures in pairs():
        for side, picture in zip(sides, pictures, strict=True):
            Image.fromarray(picture).save(root / side / f"{id}.png")
    (root / "complete").touch()
    return root
