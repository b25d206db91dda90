"""What holds over all files of a data set: turns by EXIF, pages, palettes, alpha, and masks of 0 and 255."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from mia_lightning import PairedImageDataModule, SegmentationDataModule
from mia_lightning.data.datasets import Item
from mia_lightning.data.exif_rule import Exif
from mia_lightning.data.image_headers import read_header
from mia_lightning.data.images import read_image
from mia_lightning.data.measured_outputs import MeasuredOutputs
from mia_lightning.data.output_dataset import OutputDataset
from mia_lightning.data.output_layout import OutputFiles

SIDE = 16
TURNS = range(1, 9)
BLACK_WHITE = [0, 0, 0, 255, 255, 255]


def write(
    path: Path, pixels: np.ndarray | Image.Image, turn: int = 1, palette: list[int] | None = None, **options
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    if palette is not None:
        image = Image.fromarray(np.asarray(image), "P")
        image.putpalette(palette)
    exif = Image.Exif()
    exif[0x0112] = turn
    image.save(path, **({"exif": exif} if turn != 1 else {}), **options)
    return path


def pair_of(root: Path, image: np.ndarray, mask: np.ndarray, turns=(1, 1), suffixes=("png", "png")) -> Path:
    for split in ("train", "val"):
        write(root / "images" / split / f"1.{suffixes[0]}", image, turns[0])
        write(root / "masks" / split / f"1.{suffixes[1]}", mask, turns[1])
    return root


def corner(height: int, width: int) -> np.ndarray:
    mask = np.zeros((height, width), dtype=np.uint8)
    mask[: height // 2, : width // 2] = 1
    mask[0, 0] = 0  # no mirror image of itself
    return mask


def upright(pixels: np.ndarray, turn: int) -> np.ndarray:
    """EXIF's table: which side of the stored pixels is the top, and which the left."""
    flips = {1: "", 2: "h", 3: "vh", 4: "v", 5: "t", 6: "th", 7: "tvh", 8: "tv"}[turn]
    for flip in flips:
        pixels = {"h": lambda a: a[:, ::-1], "v": lambda a: a[::-1], "t": lambda a: a.swapaxes(0, 1)}[flip](pixels)
    return pixels


@pytest.mark.parametrize("suffixes", [("png", "png"), ("jpg", "png"), ("png", "tif"), ("tif", "webp")])
@pytest.mark.parametrize("shape", [(16, 16), (24, 16)])
@pytest.mark.parametrize("turn", TURNS)
def test_a_turn_on_both_is_applied_to_both(tmp_path, turn, shape, suffixes):
    mask = corner(*shape)
    image = Image.fromarray(np.repeat(mask[..., None] * 255, 3, -1))
    for split in ("train", "val"):
        write(tmp_path / "images" / split / f"1.{suffixes[0]}", image, turn)
        (tmp_path / "masks" / split).mkdir(parents=True)
        exif = Image.Exif()
        exif[0x0112] = turn
        options = {"lossless": True} if suffixes[1] == "webp" else {}
        Image.fromarray(mask).save(tmp_path / "masks" / split / f"1.{suffixes[1]}", exif=exif, **options)
    size = upright(mask, turn).shape
    item = SegmentationDataModule(tmp_path, 2, image_size=size, augment="none").val_dataloader().dataset[0]
    assert np.array_equal(item["mask"].numpy(), upright(mask, turn))
    assert np.array_equal(item["image"][0].numpy() > 0.5, upright(mask, turn) > 0)


@pytest.mark.parametrize("turn", [t for t in TURNS if t != 1])
@pytest.mark.parametrize("square", [True, False])
@pytest.mark.parametrize("stored", [True, False], ids=["mask as stored", "mask upright"])
@pytest.mark.parametrize("side", [0, 1], ids=["image turned", "mask turned"])
def test_a_turn_on_one_is_right_or_refused_with_the_setting_that_answers(tmp_path, turn, square, stored, side):
    plain = corner(16, 16) if square else corner(24, 16)
    other = plain if stored else np.ascontiguousarray(upright(plain, turn))
    image, mask = (plain, other) if side == 0 else (other, plain)
    turns = (turn, 1) if side == 0 else (1, turn)
    pair_of(tmp_path, np.repeat(image[..., None] * 255, 3, -1), mask, turns)
    truth = plain if stored else upright(plain, turn)
    settings = {"image_size": truth.shape, "augment": "none"}
    told = not square and turn >= 5 and not stored  # only upright do the sizes fit
    if told:
        data = SegmentationDataModule(tmp_path, 2, **settings)
    else:
        with pytest.raises(
            ValueError, match=r"sample 'train/1'.*only one of the two is turned.*2 of 2 pairs.*exif='apply'"
        ):
            SegmentationDataModule(tmp_path, 2, **settings).setup()
        data = SegmentationDataModule(tmp_path, 2, exif="ignore" if stored else "apply", **settings)
    item = data.val_dataloader().dataset[0]
    assert np.array_equal(item["mask"].numpy(), truth)
    assert np.array_equal(item["image"][0].numpy() > 0.5, truth > 0)
    assert "exif" in data.audit_info()["files"]


def test_two_different_turns_are_refused(tmp_path):
    pair_of(tmp_path, np.zeros((16, 16, 3), np.uint8), corner(16, 16), (6, 8))
    with pytest.raises(ValueError, match="EXIF orientations are 6 and 8: two different turns"):
        SegmentationDataModule(tmp_path, 2).setup()


def test_inputs_and_targets_of_a_translation_are_turned_by_the_same_rule(tmp_path):
    for split in ("train", "val"):
        write(tmp_path / "A" / split / "1.jpg", np.zeros((16, 16, 3), np.uint8), 6)
        write(tmp_path / "B" / split / "1.png", np.zeros((16, 16, 3), np.uint8))
    with pytest.raises(ValueError, match="only one of the two is turned"):
        PairedImageDataModule(tmp_path, image_size=16).setup()
    PairedImageDataModule(tmp_path, image_size=16, exif="apply").setup()


@pytest.mark.parametrize("output", ["1.png", "1.npy"])
def test_stored_outputs_are_turned_by_the_same_rule(tmp_path, output):
    for folder in ("inputs", "targets"):
        write(tmp_path / folder / "1.jpg", np.zeros((16, 16, 3), np.uint8), 6)
    path = tmp_path / "outputs" / output
    path.parent.mkdir()
    np.save(path, np.zeros((16, 16, 3))) if output.endswith("npy") else write(path, np.zeros((16, 16, 3), np.uint8))
    with pytest.raises(ValueError, match="only one of the two is turned"):
        OutputDataset(tmp_path, "translation")
    assert OutputDataset(tmp_path, "translation", exif="ignore")[0]["input"].shape == (3, 16, 16)


@pytest.mark.parametrize("task", ["translation", "segmentation", "multilabel", "in units"])
def test_a_turn_of_an_output_alone_is_refused(tmp_path, task):
    colour = np.repeat(corner(SIDE, SIDE)[..., None], 3, axis=2)
    pixels = corner(SIDE, SIDE) if task in ("segmentation", "multilabel") else colour
    for folder, values, turn in (("inputs", colour, 1), ("targets", pixels, 1), ("outputs", pixels, 3)):
        write(tmp_path / folder / "1.png", values, turn)

    def item(exif: Exif) -> Item:
        if task == "in units":
            return MeasuredOutputs(tmp_path, OutputFiles(exif=exif), in_units=True)[0]
        classes = {"segmentation": 2, "multilabel": 1}.get(task)
        return OutputDataset(tmp_path, task, exif=exif, num_classes=classes)[0]

    with pytest.raises(ValueError, match=r"orientations are 1 and 3: only one of the two is turned.*1 of 1 pairs"):
        item("pair")
    stored, turned = item("ignore"), item("apply")
    assert (stored["stored_output"] == stored["target"]).all()
    assert (turned["stored_output"] == turned["target"].flip(-1, -2)).all()


# ---- pages


def pages_file(path: Path, pages: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = [Image.fromarray(page) for page in pages]
    if path.suffix == ".tif":
        tifffile.imwrite(path, pages, photometric="minisblack")
    else:
        frames[0].save(
            path, save_all=True, append_images=frames[1:], **({"lossless": True} if path.suffix == ".webp" else {})
        )


@pytest.mark.parametrize("suffix", ["tif", "gif", "png", "webp"])
@pytest.mark.parametrize("side", ["images", "masks"])
def test_several_pages_are_refused_with_their_number(tmp_path, data_rng, suffix, side):
    pair_of(tmp_path, np.zeros((SIDE, SIDE, 3), np.uint8), corner(SIDE, SIDE))
    path = tmp_path / side / "val" / "1.png"
    path.unlink()
    pages_file(path.with_suffix(f".{suffix}"), data_rng.integers(0, 255, (4, SIDE, SIDE), dtype=np.uint8))
    with pytest.raises(
        ValueError, match=rf"1 of 2 of the {side} in .*hold more than one page: .* holds 4 pages"
    ) as error:
        SegmentationDataModule(tmp_path, 2).setup()
    assert ("pages='channels'" in str(error.value)) is (side == "images")
    with pytest.raises(ValueError, match="4 pages"):
        read_image(path.with_suffix(f".{suffix}"))


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_pages_as_channels(tmp_path, data_rng, channels):
    white = 4095
    for split in ("train", "val"):
        write(tmp_path / "masks" / split / "1.png", corner(SIDE, SIDE))
        pages = data_rng.integers(0, white + 1, (channels, SIDE, SIDE), dtype=np.uint16)
        pages_file(tmp_path / "images" / split / "1.tif", pages)
    settings = {"image_size": SIDE, "augment": "none", "pages": "channels", "white": white}
    data = SegmentationDataModule(tmp_path, 2, image_channels=channels, **settings)
    item = data.val_dataloader().dataset[0]
    np.testing.assert_allclose(item["image"].numpy(), pages / white, atol=0.51 / 255)
    assert data.train_dataloader().dataset[0]["image"].shape == (channels, SIDE, SIDE)
    if channels > 1:
        with pytest.raises(ValueError, match=rf"files hold {channels} pages each.* 7 image channels are set"):
            SegmentationDataModule(tmp_path, 2, image_channels=7, **settings).setup()
    translated = PairedImageDataModule(
        tmp_path, input_dir="images", target_dir="masks", input_channels=channels, **settings
    )
    assert translated.val_dataloader().dataset[0]["input"].shape == (channels, SIDE, SIDE)


def test_numbers_of_pages_that_differ_are_refused(tmp_path):
    pair_of(tmp_path, np.zeros((SIDE, SIDE), np.uint8), corner(SIDE, SIDE))
    (tmp_path / "images" / "val" / "1.png").unlink()
    pages_file(tmp_path / "images" / "val" / "1.tif", np.zeros((3, SIDE, SIDE), np.uint8))
    with pytest.raises(ValueError, match=r"differ in their number of pages \(.*has 1, .*has 3\)"):
        SegmentationDataModule(tmp_path, 2, image_channels=3, pages="channels").setup()


def test_a_stack_behind_one_directory_counts_its_images(tmp_path):
    path = tmp_path / "stack.tif"
    info = Image.fromarray(np.zeros((4, 4), np.uint8))
    info.save(path, description="ImageJ=1.53\nimages=12\nslices=12\n")
    assert read_header(path).pages == 12


# ---- masks


def masks_of(root: Path, *masks: np.ndarray | Image.Image, **options) -> Path:
    for number, mask in enumerate(masks):
        split = "val" if number % 2 else "train"
        write(root / "images" / split / f"{number}.png", np.zeros((SIDE, SIDE, 3), np.uint8))
        write(root / "masks" / split / f"{number}.png", mask, **options)
    return root


def items(data) -> list[list[list[int]]]:
    return [item["mask"].tolist() for loader in data.audit_dataloaders() for item in loader.dataset]


@pytest.mark.parametrize("num_classes", [1, 2, 3])
def test_masks_of_0_and_255_are_one_rule(tmp_path, num_classes):
    mask = corner(SIDE, SIDE)
    masks_of(tmp_path, mask * 255, mask * 255)
    settings = {"image_size": SIDE, "augment": "none"}
    with pytest.raises(ValueError, match=r"the 2 masks in .*hold only 0 and 255.*Pass foreground=255"):
        SegmentationDataModule(tmp_path, num_classes, **settings).setup()
    with pytest.raises(ValueError, match=r"unknown class ids 255 .*pass foreground="):
        SegmentationDataModule(tmp_path, num_classes, ignore_index=-1, **settings).setup()
    data = SegmentationDataModule(tmp_path, num_classes, foreground=255, **settings)
    assert items(data) == [mask.tolist()] * 2


def test_stored_outputs_take_a_foreground_for_any_number_of_classes(tmp_path):
    mask = corner(SIDE, SIDE)
    write(tmp_path / "inputs" / "1.png", np.zeros((SIDE, SIDE, 3), np.uint8))
    write(tmp_path / "targets" / "1.png", mask * 255)
    write(tmp_path / "outputs" / "1.png", mask * 255)
    item = OutputDataset(tmp_path, "segmentation", num_classes=3, foreground=255)[0]
    assert item["target"].tolist() == mask.tolist()
    assert item["stored_output"].tolist() == mask.tolist()


def test_1_beside_the_foreground_is_refused(tmp_path):
    mask = corner(SIDE, SIDE)
    mask[-1, -1] = 255
    masks_of(tmp_path, mask, mask)
    with pytest.raises(ValueError, match="holds both 1 and foreground=255"):
        SegmentationDataModule(tmp_path, 2, foreground=255).setup()


def test_a_foreground_that_differs_between_files_is_asked_for(tmp_path):
    mask = corner(SIDE, SIDE)
    masks_of(tmp_path, mask * 255, mask)
    settings = {"image_size": SIDE, "augment": "none"}
    with pytest.raises(ValueError, match=r"either may mark the foreground\. Pass foreground=255 .*foreground=1 if 255"):
        SegmentationDataModule(tmp_path, 2, **settings).setup()
    assert items(SegmentationDataModule(tmp_path, 2, foreground=255, **settings)) == [mask.tolist()] * 2
    assert items(SegmentationDataModule(tmp_path, 2, foreground=1, **settings)) == [
        (mask * 255).tolist(),
        mask.tolist(),
    ]


@pytest.mark.parametrize("value", [0, 1, 255])
def test_masks_that_hold_one_value_in_all_files_are_refused(tmp_path, value):
    masks_of(tmp_path, *[np.full((SIDE, SIDE), value, np.uint8)] * 4)
    with pytest.raises(ValueError, match=rf"the 4 masks in .*hold nothing but {value}: expected more than one class"):
        SegmentationDataModule(tmp_path, 2).setup()


def test_one_empty_mask_among_others_is_fine(tmp_path):
    mask = corner(SIDE, SIDE)
    masks_of(tmp_path, mask, mask * 0)
    assert len(items(SegmentationDataModule(tmp_path, 2, image_size=SIDE))) == 2


@pytest.mark.parametrize("mode", ["LA", "RGBA", "PA"])
@pytest.mark.parametrize("colour", [0, 255])
def test_masks_in_the_alpha_channel_are_said(tmp_path, mode, colour):
    mask = corner(SIDE, SIDE) * 255
    bands = [np.full_like(mask, colour)] * (3 if mode == "RGBA" else 1)
    image = Image.merge("LA" if mode == "PA" else mode, [Image.fromarray(band) for band in (*bands, mask)])
    if mode == "PA":  # as a palette with transparent entries
        image = Image.fromarray(mask // 255, "P")
        image.putpalette([colour] * 6)
        masks_of(tmp_path, image, image, transparency=bytes([0, 255]))
        settings = {"palette": [[colour] * 3, [9, 9, 9]]}
    else:
        masks_of(tmp_path, image, image)
        settings = {}
    with pytest.raises(ValueError, match=r"keeps its mask in the alpha channel.*getchannel\('A'\)"):
        SegmentationDataModule(tmp_path, 2, **settings).setup()


def test_colours_on_a_transparent_ground_are_followed(tmp_path):
    mask = corner(SIDE, SIDE)
    image = np.zeros((SIDE, SIDE, 4), np.uint8)
    image[mask == 1] = (255, 0, 0, 255)
    masks_of(tmp_path, image, image)
    data = SegmentationDataModule(tmp_path, 2, image_size=SIDE, augment="none", palette=[[0, 0, 0], [255, 0, 0]])
    assert items(data) == [mask.tolist()] * 2


# ---- palettes


def indexed(mask: np.ndarray, colours: list[list[int]], order: list[int]) -> Image.Image:
    """A palette image in which class k has colours[k], the palette being in another order."""
    places = np.argsort(order)
    image = Image.fromarray(places[mask].astype(np.uint8), "P")
    image.putpalette([value for k in order for value in colours[k]])
    return image


@pytest.mark.parametrize("colours", [[[0, 0, 0], [255, 255, 255]], [[0, 0, 0], [128, 0, 0], [0, 128, 0]]])
def test_palettes_in_another_order_a_file(tmp_path, data_rng, colours):
    classes = len(colours)
    truth = [data_rng.integers(0, classes, (SIDE, SIDE)) for _ in range(6)]
    orders = [list(range(classes)), list(range(classes))[::-1]] * 3
    masks_of(tmp_path, *[indexed(mask, colours, order) for mask, order in zip(truth, orders, strict=True)])
    settings = {"image_size": SIDE, "augment": "none"}
    with pytest.raises(ValueError, match=r"palettes of the files differ: index 0 is the colour .*Pass palette="):
        SegmentationDataModule(tmp_path, classes, **settings).setup()
    expected = [truth[i].tolist() for i in (0, 2, 4, 1, 3, 5)]
    assert items(SegmentationDataModule(tmp_path, classes, palette=colours, **settings)) == expected
    if classes == 2:
        for count in (1, 2):
            assert items(SegmentationDataModule(tmp_path, count, foreground=255, **settings)) == expected


def test_palettes_that_agree_leave_indices_alone(tmp_path, data_rng):
    truth = [data_rng.integers(0, 3, (SIDE, SIDE), dtype=np.uint8) for _ in range(2)]
    long = [0, 0, 0, 9, 9, 9, 7, 7, 7, 5, 5, 5]
    for number, mask in enumerate(truth):
        masks_of(tmp_path / "x", *[mask] * 2)
        for split in ("train", "val"):
            write(tmp_path / "images" / split / f"{number}.png", np.zeros((SIDE, SIDE, 3), np.uint8))
            write(tmp_path / "masks" / split / f"{number}.png", mask, palette=long if number else long[:9])
    data = SegmentationDataModule(tmp_path, 3, image_size=SIDE, augment="none")
    assert items(data) == [mask.tolist() for mask in truth] * 2


def test_palettes_that_differ_in_what_is_not_used_are_fine(tmp_path):
    mask = corner(SIDE, SIDE)
    for number, rest in enumerate(([1, 1, 1], [2, 2, 2])):
        split = ("train", "val")[number]
        write(tmp_path / "images" / split / "1.png", np.zeros((SIDE, SIDE, 3), np.uint8))
        write(tmp_path / "masks" / split / "1.png", mask, palette=[*BLACK_WHITE, *rest])
    assert items(SegmentationDataModule(tmp_path, 2, image_size=SIDE, augment="none")) == [mask.tolist()] * 2


def test_stored_label_maps_have_one_palette(tmp_path):
    mask = corner(SIDE, SIDE)
    for number, palette in enumerate((BLACK_WHITE, BLACK_WHITE[::-1])):
        write(tmp_path / "inputs" / f"{number}.png", np.zeros((SIDE, SIDE, 3), np.uint8))
        write(tmp_path / "targets" / f"{number}.png", mask)
        write(tmp_path / "outputs" / f"{number}.png", mask, palette=palette)
    with pytest.raises(ValueError, match="palettes of the files differ"):
        OutputDataset(tmp_path, "segmentation", num_classes=2)


@pytest.mark.parametrize("colours", [[[0, 0, 0], [255, 255, 255]], [[0, 0, 0], [200, 0, 0]]])
@pytest.mark.parametrize("plain", ["targets", "outputs", None])
def test_indices_of_stored_outputs_mean_what_those_of_targets_do(tmp_path, colours, plain):
    mask = corner(SIDE, SIDE)
    write(tmp_path / "inputs" / "1.png", np.zeros((SIDE, SIDE, 3), np.uint8))
    for folder, order in (("targets", [0, 1]), ("outputs", [1, 0])):
        order = [1, 0] if plain else order
        image = Image.fromarray(mask) if folder == plain else indexed(mask, colours, order)
        (tmp_path / folder).mkdir()
        image.save(tmp_path / folder / "1.png")
    with pytest.raises(ValueError, match=r"(palettes of the files differ|0 is not black).*store them with one palette"):
        OutputDataset(tmp_path, "segmentation", num_classes=2)


def test_a_palette_of_an_outputs_own_may_keep_the_indices(tmp_path):
    mask = corner(SIDE, SIDE)
    write(tmp_path / "inputs" / "1.png", np.zeros((SIDE, SIDE, 3), np.uint8))
    write(tmp_path / "targets" / "1.png", mask, palette=[0, 0, 0, 128, 0, 0])
    write(tmp_path / "outputs" / "1.png", mask, palette=[0, 0, 0, 1, 1, 1])
    item = OutputDataset(tmp_path, "segmentation", num_classes=2)[0]
    assert (item["stored_output"] == item["target"]).all()


def test_a_foreground_that_colours_of_a_palette_hide_is_asked_for(tmp_path):
    masks_of(tmp_path, *[indexed(corner(SIDE, SIDE), [[0, 0, 0], [200, 0, 0]], [1, 0])] * 2)
    with pytest.raises(
        ValueError, match=r"foreground=255 occurs in none of 2 masks.*0 \(\[200, 0, 0\]\).*Pass palette="
    ):
        SegmentationDataModule(tmp_path, 2, foreground=255, image_size=SIDE, augment="none").setup()


# ---- palette images in translation


def test_palette_photographs_keep_their_own_colours(tmp_path, data_rng):
    expected = {}
    for number in range(6):
        name = f"{('train', 'val')[number % 2]}/{number}.png"
        photo = np.add.outer(np.arange(48), np.arange(48))[..., None] * (1, 2, 1) + data_rng.integers(
            0, 60, (48, 48, 3)
        )
        image = Image.fromarray(photo.clip(0, 255).astype(np.uint8)).quantize(200)
        expected[name[:-4]] = np.asarray(image.convert("RGB"))
        for side in "AB":
            write(tmp_path / side / name, image)
    data = PairedImageDataModule(tmp_path, image_size=48, augment="none")
    for loader in data.audit_dataloaders():
        for item in loader.dataset:
            for side in ("input", "target"):
                assert np.array_equal((item[side] * 255).round().permute(1, 2, 0).numpy(), expected[item["id"]])
    assert "read as pictures" in data.audit_info()["files"]["target_kind"]
    smaller = PairedImageDataModule(tmp_path, image_size=24, augment="none").val_dataloader().dataset[0]["target"]
    means = expected["val/1"].reshape(24, 2, 24, 2, 3).mean((1, 3)) / 255
    np.testing.assert_allclose(smaller.permute(1, 2, 0).numpy(), means, atol=0.51 / 255)  # averaged, not picked


@pytest.mark.parametrize("side", ["A", "B"])
def test_label_maps_with_palettes_in_another_order_keep_their_colours(tmp_path, data_rng, side):
    colours = [[0, 0, 0], [128, 0, 0], [0, 128, 0]]
    expected = {}
    for number, order in enumerate(([0, 1, 2], [2, 0, 1])):
        name = f"{('train', 'val')[number]}/1"
        mask = data_rng.integers(0, 3, (SIDE, SIDE))
        expected[name] = np.array(colours)[mask]
        write(tmp_path / side / f"{name}.png", indexed(mask, colours, order))
        write(tmp_path / "AB".replace(side, "") / f"{name}.png", np.zeros((SIDE, SIDE, 3), np.uint8))
    settings = {"image_size": SIDE, "augment": "none"}
    data = PairedImageDataModule(tmp_path, **settings)
    for loader in data.audit_dataloaders():
        (item,) = loader.dataset
        pixels = item["input" if side == "A" else "target"].permute(1, 2, 0).numpy() * 255
        np.testing.assert_allclose(pixels, expected[item["id"]], atol=1e-3)
    if side == "A":
        with pytest.raises(ValueError, match=r"palettes of the files differ.*one palette"):
            PairedImageDataModule(tmp_path, input_encoding="onehot", num_input_classes=3, **settings).setup()


def test_palette_images_in_between_are_asked_for(tmp_path, data_rng):
    for split in ("train", "val"):
        pixels = np.repeat(data_rng.integers(0, 60, (64, 16), dtype=np.uint8), 4, axis=1)
        write(tmp_path / "A" / split / "1.png", pixels, palette=list(range(180)))
        write(tmp_path / "B" / split / "1.png", np.zeros((64, 64, 3), np.uint8))
    with pytest.raises(ValueError, match=r"equal their neighbour.*input_kind='labels' or input_kind='image'"):
        PairedImageDataModule(tmp_path, image_size=SIDE).setup()
    for kind in ("labels", "image"):
        data = PairedImageDataModule(tmp_path, image_size=64, augment="none", input_kind=kind)
        assert data.val_dataloader().dataset[0]["input"][:, 0, 0].mul(255).round().tolist() == pytest.approx(
            [3 * int(pixels[0, 0]) + i for i in range(3)]
        )


def test_some_palette_label_maps_among_plain_ones_are_refused(tmp_path):
    for split, palette in (("train", BLACK_WHITE), ("val", None)):
        write(tmp_path / "A" / split / "1.png", corner(SIDE, SIDE), palette=palette)
        write(tmp_path / "B" / split / "1.png", np.zeros((SIDE, SIDE, 3), np.uint8))
    with pytest.raises(ValueError, match=r"1 of the input files in .*have a palette.*input_kind='image'"):
        PairedImageDataModule(tmp_path, image_size=SIDE, input_kind="labels").setup()


def test_a_file_that_is_not_side_by_side_is_named(tmp_path):
    for split in ("train", "val"):
        write(tmp_path / split / "1.png", np.zeros((SIDE, 2 * SIDE, 3), np.uint8))
    write(tmp_path / "val" / "2.png", np.zeros((SIDE, SIDE, 3), np.uint8))
    with pytest.raises(ValueError, match=r"1\.png is twice as wide as high.*2\.png is not: pass layout="):
        PairedImageDataModule(tmp_path).setup()
