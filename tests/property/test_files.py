"""Files of every format, mode, turn, palette, number of pages and size: the right pixels, or an error in words."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mia_lightning import PairedImageDataModule, SegmentationDataModule

MODES = {
    "png": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
    "tif": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16", "F"),
    "bmp": ("1", "L", "P", "RGB"),
    "gif": ("1", "L", "P"),
    "webp": ("RGB", "RGBA"),
    "jpg": ("L", "RGB"),
}
OPTIONS: dict[str, dict[str, Any]] = {
    "webp": {"lossless": True, "exact": True},
    "jpg": {"quality": 100, "subsampling": 0},
}
TURNS = {1: "", 2: "h", 3: "hv", 4: "v", 5: "t", 6: "th", 7: "thv", 8: "tv"}
"""By EXIF orientation: which flips, after a transposition, bring stored pixels upright."""


# ---- the reference: pixels upright, in RGB of 0 to 255


def upright(pixels: np.ndarray, turn: int) -> np.ndarray:
    for flip in TURNS[turn]:
        pixels = {"t": pixels.swapaxes(0, 1), "h": pixels[:, ::-1], "v": pixels[::-1]}[flip]
    return pixels


def as_rgb(mode: str, values: np.ndarray, colours: np.ndarray, white: float) -> np.ndarray:
    """Colours over white of values (H, W) or (H, W, channels)."""
    x = colours[values] if mode == "P" else values * {"1": 255.0, "I;16": 255 / white, "F": 255 / white}.get(mode, 1.0)
    x = x[..., None] if x.ndim == 2 else x.astype(float)
    alpha = x[..., -1:] / 255 if mode in ("LA", "RGBA") else 1.0
    x = x[..., :-1] if mode in ("LA", "RGBA") else x
    return np.broadcast_to(x * alpha + 255 * (1 - alpha), (*values.shape[:2], 3))


# ---- what is drawn


class File(NamedTuple):
    suffix: str
    mode: str
    turn: int
    pages: int
    seed: int


@st.composite
def files(draw: st.DrawFn) -> File:
    suffix = draw(st.sampled_from(tuple(MODES)))
    mode = draw(st.sampled_from(MODES[suffix]))
    turns = suffix in ("png", "tif", "webp", "jpg")
    turn = draw(st.sampled_from((1, *TURNS))) if turns else 1
    paged = suffix == "tif" or (suffix == "gif" and mode != "1")
    pages = draw(st.sampled_from((1, 1, 1, 2, 3))) if paged and turn == 1 else 1
    return File(suffix, mode, turn, pages, draw(st.integers(0, 2**32 - 1)))


def values_of(file: File, size: tuple[int, int], white: int, rng: np.random.Generator) -> np.ndarray:
    """Samples as the mode holds them; of one colour for JPEG, which keeps nothing else to the bit."""
    if file.mode == "1":
        return rng.integers(0, 2, size).astype(bool)
    channels = {"LA": (2,), "RGB": (3,), "RGBA": (4,)}.get(file.mode, ())
    if file.mode in ("I;16", "F"):
        values = rng.integers(0, white + 1, size)
        values[0, 0] = white
        return values.astype(np.uint16 if file.mode == "I;16" else np.float32)
    values = rng.integers(0, 256, (*size, *channels), dtype=np.uint8)
    return np.broadcast_to(values[:1, :1], values.shape).copy() if file.suffix == "jpg" else values


def save(path: Path, file: File, arrays: Sequence[np.ndarray], colours: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    images = [Image.fromarray(array, "P") if file.mode == "P" else Image.fromarray(array) for array in arrays]
    for image in images:
        if file.mode == "P":
            image.putpalette(colours.astype(np.uint8).reshape(-1).tolist())
    exif = Image.Exif()
    exif[0x0112] = file.turn
    options = OPTIONS.get(file.suffix, {}) | ({"exif": exif} if file.turn != 1 else {})
    more = {"save_all": True, "append_images": images[1:]} if len(images) > 1 else {}
    images[0].save(path, **options, **more)


SIZES = st.tuples(st.integers(1, 9), st.integers(1, 9))
USUAL = settings(max_examples=settings.default.max_examples * 3 // 4)


def refusal(data: PairedImageDataModule | SegmentationDataModule) -> str:
    """What `setup` says, which names a setting or says what to do with the files; nothing where it takes them."""
    try:
        data.setup()
    except ValueError as error:
        return str(error)
    return ""


def read(data: PairedImageDataModule) -> Any:
    """The nonmember, or why it cannot be read."""
    try:
        return data.val_dataloader().dataset[0]
    except ValueError as error:
        return str(error)


READINGS = st.tuples(
    st.sampled_from(("single", "channels")),  # pages
    st.sampled_from(("pair", "apply", "ignore")),  # exif
    st.sampled_from(("auto", "image", "labels")),  # kind
    st.sampled_from((1, 3)),  # channels
)


@given(
    file=files(),
    size=SIZES,
    white=st.sampled_from((255, 1023, 4095, 65535)),
    declared=st.booleans(),
    reading=READINGS,
    side=st.sampled_from(("A", "B")),
)
@USUAL
def test_pictures(file, size, white, declared, reading, side) -> None:
    """A file on one side of a translation, with a plain file of its upright size on the other."""
    pages, exif, kind, channels = reading
    rng = np.random.default_rng(file.seed)
    colours = rng.permutation(256 * 256)[:256, None] // [[256, 1, 7]] % 256
    arrays = {s: [values_of(file, size, white, rng) for _ in range(file.pages)] for s in ("train", "val")}
    if file.suffix == "gif" and file.pages > 1:  # frames that are the same are stored once
        for pixels in arrays.values():
            for i, plane in enumerate(pixels):
                plane[0, 0] = 40 * i
    shape = size if exif == "ignore" else upright(arrays["val"][0], file.turn).shape[:2]
    wide = file.mode in ("I;16", "F")
    options = {"white": float(white)} if declared and wide else {}
    channels = file.pages if pages == "channels" and file.pages > 1 else channels
    name = "input" if side == "A" else "target"
    options |= {f"{name}_channels": channels, f"{name}_kind": kind, "pages": pages, "exif": exif}
    with tempfile.TemporaryDirectory() as folder:
        for split, pixels in arrays.items():
            save(Path(folder) / side / split / f"1.{file.suffix}", file, pixels, colours)
            plain = Path(folder) / "AB".replace(side, "") / split / "1.png"
            plain.parent.mkdir(parents=True)
            # As a mask that was drawn upright, or one without a tag beside a file that has one.
            Image.fromarray(np.zeros((*shape, 3), np.uint8)).save(plain)
        data = PairedImageDataModule(folder, image_size=shape, augment="none", **options)
        if message := refusal(data):
            excuses = {
                "exif=": file.turn != 1 and exif == "pair",
                "page": file.pages > 1
                and (
                    pages == "single"
                    or file.suffix == "gif"
                    or file.mode not in ("L", "I;16", "F", "1")
                    or kind != "image"
                ),
                "white=": wide and (not declared or kind == "labels"),
                f"{name}_kind=": file.mode == "P" and kind == "auto",
                "class ids": kind == "labels",
                "alpha channel": kind == "labels" and file.mode in ("LA", "RGBA"),
                "save masks as PNG": kind == "labels" and file.suffix == "jpg",
                "palette": kind == "labels",
            }
            assert any(word in message and holds for word, holds in excuses.items()), message
            return
        item = read(data)
        if isinstance(item, str):
            assert kind == "labels" or file.pages > 1, item
            return
    found = item[name].movedim(0, 2).numpy() * 255
    planes = [upright(p, 1 if exif == "ignore" else file.turn) for p in arrays["val"]]
    assert found.shape[:2] == shape
    if kind == "labels" and file.mode != "P":
        return  # ids, in generated colours
    rgb = [as_rgb(file.mode, plane, colours, white) for plane in planes]
    expected = np.stack([x[..., 0] for x in rgb], -1) if file.pages > 1 else rgb[0]
    if found.shape[2] == 1 and file.pages == 1:
        expected = expected @ [[0.299], [0.587], [0.114]]
    np.testing.assert_allclose(found, expected, atol=3 if file.suffix == "jpg" else 1.01)


MASKS = st.tuples(
    st.sampled_from(("png", "tif", "bmp", "gif", "webp", "jpg")),  # suffix
    st.sampled_from(("L", "P", "P", "1", "RGB", "RGBA", "LA", "I;16")),  # mode
    st.sampled_from((1, 2, 3, 6)),  # classes
    st.sampled_from(("ids", "foreground", "colours")),  # coding
    st.sampled_from(("one", "one", "two")),  # orders
    st.sampled_from((0.0, 0.2)),  # ignored
    st.sampled_from(((1, 1), (1, 1), *((t, t) for t in TURNS), (6, 1), (1, 8))),  # turns
    st.sampled_from(("pair", "apply", "ignore")),  # exif
)


@given(drawn=MASKS, size=SIZES, seed=st.integers(0, 2**32 - 1))
@USUAL
def test_masks(drawn, size, seed) -> None:
    """Masks of ids, of one value for the foreground, or of colours, in palettes of one or of two orders."""
    suffix, mode, classes, coding, orders, ignored, turns, exif = drawn
    rng = np.random.default_rng(seed)
    number, turned = max(2, classes), suffix in ("png", "tif", "webp", "jpg")
    turn = turns[1] if turned else 1
    colours = np.array([[0, 0, 0], [200, 0, 0], [0, 150, 0], [9, 9, 250], [70, 80, 90], [255, 255, 0]], np.uint8)
    ids, stored = {}, {}
    for place, split in enumerate(("train", "val")):
        y = rng.integers(0, 2 if coding == "foreground" or mode == "1" else number, size).astype(np.uint8)
        if coding == "ids" and mode != "1":
            y[rng.random(size) < ignored] = 255
        order = np.arange(256)
        if mode == "P" and orders == "two" and place:
            order[:number] = rng.permutation(number)
        ids[split], stored[split] = y, mask_of(mode, y, coding, order, colours)
    options = {"foreground": 255} if coding == "foreground" else {}
    options |= {"palette": colours[:number].tolist()} if coding == "colours" else {}
    shape = size if exif == "ignore" else upright(ids["val"], turn).shape
    with tempfile.TemporaryDirectory() as folder:
        if not write_masks(Path(folder), File(suffix, mode, turn, 1, seed), stored, turns[0], size, shape):
            return  # there are no such files
        data = SegmentationDataModule(folder, classes, image_size=shape, augment="none", exif=exif, **options)
        message = refusal(data)
        found = None if message else {s: d[0]["mask"].numpy() for s, d in sides(data).items()}
    if message:
        lossless = suffix in ("png", "tif") and turns[0] == turn and orders == "one"
        held = set(np.unique(list(ids.values())).tolist()) - {255}
        fits = (coding, mode) in (("ids", "L"), ("ids", "P"), ("colours", "P"), ("colours", "RGB"), ("foreground", "L"))
        asked = number == 2 and any(255 in y for y in ids.values())  # 255 may mark the foreground of two classes
        assert asked or not (lossless and fits and len(held) > 1), message
        assert HELP.search(message), message
        return
    if mode == "P" and coding != "colours" and one_meaning(stored):
        ids = {split: values for split, (values, _) in stored.items()}
        ids = {split: np.where(y == 255, 1, y) if coding == "foreground" else y for split, y in ids.items()}
    for split, y in ids.items():
        np.testing.assert_array_equal(found[split], upright(y, 1 if exif == "ignore" else turn))


def write_masks(
    root: Path,
    file: File,
    stored: dict[str, tuple[np.ndarray, np.ndarray]],
    turn: int,
    size: tuple[int, int],
    shape: tuple[int, int],
) -> bool:
    """Write masks, and black images with a turn of their own; whether there are such files."""
    try:
        for split, (values, table) in stored.items():
            save(root / "masks" / split / f"1.{file.suffix}", file, [values], table)
            black = np.zeros(size if turn == file.turn else shape[::-1] if turn >= 5 else shape, np.uint8)
            save(root / "images" / split / "1.png", File("png", "L", turn, 1, 0), [black], table)
    except (OSError, KeyError):
        return False
    return True


def one_meaning(stored: dict[str, tuple[np.ndarray, np.ndarray]]) -> bool:
    """Whether no index has two colours in the pixels of the files, and no colour two indices: indices are ids then."""
    used = {(int(i), tuple(table[i])) for values, table in stored.values() for i in np.unique(values)}
    return len({i for i, _ in used}) == len(used) == len({colour for _, colour in used})


HELP = re.compile(r"\b(palette|foreground|exif|ignore_index|num_classes)\b|[Ss]ave|more than one class|aspect ratio")


def mask_of(
    mode: str, y: np.ndarray, coding: str, order: np.ndarray, colours: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """What a file of a mode stores for ids, and its palette."""
    table = np.zeros((256, 3), np.uint8)
    table[: len(colours)] = colours
    table[255] = 224
    table[order] = table.copy()
    if coding == "foreground" and mode != "P":
        y = y * 255
    if mode == "1":
        return y > 0, table
    if mode == "P":
        return order[y].astype(np.uint8), table
    if mode == "I;16":
        return y.astype(np.uint16), table
    if mode == "LA":
        return np.stack([y, np.full_like(y, 255)], -1), table
    if mode in ("RGB", "RGBA"):
        rgb = table[np.argsort(order)][y] if coding == "colours" else np.repeat(y[..., None], 3, -1)
        return rgb if mode == "RGB" else np.concatenate([rgb, np.full((*y.shape, 1), 255, np.uint8)], -1), table
    return (y if coding != "colours" else colours[y.clip(max=5)] @ np.array([1, 0, 0], np.uint8)), table


def sides(data: SegmentationDataModule) -> dict[str, Any]:
    """Data sets of members and nonmembers, by the split that they come from."""
    members, nonmembers = data.audit_dataloaders()
    return {"train": members.dataset, "val": nonmembers.dataset}
