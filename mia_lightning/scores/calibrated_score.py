"""The calibrated score: what the predictability error does not explain of the reconstruction error."""

from mia_lightning.functional.calibration import calibrated_error
from mia_lightning.registry import Colour, Column, ScoreInputs, register_score


@register_score(
    "calibrated",
    label="calibrated",
    sentence="how much smaller r is than the difficulty p lets one expect, by a relation that was fitted on other "
    "nonmembers.",
    errors=("reconstruction", "predictability"),
    needs=frozenset({"nonmembers"}),
    colour=Colour("#56B4E9", "#8ECDF2"),
    order=30,
)
def calibrated_score(inputs: ScoreInputs) -> Column:
    """Take minus the residual of log r on log p, (N,), by a cross-fitted robust line through the nonmembers."""
    errors = inputs.errors
    both = errors["reconstruction"], errors["predictability"]
    return -calibrated_error(*both, inputs.member, seed=inputs.seed, group=inputs.group)
