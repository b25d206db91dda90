"""The neighbour error: how much smaller the reconstruction error is than on transformed copies of the same pair."""

import numpy as np

from mia_lightning.registry import Column, ErrorTable, register_error


@register_error(
    "neighbour",
    label="neighbour",
    sentence="mean over transformed copies (flips, small shifts) of the log-ratio of the error on the pair to that "
    "on the copy.",
    derived=True,
    needs=frozenset({"neighbours"}),
    order=60,
)
def neighbour_error(table: ErrorTable) -> Column:
    """Average the log-ratios of each sample, (N,), over the copies that have one."""
    ratios = np.stack([*table.log_ratios.values()], 1)
    finite = np.isfinite(ratios)
    mean: Column = np.where(finite, ratios, 0.0).sum(1) / finite.sum(1)
    return mean
