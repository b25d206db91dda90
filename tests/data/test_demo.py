from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import mia_lightning.data.demo_images as demo_images
from mia_lightning import DemoDataModule
from mia_lightning.data.demo_images import draw_edges, make_mosaics, make_tiles

TASKS = ("translation", "segmentation")


@pytest.fixture(scope="module")
def demos():
    return {task: DemoDataModule(task) for task in TASKS}


@pytest.mark.parametrize("task", TASKS)
def test_both_sides_are_there_by_coins_and_the_chosen_one_does_not_count_as_independent(demos, task):
    info = demos[task].audit_info()
    assert info["assignment"] == "coin"
    assert info["independent"] is info["independent_units"] is False
    assert DemoDataModule(task, seed=0).audit_info()["independent"] is True
    assert info["member_count"] + info["nonmember_count"] == {"translation": 128, "segmentation": 100}[task]
    assert min(info["member_count"], info["nonmember_count"]) >= 40


def test_a_cap_draws_before_the_coins():
    info = DemoDataModule(max_per_side=50, seed=1).audit_info()
    assert info["member_count"] + info["nonmember_count"] == 100
    assert info["capped"] is info["independent"] is True


def test_translation_items(demos):
    batch = next(iter(demos["translation"].audit_dataloaders()[0]))
    assert batch["input"].shape == batch["target"].shape == (32, 3, 64, 64)
    assert batch["input"].unique().tolist() == [0.0, 1.0]
    assert (batch["target"].std((1, 2, 3)) > 0.03).all()  # no empty tile
    lines = (batch["input"][:, 0] == 0).float().mean((1, 2))
    assert ((lines > 0.02) & (lines < 0.5)).all()


def test_segmentation_items(demos):
    data = demos["segmentation"]
    batch = next(iter(data.audit_dataloaders()[0]))
    assert batch["image"].shape == (32, 3, 64, 64)
    assert data.class_names == ["brick", "grass", "gravel", "tissue", "retina"]
    assert data.num_classes == data.target_channels == 5
    assert batch["mask"].unique().tolist() == [0, 1, 2, 3, 4]
    assert all(2 <= len(mask.unique()) <= 3 for mask in batch["mask"])


@pytest.mark.parametrize("make", [make_tiles, make_mosaics])
def test_everything_follows_from_the_seed(make):
    first, again, other = make(20, 32, 0), make(20, 32, 0), make(20, 32, 1)
    assert first.keys() == again.keys()
    for id in first:
        assert all(np.array_equal(a, b) for a, b in zip(first[id][1:], again[id][1:], strict=True))
    assert first.keys() != other.keys() or any(not np.array_equal(first[id][1], other[id][1]) for id in first)


def test_tiles_do_not_overlap():
    """A photograph whose pixels are all different never gives the same pixel twice."""
    photo = np.arange(300 * 500, dtype=np.uint32).view(np.uint8).reshape(300, 500, 4)[..., :3].copy()
    tiles = demo_images._cut(photo, 96, 96)
    assert len(tiles) == 3 * 5
    codes = np.concatenate([tile.reshape(-1, 3) for _, _, tile in tiles])
    assert len(np.unique(codes, axis=0)) == len(codes) == 15 * 96 * 96


def test_texture_crops_are_disjoint():
    (path,) = demo_images.find_shipped(["gravel.png"])
    for count in (9, 60, 100):
        crops = demo_images._shuffled_crops(path, count, 32, np.random.default_rng(0))
        assert len(crops) >= count
        assert len({crop.tobytes() for crop in crops}) == len(crops)


def test_edges_are_dark_lines_on_white():
    photo = np.zeros((32, 32, 3), dtype=np.uint8)
    photo[:, 16:] = 255
    drawing = draw_edges(photo)
    assert set(np.unique(drawing)) == {0, 255}
    assert (drawing[4:-4, 14:18, 0] == 0).any(axis=1).all()
    assert (drawing[:, :8] == 255).all()


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("size", [48, 65, 128])
def test_other_sizes(task, size):
    item = DemoDataModule(task, image_size=size, num_pairs=20).audit_dataloaders()[0].dataset[0]
    assert all(value.shape[-2:] == (size, size) for value in item.values() if isinstance(value, torch.Tensor))


def test_missing_photographs(monkeypatch, tmp_path):
    shipped = demo_images.find_shipped(["brick.png", "astronaut.png"])
    (tmp_path / "data").mkdir()
    for path in shipped:
        (tmp_path / "data" / path.name).write_bytes(path.read_bytes())

    class Spec:
        submodule_search_locations = [str(tmp_path)]  # noqa: RUF012 - a stand-in

    monkeypatch.setattr(demo_images.importlib.util, "find_spec", lambda name: Spec)
    assert len(make_tiles(10, 32, 0)) == 10  # the astronaut alone
    assert make_mosaics(2, 32, 0)["mosaic-0000"][0].name == "brick.png"
    for path in (tmp_path / "data").iterdir():
        path.unlink()
    with pytest.raises(FileNotFoundError, match=r"none of \['astronaut\.png', .*reinstall scikit-image"):
        make_tiles(10, 32, 0)


def test_nothing_is_fetched():
    assert "pooch" not in Path(demo_images.__file__).read_text()
    assert "skimage.data" not in Path(demo_images.__file__).read_text()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DemoDataModule("depth"), r"expected task to be one of \['translation', 'segmentation'\] but got"),
        (lambda: DemoDataModule(num_pairs=1), "expected num_pairs to be at least 2"),
        (lambda: DemoDataModule(num_pairs=10**4).setup(), r"expected num_pairs to be at most \d+, the tiles"),
        (lambda: DemoDataModule("segmentation", num_pairs=10**4).setup(), "too many mosaics: they need"),
    ],
)
def test_setting_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()
