"""The structural error of a translation: one minus the structural similarity (Wang et al., 2004)."""

from torch import Tensor

from mia_lightning.functional.reconstruction import translation_error
from mia_lightning.registry import Outputs, register_error


@register_error(
    "ssim",
    label="1 - SSIM",
    sentence="one minus the structural similarity of the model's output and the target (Wang et al., 2004).",
    tasks=("translation",),
    order=45,
)
def ssim_error(outputs: Outputs) -> Tensor:
    """Measure it, (B,)."""
    return translation_error(outputs.prediction, outputs.target, "ssim")
