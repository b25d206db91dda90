"""``mia-lightning data``: what it prints, writes and ends with."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from data_trees import TREES, facade_crops, folders, kvasir_seg
from PIL import Image

from mia_lightning.cli.main import main
from mia_lightning.data.sample_sheet import write_sheet


def run(capsys, *args: str) -> tuple[int, str, str]:
    code = 0
    try:
        main(["data", *map(str, args)])
    except SystemExit as stopped:
        code = stopped.code
    out, err = capsys.readouterr()
    return code, " ".join(out.split()), " ".join(err.split())


def listing(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_sound_folder_is_described_and_left_as_it_was(capsys, tmp_path):
    facade_crops(tmp_path / "data")
    before = listing(tmp_path)
    code, out, _ = run(capsys, "check", tmp_path / "data", "--preset", "facades")
    assert code == 0
    assert "Pairs: 12 (train 6, val 6)." in out
    assert "Groups (building): 4; 4 of 3 pairs." in out
    assert "3 window 20.83% 12" in out
    assert "Nothing found that would spoil a training (0 warnings)." in out
    assert listing(tmp_path) == before
    code, out, _ = run(
        capsys, "check", tmp_path / "data", "--preset", "facades", "--output", tmp_path / "new" / "sheet"
    )
    assert code == 0
    assert sorted(listing(tmp_path).keys() - before.keys()) == [
        str(tmp_path / "new" / "sheet" / name) for name in ("data_check.json", "sample_sheet.png")
    ]
    assert json.loads((tmp_path / "new" / "sheet" / "data_check.json").read_text())["groups"] == {"3": 4}


def test_a_fault_ends_with_code_1_and_everything_is_in_the_json(capsys, tmp_path):
    facade_crops(tmp_path)
    shutil.copy(tmp_path / "photos" / "c00.jpg", tmp_path / "photos" / "c11.jpg")
    code, out, _ = run(capsys, "check", tmp_path, "--preset", "facades", "--json")
    document = json.loads(out)["data_check"]
    assert code == 1
    assert not document["sound"]
    (fault,) = [finding["text"] for finding in document["findings"] if finding["level"] == "fault"]
    assert "c00 / c11 (member / nonmember)" in fault


def test_folders_of_ones_own_need_no_preset(capsys, tmp_path):
    folders(tmp_path)
    code, out, _ = run(capsys, "check", tmp_path)
    assert code == 0
    assert "num_classes=3, by the highest id that masks hold." in out
    code, out, _ = run(capsys, "check", tmp_path, "--num_classes", "2")
    assert code == 1
    assert "unknown class ids 2" in out
    code, out, _ = run(capsys, "check", tmp_path, "--membership", "coin", "--seed", "1")
    assert code == 0
    assert "by randomised assignment" in out


def test_a_sheet_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    sheet = Image.new("RGB", (8, 8))
    path = write_sheet(sheet, tmp_path / "new")
    before = path.read_bytes()

    def interrupted(content, *_, **__):
        if isinstance(content, Path):
            content.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(sheet, "save", interrupted)
    with pytest.raises(OSError, match="disk full"):
        write_sheet(sheet, tmp_path / "new")
    assert path.read_bytes() == before


def test_what_a_preset_says_can_be_switched_off(capsys, tmp_path):
    facade_crops(tmp_path)
    code, out, _ = run(capsys, "check", tmp_path, "--preset", "facades", "--group_column", "null")
    assert code == 0
    assert "Groups" not in out


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["check", "{}/nowhere", "--preset", "wbc"], "the data folder {}/nowhere does not exist"),
        (["check", "{}/empty", "--preset", "wbc"], "the folder {}/empty is empty: expected White blood cells"),
        (["check", "{}", "--preset", "wbcc"], "no preset 'wbcc' (did you mean 'wbc'?); presets are ade20k, camvid"),
        (["check", "{}/kvasir", "--preset", "cityscapes"], "leftImg8bit, gtFine (gtFine), and found images, kavsir_bb"),
        (["check", "{}/kvasir", "--preset", "cityscapes"], "Presets that find what they look for: camvid, folders"),
        (["check", "{}/half", "--preset", "kvasir_seg"], "Missing: masks (images and masks)"),
        (["check"], "Name the folder to check"),
        (["check", "{}/kvasir", "--preset", "kvasir_seg", "--label_maps", "1"], "unknown option '--label_maps'"),
        (["check", "{}/kvasir", "--preset", "kvasir_seg", "--input_dir", "A"], "has no argument 'input_dir'"),
        (["check", "{}/kvasir", "--preset", "maps", "--task", "segmentation"], "'maps' is for PairedImageDataModule"),
        (["list", "glass"], "no preset 'glass' (did you mean 'glas'?)"),
    ],
)
def test_what_is_wrong_is_said_in_words(args, words, capsys, tmp_path):
    kvasir_seg(tmp_path / "kvasir")
    kvasir_seg(tmp_path / "half")
    shutil.rmtree(tmp_path / "half" / "masks")
    (tmp_path / "empty").mkdir()
    code, _, err = run(capsys, *[arg.format(tmp_path) for arg in args])
    assert code in (1, 2)
    assert words.format(tmp_path) in err


def test_presets_are_listed(capsys):
    code, out, _ = run(capsys, "list", "--json")
    names = [preset["name"] for preset in json.loads(out)["presets"]]
    assert code == 0
    assert {name for name, _ in TREES} <= set(names)
    _, out, _ = run(capsys, "list", "cityscapes")
    for words in ("https://www.cityscapes-dataset.com", "Licence: non-commercial", "traffic light", "val 500"):
        assert words in out
