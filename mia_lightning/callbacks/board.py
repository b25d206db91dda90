"""What an audit puts on TensorBoard beside its scalars: words, histograms, ROC, galleries."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import Any, get_args

import lightning.pytorch as pl
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image

from mia_lightning.callbacks.pictures import captions_of
from mia_lightning.figures.curves import roc_figure
from mia_lightning.figures.distribution import common_edges, distribution_figure
from mia_lightning.figures.gallery import Row, gallery
from mia_lightning.figures.sample_images import bounded
from mia_lightning.figures.style import to_png
from mia_lightning.result.audit_result import AuditResult
from mia_lightning.result.markdown_text import as_markdown
from mia_lightning.result.picture_files import Group, Picture
from mia_lightning.result.verdict import headline

GALLERY_ROWS = 6
"""Samples a gallery, of those that are pictured."""
_GALLERY_BYTES = 80_000

_TITLES: dict[Group, str] = {
    "most exposed": "Members with the highest {} score",
    "least exposed": "Members with the lowest {} score",
    "member-like": "Nonmembers with the highest {} score",
}


def boards_of(trainer: pl.Trainer) -> list[TensorBoardLogger]:
    """The TensorBoard loggers of a trainer, on its first process; none elsewhere."""
    return [x for x in trainer.loggers if isinstance(x, TensorBoardLogger)] if trainer.is_global_zero else []


def logged_step(trainer: pl.Trainer) -> int:
    """Step at which Lightning logs scalars: it counts batches, where global_step counts the steps of all optimizers."""
    return int(getattr(trainer.fit_loop.epoch_loop, "_batches_that_stepped", trainer.global_step))


def write_words(trainer: pl.Trainer, result: AuditResult) -> None:
    """Write the verdict and the histograms of both sides: at each audit, since they take little room.

    Args:
        trainer: The trainer whose TensorBoard loggers are written to; without one nothing happens.
        result: The audit.
    """
    boards = boards_of(trainer)
    if not boards:
        return
    step, text, histograms = logged_step(trainer), words(result), list(_histograms(result))
    for board in boards:
        writer: Any = board.experiment
        writer.add_text(f"{result.prefix}/verdict", text, step)
        for histogram in histograms:
            writer._get_file_writer().add_summary(histogram, step)
        writer.flush()


def write_figures(trainer: pl.Trainer, result: AuditResult, pictures: Sequence[Picture], step: int) -> None:
    """Write ROC, distribution and galleries.

    Args:
        trainer: The trainer whose TensorBoard loggers are written to; without one nothing happens.
        result: The audit.
        pictures: Samples to show.
        step: Step at which the audit was logged.
    """
    boards = boards_of(trainer)
    if not boards or not result.ids:
        return
    images = {f"{result.prefix}/{name}": content for name, content in _figures(result, pictures).items()}
    for board in boards:
        writer: Any = board.experiment
        for tag, content in images.items():
            writer._get_file_writer().add_summary(_image(tag, content), step)
        writer.flush()


def words(result: AuditResult) -> str:
    """The verdict as Markdown, in which ids and notes are plain text."""
    lines = [as_markdown(sentence) for sentence in result.verdict]
    return "\n\n".join([f"**{as_markdown(headline(result))}**", *lines])


def _histograms(result: AuditResult) -> Iterator[Any]:
    """Histograms of each error, a side each: the same bins, empty ones included, so that the axes agree."""
    import numpy as np
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.histogram.metadata import create_summary_metadata
    from tensorboard.util.tensor_util import make_tensor_proto

    for name, error in result.errors.items():
        edges = common_edges(error)
        for side, mask in (("members", result.member), ("nonmembers", ~result.member)):
            if mask.any():
                counts, _ = np.histogram(error[mask & np.isfinite(error)], edges)
                value = Summary.Value(
                    tag=f"{result.prefix}/{name}/{side}",
                    metadata=create_summary_metadata(display_name=None, description=None),
                    tensor=make_tensor_proto(np.stack([edges[:-1], edges[1:], counts], 1)),
                )
                yield Summary(value=[value])


def _figures(result: AuditResult, pictures: Sequence[Picture]) -> dict[str, bytes]:
    figures = {}
    if result.member.any() and not result.member.all():
        figures = {"roc": roc_figure(result), "distribution": distribution_figure(result)}
    images = {name: _few_colours(to_png(figure, dpi=100)) for name, figure in figures.items()}
    captions = captions_of(result, [p.row for p in pictures])
    for group in get_args(Group):
        chosen = [p for p in pictures if p.group == group][:GALLERY_ROWS]
        if chosen:
            rows = [Row(result.ids[p.row], *captions[p.row], p.parts) for p in chosen]
            note = "p-value: chance that a nonmember scores as high. Error maps share one scale."
            title = _TITLES[group].format(result.primary)
            images[group.replace(" ", "_").replace("-", "_")] = bounded(gallery(rows, title, note), _GALLERY_BYTES)
    return images


def _few_colours(png: bytes) -> bytes:
    """Shrink a drawing: 64 colours draw its lines and smooth edges."""
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(png)) as drawn:
        drawn.convert("RGB").quantize(64).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def _image(tag: str, content: bytes) -> Any:
    """An image summary of an encoded picture; ``SummaryWriter.add_image`` would encode it anew, as a large PNG."""
    from tensorboard.compat.proto.summary_pb2 import Summary

    with Image.open(io.BytesIO(content)) as opened:
        width, height = opened.size
    shown = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=content)
    return Summary(value=[Summary.Value(tag=tag, image=shown)])
