"""Presets: each layout is found and read as what it is, and explicit arguments go before it."""

from __future__ import annotations

import inspect
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from data_trees import SIDE, TREES, cityscapes, cmp_facades, glas, mask, nuclei, photo, segnet_camvid, side_by_side
from jsonargparse import ArgumentParser

from mia_lightning import PairedImageDataModule, SegmentationDataModule
from mia_lightning.data.presets import find_preset, preset_names, register_preset, remove_preset
from mia_lightning.data.presets.preset import Layout, Preset, settle

MODULES = {"segmentation": SegmentationDataModule, "translation": PairedImageDataModule}
CASES = [
    (name, layout.name, task)
    for name in preset_names()
    for layout in find_preset(name).layouts
    for task in layout.tasks
    if (name, layout.name) in TREES
]


def read(root: Path, preset: str, task: str = "segmentation", **settings):
    module = MODULES[task](root, preset=preset, image_size=SIDE, augment="none", **settings)
    sides = [list(loader.dataset) for loader in module.audit_dataloaders()]
    return module, *sides


@pytest.mark.parametrize(("name", "layout", "task"), CASES)
def test_each_layout_is_found_and_read(name, layout, task, tmp_path):
    TREES[name, layout](tmp_path)
    settings = {"num_classes": 3} if name == "folders" and task == "segmentation" else {}
    settings |= {"image_size": SIDE, "augment": "none"}
    if name == "folders" and task == "translation":
        settings |= {"input_dir": "masks", "target_dir": "images"}
    module = MODULES[task](tmp_path, preset=name, **settings)
    assert module.layout_name == layout
    members, nonmembers = module.audit_dataloaders()
    assert min(len(members.dataset), len(nonmembers.dataset)) > 0
    sample = members.dataset[0]
    if task == "translation":
        assert sample["input"].shape == sample["target"].shape == (3, SIDE, SIDE)
        return
    ids = set(sample["mask"].unique().tolist())
    assert ids <= {*range(module.num_classes), module.ignore_index}
    assert len(ids - {module.ignore_index}) > 1
    assert len(module.class_names or range(3)) == max(module.num_classes, 1)


def test_every_preset_says_what_people_have_to_know():
    assert len(preset_names()) >= 11
    for name in preset_names():
        preset = find_preset(name)
        assert preset.name == name
        assert all([preset.title, preset.about, preset.url, preset.licence])
        assert len(set(preset.classes)) == len(preset.classes)
        assert len({layout.name for layout in preset.layouts}) == len(preset.layouts)
    assert len(find_preset("ade20k").classes) == 150
    assert find_preset("Kvasir-SEG").name == "kvasir_seg"
    with pytest.raises(ValueError, match=r"no preset 'cityscape' \(did you mean 'cityscapes'\?\); presets are ade20k"):
        find_preset("cityscape")


def test_cityscapes_has_train_ids_and_cities_and_leaves_the_test_split_out(tmp_path):
    cityscapes(tmp_path)
    module, members, nonmembers = read(tmp_path, "cityscapes")
    assert [s["id"] for s in members] == [
        f"train/{city}/{city}_00000{frame}_000019" for city in ("aachen", "bonn") for frame in range(2)
    ]
    assert {s["group"] for s in members} == {"aachen", "bonn"}
    assert {s["group"] for s in nonmembers} == {"ulm"}
    stripes = members[0]["mask"][0].unique_consecutive().tolist()
    assert stripes == [255, 0, 1, 2, 18, 255]  # unlabelled, road, sidewalk, building, bicycle, bridge
    assert (module.num_classes, module.ignore_index, module.class_names[18]) == (19, 255, "bicycle")
    assert len(module.all_records()) == 6, "labels of the test split are dummies"
    coin = SegmentationDataModule(tmp_path, preset="cityscapes", membership="coin", seed=1)
    assert coin.audit_info()["unit"] == "group"


def test_cityscapes_in_both_directions_of_translation(tmp_path):
    cityscapes(tmp_path)
    _, forth, _ = read(tmp_path, "cityscapes", "translation")
    _, back, _ = read(tmp_path, "cityscapes", "translation", direction="b_to_a")
    assert torch.equal(forth[0]["input"], back[0]["target"])
    assert torch.equal(forth[0]["target"], back[0]["input"])
    road = torch.tensor([128, 64, 128]) / 255
    assert (forth[0]["input"][:, 0, SIDE // 6] == road).all()
    assert (forth[0]["input"][:, 0, 0] == 0).all(), "void is black"
    module, planes, _ = read(tmp_path, "cityscapes", "translation", input_encoding="onehot")
    assert module.input_channels == 19
    assert planes[0]["input"][:, 0].sum(0)[[0, SIDE // 6]].tolist() == [0, 1], "void sets no channel"


def test_explicit_arguments_go_before_the_preset(tmp_path):
    segnet_camvid(tmp_path)
    module, *_ = read(tmp_path, "camvid")
    assert (module.num_classes, module.ignore_index, module.rule.nonmember_split) == (11, 11, "val")
    # One of them is what holds without a preset, too.
    module, _, nonmembers = read(tmp_path, "camvid", num_classes=12, ignore_index=255, nonmember_split="test")
    assert (module.num_classes, module.ignore_index) == (12, 255)
    assert [s["id"] for s in nonmembers] == ["test/Seq05VD_f00000"]
    assert module.class_names is None, "the preset's are of 11 classes"
    # Saved hyperparameters make the same module, whatever becomes of presets.
    again = SegmentationDataModule(**{k: v for k, v in module.hparams.items() if not k.startswith("_")})
    assert (again.num_classes, again.mask_dir) == (12, "{split}annot")
    assert again.audit_info() == module.audit_info()


def test_without_a_preset_arguments_are_what_they_were():
    module = SegmentationDataModule("somewhere", 3)
    assert (module.image_dir, module.mask_dir, module.ignore_index) == ("images", "masks", 255)
    assert module.hparams["membership"] == "split"
    assert PairedImageDataModule("somewhere").directories == ("A", "B")
    with pytest.raises(ValueError, match="needs num_classes"):
        SegmentationDataModule("somewhere")
    with pytest.raises(ValueError, match="'maps' is for PairedImageDataModule, not for SegmentationDataModule"):
        SegmentationDataModule("somewhere", preset="maps")


def test_groups_that_the_splits_cut_through_are_refused_with_what_to_do(tmp_path):
    segnet_camvid(tmp_path)
    photo(tmp_path / "val" / "0001TP_009999.png", 50)
    mask(tmp_path / "valannot" / "0001TP_009999.png", [0, 1])
    for task in MODULES:
        refused = r"'train' and 'val': '0001TP'.* membership='coin'.* group_pattern=None"
        with pytest.raises(ValueError, match=refused):
            read(tmp_path, "camvid", task)
    coin = SegmentationDataModule(tmp_path, preset="camvid", membership="coin", seed=2)
    assert coin.audit_info()["unit"] == "group"
    module, members, _ = read(tmp_path, "camvid", group_pattern=None)
    assert "group" not in members[0]
    assert module.audit_info()["unit"] == "sample"


def test_none_and_the_usual_defaults_go_before_the_preset(tmp_path):
    glas(tmp_path)
    rows = ["id,split", *(f"{path.stem},val" for path in tmp_path.glob("test*[0-9].bmp")), "train_1,train"]
    (tmp_path / "splits.csv").write_text("\n".join(rows) + "\n")
    own = {"splits": "splits.csv", "id_column": "id", "group_column": None, "split_pattern": None}
    module, members, nonmembers = read(tmp_path, "glas", **own, nonmember_split="val")
    assert [s["id"] for s in members + nonmembers] == ["train_1", "testA_1", "testA_2", "testB_1"]
    assert "group" not in members[0]
    module, members, _ = read(tmp_path, "glas", splits=None, group_column=None)
    assert [s["id"] for s in members] == ["train_1", "train_2"]
    assert module.arrangement.splits is None
    # Saved hyperparameters make the same module, and hold what was used.
    again = SegmentationDataModule(**{k: v for k, v in module.hparams.items() if not k.startswith("_")})
    assert replace(again.arrangement, proposed=module.arrangement.proposed) == module.arrangement
    assert (module.hparams["splits"], module.hparams["split_pattern"]) == (None, "^(train|testA|testB)_")
    without = SegmentationDataModule(tmp_path, preset="glas", class_names=None, threshold=None)
    assert without.class_names is without._read_mask.threshold is None


@pytest.mark.parametrize("cls", MODULES.values())
def test_each_argument_that_a_preset_says_can_be_said_otherwise(cls):
    usual = dict(cls.USUAL)
    left = {name: parameter.default for name, parameter in inspect.signature(cls).parameters.items() if name in usual}
    assert {name for name, value in left.items() if value is not None} >= {
        name for name, value in usual.items() if value is None and name not in ("num_classes", "num_input_classes")
    }
    everything = Preset("p", "", "", "", "", (Layout("a", (), common=dict.fromkeys(usual, "preset")),))
    task = "segmentation" if cls is SegmentationDataModule else "translation"
    assert set(settle(everything, task, Path("nowhere"), usual, left).values.values()) == {"preset"}
    said = settle(everything, task, Path("nowhere"), usual, left | usual).values
    assert {name for name in usual if said[name] != usual[name]} <= {"num_classes", "num_input_classes"}
    assert dict(settle(None, task, Path("nowhere"), usual, left).values) == usual


def test_a_configuration_that_is_printed_means_the_same(tmp_path, capsys):
    glas(tmp_path)
    parser = ArgumentParser()
    parser.add_argument("--config", action="config")
    parser.add_subclass_arguments(SegmentationDataModule, "data")
    head = ["--data=SegmentationDataModule", f"--data.root={tmp_path}", "--data.preset=glas", "--data.cache_dir=null"]
    for further, splits, groups in (
        ([], "Grade.csv", "patient ID"),
        (["--data.group_column=null", "--data.splits=null"], None, None),
    ):
        with pytest.raises(SystemExit):
            parser.parse_args([*head, *further, "--print_config"])
        module = parser.instantiate(parser.parse_string(capsys.readouterr().out)).data
        assert (module.arrangement.splits, module.arrangement.group_column) == (splits, groups)
        assert module.hparams["label_map"] is None
        assert "by_preset" not in str(dict(module.hparams))
    palette = ["--data.palette=[[0,0,0],[9,9,9]]", "--data.label_map={1: 0}", "--data.only_splits=[a]"]
    data = parser.parse_args([*head, *palette]).data.init_args
    assert (data.label_map, data.only_splits, len(data.palette)) == ({1: 0}, ["a"], 2)


def test_glas_has_patients_and_numbered_glands(tmp_path):
    glas(tmp_path)
    module, members, nonmembers = read(tmp_path, "glas")
    assert [s["id"] for s in members + nonmembers] == ["train_1", "train_2", "testA_1", "testA_2"]
    assert [s["group"] for s in members] == ["0", "1"]
    assert members[0]["mask"][0].unique_consecutive().tolist() == [0, 1, 0, 1]
    (tmp_path / "Grade.csv").unlink()
    module, members, _ = read(tmp_path, "glas")
    assert "Grade.csv is not in" in module.audit_info()["files"]["groups"]
    # A checkpoint holds the arguments as they were settled: the module that an audit makes of them reads the same.
    again = SegmentationDataModule(**{k: v for k, v in module.hparams.items() if not k.startswith("_")})
    assert [sample["id"] for sample in again.audit_dataloaders()[0].dataset] == [sample["id"] for sample in members]
    assert again.audit_info()["files"] == module.audit_info()["files"]
    with pytest.raises(FileNotFoundError, match=r"Other\.csv"):
        read(tmp_path, "glas", splits="Other.csv")


def test_nuclei_are_merged(tmp_path):
    nuclei(tmp_path)
    _, members, nonmembers = read(tmp_path, "nuclei")
    assert len(members) + len(nonmembers) == 6
    assert members[0]["mask"][0].unique_consecutive().tolist() == [0, 1, 0, 1]
    with pytest.raises(ValueError, match="expected image_dir and mask_dir to be names within the folder of a sample"):
        read(tmp_path, "nuclei", image_dir=str(tmp_path / "images"))
    folder = tmp_path / "stage1_train" / f"{0:064x}" / "masks"
    for path in folder.iterdir():
        path.unlink()
    with pytest.raises(ValueError, match=r"1 of the samples in .* lack their files: nothing in 'stage1_train/0+/masks"):
        read(tmp_path, "nuclei")


def test_both_releases_of_facades(tmp_path):
    cmp_facades(tmp_path / "cmp")
    _, members, nonmembers = read(tmp_path / "cmp", "facades", membership="split", member_split="base",
                                       nonmember_split="extended")  # fmt: skip
    assert Counter(s["id"].split("/")[0] for s in members + nonmembers) == {"base": 2, "extended": 2}
    assert members[0]["mask"][0].unique_consecutive().tolist() == [0, 1, 11]
    side_by_side(tmp_path / "pix2pix")
    _, members, _ = read(tmp_path / "pix2pix", "facades", "translation")
    _, swapped, _ = read(tmp_path / "pix2pix", "facades", "translation", direction="a_to_b")
    assert torch.equal(members[0]["input"], swapped[0]["target"]), "labels are on the right"


def test_a_preset_of_ones_own():
    preset = Preset("mine", "Mine", "mine", "here", "mine", (Layout("a", ("a",), images="a", masks="b"),), ("x", "y"))
    register_preset(preset)
    try:
        assert SegmentationDataModule("somewhere", preset="mine").mask_dir == "b"
        with pytest.raises(ValueError, match="'mine' is registered already"):
            register_preset(preset)
    finally:
        remove_preset("mine")
    with pytest.raises(ValueError, match="2 classes and 1 colours"):
        Preset("bad", "", "", "", "", (Layout("a", ()),), ("x", "y"), ((0, 0, 0),))
