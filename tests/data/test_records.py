from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mia_lightning.data.file_survey import FileSurvey
from mia_lightning.data.id_lists import read_ids
from mia_lightning.data.records import find_folder_pairs, find_side_by_side
from mia_lightning.data.splits_file import apply_splits

GREY = np.zeros((4, 4), dtype=np.uint8)


def touch(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def write(root: Path, text: str, encoding: str = "utf-8") -> None:
    (root / "splits.csv").write_bytes(text.encode(encoding))


def test_pairs_match_by_name_whatever_the_suffix(tmp_path):
    touch(tmp_path, "A/2.JPG", "A/1.b.png", "B/2.png", "B/1.b.tiff", "A/notes.txt", "A/.hidden.png")
    records = find_folder_pairs(tmp_path, "A", "B")
    assert [record.id for record in records] == ["1.b", "2"]
    assert records[1].input_path == tmp_path / "A/2.JPG"
    assert records[1].target_path == tmp_path / "B/2.png"
    assert {record.split for record in records} == {"all"}


def test_folders_may_hold_a_folder_per_split(tmp_path):
    touch(tmp_path, "A/train/1.png", "A/val/1.png", "B/train/1.png", "B/val/1.png")
    records = find_folder_pairs(tmp_path, "A", "B")
    assert [(record.id, record.split) for record in records] == [("train/1", "train"), ("val/1", "val")]


@pytest.mark.parametrize(("prefix", "split"), [("", "all"), ("train/", "train")])
def test_side_by_side_files(tmp_path, prefix, split):
    touch(tmp_path, f"{prefix}1.jpg")
    (record,) = find_side_by_side(tmp_path)
    assert (record.id, record.split) == (f"{prefix}1", split)
    assert record.input_path == record.target_path


def test_a_missing_folder_names_the_existing_ones(tmp_path):
    touch(tmp_path, "labels/1.png", "photos/1.png")
    with pytest.raises(FileNotFoundError, match=r"no folder 'A' in .*do exist: 'labels', 'photos'\. Correct"):
        find_folder_pairs(tmp_path, "A", "B")


def test_a_missing_root_names_what_lies_beside_it(tmp_path):
    (tmp_path / "facades").mkdir()
    with pytest.raises(FileNotFoundError, match=r"no folder 'facade' in .*'facades'"):
        find_side_by_side(tmp_path / "facade")
    with pytest.raises(FileNotFoundError, match="does not exist either"):
        find_side_by_side(tmp_path / "no" / "where")


def test_a_file_instead_of_a_folder(tmp_path):
    touch(tmp_path, "A", "B/1.png")
    with pytest.raises(NotADirectoryError, match="is a file: pass the folder"):
        find_folder_pairs(tmp_path, "A", "B")


def test_an_empty_folder(tmp_path):
    touch(tmp_path, "A/readme.txt", "B/1.png")
    with pytest.raises(FileNotFoundError, match=r"no images in .*A .*expected files ending in \.bmp"):
        find_folder_pairs(tmp_path, "A", "B")


def test_unmatched_names_are_counted_and_named_in_both_directions(tmp_path):
    touch(tmp_path, *(f"A/a{i}.png" for i in range(7)), "A/same.png", "B/same.png", "B/b.png")
    with pytest.raises(
        ValueError, match=r"7 of the files in .*A have no partner in .*B: 'a0', 'a1'.*\(7 in all\)"
    ) as e:
        find_folder_pairs(tmp_path, "A", "B")
    assert "1 of the files in" in str(e.value)
    assert "'b'. 1 pairs match" in str(e.value)


def test_duplicate_names(tmp_path):
    touch(tmp_path, "A/1.png", "A/1.jpg", "B/1.png")
    with pytest.raises(ValueError, match=r"more than one image for '1'"):
        find_folder_pairs(tmp_path, "A", "B")


@pytest.fixture
def found_records(tmp_path):
    touch(tmp_path, *(f"{side}/{i}.png" for side in "AB" for i in range(3)))
    return find_folder_pairs(tmp_path, "A", "B")


def test_splits_file_assigns_and_selects(tmp_path, found_records):
    write(tmp_path, "split,id,building\nval,2.png,x\ntrain, 0 ,y\n", encoding="utf-8-sig")
    records = apply_splits(found_records, tmp_path, group_column="building")
    assert [(r.id, r.split, r.group) for r in records] == [("0", "train", "y"), ("2", "val", "x")]
    assert {r.group for r in apply_splits(found_records, tmp_path)} == {None}


def test_splits_file_is_optional_only_by_its_default_name(tmp_path, found_records):
    assert apply_splits(found_records, tmp_path) == found_records
    assert apply_splits(found_records, tmp_path, splits=None) == found_records
    touch(tmp_path, "folds.csv")
    with pytest.raises(FileNotFoundError, match=r"no splits file 'fold\.csv'.*'folds\.csv'"):
        apply_splits(found_records, tmp_path, "fold.csv")
    with pytest.raises(FileNotFoundError, match="group_column='building' needs a splits file"):
        apply_splits(found_records, tmp_path, group_column="building")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id;split\n0;train\n", r"lacks the column\(s\) 'id', 'split', 'building': .*found \['id;split'\]"),
        ("id,split\n0,train\n", r"lacks the column\(s\) 'building'"),
        ("id,split,building\n0,train,a\n9,val,b\n", r"names 1 ids without files: '9'\. Ids on disk look like '0'"),
        ("id,split,building\n0,,a\n", r"line 2: no value for \['split'\]"),
        ("id,split,building\n0\n", r"line 2: no value for \['split', 'building'\]"),
        ("id,split,building\n0,train,a\n0,val,a\n", "line 3: id '0' occurs twice"),
        ("id,split,building\n", "names no pair"),
    ],
)
def test_splits_file_errors(tmp_path, found_records, text, message):
    write(tmp_path, text)
    with pytest.raises(ValueError, match=message):
        apply_splits(found_records, tmp_path, group_column="building")


def test_splits_file_in_another_encoding(tmp_path, found_records):
    write(tmp_path, "id,split\n0,für\n", encoding="latin-1")
    with pytest.raises(ValueError, match="is not UTF-8 text"):
        apply_splits(found_records, tmp_path)


def test_linked_folders_and_files_are_followed(tmp_path):
    touch(
        tmp_path, "elsewhere/train/1.png", "elsewhere/val/1.png", "photo.jpg", "B/train/1.png", "B/val/1.png", "B/2.png"
    )
    (tmp_path / "A").mkdir()
    for split in ("train", "val"):
        (tmp_path / "A" / split).symlink_to(tmp_path / "elsewhere" / split)
    (tmp_path / "A" / "2.png").symlink_to(tmp_path / "photo.jpg")
    assert [record.id for record in find_folder_pairs(tmp_path, "A", "B")] == ["2", "train/1", "val/1"]


@pytest.mark.parametrize("place", ["A/again", "A/deeper/again"])
def test_links_in_a_circle_are_found(tmp_path, place):
    touch(tmp_path, "A/1.png", "A/deeper/2.png", "B/1.png", "B/deeper/2.png")
    (tmp_path / place).symlink_to(tmp_path / "A")
    with pytest.raises(ValueError, match=r"the link .*again leads back to .*A, a folder that it lies in"):
        find_folder_pairs(tmp_path, "A", "B")


def test_a_link_to_nothing_is_named(tmp_path):
    touch(tmp_path, "A/1.png", "B/1.png")
    (tmp_path / "A" / "2.png").symlink_to(tmp_path / "gone.png")
    (tmp_path / "B" / "2.png").symlink_to(tmp_path / "B" / "1.png")
    records = find_folder_pairs(tmp_path, "A", "B")
    with pytest.raises(FileNotFoundError, match=r"no image file .*A.2\.png: it is a link to .*gone\.png"):
        FileSurvey().headers(record.input_path for record in records)


def test_names_are_compared_whatever_way_accents_are_written(tmp_path):
    one, two = "für", "fu\u0308r"
    touch(tmp_path, f"{two}/{one}.png", f"B/{two}.png")
    (record,) = find_folder_pairs(tmp_path, one, "B")
    assert record.id == one
    write(tmp_path, f"id,split\n{two}.png,{two}\n")
    assert apply_splits([record], tmp_path)[0].split == one
    assert read_ids([two], [record.id]) == [one]
    touch(tmp_path, f"B/{one}.png")
    with pytest.raises(ValueError, match="more than one image for 'für'"):
        find_folder_pairs(tmp_path, one, "B")
