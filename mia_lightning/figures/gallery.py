"""Lays samples out as rows of small pictures with their names and numbers."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
from PIL import Image, ImageDraw, ImageFont

from mia_lightning.figures.palette import BACKGROUND

_CELL, _GAP, _LINE, _TITLE = 104, 6, 16, 26
_GREY = "#555555"


class Row(NamedTuple):
    """One sample of a gallery.

    Attributes:
        name: Its id; shown as plain text, shortened where it is too long.
        mark: Text at the end of the line of the name.
        numbers: Text of the line below.
        parts: Encoded images by name, the same names in each row.
    """

    name: str
    mark: str
    numbers: str
    parts: dict[str, bytes]


def gallery(rows: Sequence[Row], title: str, note: str = "") -> Image.Image:
    """Lay samples out as rows under a title, with a line in grey below all.

    Returns:
        The picture, about 450 pixels wide; a sentence in place of rows where there are none.
    """
    names = list(rows[0].parts) if rows else []
    width = _GAP + max(4, len(names)) * (_CELL + _GAP)
    row_height = 2 * _LINE + _CELL + 2 * _GAP
    height = _TITLE + _LINE + max(1, len(rows)) * row_height + (_LINE if note else 0) + _GAP
    picture = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(picture)
    room = width - 2 * _GAP
    _write(draw, (_GAP, _GAP), title, _font("DejaVuSans-Bold", 13), room)
    if not rows:
        _write(draw, (_GAP, _TITLE + _LINE), "There is nothing to show.", _font("DejaVuSans", 12), room)
    for column, name in enumerate(names):
        _write(draw, (_GAP + column * (_CELL + _GAP), _TITLE), name, _font("DejaVuSans", 11), _CELL, _GREY)
    for number, row in enumerate(rows):
        top = _TITLE + _LINE + number * row_height
        taken = _write(draw, (width - _GAP, top), row.mark, _font("DejaVuSans", 12), room // 2, anchor="ra")
        _write(draw, (_GAP, top), row.name, _font("DejaVuSans-Bold", 12), room - taken - _GAP)
        _write(draw, (_GAP, top + _LINE), row.numbers, _font("DejaVuSans", 12), room)
        for column, content in enumerate(row.parts.values()):
            picture.paste(_cell(content), (_GAP + column * (_CELL + _GAP), top + 2 * _LINE))
    if note:
        _write(draw, (_GAP, height - _LINE - _GAP // 2), note, _font("DejaVuSans", 10), room, _GREY)
    return picture


def _cell(content: bytes) -> Image.Image:
    """Fit a picture into a square, without changing its shape."""
    with Image.open(io.BytesIO(content)) as opened:
        image = opened.convert("RGB")
    # Not ImageOps.pad: it rounds the short side of a thin strip to no pixel at all, and raises.
    scale = _CELL / max(image.size)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    # Label maps arrive as PNG: smoothing would invent classes.
    drawn = content.startswith(b"\x89PNG")
    resized = image.resize(size, Image.Resampling.NEAREST if drawn else Image.Resampling.BICUBIC)
    cell = Image.new("RGB", (_CELL, _CELL), BACKGROUND)
    cell.paste(resized, ((_CELL - size[0]) // 2, (_CELL - size[1]) // 2))
    return cell


def _write(
    draw: ImageDraw.ImageDraw,
    place: tuple[int, int],
    text: str,
    font: ImageFont.FreeTypeFont,
    room: int,
    fill: str = "black",
    anchor: str = "la",
) -> int:
    """Write one line; return how many pixels it takes."""
    line = _shortened("".join(c if c.isprintable() else " " for c in text), font, room)
    draw.text(place, line, font=font, fill=fill, anchor=anchor)
    return round(font.getlength(line))


def _shortened(text: str, font: ImageFont.FreeTypeFont, room: int) -> str:
    """Leave out the middle of what is too long: file names differ at their ends."""
    if font.getlength(text) <= room:
        return text
    keep = min(len(text), 400) // 2
    while keep and font.getlength(f"{text[:keep]}…{text[-keep:]}") > room:
        keep -= 1
    return f"{text[:keep]}…{text[-keep:]}" if keep else "…"


def _font(name: str, size: int) -> ImageFont.FreeTypeFont:
    # matplotlib brings fonts that know most alphabets; Pillow's own knows Latin.
    path = Path(mpl.get_data_path()) / "fonts" / "ttf" / f"{name}.ttf"
    return ImageFont.truetype(str(path), size)  # Pillow before 10.2 takes no paths
