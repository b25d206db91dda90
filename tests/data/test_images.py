from __future__ import annotations

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from mia_lightning.data.images import read_image, read_pages, read_side_by_side
from mia_lightning.data.label_encoding import (
    OneHotEncoder,
    PaletteEncoder,
    read_labels,
)
from mia_lightning.functional.labels import voc_palette


def save(path, array, **options):
    Image.fromarray(array).save(path, **options)
    return path


def test_rgb_and_grey(tmp_path, data_rng):
    pixels = data_rng.integers(0, 256, (5, 7, 3), dtype=np.uint8)
    path = save(tmp_path / "a.png", pixels)
    assert np.array_equal(read_image(path), pixels)
    assert read_image(path, "L").shape == (5, 7, 1)
    grey = read_image(save(tmp_path / "g.png", pixels[..., 0]))
    assert np.array_equal(grey, np.repeat(pixels[..., :1], 3, axis=-1))


def test_16_bit_grey_keeps_its_range(tmp_path):
    values = np.array([[0, 257, 65535]], dtype=np.uint16)
    assert read_image(save(tmp_path / "a.png", values), "L")[..., 0].tolist() == [[0, 1, 255]]
    assert read_image(save(tmp_path / "a.tif", values))[0, 2].tolist() == [255, 255, 255]


def test_float_images_must_lie_in_the_unit_range(tmp_path):
    assert read_image(save(tmp_path / "a.tif", np.array([[0.0, 1.0]], dtype=np.float32)), "L")[..., 0].tolist() == [
        [0, 255]
    ]
    with pytest.raises(ValueError, match=r"b\.tif holds float32 values from -1 to 2: expected 0 to 1"):
        read_image(save(tmp_path / "b.tif", np.array([[-1.0, 2.0]], dtype=np.float32)))
    with pytest.raises(ValueError, match="nan"):
        read_image(save(tmp_path / "c.tif", np.array([[0.0, np.nan]], dtype=np.float32)))


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        (np.zeros((3, 8, 8), np.uint16), {"photometric": "rgb", "planarconfig": "separate"}, "in separate planes"),
        (np.zeros((8, 8), np.uint16), {"photometric": "miniswhite"}, "0 is white in it"),
        (np.zeros((8, 8), np.float32), {"photometric": "miniswhite"}, "0 is white in it"),
        (
            np.zeros((4, 16, 16), np.uint8),
            {"photometric": "minisblack", "volumetric": True, "tile": (4, 16, 16)},
            "a volume of 4 planes",
        ),
        (
            np.zeros((8, 8, 5), np.uint8),
            {"photometric": "minisblack", "planarconfig": "contig"},
            "saved in another form",
        ),
        (np.zeros((8, 8), np.float16), {}, "saved in another form"),
    ],
)
def test_layouts_of_tiff_that_would_be_read_wrongly_are_refused(tmp_path, values, options, message):
    tifffile.imwrite(tmp_path / "a.tif", values, **options)
    with pytest.raises(OSError, match=rf"a\.tif.*{message}"):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize("options", [{"photometric": "rgb", "planarconfig": "separate"}, {"photometric": "miniswhite"}])
def test_layouts_of_tiff_of_8_bits_are_read(tmp_path, options):
    values = np.arange(3 * 64, dtype=np.uint8).reshape(3, 8, 8)
    white = options["photometric"] == "miniswhite"
    tifffile.imwrite(tmp_path / "a.tif", 255 - values[0] if white else values, **options)
    expected = np.stack([values[0]] * 3, -1) if white else values.transpose(1, 2, 0)
    assert np.array_equal(read_image(tmp_path / "a.tif"), expected)


def test_transparency_is_laid_over_white(tmp_path):
    pixels = np.array([[[10, 20, 30, 255], [10, 20, 30, 0]]], dtype=np.uint8)
    assert read_image(save(tmp_path / "a.png", pixels)).tolist() == [[[10, 20, 30], [255, 255, 255]]]


def test_camera_orientation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    path = save(tmp_path / "a.png", np.arange(6, dtype=np.uint8).reshape(2, 3), exif=exif)
    assert read_image(path, "L")[..., 0].tolist() == [[3, 0], [4, 1], [5, 2]]


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_truncated_image_is_named(tmp_path, data_rng, suffix):
    path = save(tmp_path / f"broken{suffix}", data_rng.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    path.write_bytes(path.read_bytes()[:1500])
    with pytest.raises(OSError, match=r"cannot read .*broken.*Replace or remove"):
        read_image(path)
    with pytest.raises(OSError, match="broken"):
        read_labels(path)


def test_not_an_image(tmp_path):
    (tmp_path / "text.png").write_text("hello")
    with pytest.raises(OSError, match=r"text\.png is not an image"):
        read_image(tmp_path / "text.png")
    with pytest.raises(FileNotFoundError, match=r"no image file .*gone\.png"):
        read_image(tmp_path / "gone.png")


def test_side_by_side_halves(tmp_path, data_rng):
    pixels = data_rng.integers(0, 256, (4, 8, 3), dtype=np.uint8)
    left, right = read_side_by_side(save(tmp_path / "ab.png", pixels), ("RGB", "L"))
    assert np.array_equal(left, pixels[:, :4])
    assert right.shape == (4, 4, 1)
    with pytest.raises(ValueError, match=r"odd\.png is 7 pixels wide: expected an even width"):
        read_side_by_side(save(tmp_path / "odd.png", pixels[:, :7]))


IDS = np.array([[0, 1], [2, 255]], dtype=np.uint8)


def save_palette(path, ids=IDS, palette=(0, 0, 0, 9, 8, 7, 0, 255, 0)):
    image = Image.fromarray(ids)
    image.putpalette([*palette] + [0] * (768 - len(palette)))  # Pillow packs bits, and clips ids, otherwise
    image.save(path)
    return path


def test_ids_survive_palette_grey_and_16_bit(tmp_path):
    palette = save_palette(tmp_path / "p.png")
    assert np.array_equal(read_labels(palette), IDS)
    assert np.array_equal(read_labels(save(tmp_path / "g.png", IDS)), IDS)
    assert np.array_equal(read_labels(save(tmp_path / "w.png", IDS.astype(np.uint16) * 100)), IDS.astype(int) * 100)
    assert read_labels(save(tmp_path / "b.png", IDS > 0)).tolist() == [[0, 1], [1, 1]]
    assert np.array_equal(read_labels(save(tmp_path / "rgb.png", np.repeat(IDS[..., None], 3, -1))), IDS)
    assert read_labels(palette).dtype == np.int32


def test_coloured_masks_need_a_palette(tmp_path):
    colours = np.array([[[255, 0, 0], [0, 0, 0]]], dtype=np.uint8)
    path = save(tmp_path / "c.png", colours)
    with pytest.raises(
        ValueError, match=r"c\.png is a coloured image .*palette PNG or a single-channel.*pass a palette"
    ):
        read_labels(path)
    assert read_labels(path, [(0, 0, 0), (255, 0, 0)]).tolist() == [[1, 0]]
    with pytest.raises(ValueError, match=r"c\.png has colours outside the palette, such as \[\[255, 0, 0\]\]"):
        read_labels(path, [(0, 0, 0), (254, 0, 0)])


def test_float_masks_are_refused(tmp_path):
    with pytest.raises(ValueError, match="floating-point values: expected class ids"):
        read_labels(save(tmp_path / "f.tif", np.zeros((2, 2), dtype=np.float32)))


def test_the_usual_palette_has_a_colour_a_class():
    assert len(np.unique(voc_palette(256).numpy(), axis=0)) == 256


def test_palette_encoding():
    encoded = PaletteEncoder(voc_palette(256).numpy())(IDS.astype(np.int32))
    assert encoded.shape == (3, 2, 2)
    assert encoded[:, 0, 1].tolist() == pytest.approx([128 / 255, 0, 0])
    with pytest.raises(ValueError, match=r"unknown class ids 300 .*expected 0\.\.255"):
        PaletteEncoder(voc_palette(256).numpy())(np.array([[300]], dtype=np.int32))


def test_one_hot_encoding_leaves_void_empty():
    encoded = OneHotEncoder(3)(IDS.astype(np.int32))
    assert encoded.shape == (3, 2, 2)
    assert encoded.sum(0).tolist() == [[1, 1], [1, 0]]
    assert torch.equal(encoded.argmax(0), torch.tensor([[0, 1], [2, 0]]))
    with pytest.raises(ValueError, match=r"unknown class ids 2 .*expected 0\.\.1 or 255\): .*num_input_classes"):
        OneHotEncoder(2)(IDS.astype(np.int32))


def test_pages_in_bits_or_in_a_palette_of_greys_are_the_greys(tmp_path, data_rng):
    bits = data_rng.integers(0, 2, (2, 5, 7)).astype(bool)
    for mode in ("1", "P"):
        frames = [
            Image.fromarray(page) if mode == "1" else Image.fromarray(page.astype(np.uint8), "P") for page in bits
        ]
        for frame in frames:
            if mode == "P":
                frame.putpalette([255, 255, 255, 0, 0, 0])  # white comes first
        frames[0].save(tmp_path / f"{mode}.tif", save_all=True, append_images=frames[1:])
        pixels = read_pages(tmp_path / f"{mode}.tif", 2)
        assert np.array_equal(pixels, 255 * np.moveaxis(bits if mode == "1" else ~bits, 0, 2))


def test_pages_in_colour_are_no_channels(tmp_path):
    frames = [Image.fromarray(np.full((4, 4), i, np.uint8), "P") for i in range(2)]
    for frame in frames:
        frame.putpalette([255, 0, 0, 0, 255, 0])
    frames[0].save(tmp_path / "1.tif", save_all=True, append_images=frames[1:])
    with pytest.raises(ValueError, match=r"2 pages of the shapes \(4, 4, 3\).*expected grey pages"):
        read_pages(tmp_path / "1.tif", 2)
