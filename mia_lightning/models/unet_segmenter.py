"""Semantic segmentation with the classic U-Net or any architecture of segmentation-models-pytorch."""

import inspect
import math
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassF1Score, MulticlassJaccardIndex

from mia_lightning.functional.batches import BatchReader
from mia_lightning.functional.entries import Key
from mia_lightning.models.audited_module import AuditedModule, check_choice
from mia_lightning.models.image_checks import check_images
from mia_lightning.models.losses import SEGMENTATION_LOSSES, SegmentationLoss
from mia_lightning.models.size_check import check_sizes
from mia_lightning.models.visualise import visualise
from mia_lightning.networks.norms import NormName
from mia_lightning.networks.unet import UNet

if TYPE_CHECKING:
    from lightning.pytorch.utilities.types import OptimizerLRScheduler

OptimizerName = Literal["adamw", "adam"]
ScheduleName = Literal["constant", "cosine"]

_OF_THE_CLASSIC = ("base_channels", "depth", "norm", "dropout")
_OF_ENCODERS = ("encoder_name", "encoder_weights", "encoder_mean", "encoder_std")


class UNetSegmenter(AuditedModule):
    """A segmenter: one class for every pixel.

    Batches are dictionaries with ``image`` and ``mask``, or tuples ``(image, mask)`` or ``(image, mask, id)``: images
    (B, in_channels, H, W) in [0, 1] of any size from 16 pixels (PAN: from 128), masks integer label maps (B, H, W).
    Pixels with a negative label or ``ignore_index`` are ignored by losses and metrics.

    Logged: ``train/loss``, and ``val/`` or ``test/`` with ``loss``, ``miou`` (mean intersection over union) and
    ``dice``, both counted over all pixels of the split and averaged over the classes that occur; with ``class_names``
    also ``iou/<name>``, NaN for a class that does not occur. With ``num_classes=1`` both are those of the foreground.

    Args:
        num_classes: Number of classes; 1 is binary with a single logit, labels 0 and 1.
        in_channels: Channels of the images.
        architecture: Exactly ``"unet"`` for the classic U-Net; any other name, in any case, is looked up in
            segmentation-models-pytorch, as it or the paper writes it: ``"UNet"`` (theirs has a pretrainable encoder),
            ``"UNet++"``, ``"FPN"``, ``"DeepLabV3+"``, ``"UPerNet"``, ``"SegFormer"``, ... Needs
            ``pip install 'mia-lightning[zoo]'``.
        encoder_name: Encoder of such an architecture: one of the library, such as ``"resnet50"``, or any model of timm
            that gives feature maps, such as ``"hrnet_w18"`` (``"tu-"`` before a name of both means timm's).
        encoder_weights: Its pretrained weights: a published name, such as ``"imagenet"``, or a local file; None starts
            from random ones. The images are then normalised inside the network. Load a checkpoint with
            ``encoder_weights=None`` to need neither.
        base_channels: Channels of the classic U-Net's finest level.
        depth: How often the classic U-Net halves the resolution.
        norm: The classic U-Net's norm.
        dropout: The classic U-Net's dropout at the end of the contracting path.
        loss: What to minimise.
        ignore_index: Label of ignored pixels.
        class_names: One name a class, for the logs.
        lr: Learning rate.
        weight_decay: Weight decay; decoupled from the gradient with ``"adamw"``.
        optimizer: ``"adamw"`` or ``"adam"``.
        schedule: ``"constant"``, or ``"cosine"`` to fall to zero over the whole training.
        audit: Whether to bring a default ``MembershipAudit``.
        log_images_every_n_epochs: How often to show examples in TensorBoard; 0 means never.
        input_key: Where a batch keeps the images, a key or a place in a tuple, for training and for the audit that the
            model brings; None reads the forms above.
        target_key: Likewise for the masks.
        encoder_mean: What weights from a file expect to be subtracted from images in [0, 1], one a channel; None is
            what timm says of such an encoder, or else ImageNet's mean. Without weights, images are normalised by it,
            too.
        encoder_std: Likewise the deviation to divide by.

    Raises:
        FileNotFoundError: If ``encoder_weights`` names a file that does not exist.
        ImportError: If the architecture needs segmentation-models-pytorch and it is not installed.
        RuntimeError: If pretrained weights cannot be downloaded or read, or do not fit.
        ValueError: If an argument is out of range, a name is unknown, or the classic U-Net, which has no encoder to
            load, is given weights of one or what they are normalised by.

    Example:
        >>> model = UNetSegmenter(num_classes=5, base_channels=4, depth=2).eval()
        >>> model(torch.rand(1, 3, 33, 47)).shape
        torch.Size([1, 5, 33, 47])
    """

    def __init__(  # noqa: PLR0913 - each argument is an option of the command line
        self,
        num_classes: int,
        in_channels: int = 3,
        architecture: str = "unet",
        encoder_name: str = "resnet34",
        encoder_weights: str | None = None,
        base_channels: int = 64,
        depth: int = 4,
        norm: NormName = "batch",
        dropout: float = 0.0,
        loss: SegmentationLoss = "cross_entropy",
        ignore_index: int = 255,
        class_names: list[str] | None = None,
        lr: float = 1e-3,
        weight_decay: float = 1e-4,
        optimizer: OptimizerName = "adamw",
        schedule: ScheduleName = "constant",
        audit: bool = True,
        log_images_every_n_epochs: int = 5,
        input_key: Key | None = None,
        target_key: Key | None = None,
        encoder_mean: list[float] | None = None,
        encoder_std: list[float] | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.reader = BatchReader(input_key, target_key)
        if class_names is not None and len(class_names) != num_classes:
            raise ValueError(
                f"Expected {num_classes} class_names but got {len(class_names)}: {class_names}; name every class "
                "once (with num_classes=1, the foreground), and leave out ignored pixels."
            )
        check_choice("loss", loss, get_args(SegmentationLoss))
        check_choice("optimizer", optimizer, get_args(OptimizerName))
        check_choice("schedule", schedule, get_args(ScheduleName))
        self.num_classes = num_classes
        self.in_channels = in_channels
        self.ignore_index = ignore_index
        self.class_names = class_names
        self.loss = SEGMENTATION_LOSSES[loss]
        _check_use(architecture, self.hparams)
        self.network: nn.Module
        if architecture == "unet":
            self.network = UNet(in_channels, num_classes, base_channels, depth, norm, dropout)
        else:
            from mia_lightning.models.zoo import ZooNetwork

            self.network = ZooNetwork(
                *(architecture, encoder_name, encoder_weights, in_channels, num_classes, encoder_mean, encoder_std)
            )
        # A class that occurs in neither map has no overlap: NaN, left out of means. The loss has checked the labels.
        options: dict[str, Any] = {"average": "none", "zero_division": math.nan, "validate_args": False}
        classes = max(2, num_classes)
        self.val_overlap = MetricCollection(
            # Dice is the F1 score of pixels: DiceScore takes whole maps, and ignored pixels are left out here.
            {"iou": MulticlassJaccardIndex(classes, **options), "dice": MulticlassF1Score(classes, **options)}
        )
        self.test_overlap = self.val_overlap.clone()

    def forward(self, image: Tensor) -> Tensor:
        """Turn images, (B, in_channels, H, W), in [0, 1], into logits of each pixel, (B, num_classes, H, W)."""
        logits: Tensor = self.network(image)
        return logits

    def on_fit_start(self) -> None:
        """Try the size of the data module's images, where it names one, before anything is trained.

        Raises:
            ValueError: If the network does not take them, naming the least size that it takes.
        """
        data: Any = getattr(self.trainer, "datamodule", None)
        size, batch_size = getattr(data, "image_size", None), getattr(data, "batch_size", None)
        if isinstance(size, tuple) and len(size) == 2 and isinstance(batch_size, int):
            network = getattr(self.network, "network", self.network)
            check_sizes(self.network, self.in_channels, size, batch_size, type(network).__name__)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Loss of a batch."""
        image, mask = self._read_pair(batch)
        loss = self.loss(self(image), mask, self.ignore_index)
        self._log_loss("train", loss, len(image))
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Measure a batch, and show the first one."""
        image, mask, labels = self._evaluate("val", batch, self.val_overlap)
        self.log_examples(batch_idx, image, mask, labels)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Measure a batch."""
        self._evaluate("test", batch, self.test_overlap)

    def on_validation_epoch_end(self) -> None:
        """Log the overlap over the split."""
        self._log_overlap("val", self.val_overlap)

    def on_test_epoch_end(self) -> None:
        """Log the overlap over the split."""
        self._log_overlap("test", self.test_overlap)

    def predict_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Label a batch, with or without masks; class maps as of :meth:`to_labels`."""
        image = self.reader.input(batch)
        check_images(image, self.in_channels, "image", "in_channels")
        return self.to_labels(self(image))

    def to_labels(self, logits: Tensor) -> Tensor:
        """Choose the likeliest class of every pixel from the logits of :meth:`forward`, (B, num_classes, H, W).

        Returns:
            Class maps, (B, H, W), int64 from 0 to ``num_classes - 1`` (0 and 1 with a single logit).
        """
        return (logits[:, 0] > 0).long() if self.num_classes == 1 else logits.argmax(1)

    def configure_optimizers(self) -> "OptimizerLRScheduler":
        """Adam or AdamW, with a constant or a cosine learning rate.

        Raises:
            ValueError: If the schedule is a cosine but the trainer has no end.
        """
        kind = torch.optim.AdamW if self.hparams["optimizer"] == "adamw" else torch.optim.Adam
        optimizer = kind(self.parameters(), lr=self.hparams["lr"], weight_decay=self.hparams["weight_decay"])
        if self.hparams["schedule"] == "constant":
            return optimizer
        steps = self.trainer.estimated_stepping_batches
        if math.isinf(steps):
            raise ValueError(
                "schedule='cosine' falls to zero by the end of training, but this trainer has none; "
                "set max_epochs or max_steps, or choose schedule='constant'."
            )
        cosine = CosineAnnealingLR(optimizer, T_max=int(steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": cosine, "interval": "step"}}

    def audit_settings(self) -> dict[str, Any]:
        """Say what the labels mean."""
        labels = {"task": "segmentation", "num_classes": self.num_classes, "ignore_index": self.ignore_index}
        return {**labels, **super().audit_settings()}

    def example_images(self, images: Tensor) -> Tensor:
        """Colour label maps; show images as they are."""
        if images.ndim == 3:
            return visualise(images, max(2, self.num_classes), self.ignore_index)
        return super().example_images(images)

    def _read_pair(self, batch: Any) -> tuple[Tensor, Tensor]:
        image, mask = self.reader.pair(batch)
        check_images(image, self.in_channels, "image", "in_channels")
        if mask.shape != (len(image), *image.shape[2:]):
            raise ValueError(
                f"Expected a mask of shape {(len(image), *image.shape[2:])} for images of shape {tuple(image.shape)} "
                f"but got {tuple(mask.shape)}; masks are label maps of the image's height and width without channels."
            )
        if mask.is_floating_point():
            raise ValueError(
                f"Expected a mask of integer class ids but got {mask.dtype}; convert it with mask.long() after "
                "checking that it holds ids and not intensities."
            )
        return image, mask

    def _evaluate(self, stage: str, batch: Any, overlap: MetricCollection) -> tuple[Tensor, Tensor, Tensor]:
        image, mask = self._read_pair(batch)
        logits: Tensor = self(image)
        self._log_loss(stage, self.loss(logits, mask, self.ignore_index), len(image))
        labels = self.to_labels(logits)
        valid = (mask >= 0) & (mask != self.ignore_index)
        overlap.update(labels[valid], mask[valid].long())
        return image, mask, labels

    def _log_loss(self, stage: str, loss: Tensor, batch_size: int) -> None:
        options: dict[str, Any] = {"prog_bar": True, "on_step": False, "on_epoch": True, "sync_dist": True}
        self.log(f"{stage}/loss", loss.detach(), batch_size=batch_size, **options)

    def _log_overlap(self, stage: str, overlap: MetricCollection) -> None:
        values = overlap.compute()
        iou, dice = values["iou"], values["dice"]
        overlap.reset()
        if 0 <= self.ignore_index < len(iou):
            # Predicting the ignored class counts against the true one, but has no overlap of its own.
            iou[self.ignore_index] = dice[self.ignore_index] = torch.nan
        if self.num_classes == 1:
            iou, dice = iou[1:], dice[1:]
        scores = {"miou": iou.nanmean(), "dice": dice.nanmean()}
        for name, value in zip(self.class_names or [], iou, strict=False):
            scores[f"iou/{name}"] = value
        # Pixels were counted over all processes already: the mean over them changes nothing.
        self.log_dict({f"{stage}/{key}": value for key, value in scores.items()}, sync_dist=True)


def _check_use(architecture: str, settings: Mapping[str, Any]) -> None:
    """Refuse weights that nothing would be loaded into, and say which other settings do nothing."""
    parameters = inspect.signature(UNetSegmenter.__init__).parameters
    names = _OF_ENCODERS if architecture == "unet" else _OF_THE_CLASSIC
    unused = [name for name in names if settings[name] != parameters[name].default]
    if not unused:
        return
    found = ", ".join(f"{name}={settings[name]!r}" for name in unused)
    if architecture != "unet":
        warnings.warn(f"Of the classic U-Net (architecture='unet') alone, here unused: {found}.", stacklevel=3)
        return
    reason = f"architecture='unet' is the classic U-Net, without an encoder of another name, so that unused is {found}"
    advice = "architecture='UNet' (of segmentation-models-pytorch) has one"
    if unused == ["encoder_name"]:
        warnings.warn(f"{reason}; {advice}.", stacklevel=3)
    else:
        raise ValueError(f"{reason}: {advice}, or leave {', '.join(unused)} out.")
