"""The metrics of all audits of a run as one table, for spreadsheets and other programs."""

import csv
import io
from collections.abc import Sequence

from mia_lightning.result.audit_result import AuditResult
from mia_lightning.result.spreadsheet_text import spreadsheet_text

_STEPS = ("step", "logged_step")


def metrics_table(history: Sequence[AuditResult]) -> str:
    """One row an audit: its place in the training, and every metric that an audit has.

    Args:
        history: The audits.

    Returns:
        CSV with ``epoch`` (from 0, empty outside of a training), ``step`` (steps of the training, as in names of
        audit files: batches, where a module steps its optimizers by hand), ``logged_step`` (the place on the axis of
        TensorBoard and other loggers: one less, as Lightning puts the validation after a step there), and the metrics.

    Example:
        >>> import numpy as np
        >>> meta = {"epoch": 0, "step": 3, "logged_step": 2}
        >>> audits = [AuditResult({"audit/auc": 0.5}, [], np.zeros(0, bool), {}, {}, meta)]
        >>> metrics_table(audits).splitlines()
        ['epoch,step,logged_step,audit/auc', '0,3,2,0.5']
    """
    keys = dict.fromkeys(key for result in history for key in result.metrics)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["epoch", *_STEPS, *map(spreadsheet_text, keys)])
    for result in history:
        values = (result.metrics.get(key) for key in keys)
        numbers = ("" if value is None or value != value else repr(value) for value in values)
        writer.writerow([result.epoch, *(result.meta.get(name) for name in _STEPS), *numbers])
    return text.getvalue()
