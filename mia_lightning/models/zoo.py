"""Segmentation architectures of segmentation-models-pytorch by name, for images of any size."""

from types import ModuleType

import torch
from torch import Tensor, nn

from mia_lightning.models.size_check import explain
from mia_lightning.networks.padding import crop_back, pad_to_multiple


class ZooNetwork(nn.Module):
    """A network of segmentation-models-pytorch that takes images in [0, 1] of any height and width.

    Encoders with pretrained weights expect normalised images. The normalisation happens inside and its constants are
    part of the state: a checkpoint loads with ``encoder_weights=None``, without a download, and still normalises.

    Args:
        architecture: Any architecture's name, in any case: ``"Unet"``, ``"FPN"``, ``"DeepLabV3Plus"``, ...
        encoder_name: Any encoder's name; ``"tu-"`` and a timm name for timm's.
        encoder_weights: Name of pretrained weights, such as ``"imagenet"``, or None to start from random ones.
        in_channels: Channels of the input. Other than three are not normalised.
        num_classes: Channels of the output, one logit each.

    Raises:
        ImportError: If segmentation-models-pytorch is not installed.
        ValueError: If it does not know the architecture, the encoder or the weights.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        architecture: str,
        encoder_name: str = "resnet34",
        encoder_weights: str | None = None,
        in_channels: int = 3,
        num_classes: int = 1,
    ) -> None:
        super().__init__()
        smp = _import_smp(architecture)
        architectures = {name.lower(): model.__name__ for name, model in smp.MODEL_ARCHITECTURES_MAPPING.items()}
        if architecture.lower() not in architectures:
            raise ValueError(
                f"Unknown architecture {architecture!r}; choose 'unet' for the classic U-Net of this package, or one "
                f"of segmentation-models-pytorch's {', '.join(sorted(architectures.values()))}."
            )
        try:
            self.network: nn.Module = smp.create_model(
                architecture,
                encoder_name,
                encoder_weights=encoder_weights,
                in_channels=in_channels,
                classes=num_classes,
            )
        except KeyError as error:
            raise ValueError(str(error.args[0])) from error
        mean, std = torch.zeros(in_channels), torch.ones(in_channels)
        if encoder_weights is not None and in_channels == 3:
            params = smp.encoders.get_preprocessing_params(encoder_name, encoder_weights)
            mean, std = (torch.tensor(params[name]) / max(params["input_range"]) for name in ("mean", "std"))
        self.register_buffer("mean", mean.view(1, -1, 1, 1))
        self.register_buffer("std", std.view(1, -1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Turn images, (B, in_channels, H, W), in [0, 1], into logits of each pixel, (B, num_classes, H, W)."""
        height, width = x.shape[-2:]
        # Encoders halve five times; at least 2 x 2 must be left, for a norm cannot train on a single pixel.
        padded = pad_to_multiple((x - self.mean) / self.std, 32, minimum=64)
        try:
            logits: Tensor = self.network(padded)
        except (RuntimeError, ValueError) as error:
            if (explained := explain(type(self.network).__name__, self.network, x, error)) is not None:
                raise explained from error
            raise
        return crop_back(logits, height, width)


def _import_smp(architecture: str) -> ModuleType:
    try:
        import segmentation_models_pytorch as smp
    except ImportError as error:
        raise ImportError(
            f"The architecture {architecture!r} comes from segmentation-models-pytorch, which is not installed: "
            "pip install 'mia-lightning[zoo]', or choose architecture='unet'."
        ) from error
    module: ModuleType = smp
    return module
