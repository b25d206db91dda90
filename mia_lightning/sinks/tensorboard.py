"""Audits on TensorBoard beside their scalars: verdict, histograms, figures, custom-scalar pages and hparams."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from PIL import Image

from mia_lightning import registry
from mia_lightning.audit.config import AuditConfig
from mia_lightning.figures.distribution import common_edges
from mia_lightning.functional.slice_audit import escaped
from mia_lightning.lightning_packages.loaded import FITTING
from mia_lightning.result.audit_result import AuditResult
from mia_lightning.result.markdown_text import as_markdown
from mia_lightning.result.picture_files import Picture
from mia_lightning.result.verdict import headline
from mia_lightning.sinks.audit_images import images_of
from mia_lightning.sinks.base import AuditSink, loggers_of

if TYPE_CHECKING:
    import lightning.pytorch as pl

_COMPARED = ("auc", "tpr_at_fpr_0.01", "blind_auc", "epsilon_low")
_ENDS = ("", "_low", "_high")

Page = dict[str, list[Any]]


class TensorBoardSink(AuditSink):
    """Writes to the TensorBoard loggers of the trainer.

    Pages and hparams are written once for all audits of a training: TensorBoard reads one layout a run, the last that
    was written, and one description of its hparams, the first. The sink of the trainer's first audit writes them, as
    soon as the keys of the project's validation metrics are known.
    """

    wants_pictures = True

    def __init__(self) -> None:
        self._leads = False
        self._held: list[Any] = []
        self._utility: set[str] = set()
        self._pages: dict[str, Page] = {}

    def open(self, trainer: pl.Trainer, config: AuditConfig, history: Sequence[AuditResult]) -> None:
        """Keep Lightning from describing the hparams first, by ``hp_metric`` alone, as it does before a training."""
        if _audits(trainer)[0].prefix != config.prefix:
            return
        self._leads, self._utility, self._pages = True, set(), {}
        for board in loggers_of(trainer, "TensorBoardLogger") if trainer.state.fn == FITTING else ():
            if getattr(board, "_default_hp_metric", False):
                cast(Any, board)._default_hp_metric = False
                self._held.append(board)

    def start(self, trainer: pl.Trainer) -> None:
        """Leave the loggers as they were."""
        while self._held:
            self._held.pop()._default_hp_metric = True

    def write(self, trainer: pl.Trainer, result: AuditResult, step: int) -> None:
        """Write the verdict and the histograms of both sides."""
        text, histograms = verdict_text(result), list(_histograms(result))
        for board in loggers_of(trainer, "TensorBoardLogger"):
            writer: Any = board.experiment
            writer.add_text(f"{result.prefix}/verdict", text, step)
            for histogram in histograms:
                writer._get_file_writer().add_summary(histogram, step)
            writer.flush()

    def show(self, trainer: pl.Trainer, result: AuditResult, pictures: Sequence[Picture], step: int) -> None:
        """Write ROC, distribution and galleries."""
        images = images_of(result, pictures)
        for board in loggers_of(trainer, "TensorBoardLogger"):
            writer: Any = board.experiment
            for name, content in images.items():
                writer._get_file_writer().add_summary(_image(f"{result.prefix}/{name}", content), step)
            writer.flush()

    def close(self, trainer: pl.Trainer, history: Sequence[AuditResult]) -> None:
        """Write pages and hparams of a training that had no validation; a later one begins anew."""
        if not self._pages:
            self.end_validation(trainer, ())
        self.start(trainer)
        self._leads = False

    def end_validation(self, trainer: pl.Trainer, utility: Sequence[str]) -> None:
        """Write pages and hparams, later new pages if there are new metrics: a killed run is comparable, too."""
        if not self._leads:
            return
        self._utility.update(utility)
        audits = [a.auditor.config for a in _audits(trainer)]
        results = [a.result for a in _audits(trainer) if a.result is not None]
        banded = {result.prefix for result in results if not math.isnan(result.band()[0])}
        pages = layout(audits, self._utility, banded)
        for board in loggers_of(trainer, "TensorBoardLogger"):
            writer: Any = board.experiment
            if not self._pages:
                write_hparams(board, audits, self._utility)
            if pages != self._pages:
                writer.add_custom_scalars(pages)
                writer.flush()
        self._pages = pages


def verdict_text(result: AuditResult) -> str:
    """The verdict as Markdown, in which ids and notes are plain text."""
    lines = [as_markdown(sentence) for sentence in result.verdict]
    return "\n\n".join([f"**{as_markdown(headline(result))}**", *lines])


def layout(audits: Sequence[AuditConfig], utility: Iterable[str], banded: Collection[str] = ()) -> dict[str, Page]:
    """Describe the pages of a run: for each audit bands, one page of utility for all, for each audit further lines.

    TensorBoard reads one layout a run, the last that was written, so all audits of a training share it. It shows the
    bands of a page after its lines, and in reverse; hence they have pages of their own, the most important last. The
    audits of the prefixes ``banded`` have bands of all looks, too.

    Returns:
        What ``SummaryWriter.add_custom_scalars`` takes.
    """
    pages = {_title("Memorization", a): _bands(a, banded=a.prefix in banded) for a in audits}
    if charts := {key: _lines(key) for key in plain_keys(utility)}:
        pages["Utility"] = charts
    return pages | {_title("Other scores, fairness, errors", a): _further(a) for a in audits}


def plain_keys(keys: Iterable[str]) -> list[str]:
    """Leave out keys that Lightning adds to a metric that is logged by step and by epoch.

    Example:
        >>> plain_keys(["val/loss", "val/loss_epoch", "val/loss_step", "next_step"])
        ['next_step', 'val/loss']
    """
    base = {key: key.removesuffix("_step").removesuffix("_epoch") for key in keys}
    return sorted(key for key in base if base[key] == key or base[key] not in base)


def write_hparams(board: pl.loggers.TensorBoardLogger, audits: Sequence[AuditConfig], utility: Iterable[str]) -> None:
    """Write the hyperparameters of the logger, and which scalars are a run's metrics.

    TensorBoard shows the latest value of each scalar, so once is enough, and early.
    """
    from torch.utils.tensorboard.summary import hparams

    logged = set(utility)
    own = [f"{a.prefix}/{key}" for a in audits for key in _COMPARED]
    theirs = [f"{key}_epoch" if f"{key}_epoch" in logged else key for key in plain_keys(logged)]
    settings = board.hparams if isinstance(board.hparams, Mapping) else vars(board.hparams)
    writer: Any = board.experiment
    summaries: Any = cast(Any, hparams)(dict(_flat(settings)), dict.fromkeys([*own, *theirs], 0.0))
    for summary in summaries:
        writer._get_file_writer().add_summary(summary)


def _audits(trainer: pl.Trainer) -> list[Any]:
    """The audits among the trainer's callbacks, whose class is on a floor above."""
    return [c for c in cast(Any, trainer).callbacks if hasattr(c, "auditor")]


def _flat(values: Mapping[Any, Any], before: str = "") -> Iterable[tuple[str, Any]]:
    """Values that TensorBoard can hold, by path: numbers and text; what Lightning keeps for itself is left out."""
    for key, value in values.items():
        if str(key).startswith("_"):
            continue
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{key}/")
        else:
            # Truth values would become numbers.
            yield f"{before}{key}", value if type(value) in (int, float, str) else str(value)


def _title(name: str, audit: AuditConfig) -> str:
    return name if audit.prefix == "audit" else f"{name} ({audit.prefix})"


def _bands(audit: AuditConfig, *, banded: bool) -> Page:
    prefix, primary = audit.prefix, audit.primary
    charts = {
        "true positives at 1 % false positives": [f"tpr{end}_at_fpr_0.01/{primary}" for end in _ENDS],
    }
    if banded:
        ends = [f"auc_{end}_simultaneous/{primary}" for end in ("low", "high")]
        charts[f"AUC of the {primary} score, all looks together"] = [f"auc/{primary}", *ends]
    charts[f"AUC of the {primary} score"] = [f"auc{end}/{primary}" for end in _ENDS]
    return {f"{name}, 95 % interval": ["Margin", [f"{prefix}/{k}" for k in keys]] for name, keys in charts.items()}


def _further(audit: AuditConfig) -> Page:
    at = {fpr: [f"tpr_at_fpr_{fpr}/{name}" for name in audit.scores] for fpr in ("0.01", "0.001")}
    charts = {
        "AUC of all scores and of the blind attack": [*(f"auc/{name}" for name in audit.scores), "blind_auc"],
        "true positives at 1 % false positives": at["0.01"],
        "true positives at 0.1 % false positives": at["0.001"],
        "epsilon, lower bound": ["epsilon_low"],
    }
    of_classes = [spec for spec in registry.errors if spec.each_class is not None and spec.name in audit.errors]
    for error in ("reconstruction", "membership", *audit.errors):
        if error not in [spec.name for spec in of_classes]:
            charts[f"{error} error of both sides"] = [f"error/{error}/{side}" for side in ("members", "nonmembers")]
    for spec in registry.metrics:
        if not spec.built_in:
            each = [f"{spec.name}/{name}" for name in audit.scores]
            charts[spec.label] = each if spec.of == "score" else [*(spec.keys or (spec.name,))]
    pages = {name: _lines(*(f"{audit.prefix}/{key}" for key in keys)) for name, keys in charts.items()}
    for error_spec in of_classes:  # which classes and slices there are shows later
        name, label = error_spec.name, error_spec.label
        pages[f"AUC of the {label} of each class"] = _matching(f"{audit.prefix}/{name}/", "[^/]+/auc")
        pages[f"{label} of both sides, each class"] = _matching(f"{audit.prefix}/error/{name}/", "[^/]+/[a-z]+")
    for column in audit.columns:
        pages[f"AUC by {column}"] = _matching(f"{audit.prefix}/slice/{escaped(column)}/", "[^/]+/auc")
    return pages


def _matching(start: str, rest: str) -> list[Any]:
    """A chart of all keys that begin so and go on as an expression says."""
    return ["Multiline", [f"^{re.escape(start)}{rest}(_epoch)?$"]]


def _lines(*keys: str) -> list[Any]:
    # TensorBoard takes them for expressions that a tag begins with: audit/blind_auc would bring its parts along.
    return ["Multiline", [f"^{re.escape(key)}(_epoch)?$" for key in keys]]


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


def _image(tag: str, content: bytes) -> Any:
    """An image summary of an encoded picture; ``SummaryWriter.add_image`` would encode it anew, as a large PNG."""
    from tensorboard.compat.proto.summary_pb2 import Summary

    with Image.open(io.BytesIO(content)) as opened:
        width, height = opened.size
    shown = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=content)
    return Summary(value=[Summary.Value(tag=tag, image=shown)])
