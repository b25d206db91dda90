"""Every file format in every colour mode: the right pixels, by a short reference, or an error that says what to do."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from mia_lightning import PairedImageDataModule, SegmentationDataModule

FORMATS = ("png", "jpg", "tif", "webp", "bmp", "gif")
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "I;16", "I", "F")
SIDE = 16
WHITE = {"I;16": 4095, "I": 3000, "F": 2.5}
LOSSY = {"jpg"}


def values_of(mode: str, rng: np.random.Generator) -> np.ndarray:
    """Samples of a picture, smooth enough for JPEG, with black and white in it."""
    ramp = np.add.outer(np.arange(SIDE), np.arange(SIDE)) / (2 * SIDE - 2)
    if mode == "1":
        return ramp > 0.5
    if mode in WHITE:
        return (ramp * WHITE[mode]).astype({"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode])
    grey = np.rint(ramp * 255).astype(np.uint8)
    alpha = np.where(ramp < 0.2, 0, 255).astype(np.uint8)
    bands = {"L": 1, "LA": 1, "P": 1, "PA": 1, "RGB": 3, "RGBA": 3}[mode]
    planes = [grey, np.rot90(grey), 255 - grey][:bands]
    return np.stack([*planes, alpha], -1) if mode in ("LA", "PA", "RGBA") else np.stack(planes, -1).squeeze()


def picture_of(mode: str, values: np.ndarray, colours: np.ndarray) -> Image.Image:
    if mode == "PA":
        image = Image.merge("PA", [Image.fromarray(np.ascontiguousarray(values[..., i])) for i in range(2)])
    else:
        image = Image.fromarray(values, "P") if mode == "P" else Image.fromarray(values)
    if mode.startswith("P"):
        image.putpalette(colours.reshape(-1).tolist())
    return image


def reference(mode: str, values: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """RGB in 0..255, written as simply as can be."""
    if mode in WHITE:
        values = np.rint(values * (255 / WHITE[mode]))
    if mode == "1":
        values = values * 255
    index = {"LA": 1, "PA": 1, "RGBA": 3}.get(mode)
    alpha = 1.0 if index is None else values[..., index:] / 255
    plain = values if index is None else values[..., :index].squeeze()
    rgb = colours[plain] if mode.startswith("P") else plain
    rgb = rgb if rgb.ndim == 3 else np.repeat(rgb[..., None], 3, -1)
    return rgb * alpha + 255 * (1 - alpha)


def write(path: Path, image: Image.Image, **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    extra = {"webp": {"lossless": True, "exact": True}, "jpg": {"quality": 98, "subsampling": 0}}
    image.save(path, **extra.get(path.suffix[1:], {}), **options)


@pytest.fixture
def colours(data_rng):
    ramp = np.arange(256, dtype=np.uint8)
    return np.stack([ramp, 255 - ramp, np.roll(ramp, 85)], -1)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("fmt", FORMATS)
def test_pictures(tmp_path, data_rng, colours, fmt, mode):
    values = values_of(mode, data_rng)
    image = picture_of(mode, values, colours)
    try:
        for split in ("train", "val"):
            write(tmp_path / "A" / split / f"1.{fmt}", image)
            write(tmp_path / "B" / split / "1.png", Image.fromarray(np.zeros((SIDE, SIDE, 3), np.uint8)))
    except (OSError, ValueError, KeyError):
        pytest.skip(f"Pillow does not write pictures of mode {mode} as {fmt}")
    settings = {"image_size": SIDE, "augment": "none"}
    wide = mode in WHITE and fmt in ("png", "tif")
    if wide:
        with pytest.raises(ValueError, match=r"the input files in .*Pass white=VALUE"):
            PairedImageDataModule(tmp_path, **settings).setup()
        settings["white"] = WHITE[mode]
    if mode in WHITE and not wide:
        pytest.skip(f"Pillow reduces pictures of mode {mode} to 8 bits in {fmt}: there is no depth to ask about")
    data = PairedImageDataModule(tmp_path, **settings)
    pixels = data.val_dataloader().dataset[0]["input"].permute(1, 2, 0).numpy() * 255
    if fmt == "bmp" and mode == "RGBA":  # a BMP of 32 bits has no alpha
        mode, values = "RGB", values[..., :3]
    expected = reference(mode, values, colours)
    if fmt == "gif" and mode in ("RGB", "RGBA", "LA", "PA"):  # colours are quantised when written
        expected = np.asarray(Image.open(tmp_path / "A" / "val" / "1.gif").convert("RGBA"), dtype=float)
        expected = expected[..., :3] * expected[..., 3:] / 255 + 255 - expected[..., 3:]
    np.testing.assert_allclose(pixels, expected, atol=12 if fmt in LOSSY else 1.01 if mode == "F" else 0.51)


IDS = np.indices((SIDE, SIDE)).sum(0) // 12  # 0, 1 and 2, in stripes
COLOURS = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0]], dtype=np.uint8)


def mask_of(mode: str) -> Image.Image:
    """Masks of the classes 0, 1 and 2, as each mode holds them; two classes where it holds no more."""
    ids = IDS.astype(np.uint8)
    if mode == "1":
        return Image.fromarray(ids > 0)
    if mode == "L":
        return Image.fromarray(ids)
    if mode in ("P", "PA"):
        image = Image.fromarray(ids, "P")
        if mode == "PA":
            image = Image.merge("PA", [image, Image.fromarray(np.full_like(ids, 255))])
        image.putpalette(COLOURS.reshape(-1).tolist())
        return image
    if mode in WHITE:
        return Image.fromarray(ids.astype({"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]))
    if mode == "LA":
        return Image.fromarray(np.stack([ids, np.full_like(ids, 255)], -1))
    colours = COLOURS[ids]
    return Image.fromarray(
        colours if mode == "RGB" else np.concatenate([colours, np.full((SIDE, SIDE, 1), 255, "u1")], -1)
    )


def refusal(data: SegmentationDataModule | PairedImageDataModule) -> str:
    try:
        data.setup()
    except ValueError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("palette", [None, COLOURS.tolist()], ids=["ids", "palette"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("fmt", FORMATS)
def test_masks(tmp_path, fmt, mode, palette):
    try:
        for split in ("train", "val"):
            write(tmp_path / "images" / split / "1.png", Image.fromarray(np.zeros((SIDE, SIDE, 3), np.uint8)))
            write(tmp_path / "masks" / split / f"1.{fmt}", mask_of(mode))
    except (OSError, ValueError, KeyError):
        pytest.skip(f"Pillow does not write pictures of mode {mode} as {fmt}")
    data = SegmentationDataModule(tmp_path, 3, image_size=SIDE, augment="none", palette=palette)
    expected = (IDS > 0).astype(int) if mode == "1" else IDS
    message = refusal(data)
    if message:
        answers = {
            "save masks as PNG": fmt in ("jpg", "gif"),
            "pass a palette": palette is None and mode in ("P", "PA", "RGB", "RGBA"),
            "Save it as an 8-bit PNG": mode == "F",
            "Pass foreground=255": mode == "1" and fmt in ("gif", "webp"),
            # A format without grey or indices holds colours, which are none of the palette's.
            "has colours outside the palette": palette is not None and fmt in ("gif", "webp"),
        }
        assert any(holds and answer in message for answer, holds in answers.items()), message
    else:
        assert data.val_dataloader().dataset[0]["mask"].tolist() == expected.tolist()


@pytest.mark.parametrize("bits", [10, 12, 14])
@pytest.mark.parametrize("kind", ["grey", "colour"])
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_data_of_fewer_bits_in_files_of_16(tmp_path, data_rng, bits, kind, suffix):
    white = 2**bits - 1
    shape = (SIDE, SIDE) if kind == "grey" else (SIDE, SIDE, 3)
    values = {}
    for split in ("train", "val"):
        values[split] = data_rng.integers(0, white + 1, shape, dtype=np.uint16)
        values[split].flat[0] = white
        for folder in "AB":
            (tmp_path / folder / split).mkdir(parents=True)
        cv2.imwrite(
            str(tmp_path / "A" / split / f"1.{suffix}"), values[split][..., ::-1] if kind == "colour" else values[split]
        )
        write(tmp_path / "B" / split / "1.png", Image.fromarray(np.zeros((SIDE, SIDE, 3), np.uint8)))
    with pytest.raises(
        ValueError, match=rf"highest being {white}.*Pass white=VALUE: white={white} for data of {bits} bits"
    ):
        PairedImageDataModule(tmp_path, image_size=SIDE, augment="none").setup()
    data = PairedImageDataModule(tmp_path, image_size=SIDE, augment="none", white=white)
    pixels = data.val_dataloader().dataset[0]["input"].permute(1, 2, 0).numpy()
    expected = values["val"] / white
    expected = expected if expected.ndim == 3 else np.repeat(expected[..., None], 3, -1)
    np.testing.assert_allclose(pixels, expected, atol=0.51 / 255)
    assert f"white={white} as set" in data.audit_info()["files"]["white (input)"]
    with pytest.raises(ValueError, match=rf"above white={white // 2}: raise white"):
        PairedImageDataModule(tmp_path, image_size=SIDE, white=white // 2).setup()


def test_full_16_bits_need_no_setting_and_are_stated(tmp_path, data_rng):
    for split in ("train", "val"):
        write(
            tmp_path / "A" / split / "1.png",
            Image.fromarray(data_rng.integers(0, 2**16, (SIDE, SIDE), dtype=np.uint16)),
        )
        write(tmp_path / "B" / split / "1.png", Image.fromarray(np.zeros((SIDE, SIDE, 3), np.uint8)))
    data = PairedImageDataModule(tmp_path, image_size=SIDE)
    data.setup()
    assert "hold uint16 values up to 6" in data.audit_info()["files"]["white (input)"]


@pytest.mark.parametrize("dtype", [np.int16, np.int32])
def test_negative_values_are_refused(tmp_path, dtype):
    for split in ("train", "val"):
        write(tmp_path / "B" / split / "1.png", Image.fromarray(np.zeros((SIDE, SIDE, 3), np.uint8)))
        (tmp_path / "A" / split).mkdir(parents=True)
        tifffile.imwrite(tmp_path / "A" / split / "1.tif", np.full((SIDE, SIDE), -1000, dtype))
    for white in (None, 4095):
        with pytest.raises(ValueError, match=r"values from -1000 to -1000: expected 0 or more.*white=VALUE"):
            PairedImageDataModule(tmp_path, image_size=SIDE, white=white).setup()


def test_white_without_a_use_is_refused(photo_folders):
    with pytest.raises(ValueError, match="white=4095 is for files of more than 8 bits a sample, and there are none"):
        PairedImageDataModule(photo_folders, image_size=16, white=4095).setup()
