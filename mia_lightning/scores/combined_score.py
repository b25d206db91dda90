"""The combined score: what neighbours and difficulty tell, each in units of the nonmembers."""

from collections.abc import Mapping

from mia_lightning.functional.calibration import calibrated_error
from mia_lightning.functional.combination import surprise_score
from mia_lightning.registry import Colour, Column, ScoreInputs, register_score

PARTS = ("reconstruction", "predictability", "membership", "neighbour", "weighted_neighbour", "easiest_neighbour")
"""Errors that scores of this kind need."""

FURTHER_PARTS = ("tile_neighbour",)
"""Errors that they take where samples have them."""


def difficulty_columns(inputs: ScoreInputs) -> list[Column]:
    """Errors relative to the difficulty of a sample, (N,) each: the membership and the calibrated error."""
    errors = inputs.errors
    both = errors["reconstruction"], errors["predictability"]
    return [errors["membership"], calibrated_error(*both, inputs.member, seed=inputs.seed, group=inputs.group)]


def neighbour_columns(errors: Mapping[str, Column]) -> list[Column]:
    """Errors relative to neighbours, (N,) each: weighted, easiest and easiest tile by tile, as far as they are there.

    Outputs may be too small for tiles, and stored tables of errors may hold none of them; then the plain mean serves.
    A KeyError where that is missing, too.
    """
    names = ("weighted_neighbour", "easiest_neighbour", *FURTHER_PARTS)
    found = [errors[name] for name in names if name in errors]
    return found or [errors["neighbour"]]


@register_score(
    "combined",
    label="combined",
    sentence="how few nonmembers lie as far below their neighbours, on average, the easiest of them and the easiest of "
    "each tile, on a logarithmic scale, and how low r is for its difficulty.",
    errors=PARTS,
    further_errors=FURTHER_PARTS,
    needs=frozenset({"neighbours", "nonmembers"}),
    colour=Colour("#D55E00", "#FF8A4A"),
    order=50,
)
def combined(inputs: ScoreInputs) -> Column:
    """Add the surprise of neighbours to what the membership and the calibrated error tell, (N,).

    Raises:
        KeyError: If there is no neighbour error (:func:`neighbour_columns`).
    """
    neighbours, difficulty = neighbour_columns(inputs.errors), difficulty_columns(inputs)
    return surprise_score(neighbours, difficulty, inputs.member, seed=inputs.seed, group=inputs.group)
