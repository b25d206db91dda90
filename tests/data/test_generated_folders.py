"""Generated folders of files: what is read is what was meant, or the error says what to do."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from mia_lightning import SegmentationDataModule

FORMS = ("ids", "bits", "grey", "indexed", "indexed, white first", "colour", "alpha")
PICTURES = ("L", "RGB", "P", "I;16")
BLACK_WHITE = [[0, 0, 0], [255, 255, 255]]
ANSWERS = (
    *("foreground=", "palette=", "palette:", "white=", "exif=", "pages"),
    *("getchannel", "same aspect ratio", "one class"),
)
WHITE = 4095
TRANSPOSED = {1: "", 3: "vh", 6: "ht", 8: "vt"}
"""What brings the meant pixels to the stored ones, by EXIF orientation."""

FILE = st.fixed_dictionaries(
    {
        "form": st.sampled_from(FORMS),
        "picture": st.sampled_from(PICTURES),
        "suffix": st.sampled_from(("png", "tif")),
        "turn": st.sampled_from((1, 1, 1, 3, 6, 8)),
        "mask_turn": st.sampled_from(("same", "same", "upright", "stored")),
        "pages": st.sampled_from((1,) * 12 + (2,)),
        "empty": st.sampled_from((False, False, False, True)),
    }
)


def in_steps(pixels: np.ndarray, steps: str) -> np.ndarray:
    for step in steps:
        pixels = {"h": lambda a: a[:, ::-1], "v": lambda a: a[::-1], "t": lambda a: a.swapaxes(0, 1)}[step](pixels)
    return np.ascontiguousarray(pixels)


def stored(pixels: np.ndarray, turn: int) -> np.ndarray:
    return in_steps(pixels, TRANSPOSED[turn])


def mask_image(mask: np.ndarray, form: str) -> Image.Image:
    if form == "bits":
        return Image.fromarray(mask > 0)
    if form.startswith("indexed"):
        first = form.endswith("first")
        image = Image.fromarray((1 - mask if first else mask).astype(np.uint8), "P")
        image.putpalette([v for colour in (BLACK_WHITE[::-1] if first else BLACK_WHITE) for v in colour])
        return image
    grey = mask if form == "ids" else mask * 255
    if form == "colour":
        return Image.fromarray(np.repeat(grey[..., None], 3, -1))
    return Image.fromarray(np.stack([grey * 0, grey], -1) if form == "alpha" else grey)


def picture_image(values: np.ndarray, mode: str) -> tuple[Image.Image, np.ndarray]:
    """A picture of values (H, W) in [0, 1], and what its file holds, in [0, 1]."""
    if mode == "I;16":
        samples = np.rint(values * WHITE).astype(np.uint16)
        return Image.fromarray(samples), samples / WHITE
    samples = np.rint(values * 255).astype(np.uint8)
    if mode == "P":
        image = Image.fromarray(samples, "P")
        image.putpalette([v for k in range(256) for v in (255 - k,) * 3])
        return image, 1 - samples / 255
    return Image.fromarray(samples if mode == "L" else np.repeat(samples[..., None], 3, -1)), samples / 255


def save(path: Path, image: Image.Image, turn: int, pages: int = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[0x0112] = turn
    options = {"save_all": True, "append_images": [image] * (pages - 1)} if pages > 1 else {}
    image.save(path, **options, **({"exif": exif} if turn != 1 else {}))


def check(files: list[dict], shape: tuple[int, int], answers: dict, seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = {}
    with tempfile.TemporaryDirectory() as folder:
        for number, file in enumerate(files):
            name = f"{('train', 'val')[number % 2]}/{number}"
            mask = np.zeros(shape, np.uint8)
            if not file["empty"]:
                mask[1 : 2 + int(rng.integers(shape[0] - 2)), : 1 + int(rng.integers(shape[1] - 1))] = 1
            values = rng.random(shape)
            values[0, 0] = 1
            # What carries no tag lies as it is shown, or as the picture is stored.
            turn = file["turn"]
            image, meant = picture_image(stored(values, turn), file["picture"])
            meant = in_steps(meant, TRANSPOSED[turn][::-1])
            truth[name] = mask, meant
            lies = mask if file["mask_turn"] == "upright" else stored(mask, turn)
            tag = turn if file["mask_turn"] == "same" else 1
            save(Path(folder) / "images" / f"{name}.{file['suffix']}", image, turn, file["pages"])
            save(Path(folder) / "masks" / f"{name}.png", mask_image(lies, file["form"]), tag)
        data = SegmentationDataModule(folder, 2, image_size=shape, augment="none", **answers)
        try:
            data.setup()
            read = [item for loader in data.audit_dataloaders() for item in loader.dataset]
        except ValueError as error:
            message = str(error)
        else:
            message = ""
    if message:
        assert any(answer in message for answer in ANSWERS), message
        return
    for item in read:
        mask, meant = truth[item["id"]]
        assert item["mask"].tolist() == mask.tolist()
        np.testing.assert_allclose(item["image"][0].numpy(), meant, atol=0.51 / 255)


FOLDERS = {
    "files": st.lists(FILE, min_size=2, max_size=4),
    "shape": st.sampled_from([(12, 12), (12, 18)]),
    "answers": st.sampled_from(
        [
            {"foreground": 255, "white": WHITE},
            {"foreground": 255},
            {"palette": BLACK_WHITE, "white": WHITE},
            {"palette": BLACK_WHITE},
        ]
    ),
    "seed": st.integers(0, 2**16),
}
QUIETLY = {"deadline": None, "derandomize": True, "suppress_health_check": list(HealthCheck)}


@given(**FOLDERS)
@settings(max_examples=150, **QUIETLY)
def test_folders(files, shape, answers, seed):
    check(files, shape, answers, seed)


@pytest.mark.slow
@given(**FOLDERS)
@settings(max_examples=5000, **QUIETLY)
def test_many_folders(files, shape, answers, seed):
    check(files, shape, answers, seed)


@pytest.mark.parametrize("form", ["ids", "grey", "bits"])
def test_a_palette_with_white_first_among_files_without_one_is_refused(tmp_path, form):
    mask = np.zeros((12, 12), np.uint8)
    mask[2:6, 3:9] = 1
    for split, kind in (("train", "indexed, white first"), ("val", form)):
        save(tmp_path / "images" / split / "1.png", Image.fromarray(mask), 1)
        save(tmp_path / "masks" / split / "1.png", mask_image(mask, kind), 1)
    with pytest.raises(ValueError, match=r"0 is not black.*foreground=255"):
        SegmentationDataModule(tmp_path, 2).setup()
    for item in SegmentationDataModule(tmp_path, 2, foreground=255, image_size=12).val_dataloader().dataset:
        assert item["mask"].tolist() == mask.tolist()
