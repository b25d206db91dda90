"""The metrics of all audits of a run as one table, for spreadsheets and other programs."""

import csv
import io
from collections.abc import Sequence

from mia_lightning.result.audit_result import AuditResult


def metrics_table(history: Sequence[AuditResult]) -> str:
    """One row an audit: ``epoch`` (from 0, empty outside of a training), ``step`` and every metric that an audit has.

    Example:
        >>> import numpy as np
        >>> audits = [AuditResult({"audit/auc": 0.5}, [], np.zeros(0, bool), {}, {}, {"epoch": 0, "step": 3})]
        >>> metrics_table(audits).splitlines()
        ['epoch,step,audit/auc', '0,3,0.5']
    """
    keys = dict.fromkeys(key for result in history for key in result.metrics)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["epoch", "step", *keys])
    for result in history:
        values = (result.metrics.get(key) for key in keys)
        numbers = ("" if value is None or value != value else repr(value) for value in values)
        writer.writerow([result.epoch, result.meta.get("step"), *numbers])
    return text.getvalue()
