"""How long the look at all files of a data set takes: the first time, the second time, and after a few have changed.

python benchmarks/files.py
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

SPLITS = ("train", "val")


def make_data(root: Path, pairs: int, size: int) -> None:
    """Write photographs as JPEG and masks of three classes as palette PNG."""
    rng = np.random.default_rng(0)
    rows = np.add.outer(np.arange(size), np.arange(size))
    for number in range(pairs):
        name = f"{SPLITS[number % 2]}/{number:05d}"
        photo = (rows[..., None] * rng.uniform(0.1, 0.4, 3) + rng.integers(0, 60, (size, size, 3))).astype(np.uint8)
        mask = Image.fromarray(((rows > rng.integers(size)) + (rows > size + rng.integers(size))).astype(np.uint8), "P")
        mask.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
        for folder, image, suffix in (("images", Image.fromarray(photo), "jpg"), ("masks", mask, "png")):
            path = root / folder / f"{name}.{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save(path)


def measure(root: Path, cache: Path) -> None:
    """Set a data module up, and print the seconds that it takes and the files that it opens."""
    from mia_lightning import SegmentationDataModule

    data = SegmentationDataModule(root, 3, image_size=64, cache_dir=str(cache))
    start = time.perf_counter()
    data.setup()
    print(f"{time.perf_counter() - start:6.2f} s, looks into files: {data._survey.opened}")


def main() -> None:
    """Measure each time in a process of its own."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, default=10_000, help="images and masks together")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--measure", nargs=2, type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        return measure(*arguments.measure)
    with tempfile.TemporaryDirectory() as folder:
        root, cache = Path(folder) / "data", Path(folder) / "cache"
        make_data(root, arguments.files // 2, arguments.size)
        for name in ("first", "second", "a hundred masks changed"):
            if name.startswith("a hundred"):
                for path in sorted((root / "masks" / "train").iterdir())[:100]:
                    os.utime(path)
            print(f"{name:>24}: ", end="", flush=True)
            subprocess.run([sys.executable, __file__, "--measure", str(root), str(cache)], check=True)
    return None


if __name__ == "__main__":
    main()
