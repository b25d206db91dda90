"""The combined score: what neighbours and difficulty tell, each in units of the nonmembers."""

from mia_lightning.functional.calibration import calibrated_error
from mia_lightning.functional.combination import surprise_score
from mia_lightning.registry import Colour, Column, ScoreInputs, register_score


@register_score(
    "combined",
    label="combined",
    sentence="how few nonmembers lie as far below their neighbours, on a logarithmic scale, and how low r is for its "
    "difficulty.",
    errors=("reconstruction", "predictability", "membership", "neighbour", "weighted_neighbour"),
    needs=frozenset({"neighbours", "nonmembers"}),
    colour=Colour("#D55E00", "#FF8A4A"),
    order=50,
)
def combined(inputs: ScoreInputs) -> Column:
    """Add the surprise of neighbours to what the membership and the calibrated error tell, (N,).

    Where there are no weighted neighbours, as in stored tables of errors, the plain mean serves.

    Raises:
        KeyError: If there is neither.
    """
    errors, member, seed, group = inputs.errors, inputs.member, inputs.seed, inputs.group
    neighbour = errors["weighted_neighbour"] if "weighted_neighbour" in errors else errors["neighbour"]
    both = errors["reconstruction"], errors["predictability"]
    difficulty = [errors["membership"], calibrated_error(*both, member, seed=seed, group=group)]
    return surprise_score(neighbour, difficulty, member, seed=seed, group=group)
