"""Palette images: label maps or pictures, and how label maps become inputs and targets of a translator."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from mia_lightning.data.datasets import Encode, describe
from mia_lightning.data.exif_rule import Exif
from mia_lightning.data.file_checks import Headers, require_exact_files, require_one_palette
from mia_lightning.data.file_survey import FileSurvey
from mia_lightning.data.label_encoding import (
    VOID,
    ClassReader,
    OneHotEncoder,
    PaletteEncoder,
    class_palette,
    encode_image,
    read_colours,
    read_labels,
    require_ids,
)
from mia_lightning.data.label_pixels import LabelArray, LabelPixels, Palette, labels_of, mapped_ids
from mia_lightning.data.records import Record
from mia_lightning.data.transforms import Array, Kind

SideKind = Literal["auto", "image", "labels"]

FEW_COLOURS = 8
"""Palette images with no more colours a file are label maps."""

FLAT, NOT_FLAT = 0.80, 0.72
"""Palette images are label maps where a pixel equals its neighbour as often as this, pictures where less often.

The median over the files counts. Measured: 0.935 to 0.980 for the label maps of facades, camvid and wbc (300 files
each), 0.19 to 0.70 for photographs of the same sets in 16 to 256 colours, with palettes of their own and with one for
all (24 sets of 30 or 60): no set on the wrong side. In between, `input_kind` and `target_kind` are asked for.
"""


@dataclass(frozen=True)
class SideFiles:
    """The files of one side of a translation.

    Args:
        side: ``"input"`` or ``"target"``.
        paths: The files.
        headers: Of these files, and of others.
        what: Names them in messages.
    """

    side: str
    paths: Sequence[Path]
    headers: Headers
    what: str

    @property
    def plain(self) -> Path | None:
        """The first file that is no palette image."""
        return next((path for path in self.paths if self.headers[path].mode != "P"), None)

    @property
    def coloured(self) -> list[Path]:
        """The files that are palette images."""
        return [path for path in self.paths if self.headers[path].mode == "P"]


def kind_of(files: SideFiles, setting: SideKind, survey: FileSurvey, num_classes: int | None) -> Kind:
    """Tell label maps from pictures: as set, or where all are palette images by their areas and colours.

    Args:
        files: All files of a side.
        setting: ``"auto"`` looks at the files.
        survey: Looks into the files.
        num_classes: Channels of a one-hot encoding, which needs label maps; None without one.

    Raises:
        ValueError: If files do not tell, or are no label maps where these are needed.
    """
    kind: Kind = "labels" if setting == "labels" else "image"
    if setting == "auto" and files.plain is None:
        summaries = survey.labels(files.paths).values()
        flatness = float(np.median([summary.flatness for summary in summaries]))
        colours = max(summary.pixels.values.size for summary in summaries)
        if FLAT > flatness > NOT_FLAT and colours > FEW_COLOURS:
            raise ValueError(
                f"{files.what} are palette images with up to {colours} colours, in which {flatness:.0%} of the pixels "
                f"equal their neighbour: they may be label maps or pictures. Pass {files.side}_kind='labels' or "
                f"{files.side}_kind='image'."
            )
        kind = "labels" if flatness >= FLAT or colours <= FEW_COLOURS else "image"
    if num_classes and kind == "image":
        found = f"{files.plain} is no palette image" if files.plain else "the palette images look like pictures"
        raise ValueError(
            f"input_encoding='onehot' needs label maps, but {found}: pass "
            "input_kind='labels' if its values are class ids, else input_encoding='palette'"
        )
    return kind


@dataclass(frozen=True)
class LabelMeaning:
    """What ids of label maps mean, where files do not say it.

    Args:
        label_map: Id of the class for each id that files hold; None where they hold the former.
        colours: RGB colour of each class; None for those of each file's own palette, or generated ones.
    """

    label_map: Mapping[int, int] | None = None
    colours: Palette | None = None

    def ids(self, pixels: LabelPixels, path: Path) -> LabelArray:
        """Return the ids of the classes of pixels; a ValueError for unknown ones."""
        ids = labels_of(pixels, path)
        return ids if self.label_map is None else mapped_ids(ids, self.label_map)


def label_reader(
    files: SideFiles, survey: FileSurvey, num_classes: int | None, exif: Exif, meaning: LabelMeaning | None = None
) -> tuple[Callable[..., Array], Encode]:
    """Return how label maps are read and encoded: as ids, or as the colours of their own palettes.

    Args:
        files: All files of a side.
        survey: Looks into the files.
        num_classes: Channels of a one-hot encoding; None for colours.
        exif: How EXIF turns are read.
        meaning: What ids mean; None where files say it.

    Raises:
        ValueError: If some files have a palette and others none, or palettes differ where indices count.
    """
    meaning = meaning or LabelMeaning()
    mapped, colours = meaning.label_map, meaning.colours
    by_index = bool(num_classes) or mapped is not None or colours is not None
    require_exact_files(files.paths, files.headers, files.what, indices=by_index)
    read = partial(read_labels, exif=exif) if mapped is None else ClassReader(mapped, exif)
    if by_index and not num_classes:
        require_one_palette(survey.labels(files.paths), "An index means one class in all files: store them so.")
        return read, PaletteEncoder(class_palette(colours))
    if num_classes:
        remedy = "With input_encoding='onehot' an index means one class in all files: store them with one palette."
        require_one_palette(survey.labels(files.paths), remedy)
        return read, OneHotEncoder(num_classes)
    if files.coloured and files.plain is not None:
        raise ValueError(
            f"{len(files.coloured)} of {files.what} have a palette, such as {files.coloured[0]}, and others have none, "
            f"such as {files.plain}: their colours are not known. Store all alike, or pass {files.side}_kind='image' "
            "if values are colours."
        )
    if files.coloured:
        return partial(read_colours, exif=exif), encode_image
    return read, PaletteEncoder(class_palette(None))


def require_known_ids(
    paths: Sequence[tuple[Record, Path]], survey: FileSurvey, encoder: Encode, meaning: LabelMeaning | None = None
) -> None:
    """Raise a ValueError that names the sample where a label map holds ids that the encoder does not know."""
    summaries = survey.labels(path for _, path in paths)
    colours = 256 if meaning is None or meaning.colours is None else len(meaning.colours)
    classes = encoder.num_classes if isinstance(encoder, OneHotEncoder) else colours
    allowed = [*range(classes), VOID]
    advice = "correct the label map or raise num_input_classes"
    meaning = meaning or LabelMeaning()
    for record, path in paths:
        try:
            require_ids(meaning.ids(summaries[path].pixels, path), allowed, advice)
        except ValueError as error:
            raise ValueError(f"{describe(record)}: {error}") from error
