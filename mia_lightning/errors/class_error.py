"""The error of each class: the reconstruction error, restricted to the pixels of the class."""

from torch import Tensor

from mia_lightning.functional.multilabel import MultilabelError, channel_errors
from mia_lightning.functional.reconstruction import SegmentationError, class_errors
from mia_lightning.registry import Outputs, register_error


@register_error(
    "class",
    label="class error",
    sentence="reconstruction error of the pixels of one class alone (of independent channels, of one channel where its "
    "mask is set), for each class that samples show; other samples have none.",
    each_class=True,
    tasks=("segmentation", "multilabel"),
    order=35,
)
def class_error(outputs: Outputs) -> Tensor:
    """Measure it of each class, (B, K), as the reconstruction error is measured of all pixels."""
    if outputs.task == "multilabel":
        of_masks: MultilabelError = "zero_one" if outputs.labels_only else "binary_cross_entropy"
        return channel_errors(outputs.prediction, outputs.target, of_masks)
    kind: SegmentationError = "zero_one" if outputs.labels_only else "cross_entropy"
    return class_errors(outputs.prediction, outputs.target, kind, outputs.ignore_index)
