"""Reads image files as 8-bit arrays, upright and with the requested number of channels."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from mia_lightning.data.exif_rule import Exif
from mia_lightning.data.image_headers import ImageHeader, header_of, opened_image, turned

UInt8Array = npt.NDArray[np.uint8]
ImageMode = Literal["RGB", "L"]
Pages = Literal["single", "channels"]


@dataclass(frozen=True)
class ReadingRules:
    """How image files are read where they alone do not say it.

    Args:
        white: The value that becomes white, 1.0, in files with more than 8 bits a sample: 4095 for data of 12 bits.
            None takes 65535 for integers and 1 for floats.
        pages: ``"single"``: a file holds one page; ``"channels"``: the pages of a file are the channels of one image.
        exif: ``"pair"`` and ``"apply"`` bring each file upright by its own EXIF tag (``"pair"`` where both files of a
            pair agree, which is checked over all files at once); ``"ignore"`` reads the pixels as they are stored.

    Raises:
        ValueError: If a setting is outside its range.
    """

    white: float | None = None
    pages: Pages = "single"
    exif: Exif = "pair"

    def __post_init__(self) -> None:
        for name, choices in (("pages", get_args(Pages)), ("exif", get_args(Exif))):
            if getattr(self, name) not in choices:
                raise ValueError(f"expected {name} to be one of {list(choices)} but got {getattr(self, name)!r}")
        if self.white is not None and not 0 < self.white < float("inf"):
            raise ValueError(f"expected white to be a positive number, such as 4095, but got {self.white}")


USUAL = ReadingRules()
"""What is read without any setting."""


def open_image(path: Path, exif: Exif = "pair") -> Image.Image:
    """Open and fully decode an image file of one page, upright or as stored.

    Raises:
        OSError: If the file is missing, no image, or truncated; names it.
        ValueError: If it holds several pages.
    """
    return load_image(path, exif)[0]


def load_image(path: Path, exif: Exif = "pair") -> tuple[Image.Image, ImageHeader]:
    """Return what :func:`open_image` returns, and the file's header."""
    with opened_image(path) as opened:
        header = header_of(opened)
        if header.pages == 1:
            opened.load()
        image = opened
    if header.pages > 1:
        raise ValueError(f"{path} holds {pages_advice(header.pages)}")
    return turned(image, header.turn, exif), header


def pages_advice(pages: int, *, channels: bool = True) -> str:
    """Say for an error message what to do about files of several pages; `channels`: whether they may be channels."""
    advice = f"{pages} pages (or frames), of which only the first would be read: save each page as a file of its own"
    other = f", or pass pages='channels' with {pages} image channels if the pages are the channels of one image"
    return advice + other if channels else advice


def read_image(path: Path, mode: ImageMode = "RGB", rules: ReadingRules = USUAL) -> UInt8Array:
    """Read a photograph or drawing.

    Grey becomes RGB by repetition and RGB becomes grey by its luma. Camera orientation (EXIF) is applied,
    transparency is laid over white, colours of a palette are the file's own. Samples of more than 8 bits are divided by
    ``rules.white``, which becomes 255.

    Returns:
        Array (H, W, C), uint8, of three channels with mode ``"RGB"``, one with ``"L"``.

    Raises:
        OSError: If the file is missing, no image, or truncated.
        ValueError: If the file holds several pages, or values outside of 0 to white.
    """
    image, header = load_image(path, rules.exif)
    if header.wide_colour:
        image = Image.fromarray(_to_8_bit(wide_pixels(path, header, rules.exif), header, path, rules.white))
    elif header.depth != "uint8" or image.mode.startswith(("I", "F")):
        image = Image.fromarray(_to_8_bit(np.asarray(image), header, path, rules.white))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    pixels = np.array(image.convert(mode), dtype=np.uint8)
    return pixels.reshape(*pixels.shape[:2], -1)


def read_pages(path: Path, channels: int, rules: ReadingRules = USUAL) -> UInt8Array:
    """Read a file whose pages are the channels of one image.

    Returns:
        Array (H, W, channels), uint8; scaled as by :func:`read_image`.

    Raises:
        OSError: If the file is missing, no image, or truncated.
        ValueError: If the number of pages is another one, or pages differ in size or have channels themselves.
    """
    pages, header = load_pages(path, rules.exif)
    if len(pages) != channels:
        raise ValueError(
            f"{path} holds {len(pages)} pages: expected {channels}, one a channel. Set the number of image channels to "
            "that of the pages, which is the same in all files."
        )
    return np.stack([_to_8_bit(page, header, path, rules.white) for page in pages], axis=-1)


def load_pages(path: Path, exif: Exif = "pair") -> tuple[list[npt.NDArray[Any]], ImageHeader]:
    """Decode all pages of a file, (H, W) each; errors as of :func:`read_pages`."""
    pages: list[npt.NDArray[Any]] = []
    with opened_image(path) as opened:
        header = header_of(opened)
        for number in range(getattr(opened, "n_frames", 1)):
            opened.seek(number)
            opened.load()
            pages.append(_plane(turned(opened, header.turn, exif)))
    shapes = sorted({page.shape for page in pages})
    if len(shapes) > 1 or len(shapes[0]) != 2:
        raise ValueError(
            f"{path} holds {len(pages)} pages of the shapes {', '.join(map(str, shapes))}: with pages='channels' "
            "expected grey pages of one size. Save what is meant as a file of its own."
        )
    if len(pages) != header.pages:
        raise ValueError(f"{path} says that it holds {header.pages} pages, but {len(pages)} can be read: save it anew")
    return pages, header


def _plane(page: Image.Image) -> npt.NDArray[Any]:
    """The values (H, W) of a page in bits, greys, or colours that are all grey; (H, W, C) of another."""
    if page.mode == "1":
        return np.asarray(page.convert("L"))
    if page.mode in ("P", "RGB"):  # frames of a GIF are RGB after the first
        colours = np.asarray(page.convert("RGB"))
        return colours[..., 0] if (colours == colours[..., :1]).all() else colours
    return np.asarray(page)


def read_side_by_side(
    path: Path, modes: tuple[ImageMode, ImageMode] = ("RGB", "RGB"), rules: ReadingRules = USUAL
) -> tuple[UInt8Array, UInt8Array]:
    """Read pix2pix's AB file as A, the left half, and B, the right, (H, W, C) each, uint8, in the modes of A and B.

    Raises:
        OSError: As :func:`read_image`.
        ValueError: If the width is odd.
    """
    pixels = read_image(path, rules=rules)
    width = pixels.shape[1]
    if width % 2:
        raise ValueError(
            f"{path} is {width} pixels wide: expected an even width, as a side-by-side file holds two "
            "images of one size. If its images are not side by side, pass layout='folders'."
        )
    return _with_mode(pixels[:, : width // 2], modes[0]), _with_mode(pixels[:, width // 2 :], modes[1])


def wide_pixels(path: Path, header: ImageHeader, exif: Exif = "pair") -> npt.NDArray[Any]:
    """Read colours of more than 8 bits a channel, (H, W, C), of which Pillow would keep 8.

    Raises:
        OSError: If the file cannot be read.
    """
    values = cv2.imdecode(np.fromfile(path, dtype=np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None or values.ndim != 3 or values.dtype == np.uint8:
        raise OSError(f"cannot read {path}: {header.depth} colours in a form that OpenCV does not know. Save it anew.")
    values = values[..., [2, 1, 0, 3][: values.shape[2]]]
    # OpenCV turns TIFF, and nothing else, by itself.
    upright = str(path).lower().endswith((".tif", ".tiff"))
    planes = [
        turned(_tagged(Image.fromarray(plane), 1 if upright else header.turn), header.turn, exif)
        for plane in np.moveaxis(values, 2, 0)
    ]
    return np.stack([np.asarray(plane) for plane in planes], axis=-1)


def highest_value(depth: str) -> float | None:
    """What is white in samples of a depth by itself; None where the depth does not tell.

    Example:
        >>> highest_value("uint8"), highest_value("uint12"), highest_value("int16")
        (255.0, 4095.0, None)
    """
    if depth.startswith("float"):
        return 1.0
    return 2.0 ** int(depth.removeprefix("uint")) - 1.0 if depth.startswith("uint") else None


def declares_white(depth: str) -> bool:
    """Whether a depth leaves no doubt of what is white: 8 bits, or a number of bits that was declared on purpose."""
    return depth.startswith("uint") and depth not in ("uint16", "uint32")


def _tagged(image: Image.Image, turn: int) -> Image.Image:
    image.getexif()[274] = turn
    return image


def _with_mode(pixels: UInt8Array, mode: ImageMode) -> UInt8Array:
    if mode == "RGB":
        return np.ascontiguousarray(pixels)
    return np.array(Image.fromarray(pixels).convert("L"), dtype=np.uint8)[..., None]


def _to_8_bit(values: npt.NDArray[Any], header: ImageHeader, path: Path, white: float | None) -> UInt8Array:
    """Scale integers or floats from 0 to white to 0..255."""
    if header.depth == "uint8":
        return np.asarray(values, dtype=np.uint8)
    if header.depth == "int8":  # which Pillow takes for uint8
        values = values.view(np.int8)
    floats = values.astype(np.float64)
    low, high = float(floats.min()), float(floats.max())
    declared = highest_value(header.depth)
    if white is None or declares_white(header.depth):
        # Of a PGM that declares 12 bits, Pillow has made 16.
        top = 65535.0 if header.mode == "I" or declared is None else declared
        top = 127.0 if header.depth == "int8" else top
    else:
        top = white
    if not (low >= 0.0 and high <= top):  # written so that NaN is refused too
        raise ValueError(
            f"{path} holds {values.dtype} values from {low:g} to {high:g}: expected 0 to {top:g}. "
            "Pass white=VALUE, the value that means white, or convert it to 8 or 16 bit first."
        )
    return np.asarray(np.rint(floats * (255.0 / top)), dtype=np.uint8)
