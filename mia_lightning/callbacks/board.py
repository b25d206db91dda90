"""What an audit puts on TensorBoard beside its scalars: histograms, ROC, gallery and the layout that joins them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.loggers import TensorBoardLogger

from mia_lightning.audit.scoring import Exhibit
from mia_lightning.figures.curves import roc_figure
from mia_lightning.figures.gallery import Tile, gallery
from mia_lightning.figures.style import to_array
from mia_lightning.results.result import AuditResult
from mia_lightning.results.summary import NO_INTERVAL

GALLERY_ROWS = 6


def write_board(
    trainer: pl.Trainer,
    result: AuditResult,
    exhibit: Callable[[Sequence[int]], list[Exhibit]],
    together: bool = False,
    *,
    first: bool,
) -> None:
    """Write histograms, figures and, the first time, the custom-scalar layout. Call on every process; the first writes.

    Args:
        trainer: The trainer whose TensorBoard loggers are written to; without one nothing happens.
        result: The audit.
        exhibit: Gives pictures of members by their positions.
        together: Whether all processes must make the pictures together, since the model's forward pass is a collective.
        first: Whether to write the layout.
    """
    boards = [x for x in trainer.loggers if isinstance(x, TensorBoardLogger)]
    if not boards or not result.ids or not (together or trainer.is_global_zero):
        return
    rows, positions = result.top_indices(GALLERY_ROWS), result.positions
    exhibits = exhibit([] if positions is None else [int(positions[r]) for r in rows])
    if not trainer.is_global_zero:
        return
    writers: list[Any] = [x.experiment for x in boards]
    step, prefix = logged_step(trainer), result.prefix
    pictures = {f"{prefix}/exposed_members": to_array(_exposed(result, rows, exhibits))}
    if result.member.any() and not result.member.all():
        pictures[f"{prefix}/roc"] = to_array(roc_figure(result))
    for writer in writers:
        if first:
            writer.add_custom_scalars(layout(prefix, list(result.scores)))
        for name, error in result.errors.items():
            for side, mask in (("members", result.member), ("nonmembers", ~result.member)):
                if mask.any():
                    writer.add_histogram(f"{prefix}/{name}/{side}", error[mask], step)
        for tag, picture in pictures.items():
            writer.add_image(tag, picture, step, dataformats="HWC")
        writer.flush()


def layout(prefix: str, scores: Sequence[str]) -> dict[str, dict[str, list[Any]]]:
    """Describe the "Memorization" page: one band a score, all scores together, operating points, errors a side.

    Args:
        prefix: First part of the metric keys.
        scores: Names of the scores.

    Returns:
        What ``SummaryWriter.add_custom_scalars`` takes.
    """
    bands = {
        f"{name} AUC with 95 % interval": [
            "Margin",
            [f"{prefix}/{part}/{name}" for part in ("auc", "auc_low", "auc_high")],
        ]
        for name in sorted(scores, key=lambda s: s != "membership")
        if name not in NO_INTERVAL
    }
    lines = {
        "AUC of all scores and the blind baseline": [*(f"{prefix}/auc/{s}" for s in scores), f"{prefix}/blind_auc"],
        "true positives at 1 % and 0.1 % false positives": [
            f"{prefix}/tpr_at_fpr_{fpr}/{s}" for s in scores for fpr in ("0.01", "0.001")
        ],
        "reconstruction error of both sides": [f"{prefix}/error/reconstruction/{s}" for s in ("members", "nonmembers")],
    }
    title = "Memorization" if prefix == "audit" else f"Memorization ({prefix})"
    return {title: bands | {name: ["Multiline", tags] for name, tags in lines.items()}}


def logged_step(trainer: pl.Trainer) -> int:
    """Step at which Lightning logs scalars: it counts batches, where global_step counts the steps of all optimizers."""
    return int(getattr(trainer.fit_loop.epoch_loop, "_batches_that_stepped", trainer.global_step))


def _exposed(result: AuditResult, rows: Sequence[int], exhibits: Sequence[Exhibit]) -> Any:
    tiles = []
    for row, shown in zip(rows, exhibits, strict=False):
        numbers = "  ".join(f"{name} {values[row]:.4f}" for name, values in result.errors.items())
        caption = f"{result.ids[row]}   {numbers}"
        tiles.append(Tile(caption, shown.input[0], shown.target[0], shown.prediction[0]))
    return gallery(tiles, f"Most exposed members by {result.primary} score")
