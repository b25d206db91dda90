"""The neighbour error in which each transformed copy weighs what nonmembers show it to be worth."""

import numpy as np

from mia_lightning.functional.weighting import weighted_neighbour_error
from mia_lightning.registry import Column, ErrorTable, register_error


@register_error(
    "weighted_neighbour",
    label="weighted neigh.",
    sentence="the log-ratios to transformed copies, averaged with the weights of least variance among nonmembers.",
    derived=True,
    needs=frozenset({"neighbours"}),
    order=70,
)
def weighted_neighbours(table: ErrorTable) -> Column:
    """Weigh the log-ratios of each sample, (N,); weights are fitted on nonmembers and cross-fitted."""
    return weighted_neighbour_error(
        np.stack([*table.log_ratios.values()], 1), table.member, seed=table.seed, group=table.group
    )
