"""The Dice error of a segmentation: one minus the soft Dice coefficient."""

from torch import Tensor

from mia_lightning.functional.multilabel import multilabel_error
from mia_lightning.functional.reconstruction import segmentation_error
from mia_lightning.registry import Outputs, register_error


@register_error(
    "dice",
    label="Dice",
    sentence="one minus the soft Dice coefficient, averaged over the classes or channels that the target holds.",
    tasks=("segmentation", "multilabel"),
    order=55,
)
def dice_error(outputs: Outputs) -> Tensor:
    """Measure it, (B,)."""
    if outputs.task == "multilabel":
        return multilabel_error(outputs.prediction, outputs.target, "dice")
    return segmentation_error(outputs.prediction, outputs.target, "dice", ignore_index=outputs.ignore_index)
