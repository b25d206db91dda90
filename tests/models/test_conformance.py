"""One suite that every model which trains must pass: sizes, gradients, learning, the audit, checkpoints, precision."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_package import LightningDataModule, LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader

import mia_lightning
from mia_lightning import SPADE, AuditConfig, MembershipAudit, Pix2Pix, Pix2PixHD, PredictabilityScorer, UNetSegmenter
from mia_lightning.models.audited_module import AuditedModule

CLASSES = 3
SIDE = 32
Build = Callable[..., LightningModule]


def zoo(architecture: str, encoder: str = "test_resnet") -> Build:
    return lambda **options: UNetSegmenter(
        CLASSES, architecture=architecture, encoder_name=encoder, **{"lr": 3e-3, **options}
    )


def translator(kind: type[LightningModule], **settings: Any) -> Build:
    rates = {"lr_g": 2e-3, "lr_d": 1e-4} if kind is SPADE else {"lr": 2e-3}
    return lambda **options: kind(in_channels=CLASSES, image_size=SIDE, ndf=4, **{**rates, **settings, **options})


MODELS: dict[str, Build] = {
    "Pix2Pix": translator(Pix2Pix, ngf=8, dropout=False, norm="instance"),
    "Pix2PixHD": translator(Pix2PixHD, ngf=8, global_blocks=1, local_blocks=1),
    "SPADE": translator(SPADE, ngf=4, hidden=16),
    "unet": lambda **options: UNetSegmenter(CLASSES, base_channels=4, depth=3, **{"lr": 1e-2, **options}),
    "fpn": zoo("FPN"),
    "unetplusplus": zoo("UNet++"),
    "zoo unet": zoo("UNet"),
    "deeplabv3": zoo("DeepLabV3"),
    "deeplabv3plus": zoo("DeepLabV3+"),
    "upernet": zoo("UPerNet"),
    "segformer": zoo("SegFormer"),
    "segformer mit": zoo("SegFormer", "mit_b0"),
    "manet": zoo("MAnet"),
    "linknet": zoo("Linknet"),
    "pspnet": zoo("PSPNet"),
    "pan": zoo("PAN", "resnet18"),
    "dpt": zoo("DPT", "test_vit"),
}
# What segmentation-models-pytorch builds and does not use: biases before a batch norm, and the encoder's classifier.
WITHOUT_EFFECT = {
    "pan": r"network\.decoder\.fpa\.down\d\.\d\.conv\.bias",
    "dpt": r"network\.encoder\.model\.(norm|head)\.(weight|bias)",
}
QUICK = ("Pix2Pix", "Pix2PixHD", "SPADE", "unet", "deeplabv3plus")


@pytest.fixture(scope="module", params=[pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in MODELS])
def name(request: pytest.FixtureRequest) -> str:
    if request.param not in ("Pix2Pix", "Pix2PixHD", "SPADE", "unet"):
        pytest.importorskip("segmentation_models_pytorch", reason="needs segmentation-models-pytorch")
    return str(request.param)


def side_of(name: str) -> int:
    return 128 if name == "pan" else SIDE  # PAN takes no less


def task_of(model: LightningModule) -> str:
    return "segmentation" if isinstance(model, UNetSegmenter) else "translation"


class FourSamples(LightningDataModule):
    """Blocks of classes and their colours, four members and four nonmembers, read in either direction."""

    def __init__(self, task: str, side: int) -> None:
        super().__init__()
        self.task, self.side = task, side

    def samples(self, seed: int) -> list[dict[str, Any]]:
        generator = torch.Generator().manual_seed(seed)
        labels = torch.randint(0, CLASSES, (4, 4, 4), generator=generator)
        labels = labels.repeat_interleave(self.side // 4, 1).repeat_interleave(self.side // 4, 2)
        planes = nn.functional.one_hot(labels).permute(0, 3, 1, 2).float()
        if self.task == "segmentation":
            return [{"image": planes[i], "mask": labels[i], "id": f"{seed}-{i}"} for i in range(4)]
        return [{"input": planes[i], "target": 0.2 + 0.6 * planes[i].flip(0), "id": f"{seed}-{i}"} for i in range(4)]

    def train_dataloader(self) -> DataLoader:
        return DataLoader(self.samples(0), batch_size=4)

    def val_dataloader(self) -> DataLoader:
        return DataLoader(self.samples(1), batch_size=4)

    def audit_dataloaders(self) -> tuple[DataLoader, DataLoader]:
        return self.train_dataloader(), self.val_dataloader()


def trainer(folder: Path, **settings: Any) -> Trainer:
    options: dict[str, Any] = {
        "max_epochs": 1,
        "accelerator": "cpu",
        "logger": False,
        "default_root_dir": folder,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
    }
    return Trainer(**{**options, **settings})


def distance(model: LightningModule, samples: list[dict[str, Any]]) -> float:
    """What a model is to make small on samples: the mean difference, or the cross-entropy."""
    x, y = (torch.stack([sample[key] for sample in samples]) for key in list(samples[0])[:2])
    with torch.no_grad():
        output = copy.deepcopy(model).train()(x)  # few steps leave the running statistics of evaluation behind
    return float((output - y).abs().mean() if output.shape == y.shape else nn.functional.cross_entropy(output, y))


@pytest.fixture(scope="module")
def trained(name: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[LightningModule, MembershipAudit, Path, Any]:
    """A model trained on four samples with the audit that it brings, its checkpoint, and its error before and after."""
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    model = MODELS[name]()
    data = FourSamples(task_of(model), side_of(name))
    before = distance(model, data.samples(0))
    with pytest.MonkeyPatch.context() as patch:
        config = AuditConfig(scorer=PredictabilityScorer(nn.AvgPool2d(4), grid=8))
        settings = {**model.audit_settings(), "config": config, "every_n_epochs": 100}
        patch.setattr("mia_lightning.audit.config.settings_of", lambda model: settings)
        run = trainer(folder, max_epochs=20, check_val_every_n_epoch=20)
        run.fit(model, datamodule=data)
    run.save_checkpoint(folder / "model.ckpt")
    (audit,) = [callback for callback in run.callbacks if isinstance(callback, MembershipAudit)]
    return model, audit, folder / "model.ckpt", (before, distance(model, data.samples(0)))


def images(name: str, size: tuple[int, int] | None = None, batch: int = 2) -> Tensor:
    size = (side_of(name), side_of(name)) if size is None else size
    return torch.rand(batch, CLASSES, *size, generator=torch.Generator().manual_seed(1))


def test_shapes_at_odd_sizes(trained, name: str) -> None:
    model = trained[0].eval()
    side = side_of(name)
    for size in ((side, side), (side + 1, side + 35), (2 * side + 3, side)):
        with torch.inference_mode():
            output = model(images(name, size, 1))
        assert output.shape == (1, CLASSES, *size)
        assert output.isfinite().all()
        assert task_of(model) == "segmentation" or bool(((output >= 0) & (output <= 1)).all())


def test_gradients_reach_every_parameter_of_what_answers(trained, name: str) -> None:
    model = copy.deepcopy(trained[0]).train()
    model.zero_grad()
    model(images(name)).square().sum().backward()
    network = model.network if task_of(model) == "segmentation" else model.generator
    dead = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert [n for n in dead if not re.fullmatch(WITHOUT_EFFECT.get(name, ""), n)] == []


def test_four_samples_are_learned(trained) -> None:
    before, after = trained[3]
    assert after < 0.7 * before


def test_the_audit_comes_with_the_model(trained) -> None:
    model, audit, _, _ = trained
    assert audit.result.ids == [f"{side}-{i}" for side in (0, 1) for i in range(4)]
    assert audit.result.meta["task"] == task_of(model)
    assert not audit.result.excluded
    assert audit.failures == []


def test_checkpoint_round_trip(trained, name: str) -> None:
    model, _, path, _ = trained
    loaded = type(model).load_from_checkpoint(path, map_location="cpu").eval()
    assert dict(loaded.hparams) == dict(model.hparams)
    with torch.inference_mode():
        assert torch.equal(loaded(images(name)), model.eval()(images(name)))


def test_bf16(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = MODELS[name](audit=False)
    run = trainer(tmp_path, precision="bf16-mixed")
    run.fit(model, datamodule=FourSamples(task_of(model), side_of(name)))
    assert all(p.dtype == torch.float32 and p.isfinite().all() for p in model.parameters())
    assert all(torch.isfinite(value) for key, value in run.callback_metrics.items() if "iou/" not in key)


def test_every_model_is_here() -> None:
    public = {getattr(mia_lightning, n) for n in mia_lightning.__all__ if n[0].isupper()}
    models = {kind.__name__ for kind in public if isinstance(kind, type) and issubclass(kind, AuditedModule)}
    assert models - {"ExportedModel", "UNetSegmenter"} <= set(MODELS), "an exported model is not trained"
    smp = pytest.importorskip("segmentation_models_pytorch", reason="needs segmentation-models-pytorch")
    assert set(smp.MODEL_ARCHITECTURES_MAPPING) <= {n.removeprefix("zoo ") for n in MODELS}
