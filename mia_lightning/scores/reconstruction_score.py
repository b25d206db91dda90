"""The reconstruction score: minus the model's error, the baseline that easy nonmembers fool."""

from mia_lightning.registry import Colour, Column, ScoreInputs, register_score


@register_score(
    "reconstruction",
    label="reconstruction",
    sentence="-r: minus the error r of the model's output against the target.",
    errors=("reconstruction",),
    colour=Colour("#E69F00", "#F0B43C"),
    order=10,
)
def reconstruction_score(inputs: ScoreInputs) -> Column:
    """Turn the sign of the reconstruction error, (N,)."""
    return -inputs.errors["reconstruction"]
