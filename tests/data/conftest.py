"""Small generated data sets, and the shared real ones where they are there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
SPLITS = ("train", "train", "train", "val", "val", "test")


def save(path: Path, pixels: np.ndarray, palette: list[int] | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels)
    if palette is not None:
        image.putpalette(palette + [0] * (768 - len(palette)))  # Pillow packs bits, and clips ids, otherwise
    image.save(path)
    return path


def write_csv(root: Path, lines: list[str]) -> Path:
    path = root / "splits.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def data_rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def photo_folders(tmp_path: Path, data_rng: np.random.Generator) -> Path:
    """Six pairs A/p0.png and B/p0.png of odd size, with a splits.csv that has groups."""
    for number in range(6):
        for side in "AB":
            save(tmp_path / side / f"p{number}.png", data_rng.integers(0, 256, (21, 35, 3), dtype=np.uint8))
    groups = ("a", "a", "b", "c", "c", "d")
    lines = [f"p{i},{split},{groups[i]}" for i, split in enumerate(SPLITS)]
    write_csv(tmp_path, ["id,split,building", *lines])
    return tmp_path


@pytest.fixture
def mask_folders(tmp_path: Path, data_rng: np.random.Generator) -> Path:
    """Six images with palette masks of the classes 0, 1, 2 and void 255, with a splits.csv."""
    for number in range(6):
        save(tmp_path / "images" / f"s{number}.jpg", data_rng.integers(0, 256, (20, 30, 3), dtype=np.uint8))
        ids = data_rng.choice(np.array([0, 1, 2, 255], dtype=np.uint8), (20, 30))
        save(tmp_path / "masks" / f"s{number}.png", ids, palette=[0, 0, 0, 255, 0, 0, 0, 255, 0])
    write_csv(tmp_path, ["id,split", *(f"s{i},{split}" for i, split in enumerate(SPLITS))])
    return tmp_path


@pytest.fixture
def shared_data() -> Callable[[str], Path]:
    def locate(name: str) -> Path:
        if not (SHARED / name).is_dir():
            pytest.skip(f"needs the {name} images in the folder shared/data beside the repository")
        return SHARED / name

    return locate
