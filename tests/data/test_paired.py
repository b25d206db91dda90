from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from lightning import seed_everything
from PIL import Image
from torch.utils.data import DataLoader

from mia_lightning import PairedImageDataModule


def save(path, array, palette=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(array)
    if palette is not None:
        image.putpalette([*palette] + [0] * (768 - len(palette)))
    image.save(path)


def all_ids(loader):
    return [id for batch in loader for id in batch["id"]]


def test_folders_with_splits_file(photo_folders):
    data = PairedImageDataModule(photo_folders, image_size=(16, 24), group_column="building")
    members, nonmembers = data.audit_dataloaders()  # before setup
    assert all_ids(members) == ["p0", "p1", "p2"]
    assert all_ids(nonmembers) == all_ids(data.val_dataloader()) == ["p3", "p4"]
    assert all_ids(data.test_dataloader()) == all_ids(data.predict_dataloader()) == ["p5"]
    assert sorted(all_ids(data.train_dataloader())) == ["p0", "p1", "p2"]
    batch = next(iter(members))
    for key in ("input", "target"):
        assert batch[key].shape == (3, 3, 16, 24)
        assert batch[key].dtype == torch.float32
        assert 0 <= batch[key].min() < batch[key].max() <= 1
    assert data.audit_info()["unit"] == "group"
    assert data.augmentations == ("jitter", "hflip")
    assert (data.input_channels, data.target_channels) == (3, 3)


def test_audit_sees_evaluation_transforms(photo_folders):
    data = PairedImageDataModule(photo_folders, image_size=16, augment=["jitter", "hflip", "brightness"])
    first, again = (next(iter(data.audit_dataloaders()[0])) for _ in range(2))
    assert torch.equal(first["input"], again["input"])
    assert all(isinstance(loader.sampler, torch.utils.data.SequentialSampler) for loader in data.audit_dataloaders())


def test_direction_swaps_the_sides(photo_folders):
    forth = PairedImageDataModule(photo_folders, image_size=16)
    back = PairedImageDataModule(photo_folders, image_size=16, direction="b_to_a")
    one, two = (next(iter(data.audit_dataloaders()[0])) for data in (forth, back))
    assert torch.equal(one["input"], two["target"])
    assert torch.equal(one["target"], two["input"])


def test_coin_pools_the_splits_and_tests_on_nonmembers(photo_folders):
    data = PairedImageDataModule(photo_folders, image_size=16, membership="coin", seed=1)
    members, nonmembers = (all_ids(loader) for loader in data.audit_dataloaders())
    assert sorted(members + nonmembers) == [f"p{i}" for i in range(6)]
    assert all_ids(data.test_dataloader()) == nonmembers
    assert data.audit_info()["assignment"] == "coin"
    assert data.audit_info()["independent"] is True


@pytest.mark.parametrize("in_splits", [True, False])
def test_side_by_side_is_recognised(tmp_path, data_rng, in_splits):
    for i in range(4):
        folder = ("train" if i < 2 else "val") if in_splits else "."
        save(tmp_path / folder / f"{i}.png", data_rng.integers(0, 256, (16, 32, 3), dtype=np.uint8))
    settings = {} if in_splits else {"membership": "coin"}
    data = PairedImageDataModule(tmp_path, image_size=16, **settings)
    batch = next(iter(data.audit_dataloaders()[0]))
    first = batch["id"][0]
    pixels = torch.from_numpy(np.array(Image.open(tmp_path / f"{first}.png"))).permute(2, 0, 1) / 255
    assert torch.equal(batch["input"][0], pixels[:, :, :16])
    assert torch.equal(batch["target"][0], pixels[:, :, 16:])
    back = PairedImageDataModule(tmp_path, image_size=16, direction="b_to_a", target_channels=1, **settings)
    swapped = next(iter(back.audit_dataloaders()[0]))
    assert torch.equal(swapped["input"], batch["target"])
    assert swapped["target"].shape[1] == back.target_channels == 1


def test_split_folders_without_a_splits_file(tmp_path, data_rng):
    for side in "AB":
        for split in ("train", "val"):
            save(tmp_path / side / split / "1.png", data_rng.integers(0, 256, (16, 16, 3), dtype=np.uint8))
    members, nonmembers = PairedImageDataModule(tmp_path, image_size=16).audit_dataloaders()
    assert (all_ids(members), all_ids(nonmembers)) == (["train/1"], ["val/1"])


@pytest.fixture
def label_folders(photo_folders, data_rng):
    for path in (photo_folders / "A").iterdir():
        save(path, data_rng.integers(0, 3, (21, 35), dtype=np.uint8), palette=[0, 0, 0, 255, 0, 0, 0, 0, 255])
    return photo_folders


def test_label_maps_take_the_colours_of_their_palette(label_folders):
    data = PairedImageDataModule(label_folders, image_size=16)
    batch = next(iter(data.audit_dataloaders()[0]))
    colours = torch.unique(batch["input"].permute(0, 2, 3, 1).reshape(-1, 3), dim=0)
    assert colours.tolist() == [[0, 0, 0], [0, 0, 1], [1, 0, 0]]  # none in between
    assert data.input_channels == 3


def test_label_maps_as_one_hot(label_folders):
    data = PairedImageDataModule(label_folders, image_size=16, input_encoding="onehot", num_input_classes=4)
    batch = next(iter(data.audit_dataloaders()[0]))
    assert batch["input"].shape[1] == data.input_channels == 4
    assert torch.equal(batch["input"].sum(1), torch.ones(3, 16, 16))
    coloured = next(iter(PairedImageDataModule(label_folders, image_size=16).audit_dataloaders()[0]))
    assert torch.equal(batch["input"][:, 1], coloured["input"][:, 0])


def test_label_maps_as_target_become_colours(label_folders):
    data = PairedImageDataModule(label_folders, image_size=16, direction="b_to_a")
    batch = next(iter(data.train_dataloader()))
    assert set(batch["target"].unique().tolist()) <= {0.0, 1.0}
    assert data.target_channels == 3


def test_unknown_input_class_is_found_at_setup(label_folders):
    data = PairedImageDataModule(label_folders, image_size=16, input_encoding="onehot", num_input_classes=2)
    with pytest.raises(ValueError, match=r"sample 'p0' \(.*p0\.png.*unknown class ids 2 .*expected 0\.\.1 or 255"):
        data.setup("fit")


def test_grey_channels(photo_folders):
    data = PairedImageDataModule(photo_folders, image_size=16, input_channels=1)
    batch = next(iter(data.audit_dataloaders()[0]))
    assert (batch["input"].shape[1], batch["target"].shape[1]) == (1, 3)


def drain(data: PairedImageDataModule) -> list[torch.Tensor]:
    return [batch["input"] for _ in range(2) for batch in data.train_dataloader()]


@pytest.mark.parametrize("workers", [0, 1])
def test_training_batches_follow_seed_everything(photo_folders, workers):
    data = PairedImageDataModule(photo_folders, image_size=16, num_workers=workers)
    seed_everything(3, workers=True, verbose=False)
    first = drain(data)
    assert not torch.equal(torch.stack(first[:3]).sum(0), torch.stack(first[3:]).sum(0))  # epochs differ
    seed_everything(3, workers=True, verbose=False)
    assert all(torch.equal(a, b) for a, b in zip(first, drain(data), strict=True))
    seed_everything(4, workers=True, verbose=False)
    assert not all(torch.equal(a, b) for a, b in zip(first, drain(data), strict=True))


def test_workers_persist_only_in_training_and_validation(photo_folders):
    data = PairedImageDataModule(photo_folders, image_size=16, num_workers=1)
    assert data.train_dataloader().persistent_workers
    assert data.val_dataloader().persistent_workers
    assert not any(loader.persistent_workers for loader in data.audit_dataloaders())
    assert all(isinstance(loader, DataLoader) for loader in data.audit_dataloaders())


def test_hyperparameters_load_as_plain_values(photo_folders):
    data = PairedImageDataModule(photo_folders, image_size=(16, 24))
    buffer = io.BytesIO()
    torch.save(dict(data.hparams), buffer)
    buffer.seek(0)
    loaded = torch.load(buffer, weights_only=True)
    assert loaded["root"] == str(photo_folders)
    assert loaded["image_size"] == (16, 24)


def test_a_truncated_first_image_stops_setup_by_name(photo_folders):
    path = photo_folders / "B" / "p3.png"
    path.write_bytes(path.read_bytes()[:600])
    with pytest.raises(OSError, match=r"cannot read .*p3\.png"):
        PairedImageDataModule(photo_folders, image_size=16).setup()


def test_sizes_that_do_not_fit_are_named(photo_folders):
    save(photo_folders / "B" / "p0.png", np.zeros((21, 21, 3), dtype=np.uint8))
    with pytest.raises(
        ValueError, match=r"sample 'p0' .*A.p0\.png and .*B.p0\.png\): input is 35x21 pixels and target 21x21"
    ):
        PairedImageDataModule(photo_folders, image_size=16).setup()


def test_missing_folders_are_not_taken_for_side_by_side(photo_folders):
    with pytest.raises(FileNotFoundError, match=r"no folder 'labels' in .*'A', 'B'"):
        PairedImageDataModule(photo_folders, input_dir="labels", target_dir="photos").setup()
    with pytest.raises(FileNotFoundError, match="no folder 'nowhere'"):
        PairedImageDataModule(photo_folders / "nowhere").setup()


def test_label_settings_that_contradict_the_files(photo_folders):
    with pytest.raises(ValueError, match=r"'onehot' needs label maps, but .*p0\.png is no palette image"):
        PairedImageDataModule(photo_folders, input_encoding="onehot", num_input_classes=3).setup()
    with pytest.raises(ValueError, match="side-by-side files hold two images of colours"):
        PairedImageDataModule(photo_folders / "A", layout="side_by_side", input_kind="labels").setup()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layout": "zip"}, r"expected layout to be one of \['auto', 'side_by_side', 'folders'\] but got 'zip'"),
        ({"direction": "up"}, "expected direction"),
        ({"input_kind": "audio"}, "expected input_kind"),
        ({"input_encoding": "gray"}, "expected input_encoding"),
        ({"input_encoding": "onehot"}, "needs num_input_classes"),
        ({"input_channels": 2}, r"expected 1 \(grey\) or 3 \(RGB\) image channels but got 2"),
        ({"batch_size": 0}, "expected batch_size to be at least 1 but got 0"),
        ({"num_workers": -1}, "expected num_workers to be at least 0"),
        ({"augment": "spin"}, r"unknown augmentation\(s\) \['spin'\]"),
    ],
)
def test_setting_errors_come_before_any_file_is_read(settings, message):
    with pytest.raises(ValueError, match=message):
        PairedImageDataModule("nowhere", **settings)


def test_facades_coin_over_buildings(shared_data):
    data = PairedImageDataModule(
        shared_data("facades"),
        input_dir="labels",
        target_dir="photos",
        group_column="building",
        membership="coin",
        one_per_group=True,
        max_per_side=120,
        image_size=64,
    )
    members, nonmembers = data.audit_dataloaders()
    assert len(members.dataset) + len(nonmembers.dataset) == 240
    info = data.audit_info()
    assert (info["member_count"] + info["nonmember_count"], info["unit"]) == (240, "group")
    assert info["capped"] is True
    assert info["independent"] is True  # one crop a building, drawn before the coins
    batch = next(iter(members))
    assert batch["input"].shape == batch["target"].shape == (16, 3, 64, 64)
    assert {0.0, 1.0} < set(batch["input"].unique().tolist())  # the palette's colours, 128 included


def test_facades_split_by_building(shared_data):
    data = PairedImageDataModule(
        shared_data("facades"), input_dir="labels", target_dir="photos", group_column="building", image_size=64
    )
    members, nonmembers = data.audit_dataloaders()
    assert (len(members.dataset), len(nonmembers.dataset)) == (771, 135)
    assert len(data.test_dataloader().dataset) == 114
