"""Frozen backbones that turn an image into feature maps."""

import copy
import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self, cast

import torch
from torch import Tensor, nn

from mia_lightning.features.weights import load_state, published_weights, state_from_file

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class FeatureExtractor(nn.Module):
    """A backbone that is frozen for good: eval mode, no gradients, its own normalisation.

    Args:
        backbone: Takes normalised images (B, 3, H, W); returns one feature map (B, C, h, w), a sequence of them or a
            mapping to them.
        mean: Mean that the backbone expects to be subtracted, one a channel.
        std: Deviation that the backbone expects to be divided by, one a channel.
        name: What to call it in settings and messages.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, backbone: nn.Module, mean: Sequence[float] = (0, 0, 0), std: Sequence[float] = (1, 1, 1), name: str = ""
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.name = name or type(backbone).__name__
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(1, -1, 1, 1), persistent=False)
        self.requires_grad_(False)
        super().train(False)

    def train(self, mode: bool = True) -> Self:
        """Stay in eval mode: a scorer that changes during training would change the meaning of its numbers."""
        return self

    @torch.no_grad()
    def forward(self, image: Tensor) -> list[Tensor]:
        """Compute the feature maps of images, (B, 3, H, W) in [0, 1]: each (B, C_i, h_i, w_i), float32."""
        # The scores must not depend on the precision that training happens to use.
        with torch.autocast(image.device.type, enabled=False):
            maps = self.backbone((image.float() - self.mean) / self.std)
        if isinstance(maps, Tensor):
            maps = [maps]
        elif isinstance(maps, Mapping):
            maps = list(maps.values())
        if not all(isinstance(m, Tensor) and m.ndim == 4 for m in maps):
            shapes = [tuple(m.shape) if isinstance(m, Tensor) else type(m).__name__ for m in maps]
            raise ValueError(
                f"The feature extractor {self.name!r} returned {shapes}; expected feature maps of shape (B, C, h, w). "
                "Pass a module that returns maps before pooling."
            )
        return list(maps)

    def fingerprint(self) -> str:
        """Identify the weights: two extractors with equal fingerprints give equal features."""
        # The representation of a module distinguishes layers without weights, such as two pooling windows.
        digest = hashlib.sha256(f"{self.name}{self.backbone!r}".encode())
        for key, value in [*self.backbone.state_dict().items(), ("mean", self.mean), ("std", self.std)]:
            digest.update(key.encode())
            digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()


def load_extractor(
    extractor: str | nn.Module = "efficientnet_lite0", weights: str | Path | None = None
) -> FeatureExtractor:
    """Build a frozen extractor, on the CPU, without drawing from the global random generator.

    Args:
        extractor: ``"efficientnet_lite0"`` (weights come inside a Python package, works offline), ``"wide_resnet50_2"``
            (the paper's), the name of any timm model that supports ``features_only``, or a module of your own that
            takes images in [0, 1]. Yours is copied: freezing it must not stop its training.
        weights: A local weights file (``.safetensors``, or ``.pth`` with a plain state dict), not the published ones.

    Raises:
        ValueError: If timm has no such model.
        FileNotFoundError: If ``weights`` does not exist.
        RuntimeError: If the weights cannot be downloaded or read, or do not fit the model.
    """
    if isinstance(extractor, FeatureExtractor):
        return extractor
    if isinstance(extractor, nn.Module):
        return FeatureExtractor(copy.deepcopy(extractor))
    with torch.random.fork_rng(devices=[]):  # building a network draws initial weights, which must not disturb training
        backbone, config = _timm_features(extractor)
    state = state_from_file(Path(weights)) if weights is not None else published_weights(extractor)
    load_state(backbone, state, extractor, weights)
    return FeatureExtractor(backbone, config["mean"], config["std"], extractor)


def _timm_features(name: str) -> tuple[nn.Module, Mapping[str, Any]]:
    import timm

    model_name = "tf_efficientnet_lite0" if name == "efficientnet_lite0" else name
    if not timm.is_model(model_name.split(".")[0]):
        close = timm.list_models(f"*{name.split('_')[0].split('.')[0]}*")[:8]
        raise ValueError(
            f"timm has no model {name!r}. Use 'efficientnet_lite0', 'wide_resnet50_2' or a timm name"
            + (f", for example {', '.join(close)}." if close else " (timm.list_models() lists them).")
        )
    # Stages finer than a quarter of the input cost most and contribute least; the paper's four start at stride 4 too.
    info = cast(Any, timm.create_model(model_name, pretrained=False, features_only=True)).feature_info
    stages = tuple(i for i, r in zip(info.out_indices, info.reduction(), strict=True) if r >= 4)
    backbone = timm.create_model(model_name, pretrained=False, features_only=True, out_indices=stages or None)
    published = timm.get_pretrained_cfg(model_name)
    config: dict[str, Any] = dataclasses.asdict(published) if published is not None else {}
    return backbone, {"mean": config.get("mean", IMAGENET_MEAN), "std": config.get("std", IMAGENET_STD)}
