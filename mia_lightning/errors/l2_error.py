"""The L2 error of a translation: the mean squared difference of pixels."""

from torch import Tensor

from mia_lightning.functional.reconstruction import translation_error
from mia_lightning.registry import Outputs, register_error


@register_error(
    "l2",
    label="L2",
    sentence="mean squared difference of the model's output and the target over pixels and channels, images in [0, 1].",
    tasks=("translation",),
    order=40,
)
def l2_error(outputs: Outputs) -> Tensor:
    """Measure it, (B,)."""
    return translation_error(outputs.prediction, outputs.target, "l2")
