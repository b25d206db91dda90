"""The combined score with reference models: how much lower the model's error is than theirs is one more column."""

from mia_lightning.functional.combination import surprise_score
from mia_lightning.registry import Colour, Column, ScoreInputs, register_score
from mia_lightning.scores.combined_score import FURTHER_PARTS, PARTS, difficulty_columns, neighbour_columns
from mia_lightning.scores.reference_column import error_beside_references, reference_weight


@register_score(
    "combined_references",
    label="combined + refs",
    sentence="the combined score, and how much lower r is than the middle of reference models with and without the "
    "sample.",
    errors=PARTS,
    further_errors=FURTHER_PARTS,
    needs=frozenset({"references", "neighbours", "nonmembers"}),
    colour=Colour("#8C4A00", "#FFB27A"),
    order=160,
)
def combined_references(inputs: ScoreInputs) -> Column:
    """Add what reference models tell to the combined score, (N,); one model is enough.

    Theirs is how far the logarithm of the reconstruction error lies below the middle of theirs, at a weight that they
    show of themselves (:mod:`~mia_lightning.scores.reference_column`). Likelihoods of LiRA and RMIA rest on what few
    models leave unknown of each sample; weights are learned from all of them.
    """
    stats = inputs.references.log_errors or inputs.references.statistics
    return surprise_score(
        neighbour_columns(inputs.errors),
        difficulty_columns(inputs),
        inputs.member,
        reference_error=error_beside_references(stats, inputs.member),
        reference_weight=reference_weight(stats, inputs.member),
        seed=inputs.seed,
        group=inputs.group,
    )
