"""How often the rules by which targets, inputs and outputs are read err: pictures, drawings, masks, logits and others.

``python benchmarks/readings.py DATA`` (with ``facades``, ``camvid`` and ``wbc``; without it, on the photographs that
scikit-image ships, on shapes and on scans that are drawn) prints a line for each kind of data: how many sets of
sixteen samples were read as what.
"""

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import skimage.data
import skimage.feature
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from mia_lightning.functional.integer_values import integer_values, kind_of_integers
from mia_lightning.functional.output_values import kind_by_values, values_of
from mia_lightning.functional.target_values import kind_of_target, target_values

SAMPLES = 16
SETS = 40
OUTPUTS = 20_000
PHOTOS = (
    "astronaut",
    "coffee",
    "chelsea",
    "rocket",
    "cat",
    "camera",
    "coins",
    "moon",
    "page",
    "text",
    "brick",
    "grass",
)

Draw = Callable[[np.random.Generator], Tensor]


def main() -> None:
    """Print all tables."""
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    print("float targets in [0, 1], read with task='auto'")
    for name, draw in targets(root):
        found = Counter(kind_of_target(target_values(some)) for some in sets(draw))
        print(f"  {name:48}", ", ".join(f"{kind} {count / SETS:.3f}" for kind, count in found.most_common()))
    print("integers, read with input_kind='auto'")
    for name, draw in integers(root):
        found2 = Counter(kind_of_integers(integer_values(some)) or "asked" for some in sets(draw))
        print(f"  {name:48}", ", ".join(f"{kind} {count / SETS:.3f}" for kind, count in found2.most_common()))
    print(f"a segmenter's outputs that nobody saw being made, {OUTPUTS} draws each")
    for name in ("logits", "softmax"):
        outputs = (logits if name == "logits" else logits.softmax(1) for logits in random_logits())
        found3 = Counter(kind_by_values([values_of(output)]) or "asked" for output in outputs)
        print(f"  {name:48}", ", ".join(f"{kind} {count / OUTPUTS:.4f}" for kind, count in found3.most_common()))


def random_logits() -> Iterator[Tensor]:
    """Logits of sixteen samples with means from -2 to 2 and deviations from 0.01 to 10, in every format."""
    formats = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
    for seed in range(OUTPUTS):
        rng = torch.Generator().manual_seed(seed)
        place, scale = torch.rand(2, generator=rng).tolist()
        channels, dtype = (2, 3, 7, 21)[seed % 4], formats[seed // 4 % 4]
        noise = torch.randn(SAMPLES, channels, 16, 16, generator=rng)
        yield (4 * place - 2 + 10 ** (3 * scale - 2) * noise).to(dtype)


def sets(draw: Draw) -> Iterator[list[Tensor]]:
    """Sets of samples (1, C, H, W), drawn with a seed each."""
    for seed in range(SETS):
        rng = np.random.default_rng(seed)
        yield [draw(rng) for _ in range(SAMPLES)]


def targets(root: Path | None) -> Iterator[tuple[str, Draw]]:
    """Float targets by name."""
    yield "photographs (scikit-image)", crop_of(photographs())
    yield "photographs, grey", lambda rng: crop_of(photographs())(rng).mean(1, keepdim=True)
    yield "objects on white (exact)", on_ground(1.0)
    yield "objects on white (JPEG)", lambda rng: as_jpeg(on_ground(1.0)(rng))
    yield "objects on black", on_ground(0.0)
    yield "depth maps, nothing at infinity", depth
    yield "scans with a zero background", scan
    yield "edges, black on white, 0/1", edges
    yield "edges, black on white, smooth", lambda rng: resized(edges(rng), 64)
    yield "drawings in few colours", coloured
    for side in (16, 32, 64, 128):
        yield f"binary shapes, smooth to {side}", partial(shape, side=side)
    yield "binary shapes, nearest", lambda rng: shapes(rng, 64)
    for side in (32, 64):
        yield (
            f"small binary shapes, smooth to {side}",
            partial(shape, side=side, small=True),
        )
    yield "binary shapes, JPEG", lambda rng: as_jpeg(shapes(rng, 64))
    yield "binary shapes, blurred", lambda rng: blurred(shapes(rng, 64))
    yield "one-hot of three, smooth", lambda rng: resized(one_hot(shapes(rng, 256)), 64)
    yield "nested channels, smooth", lambda rng: resized(nested(shapes(rng, 256)), 64)
    yield "label smoothing of one-hot", lambda rng: one_hot(shapes(rng, 64)) * 0.9 + 0.1 / 3
    if root is not None:
        for name, folder in (("facades", "photos"), ("camvid", "images"), ("wbc", "images")):
            yield f"{name}: photographs, 64", from_files(root / name / folder, 64)
        yield "facades: label pictures in colour, 64", from_files(root / "facades" / "labels", 64)
        yield "facades: label pictures in colour, 256", from_files(root / "facades" / "labels", 256)
        for name, kind in (("wbc", 1), ("wbc", 2), ("camvid", 0), ("camvid", 8)):
            for side in (32, 64):
                yield f"{name}: mask of class {kind}, smooth to {side}", mask_of(root / name / "masks", kind, side)


def integers(root: Path | None) -> Iterator[tuple[str, Draw]]:
    """Integer inputs by name."""
    photo = crop_of(photographs())
    for bits in (8, 10, 12, 14, 16):
        yield f"photographs, {bits} bits", levels(photo, 2**bits - 1)
    for most in (15, 31, 63, 100):
        yield f"photographs, dark (0 to {most})", levels(photo, most)
    yield "noise, 8 bits", partial(noise, values=256)
    yield "noise, 16 bits", partial(noise, values=65536)
    yield "scans, 12 bits", lambda rng: (scan(rng) * 4095).long()
    yield "scans in Hounsfield units", lambda rng: (scan(rng) * 4000 - 1000).long()
    yield "objects on white, 8 bits", lambda rng: grey(on_ground(1.0)(rng), 255)
    yield "edges, 0 and 255", lambda rng: grey(edges(rng), 255)
    yield "edges, smooth, 0 to 255", lambda rng: grey(resized(edges(rng), 64), 255)
    for classes in (2, 5, 12, 34, 60, 150):
        yield f"label maps of {classes} classes", partial(regions, classes=classes)
    for classes in (2, 5, 12, 34):
        yield (
            f"label maps of {classes} classes, noise",
            partial(noise, values=classes),
        )
    yield "label maps of 12 classes with 255", lambda rng: with_void(regions(rng, 12), rng)
    yield "instances, numbers to 30000", lambda rng: regions(rng, 40) * 750
    if root is not None:
        for name, folder in (("facades", "labels"), ("camvid", "masks"), ("wbc", "masks")):
            for side in (32, 64, 128):
                yield f"{name}: label maps, {side}", ids_in(root / name / folder, side)
        for name, folder in (("facades", "photos"), ("camvid", "images"), ("wbc", "images")):
            yield f"{name}: photographs, grey, 8 bits", levels(from_files(root / name / folder, 64), 255)


def photographs() -> list[Tensor]:
    """Those that come with scikit-image, (1, 3, H, W) in [0, 1]."""
    if not _PHOTOS:
        for name in PHOTOS:
            pixels = np.asarray(getattr(skimage.data, name)())
            pixels = pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, 2)
            _PHOTOS.append(torch.from_numpy(pixels[..., :3].copy()).permute(2, 0, 1)[None].float() / 255)
    return _PHOTOS


_PHOTOS: list[Tensor] = []


def crop_of(photos: list[Tensor], side: int = 128) -> Draw:
    """Crops of photographs at half their size."""

    def draw(rng: np.random.Generator) -> Tensor:
        photo = photos[rng.integers(len(photos))]
        top, left = (int(rng.integers(0, n - side + 1)) for n in photo.shape[-2:])
        part = photo[..., top : top + side, left : left + side]
        return (resized(part, side // 2) * 255).round() / 255

    return draw


def grey(image: Tensor, white: int) -> Tensor:
    """One channel of integers (1, 1, H, W)."""
    return (image.mean(1, keepdim=True) * white).round().long()


def levels(draw: Draw, white: int) -> Draw:
    """Pictures as integers."""
    return lambda rng: grey(draw(rng), white)


def noise(rng: np.random.Generator, values: int) -> Tensor:
    """Integers drawn pixel by pixel."""
    return torch.from_numpy(rng.integers(0, values, (1, 1, 64, 64)))


def shape(rng: np.random.Generator, side: int, *, small: bool = False) -> Tensor:
    """A mask, resized smoothly."""
    return resized(shapes(rng, 256, small=small), side)


def resized(image: Tensor, side: int) -> Tensor:
    """Resize smoothly, as torchvision does by default."""
    size = (side, side)
    return F.interpolate(image, size=size, mode="bilinear", antialias=True, align_corners=False).clamp(0, 1)


def as_jpeg(image: Tensor) -> Tensor:
    """Through a JPEG file of quality 90."""
    import io

    pixels = (image[0].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(buffer, "JPEG", quality=90)
    read = np.asarray(Image.open(buffer)).astype(np.float32) / 255
    return torch.from_numpy(read if read.ndim == 3 else read[..., None]).permute(2, 0, 1)[None]


def shapes(rng: np.random.Generator, side: int, *, small: bool = False) -> Tensor:
    """A mask of one to four discs, (1, 1, H, W)."""
    rows, columns = np.mgrid[:side, :side]
    mask = np.zeros((side, side), bool)
    for _ in range(rng.integers(1, 5)):
        row, column = rng.uniform(0, side, 2)
        radius = side * (rng.uniform(0.01, 0.03) if small else rng.uniform(0.04, 0.25))
        mask |= (rows - row) ** 2 + (columns - column) ** 2 < radius**2
    return torch.from_numpy(mask).float()[None, None]


def nested(mask: Tensor) -> Tensor:
    """Three channels, each a part of the one before."""
    ramp = torch.arange(mask.shape[-1]).view(1, 1, 1, -1) / mask.shape[-1]
    return torch.cat([mask, mask * (ramp < 0.6), mask * (ramp < 0.4)], 1)


def one_hot(mask: Tensor) -> Tensor:
    """Three classes, one of them rare."""
    parts = nested(mask)
    return torch.cat([1 - mask, parts[:, :1] - parts[:, 1:2], parts[:, 1:2]], 1)


def blurred(mask: Tensor) -> Tensor:
    """Edges some pixels wide."""
    return F.avg_pool2d(mask, 5, 1, 2, count_include_pad=False)


def on_ground(value: float) -> Draw:
    """A photograph cut out by a disc, on black or white."""

    def draw(rng: np.random.Generator) -> Tensor:
        photo = crop_of(photographs())(rng)
        mask = shapes(rng, photo.shape[-1])
        return torch.where(mask > 0, photo, torch.tensor(value))

    return draw


def depth(rng: np.random.Generator) -> Tensor:
    """A plane with boxes before it, a part of it without depth."""
    ramp = torch.linspace(0.1, 1.0, 64).view(1, 1, -1, 1).expand(1, 1, 64, 64).clone()
    for _ in range(4):
        top, left = rng.integers(0, 48, 2)
        ramp[..., top : top + 16, left : left + 16] = float(rng.uniform(0.05, 0.9))
    return torch.where(shapes(rng, 64) > 0, torch.zeros(()), ramp)


def scan(rng: np.random.Generator) -> Tensor:
    """A textured disc on a background of exactly zero, scaled by its own maximum."""
    photo = crop_of(photographs())(rng).mean(1, keepdim=True)
    rows, columns = np.mgrid[:64, :64]
    inside = torch.from_numpy((rows - 32) ** 2 + (columns - 32) ** 2 < rng.uniform(14, 26) ** 2)
    body = torch.where(inside, photo + 0.02, torch.zeros(()))
    return body / body.max()


def edges(rng: np.random.Generator) -> Tensor:
    """Edges of a photograph, black on white, (1, 1, 128, 128)."""
    photo = photographs()[rng.integers(len(photographs()))]
    top, left = (int(rng.integers(0, n - 127)) for n in photo.shape[-2:])
    part = photo[0, :, top : top + 128, left : left + 128].mean(0).numpy()
    found = skimage.feature.canny(part, sigma=1.5)  # type: ignore[no-untyped-call]  # has no types
    return 1.0 - torch.from_numpy(found).float()[None, None]


def coloured(rng: np.random.Generator) -> Tensor:
    """Regions painted in the corners of the colour cube and a few other colours."""
    colours = torch.tensor([[0, 0, 0.667], [0, 0, 1], [0.667, 0, 0], [0, 0.333, 1], [1, 1, 0], [1, 0.333, 0]])
    return colours[regions(rng, 6)[0, 0]].permute(2, 0, 1)[None]


def regions(rng: np.random.Generator, classes: int) -> Tensor:
    """Label maps: each pixel has the class of the nearest of some points, (1, 1, H, W)."""
    count = min(4 * classes, 40)
    points, owners = rng.uniform(0, 64, (count, 2)), rng.integers(0, classes, count)
    rows, columns = np.mgrid[:64, :64]
    nearest = ((rows[..., None] - points[:, 0]) ** 2 + (columns[..., None] - points[:, 1]) ** 2).argmin(-1)
    return torch.from_numpy(owners[nearest])[None, None]


def with_void(labels: Tensor, rng: np.random.Generator) -> Tensor:
    """A part without a class."""
    return torch.where(shapes(rng, labels.shape[-1]) > 0, torch.tensor(255), labels)


def files_in(folder: Path) -> list[Path]:
    """Images below a folder."""
    return sorted(path for path in folder.rglob("*") if path.suffix in (".png", ".jpg"))


def from_files(folder: Path, side: int) -> Draw:
    """Photographs, resized smoothly."""
    paths = files_in(folder)

    def draw(rng: np.random.Generator) -> Tensor:
        pixels = np.asarray(Image.open(paths[rng.integers(len(paths))]).convert("RGB").resize((side, side), 2))
        return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255

    return draw


def ids_in(folder: Path, side: int) -> Draw:
    """Label maps, resized to the nearest."""
    paths = files_in(folder)

    def draw(rng: np.random.Generator) -> Tensor:
        opened = Image.open(paths[rng.integers(len(paths))])
        image: Image.Image = opened if opened.mode in ("P", "L") else opened.convert("RGB").quantize(12)
        return torch.from_numpy(np.asarray(image.resize((side, side), 0)).astype(np.int64))[None, None]

    return draw


def mask_of(folder: Path, kind: int, side: int) -> Draw:
    """Masks of one class, resized smoothly."""
    paths = files_in(folder)

    def draw(rng: np.random.Generator) -> Tensor:
        ids = np.asarray(Image.open(paths[rng.integers(len(paths))]))
        return resized(torch.from_numpy(ids == kind).float()[None, None], side)

    return draw


if __name__ == "__main__":
    main()
