"""Names of samples are short and tell them apart, whatever paths they come from."""

import posixpath
import random

import pytest

from mia_lightning.functional.sample_names import short_names


@pytest.mark.parametrize(
    ("names", "short", "folder"),
    [
        (["/d/a/1.png", "/d/b/1.png"], ["a/1.png", "b/1.png"], "/d"),
        (["/d/1.png", "/d/2.png"], ["1.png", "2.png"], "/d"),
        (["/1.png", "/x/1.png"], ["1.png", "x/1.png"], "/"),
        (["/d/1.png"], ["1.png"], "/d"),
        ([r"C:\d\a\1.png", r"C:\d\b\1.png"], [r"a\1.png", r"b\1.png"], r"C:\d"),
        ([r"C:\d\1.png", r"D:\d\1.png"], [r"C:\d\1.png", r"D:\d\1.png"], ""),
        (["a/1.png", "b/1.png"], ["a/1.png", "b/1.png"], ""),
        (["/d/1.png", "2"], ["/d/1.png", "2"], ""),
        (["/d//1.png", "/d//2.png"], ["1.png", "2.png"], "/d"),
        (["//d/1.png", "/d/2.png"], ["//d/1.png", "/d/2.png"], ""),
        ([], [], ""),
    ],
)
def test_what_all_absolute_paths_share_is_left_out(names, short, folder):
    assert short_names(names, [True] * len(names), range(len(names))) == (short, folder)


def test_patches_of_one_file_are_told_apart_by_their_places():
    names, folder = short_names(["/d/1.png"] * 3 + ["/d/2.png"], [True, True, False, False], [4, 7, 0, 1])
    assert names == ["1.png#4", "1.png#7", "1.png", "2.png"]
    assert folder == "/d"


@pytest.mark.parametrize("seed", range(200))
def test_paths_stay_unique_and_can_be_put_together_again(seed):
    draw = random.Random(seed)
    folders = [draw.choices(["a", "b", "train", "x.y"], k=draw.randrange(4)) for _ in range(draw.randrange(1, 9))]
    paths = sorted({"/".join(["", *folder, f"{draw.randrange(4)}.png"]) for folder in folders})
    names, folder = short_names(paths, [True] * len(paths), range(len(paths)))
    assert len(set(names)) == len(paths)
    assert [posixpath.join(folder, name) for name in names] == paths
