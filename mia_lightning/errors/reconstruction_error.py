"""The reconstruction error r: how far the model's output lies from the target."""

from torch import Tensor

from mia_lightning.functional.multilabel import MultilabelError, multilabel_error
from mia_lightning.functional.reconstruction import SegmentationError, segmentation_error, translation_error
from mia_lightning.registry import Outputs, register_error


@register_error(
    "reconstruction",
    label="reconstruction",
    sentence="error r of the model's output against the target: mean absolute difference of images in [0, 1], or mean "
    "cross-entropy over the pixels that carry a class, or mean binary cross-entropy over independent channels (of "
    "label maps, the share of pixels with the wrong class).",
    always=True,
    order=10,
)
def reconstruction_error(outputs: Outputs) -> Tensor:
    """Measure L1 or, of segmentations, cross-entropy as the paper does, and of label maps the 0/1 error, (B,)."""
    if outputs.task == "translation":
        return translation_error(outputs.prediction, outputs.target)
    if outputs.task == "multilabel":
        of_masks: MultilabelError = "zero_one" if outputs.labels_only else "binary_cross_entropy"
        return multilabel_error(outputs.prediction, outputs.target, of_masks)
    kind: SegmentationError = "zero_one" if outputs.labels_only else "cross_entropy"
    return segmentation_error(outputs.prediction, outputs.target, kind, ignore_index=outputs.ignore_index)
