"""The patch score (Segmentations-Leak, He et al., ECCV 2020), computed by the attack that trains on loss maps."""

from mia_lightning.registry import ScoreSpec, scores

PATCH = scores.register(
    ScoreSpec(
        name="patch",
        label="patch",
        sentence="a classifier of loss maps, trained on a reference model (Segmentations-Leak, He et al., 2020).",
        needs=frozenset({"references"}),
        order=150,
        built_in=True,
    )
)
