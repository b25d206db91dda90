"""A check names every fault of a broken copy, and none of a sound one."""

from __future__ import annotations

import re
import shutil
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from data_trees import SIDE, TREES, cityscapes, mask, photo, segnet_camvid
from PIL import Image

from mia_lightning import PairedImageDataModule, SegmentationDataModule
from mia_lightning.data.data_check import check_data
from mia_lightning.data.presets import find_preset
from mia_lightning.data.sample_sheet import draw_sheet


@contextmanager
def bar(description, total):
    yield lambda count: None


def check(root: Path, classes: int = 3, **settings):
    return check_data(SegmentationDataModule(root, classes, **settings), bar)


def sound(root: Path) -> Path:
    """Ten pairs in two splits, no two alike."""
    for number in range(10):
        split = "train" if number < 6 else "val"
        photo(root / "images" / split / f"{number}.png", number)
        mask(root / "masks" / split / f"{number}.png", [0, 1, 2])
    return root


def test_a_sound_folder(tmp_path):
    found = check(sound(tmp_path))
    assert found.findings == []
    assert (found.splits, found.members, found.nonmembers) == ({"train": 6, "val": 4}, 6, 4)
    assert found.sizes == {f"{SIDE}x{SIDE}": 10}
    assert found.modes == ({"RGB": 10}, {"L": 10})
    assert [(c.id, c.samples, round(c.pixels, 3)) for c in found.classes] == [(k, 10, 0.333) for k in range(3)]
    assert found.copies == []


def truncate(root):
    path = root / "images" / "train" / "0.png"
    path.write_bytes(path.read_bytes()[:200])


def no_image(root):
    (root / "masks" / "train" / "1.png").write_text("none")


def lonely(root):
    (root / "masks" / "train" / "2.png").unlink()


def unknown_id(root):
    mask(root / "masks" / "train" / "3.png", [0, 9])


def other_shape(root):
    photo(root / "images" / "train" / "4.png", 4, (2 * SIDE, SIDE))


def jpeg_mask(root):
    (root / "masks" / "train" / "5.png").unlink()
    mask(root / "masks" / "train" / "5.jpg", [0, 1])


def same_on_both_sides(root):
    shutil.copy(root / "images" / "train" / "0.png", root / "images" / "val" / "6.png")


def no_val(root):
    for folder in ("images", "masks"):
        shutil.rmtree(root / folder / "val")


def empty(root):
    for path in (root / "masks").rglob("*.png"):
        path.unlink()


def one_class(root):
    for path in (root / "masks").rglob("*.png"):
        mask(path, [0])


def pages(root):
    frames = [Image.new("L", (SIDE, SIDE), value) for value in (0, 90)]
    (root / "images" / "val" / "7.png").unlink()
    frames[0].save(root / "images" / "val" / "7.tif", save_all=True, append_images=frames[1:])


FAULTS = {
    truncate: r"annot read .*images/train/0\.png",
    no_image: r"masks/train/1\.png is not an image",
    lonely: r"no partner in .*masks: 'train/2'",
    unknown_id: r"ask .*masks/train/3\.png: unknown class ids 9",
    other_shape: r"'train/4' .*input is 48x24 pixels and target 24x24",
    jpeg_mask: r"JPEG files, such as .*masks/train/5\.jpg",
    same_on_both_sides: r"1 pair of ids has the same picture on both sides: train/0 / val/6 \(member / nonmember\)",
    no_val: r"no split 'val': existing splits are 'train'",
    empty: r"no images in .*masks",
    one_class: r"hold nothing but 0",
    pages: r"images/val/7\.tif holds 2 pages",
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_each_fault_is_named(fault, tmp_path):
    fault(sound(tmp_path))
    (text,) = check(tmp_path).faults
    assert re.search(FAULTS[fault], text, re.IGNORECASE), text


def test_many_faults_at_once_are_all_named(tmp_path):
    sound(tmp_path)
    several = [no_image, lonely, unknown_id, other_shape, jpeg_mask, same_on_both_sides]
    for fault in several:
        fault(tmp_path)
    assert len(check(tmp_path).faults) == len(several)


def test_warnings_leave_a_folder_sound(tmp_path):
    sound(tmp_path)
    for number in range(10, 40):
        photo(tmp_path / "images" / "train" / f"{number}.png", number)
        mask(tmp_path / "masks" / "train" / f"{number}.png", [0, 1, 2])
    photo(tmp_path / "images" / "train" / "0.png", 0, mode="L")
    photo(tmp_path / "images" / "train" / "1.png", 1, (2 * SIDE, 2 * SIDE))
    darker = Image.open(tmp_path / "images" / "train" / "2.png").point(lambda value: value * 0.7)
    darker.save(tmp_path / "images" / "val" / "8.png")
    Image.new("RGB", (SIDE, SIDE)).save(tmp_path / "images" / "train" / "3.png")
    mask(tmp_path / "masks" / "train" / "4.png", [255])
    found = check(tmp_path, 4, class_names=["a", "b", "c", "rare"])
    assert not found.faults
    texts = " ".join(finding.text for finding in found.findings)
    for words in (
        "1 of 40 pairs have another size than the 24x24 of the rest: 48x48: 'train/1'",
        "another colour mode of the input than the RGB of the rest: L: 'train/0'",
        "1 pictures have one colour all over: 'train/3'",
        "1 of 4 classes occur in no label map: 'rare'",
        "1 label maps hold ignored pixels alone: 'train/4'",
        "1 pair of ids has pictures that look alike on both sides: train/2 / val/8 (member / nonmember)",
    ):
        assert words in texts
    assert [pair.across for pair in found.copies] == [True]


def test_a_file_of_splits_at_fault_does_not_hide_the_rest(tmp_path):
    sound(tmp_path)
    rows = [f"{path.parent.name}/{path.stem},{path.parent.name}" for path in (tmp_path / "images").rglob("*.png")]
    (tmp_path / "splits.csv").write_text("\n".join(["id,split", *rows, "nowhere,train"]) + "\n")
    same_on_both_sides(tmp_path)
    first, second = check(tmp_path).faults
    assert "names 1 ids without files: 'nowhere'" in first
    assert "the same picture on both sides" in second


def test_groups_and_splits_that_cut_through_them(tmp_path):
    for number in range(6):
        photo(tmp_path / "images" / ("train" if number < 3 else "val") / f"film{number % 2}_{number}.png", number)
    for path in (tmp_path / "images").rglob("*.png"):
        mask(tmp_path / "masks" / path.relative_to(tmp_path / "images"), [0, 1, 2])
    found = check(tmp_path, group_pattern=r"(film\d)_")
    assert found.groups == {3: 2}
    assert any("film0" in text for text in found.faults)


def test_films_of_a_preset_that_splits_cut_through_are_a_fault(tmp_path):
    segnet_camvid(tmp_path)
    photo(tmp_path / "val" / "0001TP_009999.png", 50)
    mask(tmp_path / "valannot" / "0001TP_009999.png", [0, 1])
    found = check_data(SegmentationDataModule(tmp_path, preset="camvid"), bar, group="film")
    (text,) = found.faults
    assert "'0001TP'" in text
    assert "membership='coin'" in text
    assert found.groups == {1: 3, 2: 1}
    found = check_data(SegmentationDataModule(tmp_path, preset="camvid", group_pattern=None), bar, group="film")
    assert (found.faults, found.groups, found.group) == ([], {}, "")


def test_both_directions_of_translation_are_checked(tmp_path):
    cityscapes(tmp_path)
    for direction in ("a_to_b", "b_to_a"):
        found = check_data(PairedImageDataModule(tmp_path, preset="cityscapes", direction=direction), bar)
        assert not found.faults
        assert [share.name for share in found.classes if share.samples] == [
            "road",
            "sidewalk",
            "building",
            "bicycle",
            "void",
        ]
    shutil.copy(*sorted((tmp_path / "leftImg8bit").rglob("*.png"))[-1:-3:-1])
    assert "group" in found.to_dict()


@pytest.mark.parametrize(
    "name",
    [("glas", "Warwick-QU"), pytest.param(("nuclei", "stage1_train"), marks=pytest.mark.slow), ("maps", "pix2pix")],
)
def test_a_sheet_of_samples_is_drawn(name, tmp_path):
    TREES[name](tmp_path)
    cls = PairedImageDataModule if name[0] == "maps" else SegmentationDataModule
    module = cls(tmp_path, preset=name[0])
    sheet = draw_sheet(module, check_data(module, bar), find_preset(name[0]).colours)
    pixels = np.asarray(sheet)
    assert sheet.mode == "RGB"
    assert pixels.shape[1] > 800
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 500, "photographs are on it"


def test_the_shared_folders_are_what_their_descriptions_say(shared_data):
    cells = check_data(SegmentationDataModule(shared_data("wbc"), preset="wbc"), bar)
    twice = {(pair.first, pair.second) for pair in cells.copies}
    assert twice == {(f"d1_{a}", f"d1_{b}") for a, b in ((112, 139), (166, 171), (157, 158), (167, 169))}
    assert cells.splits == {"train": 280, "val": 62, "test": 58}
    assert not any(pair.across for pair in cells.copies)
    assert not cells.faults
