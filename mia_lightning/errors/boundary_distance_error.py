"""The boundary distance of a segmentation: how far predicted boundaries of classes lie from the true ones."""

from torch import Tensor

from mia_lightning.functional.boundaries import boundary_distance
from mia_lightning.functional.reconstruction import two_sided
from mia_lightning.registry import Outputs, register_error

BOUNDARY_DISTANCE = "boundary_distance"


@register_error(
    BOUNDARY_DISTANCE,
    label="boundary",
    sentence="mean distance of the boundaries of predicted and true classes, both ways, as a share of the image's "
    "diagonal; audits of models that return class numbers alone always have it.",
    tasks=("segmentation",),
    order=57,
)
def boundary_distance_error(outputs: Outputs) -> Tensor:
    """Measure it on the most likely classes, (B,)."""
    logits = two_sided(outputs.prediction)
    return boundary_distance(logits.argmax(1), outputs.target, logits.shape[1], outputs.ignore_index)
