"""The combined score: what neighbours and difficulty tell, each in units of the nonmembers."""

from collections.abc import Mapping

from mia_lightning.functional.calibration import calibrated_error
from mia_lightning.functional.combination import surprise_score
from mia_lightning.registry import Colour, Column, ScoreInputs, register_score


def neighbour_columns(errors: Mapping[str, Column]) -> list[Column]:
    """Errors relative to neighbours, (N,) each: weighted, easiest and easiest tile by tile, as far as they are there.

    Outputs may be too small for tiles, and stored tables of errors may hold none of them; then the plain mean serves.
    A KeyError where that is missing, too.
    """
    names = ("weighted_neighbour", "easiest_neighbour", "tile_neighbour")
    found = [errors[name] for name in names if name in errors]
    return found or [errors["neighbour"]]


@register_score(
    "combined",
    label="combined",
    sentence="how few nonmembers lie as far below their neighbours, on average, the easiest of them and the easiest of "
    "each tile, on a logarithmic scale, and how low r is for its difficulty.",
    errors=("reconstruction", "predictability", "membership", "neighbour", "weighted_neighbour", "easiest_neighbour"),
    further_errors=("tile_neighbour",),
    needs=frozenset({"neighbours", "nonmembers"}),
    colour=Colour("#D55E00", "#FF8A4A"),
    order=50,
)
def combined(inputs: ScoreInputs) -> Column:
    """Add the surprise of neighbours to what the membership and the calibrated error tell, (N,).

    Raises:
        KeyError: If there is no neighbour error (:func:`neighbour_columns`).
    """
    errors, member, seed, group = inputs.errors, inputs.member, inputs.seed, inputs.group
    both = errors["reconstruction"], errors["predictability"]
    difficulty = [errors["membership"], calibrated_error(*both, member, seed=seed, group=group)]
    return surprise_score(neighbour_columns(errors), difficulty, member, seed=seed, group=group)
