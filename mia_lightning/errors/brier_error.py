"""The Brier error of a segmentation: how far class probabilities lie from the label."""

from torch import Tensor

from mia_lightning.functional.multilabel import multilabel_error
from mia_lightning.functional.reconstruction import segmentation_error
from mia_lightning.registry import Outputs, register_error


@register_error(
    "brier",
    label="Brier",
    sentence="mean squared distance of class probabilities and one-hot target, summed over classes, over valid pixels; "
    "of independent channels, the mean over them.",
    tasks=("segmentation", "multilabel"),
    order=50,
)
def brier_error(outputs: Outputs) -> Tensor:
    """Measure it, (B,)."""
    if outputs.task == "multilabel":
        return multilabel_error(outputs.prediction, outputs.target, "brier")
    return segmentation_error(outputs.prediction, outputs.target, "brier", ignore_index=outputs.ignore_index)
