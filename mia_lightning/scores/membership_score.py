"""The membership score of the paper (Shafran, Peleg and Hoshen, ICCV 2021): minus the membership error."""

from mia_lightning.registry import Colour, Column, ScoreInputs, register_score


@register_score(
    "membership",
    label="membership",
    sentence="alpha p - r: the error r of the model's output, lowered by how hard the pair is by itself: the error p "
    "of a linear prediction of the target from features of the input (Shafran, Peleg and Hoshen, ICCV 2021).",
    errors=("membership",),
    colour=Colour("#0072B2", "#4DB1E8"),
    order=20,
)
def membership_score(inputs: ScoreInputs) -> Column:
    """Turn the sign of the membership error, (N,)."""
    return -inputs.errors["membership"]
