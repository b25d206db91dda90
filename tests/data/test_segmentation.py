from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from mia_lightning import SegmentationDataModule


def save(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)


def all_ids(loader):
    return [id for batch in loader for id in batch["id"]]


def test_items(mask_folders):
    data = SegmentationDataModule(mask_folders, 3, image_size=(20, 30), class_names=["a", "b", "c"])
    members, nonmembers = data.audit_dataloaders()
    assert (all_ids(members), all_ids(nonmembers)) == (["s0", "s1", "s2"], ["s3", "s4"])
    batch = next(iter(members))
    assert batch["image"].shape == (3, 3, 20, 30)
    assert batch["mask"].shape == (3, 20, 30)
    assert batch["mask"].dtype == torch.int64
    assert batch["mask"].unique().tolist() == [0, 1, 2, 255]  # void is kept
    assert (data.num_classes, data.ignore_index, data.class_names) == (3, 255, ["a", "b", "c"])
    expected = np.array(Image.open(mask_folders / "masks" / "s0.png"))
    assert np.array_equal(batch["mask"][0].numpy(), expected)


def test_images_and_masks_are_augmented_alike(tmp_path, data_rng):
    for i, split in enumerate(["train", "val"]):
        ids = data_rng.integers(0, 3, (16, 16), dtype=np.uint8)
        save(tmp_path / "images" / split / f"{i}.png", np.repeat(ids[..., None] * 100, 3, axis=-1))
        save(tmp_path / "masks" / split / f"{i}.png", ids)
    augment = ["hflip", "vflip", "transpose", "rotate90"]
    data = SegmentationDataModule(tmp_path, 3, image_size=16, augment=augment)
    for _ in range(10):
        (batch,) = data.train_dataloader()
        assert torch.equal((batch["image"][:, 0] * 2.55).round().long(), batch["mask"])


def test_grey_images(mask_folders):
    batch = next(iter(SegmentationDataModule(mask_folders, 3, image_size=16, image_channels=1).train_dataloader()))
    assert batch["image"].shape == (3, 1, 16, 16)


def test_an_unknown_class_is_found_at_setup(mask_folders):
    with pytest.raises(
        ValueError,
        match=r"mask .*s0\.png: unknown class ids 2 \(ids found: 0, 1, 2, 255; expected 0\.\.1 or 255\): raise num_",
    ):
        SegmentationDataModule(mask_folders, 2).setup("fit")
    with pytest.raises(ValueError, match=r"unknown class ids 255 .*expected 0\.\.2 or 11"):
        SegmentationDataModule(mask_folders, 3, ignore_index=11).setup("fit")


def test_an_unknown_class_in_a_late_mask_is_found_at_setup(tmp_path):
    for i in range(90):
        ids = np.full((8, 8), 1 if i < 80 else 9, dtype=np.uint8)
        split = "train" if i else "val"
        save(tmp_path / "images" / split / f"{i:02d}.png", ids)
        save(tmp_path / "masks" / split / f"{i:02d}.png", ids)
    data = SegmentationDataModule(tmp_path, 2, image_size=8)
    with pytest.raises(ValueError, match=r"mask .*80\.png: unknown class ids 9"):
        data.setup()


def test_masks_saved_as_jpeg_are_explained(mask_folders, data_rng):
    for path in (mask_folders / "masks").iterdir():
        path.unlink()
        save(path.with_suffix(".jpg"), data_rng.integers(0, 3, (20, 30), dtype=np.uint8) * 60)
    with pytest.raises(ValueError, match="JPEG compression alters ids, save masks as PNG"):
        SegmentationDataModule(mask_folders, 3).setup()


@pytest.fixture
def binary_folders(mask_folders, data_rng):
    """Masks of 0 and 255, as many annotation tools write them."""
    for path in (mask_folders / "masks").iterdir():
        save(path, data_rng.integers(0, 2, (20, 30), dtype=np.uint8) * 255)
    return mask_folders


def test_binary_masks(binary_folders):
    data = SegmentationDataModule(binary_folders, 1, foreground=255, image_size=16)
    assert next(iter(data.train_dataloader()))["mask"].unique().tolist() == [0, 1]


def test_binary_masks_that_would_be_ignored_altogether(binary_folders):
    with pytest.raises(ValueError, match=r"hold only 0 and 255, which is the ignore_index.*Pass foreground=255"):
        SegmentationDataModule(binary_folders, 1).setup()
    with pytest.raises(ValueError, match=r"unknown class ids 255 .*pass foreground=VALUE"):
        SegmentationDataModule(binary_folders, 1, ignore_index=-1).setup()


def test_coloured_masks(mask_folders):
    palette = [(0, 0, 0), (255, 0, 0), (0, 255, 0), (9, 9, 9)]
    expected = {}
    for path in (mask_folders / "masks").iterdir():
        ids = np.array(Image.open(path))
        ids[ids == 255] = 3
        expected[path.stem] = ids
        save(path, np.array(palette, dtype=np.uint8)[ids])
    with pytest.raises(ValueError, match="coloured image"):
        SegmentationDataModule(mask_folders, 3).setup()
    data = SegmentationDataModule(mask_folders, 3, palette=palette, ignore_index=3, image_size=(20, 30))
    batch = next(iter(data.audit_dataloaders()[0]))
    assert np.array_equal(batch["mask"][0].numpy(), expected["s0"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_classes": 0}, "expected num_classes to be at least 1 but got 0"),
        ({"num_classes": 3, "foreground": 2}, "foreground=2 is the id of a class itself"),
        ({"num_classes": 2, "foreground": 0}, "foreground=0 is the id of a class itself"),
        ({"num_classes": 2, "white": -1}, "expected white to be a positive number"),
        ({"num_classes": 2, "pages": "all"}, r"expected pages to be one of \['single', 'channels'\] but got 'all'"),
        ({"num_classes": 2, "exif": "no"}, "expected exif to be one of"),
        ({"num_classes": 3, "class_names": ["a"]}, "expected 3 class_names, one per class, but got 1"),
        ({"num_classes": 3, "image_channels": 4}, "image channels but got 4"),
    ],
)
def test_setting_errors(settings, message):
    with pytest.raises(ValueError, match=message):
        SegmentationDataModule("nowhere", **settings)


def test_camvid(shared_data):
    data = SegmentationDataModule(shared_data("camvid"), 11, ignore_index=11, image_size=(48, 64))
    members, nonmembers = data.audit_dataloaders()
    assert (len(members.dataset), len(nonmembers.dataset)) == (367, 101)
    assert len(data.test_dataloader().dataset) == 233
    masks = next(iter(members))["mask"]
    assert masks.max() == 11
    with pytest.raises(ValueError, match=r"unknown class ids 11 .*expected 0\.\.10 or 255"):
        SegmentationDataModule(shared_data("camvid"), 11).setup()


def test_wbc_coin_over_the_pooled_splits(shared_data):
    data = SegmentationDataModule(shared_data("wbc"), 3, membership="coin", max_per_side=150, image_size=64)
    info = data.audit_info()
    assert (info["member_count"] + info["nonmember_count"], info["unit"]) == (300, "sample")
    assert info["independent"] is True
    batch = next(iter(data.train_dataloader()))
    assert batch["image"].shape == (8, 3, 64, 64)
    assert set(batch["mask"].unique().tolist()) <= {0, 1, 2}
