"""How often pictures of different things are taken for near copies, and how many copies are found.

python benchmarks/near_copies.py [FOLDER]

Without a folder: smooth random fields, independent and in groups. With a folder of data sets, each a folder with
images in `images` or `photos` and a `splits.csv` (columns id and split, and building where that is known): those, too.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from mia_lightning.functional.blind import image_statistics
from mia_lightning.functional.near_copies import appearance, near_copies


def main() -> None:
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", nargs="?", type=Path, help="data sets")
    parser.add_argument("--draws", type=int, default=100)
    options = parser.parse_args()
    for count in (50, 200, 1000, 4000):
        draws = options.draws if count < 4000 else options.draws // 10
        alarms = [near_copies(described(fields(count, seed)), sides(count)).samples > 0 for seed in range(draws)]
        print(f"{count} independent fields: {sum(alarms)} of {draws} sets have near copies")
    for noise in (0.02, 0.1, 0.3):
        groups = fields(100, 0).repeat_interleave(4, 0)
        copies = groups + noise * fields(400, 1)
        found = near_copies(described(copies), sides(400))
        print(f"100 groups of 4 fields that differ by {noise:g} of their deviation: {found.samples} of 400 are found")
    if options.folder:
        for place in sorted(p for p in options.folder.iterdir() if (p / "splits.csv").is_file()):
            of_data(place)


def fields(count: int, seed: int) -> torch.Tensor:
    """Smooth random pictures, (N, 3, 32, 32): noise, coarse and fine, with a power that falls as in photographs."""
    generator = torch.Generator().manual_seed(seed)
    total = torch.zeros(count, 3, 32, 32)
    for size in (2, 4, 8, 16, 32):
        noise = torch.randn(count, 3, size, size, generator=generator)
        total += F.interpolate(noise, size=32, mode="bilinear") * 2 / size**0.5
    return total / total.std()


def described(images: torch.Tensor) -> np.ndarray:
    return torch.cat([appearance(images), image_statistics(images)], 1).numpy()


def sides(count: int) -> np.ndarray:
    return np.arange(count) < count // 2


def of_data(place: Path) -> None:
    """All pictures of a data set, and one of each building, where these are known."""
    rows = list(csv.DictReader((place / "splits.csv").open()))
    folder = next(place / name for name in ("images", "photos") if (place / name).is_dir())
    files = {path.relative_to(folder).with_suffix("").as_posix(): path for path in folder.rglob("*.*")}
    found = []
    for row in rows:
        pixels = np.asarray(Image.open(files[row["id"]]).convert("RGB"), dtype=np.float32) / 255
        found.append(described(torch.from_numpy(pixels).permute(2, 0, 1)[None])[0])
    table = np.stack(found)
    print(f"{place.name}: {near_copies(table, sides(len(table))).samples} of {len(table)}")
    if "building" in rows[0]:
        first = {row["building"]: i for i, row in reversed(list(enumerate(rows))) if row["split"] != "test"}
        alone = table[sorted(first.values())]
        print(f"{place.name}, one a building: {near_copies(alone, sides(len(alone))).samples} of {len(alone)}")


if __name__ == "__main__":
    main()
