from __future__ import annotations

import sys

import pytest
import torch

from mia_lightning.models.unet_segmenter import UNetSegmenter
from mia_lightning.models.zoo import ZooNetwork
from mia_lightning.networks.unet import UNet

smp = pytest.importorskip("segmentation_models_pytorch", reason="needs segmentation-models-pytorch")

ENCODER = "tu-test_efficientnet"


@pytest.mark.parametrize("name", ["Unet", "UNET", "fpn", "DeepLabV3Plus"])
def test_names_in_any_case(name: str) -> None:
    model = UNetSegmenter(2, architecture=name, encoder_name="tu-test_resnet")
    assert type(model.network.network).__name__.lower() == name.lower()


def test_lower_case_unet_is_the_classic() -> None:
    assert isinstance(UNetSegmenter(2, base_channels=2, depth=2).network, UNet)


def test_trains(train, masks) -> None:
    model = UNetSegmenter(3, architecture="FPN", encoder_name=ENCODER)
    assert "val/miou" in train(model, masks(), precision="bf16-mixed").callback_metrics


def test_unknown_architecture_lists_the_known() -> None:
    with pytest.raises(ValueError, match=r"Unknown architecture 'unett'; choose 'unet' .*, or one of .*FPN, .*Unet"):
        UNetSegmenter(2, architecture="unett")


def test_unknown_encoder_lists_the_known() -> None:
    with pytest.raises(ValueError, match=r"Wrong encoder name `resnet33`, supported encoders: .*resnet34"):
        ZooNetwork("fpn", "resnet33")


def test_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "segmentation_models_pytorch", None)
    with pytest.raises(ImportError, match=r"'FPN' comes from .*: pip install 'mia-lightning\[zoo\]', or choose"):
        UNetSegmenter(2, architecture="FPN")


def test_pretrained_encoders_see_normalised_images(monkeypatch: pytest.MonkeyPatch) -> None:
    create, params = smp.create_model, {"mean": [1, 2, 3], "std": [4, 5, 6], "input_range": [0, 2]}
    monkeypatch.setattr(smp, "create_model", lambda *args, **kw: create(*args, **{**kw, "encoder_weights": None}))
    monkeypatch.setattr(smp.encoders, "get_preprocessing_params", lambda *args: params)
    network = ZooNetwork("fpn", ENCODER, encoder_weights="imagenet").eval()
    assert network.mean.flatten().tolist() == [0.5, 1.0, 1.5]
    assert network.std.flatten().tolist() == [2.0, 2.5, 3.0]
    copy = ZooNetwork("fpn", ENCODER).eval()
    copy.load_state_dict(network.state_dict())
    x = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(copy(x), network(x))
        torch.testing.assert_close(network(x), network.network((x - network.mean) / network.std))
