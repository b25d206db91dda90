"""Segmentation architectures of segmentation-models-pytorch by name, with any timm encoder, for images of any size."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from mia_lightning.features.extractors import IMAGENET_MEAN, IMAGENET_STD
from mia_lightning.features.weights import load_state, state_from_file
from mia_lightning.models.size_check import explain
from mia_lightning.networks.padding import crop_back, pad_to_multiple


class ZooNetwork(nn.Module):
    """A network of segmentation-models-pytorch that takes images in [0, 1] of any height and width.

    PAN takes 128 x 128 or more; smaller images are refused by name.

    Encoders with pretrained weights expect normalised images. The normalisation happens inside and its constants are
    part of the state: a checkpoint loads with ``encoder_weights=None``, without a download, and still normalises.

    Args:
        architecture: Any architecture's name, in any case, as the library or the paper writes it: ``"UNet"``,
            ``"UNet++"``, ``"FPN"``, ``"DeepLabV3+"``, ``"UPerNet"``, ``"SegFormer"``, ...
        encoder_name: Name of an encoder of the library, such as ``"resnet50"``, or of any model of timm that gives
            feature maps, such as ``"hrnet_w18"`` or ``"efficientnet_b3"``; ``"tu-"`` before a name of both means
            timm's.
        encoder_weights: Name of published weights, such as ``"imagenet"`` (timm's encoders have no other: a tag in
            ``encoder_name`` chooses among several), or a local file of the encoder's weights
            (``.safetensors``, or ``.pth`` with a plain state dict, as torchvision and timm publish them; a classifier
            among them is left out; one without such a suffix is named with its folder, ``"./weights"``). None starts
            from random ones.
        in_channels: Channels of the input. Other than three are not normalised.
        num_classes: Channels of the output, one logit each.
        encoder_mean: Mean that weights from a file expect to be subtracted from images in [0, 1], one a channel; None
            is what timm says of such an encoder, or else ImageNet's. Without weights, images are normalised by it, too.
        encoder_std: Likewise the deviation to divide by.

    Raises:
        FileNotFoundError: If the weights name a file that does not exist.
        ImportError: If segmentation-models-pytorch is not installed.
        RuntimeError: If weights cannot be downloaded or read, or do not fit.
        ValueError: If the architecture, the encoder or the weights are not known, the architecture does not take this
            encoder, or a mean or deviation would do nothing.
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
        encoder_mean: Sequence[float] | None = None,
        encoder_std: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        smp = _import_smp(architecture)
        name, encoder = _architecture(smp, architecture), _encoder(smp, encoder_name)
        file = _file_of(encoder_weights)
        published = None if file else encoder_weights
        _check_statistics(published, in_channels, encoder_mean=encoder_mean, encoder_std=encoder_std)
        _check_word(published, encoder)
        # timm's encoders have one set of weights each, of the model's own name.
        options = {"encoder_weights": True if published and encoder.startswith("tu-") else published}
        self.network: nn.Module = _created(smp, name, encoder, {**options, "in_channels": in_channels}, num_classes)
        mean, std = torch.zeros(in_channels), torch.ones(in_channels)
        if file is not None:
            _load_encoder(self.network.encoder, file, encoder, in_channels)  # type: ignore[arg-type]  # all have one
        if encoder_weights is None:
            mean = mean if encoder_mean is None else torch.tensor(encoder_mean)
            std = std if encoder_std is None else torch.tensor(encoder_std)
        elif in_channels == 3:
            mean, std = _statistics(smp, encoder, published, encoder_mean, encoder_std)
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


def architecture_names() -> dict[str, str]:
    """All architectures: by their names in small letters, as segmentation-models-pytorch writes them.

    Raises:
        ImportError: If it is not installed.
    """
    return {name: model.__name__ for name, model in _import_smp("of any name").MODEL_ARCHITECTURES_MAPPING.items()}


def _architecture(smp: ModuleType, name: str) -> str:
    names = {key: model.__name__ for key, model in smp.MODEL_ARCHITECTURES_MAPPING.items()}
    plain = re.sub(r"[^a-z0-9]", "", name.lower().replace("+", "plus"))  # UNet++ and DeepLabV3+ as papers write them
    if plain not in names:
        raise ValueError(
            f"Unknown architecture {name!r}; choose 'unet' for the classic U-Net of this package, or one "
            f"of segmentation-models-pytorch's {', '.join(sorted(names.values()))}."
        )
    return plain


def _encoder(smp: ModuleType, name: str) -> str:
    """An encoder's name as the library takes it: its own, or that of a model of timm after ``tu-``."""
    if name.startswith("tu-") or name in smp.encoders.encoders:
        return name
    import timm

    return f"tu-{name}" if timm.is_model(name.split(".")[0]) else name


def _created(
    smp: ModuleType, architecture: str, encoder: str, options: Mapping[str, Any], num_classes: int
) -> nn.Module:
    """Build a network; what fails is said in words."""

    def create(**overrides: Any) -> nn.Module:
        network: nn.Module = smp.create_model(architecture, encoder, classes=num_classes, **{**options, **overrides})
        return network

    try:
        return create()
    except (MemoryError, torch.OutOfMemoryError):
        raise  # says nothing of the encoder
    except Exception as error:
        reason = str(error.args[0]) if isinstance(error, KeyError) and error.args else ""
        if reason.startswith("Wrong encoder name"):
            raise ValueError(
                f"{reason}, and all models of timm that give feature maps (timm.list_models())."
            ) from error
        if reason.startswith("Wrong pretrained weights"):
            raise ValueError(f"{reason}; a local file has a suffix or a folder in its name: './weights'.") from error
        kind = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        if options["encoder_weights"] is not None:
            try:
                with torch.random.fork_rng(devices=[]):
                    create(encoder_weights=None)
            except Exception as built:
                raise _misfit(architecture, encoder, f"{type(built).__name__}: {built}") from built
            raise RuntimeError(
                f"The published weights of the encoder {encoder.removeprefix('tu-')!r} could not be had ({kind}). Pass "
                "a local file with encoder_weights='/path/to/file', or None, which starts from random ones (and is "
                "enough where a checkpoint is loaded)."
            ) from error
        raise _misfit(architecture, encoder, kind) from error


def _misfit(architecture: str, encoder: str, reason: str) -> ValueError:
    return ValueError(
        f"{architecture!r} cannot be built with the encoder {encoder.removeprefix('tu-')!r} ({reason}). Convolutional "
        "encoders with maps at 1/2, 1/4, ... or 1/4, 1/8, ... of the resolution work with most architectures, such as "
        "resnet50 or efficientnet_b3; those that cannot be dilated, such as hrnet_w18, with Unet, FPN or UPerNet."
    )


def _file_of(weights: str | None) -> Path | None:
    """The local file that weights name, if they do: by a folder or by a suffix; ``imagenet`` is none, even if it is."""
    if weights is None:
        return None
    path = Path(weights)
    named = path.suffix in (".safetensors", ".pth", ".pt", ".bin", ".ckpt") or "/" in weights or os.sep in weights
    return path if named or (path.suffix and path.is_file()) else None


def _check_word(published: str | None, encoder: str) -> None:
    """Refuse a word that names no weights of a model of timm, which would have its own whatever the word."""
    if published in (None, "imagenet") or not encoder.startswith("tu-"):
        return
    import timm

    name = encoder.removeprefix("tu-")
    config = timm.get_pretrained_cfg(name)
    if config is None or published != config.tag:
        raise ValueError(
            f"Unknown weights {published!r} of timm's {name!r}: its published ones are encoder_weights='imagenet' (a "
            f"tag chooses among several: encoder_name='{name.split('.')[0]}.TAG'). A local file has a suffix or a "
            f"folder in its name: encoder_weights='./{published}'."
        )


def _check_statistics(published: str | None, in_channels: int, **statistics: Sequence[float] | None) -> None:
    """Refuse what nothing would be normalised by."""
    for name, values in statistics.items():
        if values is None:
            continue
        if published is not None or in_channels != 3:
            reason = f"in_channels={in_channels} are not normalised"
            if published is not None:
                reason = f"the published weights {published!r} bring their own"
            raise ValueError(
                f"{name} is for images of three channels and weights from a file, but {reason}: it would do nothing. "
                f"Leave it out ({name}=None)."
            )
        if len(values) != 3:
            raise ValueError(f"Expected {name} to be three numbers, one a channel, but got {list(values)}.")


def _load_encoder(encoder: nn.Module, file: Path, name: str, in_channels: int) -> None:
    """Load published weights of an encoder from a file, its first convolution made to fit the channels of the input."""
    from timm.models import adapt_input_conv

    network = encoder.model if isinstance(getattr(encoder, "model", None), nn.Module) else encoder
    assert isinstance(network, nn.Module)
    state = dict(state_from_file(file, "encoder_weights"))
    shapes = {key.replace(".", "_"): value.shape for key, value in network.state_dict().items()}
    for key, value in state.items():
        shape = shapes.get(key.replace(".", "_"))
        if shape is not None and value.ndim == 4 and value.shape[1] == 3 and shape[1] == in_channels != 3:
            state[key] = adapt_input_conv(in_channels, value)
    load_state(network, state, name.removeprefix("tu-"), file)


def _statistics(
    smp: ModuleType,
    encoder: str,
    published: str | None,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
) -> tuple[Tensor, Tensor]:
    """What images in [0, 1] are normalised by for pretrained weights: means and deviations of the channels."""
    if published is not None:
        params = smp.encoders.get_preprocessing_params(encoder, published)
        white = max(params["input_range"])
        return torch.tensor(params["mean"]) / white, torch.tensor(params["std"]) / white
    recorded: Any = None
    if encoder.startswith("tu-"):
        import timm

        recorded = timm.get_pretrained_cfg(encoder.removeprefix("tu-"))
    usual = (IMAGENET_MEAN, IMAGENET_STD) if recorded is None else (recorded.mean, recorded.std)
    return torch.tensor(mean or usual[0]), torch.tensor(std or usual[1])


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
