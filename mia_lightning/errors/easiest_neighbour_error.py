"""The error relative to the easiest copies: is the model better on the pair than on any transformed copy of it?"""

import numpy as np

from mia_lightning.functional.weighting import easiest_neighbour_error
from mia_lightning.registry import Column, ErrorTable, register_error


@register_error(
    "easiest_neighbour",
    label="easiest neigh.",
    sentence="the log-ratio of the error on the pair to the least on transformed copies, a soft minimum.",
    derived=True,
    needs=frozenset({"neighbours"}),
    order=75,
)
def easiest_neighbour(table: ErrorTable) -> Column:
    """Compare each pair with the copies that the model finds easiest, (N,)."""
    return easiest_neighbour_error(np.stack([*table.log_ratios.values()], 1))
