"""The Dice error of a segmentation: one minus the soft Dice coefficient."""

from torch import Tensor

from mia_lightning.functional.reconstruction import segmentation_error
from mia_lightning.registry import Outputs, register_error


@register_error(
    "dice",
    label="Dice",
    sentence="one minus the soft Dice coefficient, averaged over the classes that the target holds.",
    tasks=("segmentation",),
    order=55,
)
def dice_error(outputs: Outputs) -> Tensor:
    """Measure it, (B,)."""
    return segmentation_error(outputs.prediction, outputs.target, "dice", ignore_index=outputs.ignore_index)
