"""Columns of a splits file, and the native sizes of files, are known of samples without being in batches."""

import pickle
from pathlib import Path

import numpy as np
from PIL import Image

from mia_lightning import PairedImageDataModule, SegmentationDataModule
from mia_lightning.audit.dataset_columns import column_of
from mia_lightning.data.record_columns import RecordColumns
from mia_lightning.data.records import Record


def columns_of(data):
    return [{name: list(loader.dataset.metadata[name]) for name in loader.dataset.metadata} for loader in data]


def test_other_columns_of_the_splits_file_and_the_size_of_files(mask_folders):
    for name in ("images/s1.jpg", "masks/s1.png"):
        with Image.open(mask_folders / name) as image:
            image.resize((45, 30), Image.Resampling.NEAREST).save(mask_folders / name)
    lines = ["s0,train,a,'=x", "s1,train,b", "s2,train,,", "s3,val,a,y", "s4,val,a,y"]
    (mask_folders / "splits.csv").write_text("\n".join(["id,split,site,note", *lines]) + "\n")
    data = SegmentationDataModule(mask_folders, 3, image_size=16)
    loaders = data.audit_dataloaders()
    members, nonmembers = columns_of(pickle.loads(pickle.dumps(loaders)))  # as workers get them
    assert members == {
        "split": ["train"] * 3,
        "site": ["a", "b", ""],
        "note": ["=x", "", ""],
        "resolution": ["20x30", "30x45", "20x30"],
    }
    assert nonmembers["site"] == ["a", "a"]
    assert set(next(iter(loaders[0]))) == {"image", "mask", "id"}


def test_sizes_of_turned_files_and_of_halves(photo_folders, tmp_path):
    turned = Image.Exif()
    turned[274] = 6
    for side in "AB":
        with Image.open(photo_folders / side / "p0.png") as image:
            image.save(photo_folders / side / "p0.png", exif=turned)
    data = PairedImageDataModule(photo_folders, input_dir="A", target_dir="B", image_size=16, group_column="building")
    members, _ = columns_of(data.audit_dataloaders())
    assert members["resolution"] == ["35x21", "21x35", "21x35"]
    assert members["building"] == ["a", "a", "b"]
    for split in ("train", "val"):
        (tmp_path / "halves" / split).mkdir(parents=True)
        for i in range(2):
            pixels = np.random.default_rng(i).integers(0, 255, (16, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "halves" / split / f"{i}.png")
    halves = columns_of(PairedImageDataModule(tmp_path / "halves", image_size=16).audit_dataloaders())
    assert halves[0] == {"resolution": ["16x16", "16x16"]}


def test_only_files_whose_size_is_asked_for_are_read_and_once():
    read = []

    def size(path):
        read.append(path.name)
        return "" if path.name == "b.png" else "1x2"

    records = [Record(name, "train", None, Path(f"{name}.png"), Path("x.png")) for name in "abc"]
    columns = RecordColumns(records, size)

    class Data(list):
        metadata = columns

    for _ in range(2):
        assert list(columns) == ["resolution"]
        assert len(columns["resolution"]) == 3
        assert column_of(Data(records), "resolution")(2) == columns["resolution"][-1] == "1x2"
    assert read == ["c.png"]
    assert columns["resolution"][:2] == ["1x2", ""]
    assert read == ["c.png", "a.png", "b.png"]
