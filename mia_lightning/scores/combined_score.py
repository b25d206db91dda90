"""The combined score: membership and neighbours in robust units of the nonmembers, added."""

from mia_lightning.functional.calibration import combined_score
from mia_lightning.registry import Colour, Column, ScoreInputs, register_score


@register_score(
    "combined",
    label="combined",
    sentence="the sum of two standardised scores: membership on a logarithmic scale, and neighbour.",
    errors=("membership", "neighbour", "weighted_neighbour"),
    needs=frozenset({"neighbours", "nonmembers"}),
    colour=Colour("#D55E00", "#FF8A4A"),
    order=50,
)
def combined(inputs: ScoreInputs) -> Column:
    """Add both, (N,); where there are no weighted neighbours, as in stored tables of errors, the plain mean serves.

    Raises:
        KeyError: If there is neither.
    """
    errors = inputs.errors
    neighbour = errors["weighted_neighbour"] if "weighted_neighbour" in errors else errors["neighbour"]
    return combined_score(errors["membership"], neighbour, inputs.member, seed=inputs.seed, group=inputs.group)
