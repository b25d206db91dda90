from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file

from mia_lightning.models.unet_segmenter import UNetSegmenter
from mia_lightning.models.zoo import ZooNetwork, _file_of
from mia_lightning.networks.unet import UNet

smp = pytest.importorskip("segmentation_models_pytorch", reason="needs segmentation-models-pytorch")

ENCODER = "tu-test_efficientnet"


@pytest.mark.parametrize("name", ["Unet", "UNET", "fpn", "DeepLabV3Plus"])
def test_names_in_any_case(name: str) -> None:
    model = UNetSegmenter(2, architecture=name, encoder_name="tu-test_resnet")
    assert type(model.network.network).__name__.lower() == name.lower()


@pytest.mark.parametrize(
    ("name", "kind"),
    [("UNet", "Unet"), ("U-Net++", "UnetPlusPlus"), ("DeepLabV3+", "DeepLabV3Plus"), ("SegFormer", "Segformer")],
)
def test_names_as_the_papers_write_them(name: str, kind: str) -> None:
    assert type(ZooNetwork(name, "test_resnet").network).__name__ == kind


@pytest.mark.parametrize(
    ("name", "encoder"),
    [
        ("test_efficientnet", "TimmUniversalEncoder"),
        ("resnet18", "ResNetEncoder"),
        ("tu-resnet18", "TimmUniversalEncoder"),
    ],
)
def test_encoders_of_the_library_and_of_timm(name: str, encoder: str) -> None:
    assert type(ZooNetwork("FPN", name).network.encoder).__name__ == encoder


@pytest.mark.parametrize(
    ("architecture", "encoder", "message"),
    [
        ("UNet", "test_vit", r"'unet' cannot be built with the encoder 'test_vit' \(ValueError: Unsupported model"),
        ("UNet++", "mit_b0", r"'unetplusplus' cannot be built with the encoder 'mit_b0'"),
        ("DeepLabV3+", "hrnet_w18_small", r"'hrnet_w18_small' \(AssertionError\).* with Unet, FPN or UPerNet"),
    ],
)
def test_encoders_that_an_architecture_does_not_take(architecture: str, encoder: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ZooNetwork(architecture, encoder)


@pytest.mark.parametrize(
    ("encoder", "channels"),
    [("tf_mobilenetv3_small_minimal_100", 3), ("resnet18", 3), ("test_efficientnet", 1), ("resnet18", 5)],
)
def test_weights_from_a_file(tmp_path: Path, encoder: str, channels: int) -> None:
    published = timm.create_model(encoder, pretrained=False).state_dict()  # with a classifier, as files have it
    save_file(published, tmp_path / "weights.safetensors")
    network = ZooNetwork("FPN", encoder, str(tmp_path / "weights.safetensors"), channels)
    weights = [w for name, w in network.network.encoder.state_dict().items() if w.ndim == 4]
    first, second = [w for w in published.values() if w.ndim == 4][:2]
    assert torch.equal(weights[1], second)
    expected = first.sum(1, keepdim=True) if channels == 1 else first.repeat(1, 2, 1, 1)[:, :channels] * 3 / channels
    torch.testing.assert_close(weights[0], expected)
    mean = {"resnet18": 0.485, "tf_mobilenetv3_small_minimal_100": 0.5}  # the second as timm has it
    assert network.mean.flatten()[0].item() == pytest.approx(mean[encoder] if channels == 3 else 0)


def test_what_images_are_normalised_by_can_be_said(tmp_path: Path) -> None:
    torch.save(timm.create_model("test_resnet", pretrained=False).state_dict(), tmp_path / "w.pth")
    mean, std = [0.1, 0.2, 0.3], [0.4, 0.5, 0.6]
    file = str(tmp_path / "w.pth")
    model = UNetSegmenter(
        2, architecture="FPN", encoder_name="test_resnet", encoder_weights=file, encoder_mean=mean, encoder_std=std
    )
    assert model.network.mean.flatten().tolist() == pytest.approx(mean)
    assert model.network.std.flatten().tolist() == pytest.approx(std)


def test_weights_that_cannot_be_had_say_what_to_do(tmp_path: Path) -> None:
    for encoder in ("resnet18", "test_resnet.r160_in1k"):  # tests are offline
        with pytest.raises(RuntimeError, match=r"could not be had .* local file with encoder_weights='/path/to/file'"):
            ZooNetwork("FPN", encoder, "imagenet")
    with pytest.raises(FileNotFoundError, match=r"none\.pth does not exist"):
        ZooNetwork("FPN", "resnet18", str(tmp_path / "none.pth"))
    torch.save({"conv1.weight": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(RuntimeError, match=r"other\.pth do not fit 'resnet18'"):
        ZooNetwork("FPN", "resnet18", str(tmp_path / "other.pth"))
    with pytest.raises(ValueError, match="Wrong pretrained weights `imagenett` for encoder `resnet18`"):
        ZooNetwork("FPN", "resnet18", "imagenett")
    with pytest.raises(ValueError, match=r"Unknown weights 'weights' of timm's 'test_resnet': .* encoder_weights='\./"):
        ZooNetwork("FPN", "test_resnet", "weights")  # not the published ones in the place of a file of this name
    with pytest.raises(RuntimeError, match="could not be had"):
        ZooNetwork("FPN", "test_resnet", "r160_in1k")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"in_channels": 4}, "encoder_mean .* but in_channels=4 are not normalised"),
        ({"encoder_weights": "imagenet"}, "the published weights 'imagenet' bring their own"),
        ({"encoder_weights": "w.pth", "in_channels": 5}, "but in_channels=5 are not normalised"),
        ({"encoder_weights": "w.pth", "encoder_mean": [0.5]}, r"three numbers, one a channel, but got \[0.5\]"),
    ],
)
def test_statistics_that_do_nothing_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ZooNetwork("FPN", "resnet18", **{"encoder_mean": [0.1, 0.2, 0.3], **settings})


def test_without_weights_images_are_normalised_by_what_is_said() -> None:
    network = ZooNetwork("FPN", "test_resnet", encoder_mean=[0.1, 0.2, 0.3], encoder_std=[2.0, 3.0, 4.0])
    assert network.mean.flatten().tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert network.std.flatten().tolist() == [2.0, 3.0, 4.0]


def test_a_file_that_is_called_like_published_weights_is_named_with_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("imagenet", "w.weights"):
        Path(name).touch()
    assert [_file_of(name) for name in ("imagenet", "./imagenet", "w.weights", "r160.in1k")] == [
        *(None, Path("imagenet"), Path("w.weights"), None)
    ]


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (MemoryError("full"), MemoryError, "^full$"),
        (KeyError("stem"), ValueError, r"cannot be built with the encoder 'resnet18' \(KeyError: 'stem'\)"),
    ],
)
def test_errors_inside_an_encoder_are_told_as_what_they_are(
    monkeypatch: pytest.MonkeyPatch, error: Exception, kind: type[Exception], message: str
) -> None:
    def create(*args: Any, **settings: Any) -> None:
        raise error

    monkeypatch.setattr(smp, "create_model", create)
    with pytest.raises(kind, match=message):
        ZooNetwork("FPN", "resnet18")


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
