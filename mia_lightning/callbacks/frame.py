"""What surrounds the audits on TensorBoard, once for all audits of a training: custom-scalar pages and hparams."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import lightning.pytorch as pl
from lightning.pytorch.loggers import TensorBoardLogger

from mia_lightning.callbacks.board import boards_of
from mia_lightning.callbacks.layout import Audited, layout, plain_keys
from mia_lightning.callbacks.trainer_conditions import callbacks_of

_COMPARED = ("auc", "tpr_at_fpr_0.01", "blind_auc", "epsilon_low")


class Frame:
    """Writes pages and hparams when the keys of the project's validation metrics are known.

    Each audit has one, and that of the first audit in the trainer speaks for all: TensorBoard reads one layout a run,
    the last that was written, and one description of its hparams, the first.

    Args:
        audit: The callback that the frame belongs to.
    """

    def __init__(self, audit: pl.Callback) -> None:
        self._audit = audit
        self._held: list[Any] = []
        self._keys: set[str] = set()
        self._pages: dict[str, Any] = {}

    def hold(self, trainer: pl.Trainer) -> None:
        """Keep Lightning from describing the hparams first, by ``hp_metric`` alone; :meth:`release` must follow."""
        for board in boards_of(trainer) if self._leads(trainer) else ():
            if getattr(board, "_default_hp_metric", False):
                cast(Any, board)._default_hp_metric = False
                self._held.append(board)

    def release(self) -> None:
        """Leave the loggers as they were."""
        while self._held:
            self._held.pop()._default_hp_metric = True

    def write(self, trainer: pl.Trainer, utility: Iterable[str]) -> None:
        """Write what is not written yet: at first all, later new pages if there are new metrics.

        Args:
            trainer: The trainer whose TensorBoard loggers are written to; without one nothing happens.
            utility: Keys of the project's validation metrics.
        """
        boards = boards_of(trainer) if self._leads(trainer) else []
        if not boards:
            return
        self._keys.update(utility)
        audits = [Audited(s.prefix, s.primary, tuple(s.scores)) for s in (a.auditor.config for a in _audits(trainer))]
        pages = layout(audits, self._keys)
        for board in boards:
            writer: Any = board.experiment
            if not self._pages:
                write_hparams(board, audits, self._keys)
            if pages != self._pages:
                writer.add_custom_scalars(pages)
                writer.flush()
        self._pages = pages

    def close(self, trainer: pl.Trainer) -> None:
        """Write for a training that ends before its first validation has ended."""
        self.release()
        if not self._pages:
            self.write(trainer, ())

    def _leads(self, trainer: pl.Trainer) -> bool:
        return next(iter(_audits(trainer)), None) is self._audit


def write_hparams(board: TensorBoardLogger, audits: Sequence[Audited], utility: Iterable[str]) -> None:
    """Write the hyperparameters that the logger was given, and which scalars are a run's metrics.

    TensorBoard shows the latest value of each scalar, so once is enough, and early: a killed run is comparable, too.

    Args:
        board: The logger.
        audits: The audits of the training.
        utility: Keys of the project's validation metrics.
    """
    from torch.utils.tensorboard.summary import hparams

    known = set(utility)
    own = [f"{a.prefix}/{key}" for a in audits for key in _COMPARED]
    theirs = [f"{key}_epoch" if f"{key}_epoch" in known else key for key in plain_keys(known)]
    given = board.hparams if isinstance(board.hparams, Mapping) else vars(board.hparams)
    writer: Any = board.experiment
    parts: Any = cast(Any, hparams)(dict(_flat(given)), dict.fromkeys([*own, *theirs], 0.0))
    for part in parts:
        writer._get_file_writer().add_summary(part)


def _audits(trainer: pl.Trainer) -> list[Any]:
    return [c for c in callbacks_of(trainer) if hasattr(c, "auditor")]


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
