"""Distance of two images in the features of a trained VGG-19 (Johnson et al., 2016; as in Wang et al., 2018)."""

from collections.abc import Mapping
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mia_lightning.features.extractors import IMAGENET_MEAN, IMAGENET_STD
from mia_lightning.features.weights import load_state, state_from_file

HUB = "hub"
"""The setting that downloads the weights."""

_STAGES = (2, 7, 12, 21, 30)  # up to relu1_1, relu2_1, relu3_1, relu4_1, relu5_1
_WEIGHTS = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1.0)


class PerceptualLoss(nn.Module):
    """Mean absolute difference of the features of two images, deeper stages weighing more; frozen for good.

    Args:
        weights: ``"hub"`` downloads torchvision's ImageNet weights; anything else is a local file of them, such as
            ``vgg19-dcbb9e9d.pth``, or a ``.safetensors`` file. A classifier among them is left out.

    Raises:
        FileNotFoundError: If there is no such file.
        RuntimeError: If the weights cannot be downloaded or read, or do not fit.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, weights: str | Path) -> None:
        super().__init__()
        from torchvision.models.vgg import cfgs, make_layers

        with torch.random.fork_rng(devices=[]):  # initial weights are replaced: they must not disturb the training
            layers = make_layers(cfgs["E"], batch_norm=False)[: _STAGES[-1]]
        published = weights == HUB
        state = _published() if published else state_from_file(Path(weights), "perceptual_weights")
        features = {key.removeprefix("features."): value for key, value in state.items()}
        load_state(layers, features, "VGG-19", None if published else weights)
        self.stages = nn.ModuleList(layers[i:j] for i, j in zip((0, *_STAGES), _STAGES, strict=False))
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1))
        self.requires_grad_(False)

    def forward(self, fake: Tensor, real: Tensor) -> Tensor:
        """Compare images, (B, 3, H, W) or (B, 1, H, W), in [0, 1], of at least 16 pixels a side: a scalar.

        Raises:
            ValueError: If they have another number of channels.
        """
        if fake.shape[1] not in (1, 3):
            raise ValueError(
                f"The perceptual loss compares pictures of 1 or 3 channels, but these have {fake.shape[1]}: leave it "
                "out (perceptual_weights=None)."
            )
        with torch.no_grad():
            expected = self._maps(real)
        found = zip(_WEIGHTS, self._maps(fake), expected, strict=True)
        return torch.stack([weight * F.l1_loss(f.float(), r.float()) for weight, f, r in found]).sum()

    def _maps(self, images: Tensor) -> list[Tensor]:
        x = (images.float().expand(-1, 3, -1, -1) - self.mean) / self.std
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps


def _published() -> Mapping[str, Tensor]:
    from torchvision.models import VGG19_Weights

    try:
        published = VGG19_Weights.IMAGENET1K_V1.get_state_dict(progress=True, check_hash=True)
    except Exception as error:
        raise RuntimeError(
            f"The weights of VGG-19 could not be downloaded ({type(error).__name__}: {error}). Pass a local file with "
            f"perceptual_weights='/path/to/vgg19.pth' ({VGG19_Weights.IMAGENET1K_V1.url}), or leave the perceptual "
            "loss out with perceptual_weights=None."
        ) from error
    return cast(Mapping[str, Tensor], published)
