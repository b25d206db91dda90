"""What an image file says of itself before it is decoded: size, mode, pages, turn and depth."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from PIL import Image, UnidentifiedImageError

from mia_lightning.data.exif_rule import Exif

_WIDTH, _HEIGHT, _BITS, _DESCRIPTION, _ORIENTATION, _SAMPLE_FORMAT = 256, 257, 258, 270, 274, 339
_PHOTOMETRIC, _PLANAR, _DEPTH = 262, 284, 32997
_TURNS = {
    2: (Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.FLIP_LEFT_RIGHT),
    3: (Image.Transpose.ROTATE_180, Image.Transpose.ROTATE_180),
    4: (Image.Transpose.FLIP_TOP_BOTTOM, Image.Transpose.FLIP_TOP_BOTTOM),
    5: (Image.Transpose.TRANSPOSE, Image.Transpose.TRANSPOSE),
    6: (Image.Transpose.ROTATE_270, Image.Transpose.ROTATE_90),
    7: (Image.Transpose.TRANSVERSE, Image.Transpose.TRANSVERSE),
    8: (Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_270),
}
"""By EXIF orientation: what brings the stored pixels upright, and what undoes it."""


@dataclass(frozen=True)
class ImageHeader:
    """What a file's header holds.

    Args:
        width: Of the pixels as they are stored.
        height: Likewise.
        mode: The colour mode as Pillow names it.
        pages: Number of pages or frames.
        turn: EXIF orientation, 1 (upright) to 8.
        depth: Type of a sample: ``"uint8"``, ``"uint16"``, ``"int16"``, ``"float32"``... A file that declares fewer
            bits than its type has, such as 12, has a depth of ``"uint12"``.
        format: File format as Pillow names it.
        lossy: Whether the compression changes values.
    """

    width: int
    height: int
    mode: str
    pages: int
    turn: int
    depth: str
    format: str = ""
    lossy: bool = False

    @property
    def upright_size(self) -> tuple[int, int]:
        """Height and width once the turn is applied."""
        return (self.width, self.height) if self.turn >= 5 else (self.height, self.width)

    def size(self, exif: Exif) -> tuple[int, int]:
        """Height and width of what is read."""
        return (self.height, self.width) if exif == "ignore" else self.upright_size

    @property
    def wide_colour(self) -> bool:
        """Whether several channels have more than 8 bits each, of which Pillow keeps 8."""
        return self.depth != "uint8" and not self.mode.startswith(("I", "F"))


@contextmanager
def opened_image(path: Path) -> Iterator[Image.Image]:
    """Open an image file; whatever a broken one raises in the block becomes an OSError that names it."""
    try:
        # By its stream, not its path: Pillow maps uncompressed TIFF into memory otherwise, and mixes up the rows of
        # those that it turns by itself.
        with path.open("rb") as stream, Image.open(stream) as image:
            yield image
    except FileNotFoundError:
        raise FileNotFoundError(f"no image file {path}: it was there when the folder was read; restore it") from None
    except UnidentifiedImageError as error:
        tiff = path.suffix.lower() in (".tif", ".tiff")
        others = "channels than grey, RGB or RGBA, or of floats than grey in 32 bits"
        advice = f". TIFF of other {others}, has to be saved in another form" if tiff else ""
        raise OSError(f"{path} is not an image that Pillow can read: replace or remove the file{advice}") from error
    # Broken PNG chunks surface as SyntaxError, other broken headers as ValueError.
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise OSError(f"cannot read {path}: {error}. Replace or remove the file.") from error


def read_header(path: Path) -> ImageHeader:
    """Read the header of an image file, without its pixels.

    Raises:
        OSError: If the file is missing or no image; names it.
    """
    with opened_image(path) as image:
        return header_of(image)


def header_of(image: Image.Image) -> ImageHeader:
    """Return the header of an open image that is not decoded yet.

    Raises:
        ValueError: If it is a TIFF file of a layout of which pixels would be read wrongly.
    """
    _require_plain_tiff(image)
    width, height = image.size
    # Of TIFF, some versions of Pillow tell the size once it is turned.
    return ImageHeader(
        width=_tag(image, _WIDTH, width),
        height=_tag(image, _HEIGHT, height),
        mode=image.mode,
        pages=_pages(image),
        turn=_turn(image),
        depth=_depth(image),
        format=image.format or "",
        lossy=_is_lossy(image),
    )


def turned(image: Image.Image, turn: int, exif: Exif) -> Image.Image:
    """Bring a decoded image upright, or with ``"ignore"`` back to the pixels as stored; Pillow turns TIFF by itself."""
    if turn == 1:
        return image
    upright = image.getexif().get(_ORIENTATION, 1) == 1
    if exif == "ignore":
        return image.transpose(_TURNS[turn][1]) if upright else image
    return image if upright else image.transpose(_TURNS[turn][0])


def _require_plain_tiff(image: Image.Image) -> None:
    planes = _first(_tag(image, _DEPTH, 1))
    if planes > 1:
        raise ValueError(
            f"it holds a volume of {planes} planes, of which only the first would be read: save each plane"
        )
    if _depth(image) == "uint8":
        return  # which Pillow reads in any layout
    if _tag(image, _PHOTOMETRIC, 1) == 0:
        raise ValueError(
            "0 is white in it (photometric interpretation 0) beside more than 8 bits: save it with 0 black"
        )
    if _tag(image, _PLANAR, 1) == 2 and len(image.getbands()) > 1:
        raise ValueError(
            "it keeps colours of more than 8 bits in separate planes: save them pixel by pixel (contiguous)"
        )


def _pages(image: Image.Image) -> int:
    if image.format == "MPO":  # a photograph, and previews of it
        return 1
    pages = int(getattr(image, "n_frames", 1))
    # ImageJ stores large stacks behind a single directory, and writes the number of images into its description.
    stack = re.search(r"^images=(\d+)", str(_tag(image, _DESCRIPTION, "")), re.MULTILINE)
    return max(pages, int(stack.group(1))) if stack else pages


def _turn(image: Image.Image) -> int:
    hints = {"exif", "Raw profile type exif", "XML:com.adobe.xmp"}
    if image.format == "PNG" and not hints & image.info.keys() and not _png_has_exif(image):
        return 1  # Pillow would decode the whole file to find out
    turn = image.getexif().get(_ORIENTATION, 1)
    return int(turn) if turn in _TURNS else 1


def _is_lossy(image: Image.Image) -> bool:
    if image.format != "WEBP":
        return image.format in ("JPEG", "MPO") or image.info.get("compression") in ("jpeg", "tiff_jpeg", "webp")
    stream: IO[bytes] | None = getattr(image, "fp", None)
    if stream is None:
        return True
    place = stream.tell()
    try:
        stream.seek(12)
        while len(head := stream.read(8)) == 8:
            if head[:4] in (b"VP8L", b"VP8 "):
                return head[:4] == b"VP8 "
            length = int.from_bytes(head[4:], "little")
            # A frame of an animation holds its own chunks behind 16 bytes.
            stream.seek(16 if head[:4] == b"ANMF" else length + length % 2, 1)
        return True
    finally:
        stream.seek(place)


def _png_has_exif(image: Image.Image) -> bool:
    """Whether a PNG holds chunks behind its pixels that may tell a turn."""
    stream: IO[bytes] | None = getattr(image, "fp", None)
    assert stream is not None
    place = stream.tell()
    try:
        stream.seek(8)
        while len(head := stream.read(8)) == 8:
            if head[4:] in (b"eXIf", b"zTXt", b"iTXt", b"tEXt"):
                return True
            stream.seek(int.from_bytes(head[:4], "big") + 4, 1)
        return False
    finally:
        stream.seek(place)


def _depth(image: Image.Image) -> str:
    bits = _tag(image, _BITS, None)
    if bits:
        letter = {2: "int", 3: "float"}.get(_first(_tag(image, _SAMPLE_FORMAT, 1)), "uint")
        return "uint8" if letter == "uint" and _first(bits) <= 8 else f"{letter}{_first(bits)}"
    if image.mode == "F":
        return "float32"
    tile = getattr(image, "tile", [])
    arguments = tile[0][3] if tile else ""
    if image.format == "PPM" and isinstance(arguments, tuple):
        # Pillow brings what a PGM declares as white to 65535.
        return "uint8" if not image.mode.startswith("I") else f"uint{int(arguments[-1]).bit_length()}"
    raw = str(arguments[0] if isinstance(arguments, tuple) else arguments)
    return "uint16" if image.mode.startswith("I") or ";16" in raw else "uint8"


def _tag(image: Image.Image, number: int, default: Any) -> Any:
    """A tag of a TIFF file."""
    return getattr(image, "tag_v2", {}).get(number, default)


def _first(value: Any) -> int:
    return int(value[0] if isinstance(value, tuple) else value)
