"""An audit as encoded images, for loggers: ROC curves, distributions and galleries of samples."""

import io
from collections.abc import Sequence
from itertools import islice
from typing import get_args
from weakref import WeakKeyDictionary

import numpy as np
from PIL import Image

from mia_lightning.figures.curves import roc_figure
from mia_lightning.figures.distribution import distribution_figure
from mia_lightning.figures.gallery import Row, gallery
from mia_lightning.figures.sample_images import bounded
from mia_lightning.figures.style import to_png
from mia_lightning.result.audit_result import AuditResult
from mia_lightning.result.picture_files import Group, Picture
from mia_lightning.result.remarks import pictured_slices

_GALLERY_ROWS = 6  # of the samples that are pictured
_GALLERY_BYTES = 80_000

_latest: WeakKeyDictionary[AuditResult, tuple[Sequence[Picture], dict[str, bytes]]] = WeakKeyDictionary()

_TITLES: dict[Group, str] = {
    "most exposed": "Members with the highest {} score",
    "least exposed": "Members with the lowest {} score",
    "member-like": "Nonmembers with the highest {} score",
}


def images_of(result: AuditResult, pictures: Sequence[Picture]) -> dict[str, bytes]:
    """Draw an audit, with galleries of the pictured samples; once for all sinks that show it.

    Returns:
        PNG or JPEG by name: ``roc``, ``distribution``, ``most_exposed``, ``least_exposed`` and ``member_like``. What
        there is nothing to draw of is left out.
    """
    drawn_of, images = _latest.get(result, (None, {}))
    if drawn_of is not pictures:
        images = _draw(result, pictures)
        _latest.clear()
        _latest[result] = pictures, images
    return images


def _draw(result: AuditResult, pictures: Sequence[Picture]) -> dict[str, bytes]:
    figures = {}
    if result.member.any() and not result.member.all():
        figures = {"roc": roc_figure(result), "distribution": distribution_figure(result)}
    images = {name: _few_colours(to_png(figure, dpi=100)) for name, figure in figures.items()}
    captions = captions_of(result, [p.row for p in pictures])
    maps = "Middle slices; one scale of errors." if pictured_slices(result) else "Error maps share one scale."
    for group in get_args(Group):
        chosen = [p for p in pictures if p.group == group][:_GALLERY_ROWS]
        if chosen:
            rows = [Row(result.ids[p.row], *captions[p.row], p.parts) for p in chosen]
            note = f"p-value: chance that a nonmember scores as high. {maps}"
            title = _TITLES[group].format(result.primary)
            images[group.replace(" ", "_").replace("-", "_")] = bounded(gallery(rows, title, note), _GALLERY_BYTES)
    return images


def captions_of(result: AuditResult, rows: Sequence[int]) -> dict[int, tuple[str, str]]:
    """What a caption says of samples, by row: the p-value with a mark where one stands out, and the errors."""
    p_values, flagged = result.p_values(), result.flagged()
    errors = dict(islice(result.errors.items(), 3))  # not those of each neighbour
    captions = {}
    for row in rows:
        chance = "" if np.isnan(p_values[row]) else f"p-value {p_values[row]:.3f}"
        mark = f"{chance}, flagged" if flagged[row] else chance
        captions[row] = mark, ", ".join(f"{name} {values[row]:.3f}" for name, values in errors.items())
    return captions


def _few_colours(png: bytes) -> bytes:
    """Shrink a drawing: 64 colours draw its lines and smooth edges."""
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(png)) as drawn:
        drawn.convert("RGB").quantize(64).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()
