"""A sheet of samples: members and nonmembers with their label maps, the classes, and pictures that look alike."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from mia_lightning.data.auditable import AuditableDataModule
from mia_lightning.data.data_check import ClassShare, DataCheck
from mia_lightning.data.label_pixels import LabelArray
from mia_lightning.data.picture_looks import thumbnail_of
from mia_lightning.data.records import Record
from mia_lightning.functional.labels import voc_palette
from mia_lightning.result.atomic_files import write_bytes_atomically

_TILE, _GAP, _LINE = 128, 8, 18
_ROWS = 5  # samples a side
_COPIES = 6  # pairs that look alike
_CLASSES = 24  # in the legend, the most frequent ones
_VOID = (224, 224, 192)
_INK, _PAPER, _FAINT = (30, 30, 30), (255, 255, 255), (110, 110, 110)

Colours = Sequence[Sequence[int]]


def draw_sheet(module: AuditableDataModule, check: DataCheck, colours: Colours = ()) -> Image.Image:
    """Draw the sheet, which shows who is a member.

    Args:
        module: Reads the samples.
        check: Says which there are.
        colours: RGB colour of each class; those of Pascal VOC where there are none.

    Returns:
        An RGB picture.
    """
    palette = np.asarray(colours, dtype=np.uint8) if len(colours) else voc_palette(256).numpy()
    by_id = {record.id: record for record in check.records}
    sides = [_spread([r for r in check.records if check.sides[r.id] == side]) for side in ("member", "nonmember")]
    copies = [(by_id[pair.first], by_id[pair.second], pair.similarity) for pair in check.copies[:_COPIES]]
    rows = max(map(len, sides))
    width = _GAP + 6 * (_TILE + _GAP)
    legend = [share for share in sorted(check.classes, key=lambda share: -share.pixels) if share.samples][:_CLASSES]
    legend_lines = -(-len(legend) // 4)
    heights = [
        2 * _LINE + _GAP,
        rows * (_TILE + _LINE + _GAP),
        (legend_lines + 1) * _LINE + _GAP if legend else 0,
        _LINE + -(-len(copies) // 3) * (_TILE + _LINE + _GAP) if copies else 0,
    ]
    sheet = Image.new("RGB", (width, sum(heights) + _GAP), _PAPER)
    pen = _Pen(sheet)
    pen.write(_GAP, _GAP, f"{check.root.resolve().name}: {sum(check.splits.values())} pairs", _INK)
    for column, (side, count) in enumerate((("members", check.members), ("nonmembers", check.nonmembers))):
        x = _GAP + 3 * column * (_TILE + _GAP)
        pen.write(x, _GAP + _LINE, f"{side} ({count})", _INK)
        for row, record in enumerate(sides[column]):
            _draw_sample(pen, module, record, (x, heights[0] + row * (_TILE + _LINE + _GAP)), palette)
    _draw_legend(pen, legend, palette, heights[0] + heights[1])
    top = sum(heights[:3])
    for number, (first, second, similarity) in enumerate(copies):
        x, y = _GAP + number % 3 * 2 * (_TILE + _GAP), top + _LINE + number // 3 * (_TILE + _LINE + _GAP)
        for place, record in enumerate((first, second)):
            pen.paste(_picture(module, record), x + place * (_TILE + _GAP), y)
        pen.write(x, y + _TILE, _short(f"{first.id} / {second.id}  {similarity:.3f}", 2 * _TILE), _FAINT)
    if copies:
        pen.write(_GAP, top, f"The same or alike ({len(check.copies)} pairs of ids):", _INK)
    return sheet


class _Pen:
    def __init__(self, sheet: Image.Image) -> None:
        self._sheet, self._draw = sheet, ImageDraw.Draw(sheet)
        self._font = ImageFont.load_default(12)

    def write(self, x: int, y: int, text: str, colour: tuple[int, int, int]) -> None:
        self._draw.text((x, y), text, fill=colour, font=self._font)

    def swatch(self, x: int, y: int, colour: tuple[int, ...]) -> None:
        self._draw.rectangle((x, y + 2, x + 12, y + 13), fill=colour, outline=_FAINT)

    def paste(self, picture: Image.Image, x: int, y: int) -> None:
        self._sheet.paste(picture, (x, y))


def _draw_sample(
    pen: _Pen, module: AuditableDataModule, record: Record, place: tuple[int, int], palette: npt.NDArray[np.uint8]
) -> None:
    """Photograph, label map, and the one over the other; or both pictures of a pair."""
    x, y = place
    picture = _picture(module, record)
    tiles = [picture]
    try:
        ids = module.labels_of(record)
    except ValueError:  # the check has named it
        ids = None
    if ids is not None:
        coloured = _coloured(ids, module.void_id(), palette).resize(picture.size, Image.Resampling.NEAREST)
        tiles += [coloured, Image.blend(picture, coloured, 0.5)]
    elif record.target_path != record.input_path:
        tiles = [thumbnail_of(path, module.exif, _TILE) for path in (record.input_path, record.target_path)]
    for number, tile in enumerate(tiles):
        pen.paste(tile, x + number * (_TILE + _GAP), y)
    pen.write(x, y + _TILE, _short(f"{record.id}{f'  ({record.group})' if record.group else ''}", 3 * _TILE), _FAINT)


def _draw_legend(pen: _Pen, legend: Sequence[ClassShare], palette: npt.NDArray[np.uint8], top: int) -> None:
    if legend:
        pen.write(_GAP, top, "Classes by their share of pixels:", _INK)
    for number, share in enumerate(legend):
        x, y = _GAP + number % 4 * 204, top + _LINE + number // 4 * _LINE
        colour = _VOID if share.name == "void" else tuple(palette[share.id % len(palette)].tolist())
        pen.swatch(x, y, colour)
        pen.write(x + 18, y, _short(f"{share.id} {share.name}  {share.pixels:.1%}", 184), _INK)


def _picture(module: AuditableDataModule, record: Record) -> Image.Image:
    return thumbnail_of(module.pictures_of(record)[0], module.exif, _TILE)


def _coloured(ids: LabelArray, void: int, palette: npt.NDArray[np.uint8]) -> Image.Image:
    colours = palette[np.clip(ids, 0, len(palette) - 1)]
    colours[(ids == void) | (ids < 0) | (ids >= len(palette))] = _VOID
    return Image.fromarray(colours)


def _spread(records: Sequence[Record]) -> list[Record]:
    """Some of many, evenly."""
    if len(records) <= _ROWS:
        return list(records)
    return [records[n * (len(records) - 1) // (_ROWS - 1)] for n in range(_ROWS)]


def _short(text: str, width: int) -> str:
    most = width // 7
    return text if len(text) <= most else f"{text[: most - 3]}..."


def write_sheet(sheet: Image.Image, folder: Path) -> Path:
    """Write the sheet as ``sample_sheet.png`` into a folder, which is made if it is not there; returns the file."""
    content = BytesIO()
    sheet.save(content, "png")
    return write_bytes_atomically(folder / "sample_sheet.png", content.getvalue())
