"""The predictability error p, how badly frozen features of the input predict the target: measured by the scorer."""

from mia_lightning.registry import ErrorSpec, errors

PREDICTABILITY = errors.register(
    ErrorSpec(
        name="predictability",
        label="predictability",
        sentence="error p of a linear prediction of the target from frozen features of the input, fitted on other "
        "pixels of the same image; it needs no model and no training set.",
        always=True,
        order=20,
        built_in=True,
    )
)
