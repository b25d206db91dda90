"""The error relative to the easiest copies, tile by tile: on how much of a pair is the model better than on any?"""

from mia_lightning.registry import Column, ErrorTable, register_error


@register_error(
    "tile_neighbour",
    label="tile neigh.",
    sentence="the log-ratio of the error on the pair to the least on transformed copies, tile by tile, averaged.",
    derived=True,
    needs=frozenset({"neighbours"}),
    order=77,
)
def tile_neighbour(table: ErrorTable) -> Column | None:
    """Take what was measured beside the errors of copies, (N,); None of outputs too small for tiles."""
    return table.tile_ratio
