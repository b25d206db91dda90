"""The neighbour score: how much smaller the model's error is than on transformed copies of the same pair."""

from mia_lightning.registry import Colour, Column, ScoreInputs, register_score


@register_score(
    "neighbour",
    label="neighbour",
    sentence="how much smaller r is than the model's error on flipped, turned or shifted copies of the pair.",
    errors=("neighbour",),
    needs=frozenset({"neighbours"}),
    colour=Colour("#CC79A7", "#E29CC4"),
    order=40,
)
def neighbour_score(inputs: ScoreInputs) -> Column:
    """Turn the sign of the neighbour error, (N,)."""
    return -inputs.errors["neighbour"]
