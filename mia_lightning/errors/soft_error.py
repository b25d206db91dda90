"""The soft error of a segmentation: the share of pixels that a draw from the model's probabilities gets wrong."""

from torch import Tensor

from mia_lightning.functional.multilabel import multilabel_error
from mia_lightning.functional.reconstruction import segmentation_error
from mia_lightning.registry import Outputs, register_error


@register_error(
    "soft_error",
    label="soft error",
    sentence="one minus the mean probability of the true class over the pixels that carry one (of what is right, over "
    "independent channels).",
    tasks=("segmentation", "multilabel"),
    always=True,
    order=30,
)
def soft_error(outputs: Outputs) -> Tensor:
    """Measure it, (B,): reference-model attacks on segmenters start from it."""
    if outputs.task == "multilabel":
        return multilabel_error(outputs.prediction, outputs.target, "soft_error")
    return segmentation_error(outputs.prediction, outputs.target, "soft_error", ignore_index=outputs.ignore_index)
