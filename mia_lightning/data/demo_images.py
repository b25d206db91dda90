"""The demo's pictures, made in memory from the photographs that ship inside scikit-image: no download, ever."""

import importlib.util
import math
from itertools import combinations, product
from pathlib import Path

import numpy as np
from PIL import Image
from skimage.feature import canny

from mia_lightning.data.images import UInt8Array, read_image
from mia_lightning.data.label_pixels import LabelArray

# Side, in the photograph's own pixels, of the square that becomes one tile: the smaller, the richer in detail the
# photograph is. Tiles never overlap, so no two pairs share a pixel.
PHOTOGRAPHS = {
    "astronaut.png": 96,
    "chelsea.png": 96,
    "coffee.png": 96,
    "ihc.png": 96,
    "motorcycle_left.png": 96,
    "retina.jpg": 192,
    "rocket.jpg": 96,
}

# Texture files and the central square that is texture all over (None: the whole picture).
TEXTURES = {"brick.png": None, "grass.png": None, "gravel.png": None, "ihc.png": None, "retina.jpg": 960}
TEXTURE_NAMES = {"ihc.png": "tissue"}

TEXTURE_SIDE = 512
TEXTURES_PER_MOSAIC = 3
SITES_PER_TEXTURE = 2
SMALLEST_CROP = 16

MIN_CONTRAST = 14.0
"""Standard deviation of the grey values (0..255) below which a tile shows nothing."""

MIN_EDGES = 0.03
"""Share of edge pixels below which a tile's drawing says nothing."""


def find_shipped(names: list[str]) -> list[Path]:
    """Return those of the named files that the installed scikit-image ships, in order; a FileNotFoundError if none."""
    spec = importlib.util.find_spec("skimage")
    places = list(spec.submodule_search_locations or []) if spec else []
    paths = [path for place in places for name in names if (path := Path(place) / "data" / name).is_file()]
    if not paths:
        raise FileNotFoundError(
            f"the demo needs photographs of scikit-image, but none of {names} lies in the data folder of "
            f"{places}: reinstall scikit-image, or use your own images with PairedImageDataModule"
        )
    return paths


def draw_edges(photo: UInt8Array) -> UInt8Array:
    """Draw the edges of a photograph (H, W, 3), uint8, in the same shape: dark lines, 0, on white, 255."""
    grey = _grey(photo) / 255.0
    edges = canny(grey, sigma=1.0, low_threshold=0.05, high_threshold=0.12)  # type: ignore[no-untyped-call]  # has no types of its own
    return np.repeat(np.where(edges, 0, 255).astype(np.uint8)[..., None], 3, axis=-1)


def make_tiles(num_pairs: int, size: int, seed: int) -> dict[str, tuple[Path, UInt8Array, UInt8Array]]:
    """Cut square tiles that do not overlap from the photographs, draw a number of them, and the edges of each.

    Returns:
        Id to (photograph, edges (size, size, 3), tile (size, size, 3)).

    Raises:
        FileNotFoundError: If scikit-image lacks its photographs.
        ValueError: If there are fewer tiles than asked for.
    """
    tiles: dict[str, tuple[Path, UInt8Array, UInt8Array]] = {}
    for path in find_shipped(list(PHOTOGRAPHS)):
        photo = read_image(path)
        for row, column, tile in _cut(photo, PHOTOGRAPHS[path.name], size):
            edges = draw_edges(tile)
            if _grey(tile).std() >= MIN_CONTRAST and (edges == 0).mean() >= MIN_EDGES:
                tiles[f"{path.stem}-{row:02d}-{column:02d}"] = (path, edges, tile)
    if num_pairs > len(tiles):
        raise ValueError(
            f"expected num_pairs to be at most {len(tiles)}, the tiles with content in the photographs of "
            f"scikit-image, but got {num_pairs}"
        )
    ids = np.random.default_rng([seed, 1]).permutation(sorted(tiles))[:num_pairs]
    return {str(id): tiles[str(id)] for id in sorted(ids)}


def make_mosaics(num_pairs: int, size: int, seed: int) -> dict[str, tuple[Path, UInt8Array, LabelArray]]:
    """Lay square mosaics of textures, each from crops that no other mosaic uses, and in another light.

    Returns:
        Id to (first texture's file, mosaic (size, size, 3), class ids (size, size)); class k is the k-th of
        :func:`texture_names`.

    Raises:
        FileNotFoundError: If scikit-image lacks its textures.
        ValueError: If more mosaics are asked for than the textures have crops for.
    """
    rng = np.random.default_rng([seed, 2])
    paths = find_shipped(list(TEXTURES))
    per_mosaic = min(TEXTURES_PER_MOSAIC, len(paths))
    recipes = list(combinations(range(len(paths)), per_mosaic))
    # Every recipe is used equally often (give or take one), so the classes are too.
    per_class = math.ceil(num_pairs / len(recipes)) * sum(0 in recipe for recipe in recipes)
    crops = [iter(_shuffled_crops(path, per_class, size, rng)) for path in paths]
    mosaics: dict[str, tuple[Path, UInt8Array, LabelArray]] = {}
    for number in range(num_pairs):
        textures = rng.permutation(recipes[number % len(recipes)])
        labels = textures[_partition(size, per_mosaic, rng)].astype(np.int32)
        mosaic = np.zeros((size, size, 3), dtype=np.uint8)
        for texture in textures.tolist():
            mosaic[labels == texture] = _relight(next(crops[texture]), rng)[labels == texture]
        mosaics[f"mosaic-{number:04d}"] = (paths[int(textures[0])], mosaic, labels)
    return mosaics


def texture_names() -> list[str]:
    """Return the names of the textures, which are the classes of the mosaics."""
    return [TEXTURE_NAMES.get(path.name, path.stem) for path in find_shipped(list(TEXTURES))]


def _grey(photo: UInt8Array) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return np.asarray(Image.fromarray(photo).convert("L"), dtype=np.float64)


def _resize(photo: UInt8Array, size: int) -> UInt8Array:
    return np.array(Image.fromarray(photo).resize((size, size), Image.Resampling.LANCZOS), dtype=np.uint8)


def _cut(photo: UInt8Array, side: int, size: int) -> list[tuple[int, int, UInt8Array]]:
    """Cut a photograph into a grid of squares, centred, and resize each: (row, column, tile)."""
    rows, columns = photo.shape[0] // side, photo.shape[1] // side
    top, left = (photo.shape[0] - rows * side) // 2, (photo.shape[1] - columns * side) // 2
    tiles = []
    for row, column in product(range(rows), range(columns)):
        y, x = top + row * side, left + column * side
        tiles.append((row, column, _resize(photo[y : y + side, x : x + side], size)))
    return tiles


def _shuffled_crops(path: Path, count: int, size: int, rng: np.random.Generator) -> list[UInt8Array]:
    """Return `count` or more disjoint crops (size, size, 3) of a texture, in random order."""
    photo = read_image(path)
    if (side := TEXTURES[path.name]) is not None:
        top, left = (photo.shape[0] - side) // 2, (photo.shape[1] - side) // 2
        photo = photo[top : top + side, left : left + side]
    photo = _resize(photo, TEXTURE_SIDE)
    pitch = TEXTURE_SIDE // math.ceil(math.sqrt(count))
    if pitch < SMALLEST_CROP:
        most = (TEXTURE_SIDE // SMALLEST_CROP) ** 2
        raise ValueError(
            f"too many mosaics: they need {count} disjoint crops of each texture, which has {most}; lower num_pairs"
        )
    side = min(pitch, size)
    steps = range(0, TEXTURE_SIDE - pitch + 1, pitch)
    corners = [(y, x) for y in steps for x in steps]
    return [_resize(photo[y : y + side, x : x + side], size) for y, x in rng.permutation(corners).tolist()]


def _partition(size: int, textures: int, rng: np.random.Generator) -> LabelArray:
    """Divide a square into `textures` kinds of wavy Voronoi cells: array (size, size) of 0..textures-1."""
    y, x = np.mgrid[0:size, 0:size] / size
    waves = rng.uniform(0.02, 0.05, 2)[:, None, None] * np.sin(
        2 * np.pi * (rng.uniform(1.0, 2.5, 2)[:, None, None] * np.stack([x, y]) + rng.random(2)[:, None, None])
    )
    points = np.stack([y, x]) + waves
    sites = rng.uniform(0.0, 1.0, (textures * SITES_PER_TEXTURE, 2))
    distances = ((points[None] - sites[:, :, None, None]) ** 2).sum(axis=1)
    return np.asarray(distances.argmin(axis=0) % textures, dtype=np.int32)


def _relight(crop: UInt8Array, rng: np.random.Generator) -> UInt8Array:
    """Change contrast and brightness at random, so that a texture is not known by its mean grey alone."""
    contrast, brightness = rng.uniform(0.7, 1.2), rng.uniform(-30.0, 30.0)
    mean = crop.mean(axis=(0, 1), keepdims=True)
    return np.asarray(((crop - mean) * contrast + mean + brightness).clip(0, 255), dtype=np.uint8)
