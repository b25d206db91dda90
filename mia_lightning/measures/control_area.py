"""The control: AUC of random halves of each side, which has to be one half."""

from mia_lightning.registry import MetricSpec, metrics

metrics.register(
    MetricSpec(
        name="control_auc",
        label="control AUC",
        sentence="AUC of the primary score on random halves of each side in place of the sides: 0.5 but for chance.",
        of="audit",
        keys=("control_auc", "control_auc_low", "control_auc_high"),
        order=97,
        built_in=True,
    )
)
