"""The reconstruction error r: how far the model's output lies from the target."""

from torch import Tensor

from mia_lightning.functional.reconstruction import segmentation_error, translation_error
from mia_lightning.registry import Outputs, register_error


@register_error(
    "reconstruction",
    label="reconstruction",
    sentence="error r of the model's output against the target: mean absolute difference of images in [0, 1], or mean "
    "cross-entropy over the pixels that carry a class.",
    always=True,
    order=10,
)
def reconstruction_error(outputs: Outputs) -> Tensor:
    """Measure L1 for translation, cross-entropy for segmentation, as the paper does, (B,)."""
    if outputs.task == "translation":
        return translation_error(outputs.prediction, outputs.target)
    return segmentation_error(outputs.prediction, outputs.target, ignore_index=outputs.ignore_index)
