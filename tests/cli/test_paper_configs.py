"""The paper's configurations at full scale: their shapes as they are, and each through the command line in small."""

from pathlib import Path

import data_trees
import pytest
import torch
import yaml

from mia_lightning.cli.lightning_commands import AuditCLI
from mia_lightning.cli.main import main
from mia_lightning.result.audit_result import AuditResult

CONFIGS = sorted((Path(__file__).parents[2] / "configs" / "paper").glob("*.yaml"))
GANS = ("Pix2Pix", "Pix2PixHD", "SPADE")
LAYOUTS = {"facades_pix2pix": "pix2pix", "facades": "CMP, base and extended", "isic": "ISIC 2018"}
SMALLER = {
    "Pix2Pix": ["ngf=4", "ndf=4"],
    "Pix2PixHD": ["ngf=4", "ndf=4", "global_blocks=1", "local_blocks=1", "perceptual_weights=null"],
    "SPADE": ["ngf=1", "hidden=4", "ndf=4", "perceptual_weights=null"],
    "unet": ["base_channels=4"],
    "zoo": ["encoder_name=test_resnet", "encoder_weights=null"],
}


def cases(*always: str) -> list:
    """All configurations, those that are not named for slow tests alone."""
    return [pytest.param(c, id=c.stem, marks=() if c.stem in always else pytest.mark.slow) for c in CONFIGS]


@pytest.fixture
def tree(config, tmp_path):
    """A tiny tree of the data set's files, in the layout that the configuration is for."""
    name = yaml.safe_load(config.read_text())["data"]["init_args"]["preset"]
    layouts = {layout: tree for (preset, layout), tree in data_trees.TREES.items() if preset == name}
    layout = LAYOUTS.get(config.stem, LAYOUTS.get(name, next(iter(layouts))))
    layouts[layout](tmp_path / "data")
    return tmp_path / "data"


def settings_of(config: Path) -> tuple[str, dict, dict]:
    """The kind of its model, and the arguments of model and data."""
    settings = yaml.safe_load(config.read_text())
    model, data = settings["model"]["init_args"], settings["data"]["init_args"]
    kind = settings["model"]["class_path"].rpartition(".")[2]
    if kind == "UNetSegmenter":
        kind = "zoo" if "architecture" in model else "unet"
    if kind == "zoo":
        pytest.importorskip("segmentation_models_pytorch", reason="needs the zoo extra")
    return kind, model, data


@pytest.mark.parametrize("config", cases("cityscapes_pix2pixhd", "glas_unet"))
def test_shapes_at_full_scale(config, tree, monkeypatch):
    """The networks as they are take a batch as large as in training, of shapes alone; schedules end with epochs."""
    kind, model, data = settings_of(config)
    made: list[AuditCLI] = []
    monkeypatch.setattr(AuditCLI, "_run_subcommand", lambda cli, command: made.append(cli))
    downloads = [f"--model.{name}=null" for name in ("perceptual_weights", "encoder_weights") if name in model]
    size = data["image_size"] if isinstance(data["image_size"], list) else [data["image_size"]] * 2
    with torch.device("meta"):
        main(["fit", "-c", str(config), f"--data.root={tree}", "--trainer.accelerator=cpu", *downloads])
        (cli,) = made
        image = torch.empty(data["batch_size"], model.get("in_channels", 3), *size)
        output = cli.model(image)
        if kind in GANS:
            cli.model.discriminator(image, output)
    assert output.shape == (data["batch_size"], model.get("num_classes", 3), *size)
    cli.datamodule.setup("fit")
    item = cli.datamodule.train_dataloader().dataset[0]
    assert item["input" if kind in GANS else "image"].shape == image.shape[1:]
    assert item["target" if kind in GANS else "mask"].shape == (output.shape[1:] if kind in GANS else tuple(size))
    epochs = cli.trainer.max_epochs
    assert kind not in GANS or model["constant_epochs"] + model["decay_epochs"] == epochs
    assert epochs % cli.config["fit"]["audit"]["every_n_epochs"] == 0


@pytest.mark.usefixtures("quick_features")
@pytest.mark.parametrize("config", cases())
def test_it_runs_in_small(config, tree, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    kind, _, _ = settings_of(config)
    side = 32 if kind == "unet" else 64
    args = [f"--model.{option}" for option in SMALLER[kind]] + ([f"--model.image_size={side}"] if kind in GANS else [])
    args += [f"--data.root={tree}", f"--data.image_size={side}", "--data.num_workers=0", "--data.batch_size=2"]
    args += ["--trainer.accelerator=cpu", "--trainer.precision=32-true", "--trainer.max_epochs=1"]
    main(["fit", "-c", str(config), *args, "--trainer.limit_train_batches=1", "--trainer.enable_progress_bar=false"])
    (written,) = Path("runs").glob("*/version_0/audit/audit-epoch=*.json")
    result = AuditResult.from_json(written)
    assert 0 < result.member.sum() < result.member.size
    assert not result.excluded
