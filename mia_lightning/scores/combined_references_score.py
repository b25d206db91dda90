"""The combined score with reference models: how much lower the model's error is than theirs is one more column."""

from mia_lightning.functional.calibration import calibrated_error
from mia_lightning.functional.combination import surprise_score
from mia_lightning.registry import Colour, Column, ScoreInputs, register_score
from mia_lightning.scores.combined_score import neighbour_columns
from mia_lightning.scores.difficulty import difficulty_calibrated


@register_score(
    "combined_references",
    label="combined + refs",
    sentence="the combined score, and how much lower r is than that of reference models without the sample.",
    errors=("reconstruction", "predictability", "membership", "neighbour", "weighted_neighbour", "easiest_neighbour"),
    needs=frozenset({"references", "neighbours", "nonmembers"}),
    colour=Colour("#8C4A00", "#FFB27A"),
    order=160,
)
def combined_references(inputs: ScoreInputs) -> Column:
    """Add what reference models tell to the combined score, (N,); one model is enough.

    Theirs is the mean difference of the logarithms of the reconstruction errors, as difficulty calibration takes it
    (samples that a model was trained on are treated as there). Likelihoods of LiRA and RMIA rest on variances between
    models, which a few models do not have.
    """
    errors, member, seed, group = inputs.errors, inputs.member, inputs.seed, inputs.group
    both = errors["reconstruction"], errors["predictability"]
    difficulty = [errors["membership"], calibrated_error(*both, member, seed=seed, group=group)]
    stats = inputs.references.log_errors or inputs.references.statistics
    beside = -difficulty_calibrated(-stats.target, -stats.references, stats.included)
    return surprise_score(neighbour_columns(errors), difficulty, member, reference_error=beside, seed=seed, group=group)
