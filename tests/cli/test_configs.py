"""Every YAML in configs/, but those at full scale, runs through the real command line, on tiny data made here."""

import shutil
from pathlib import Path

import data_trees
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from mia_lightning.cli.main import main
from mia_lightning.features import PredictabilityScorer
from mia_lightning.result.audit_result import AuditResult
from mia_lightning.result.picture_files import read_pictures

CONFIGS = Path(__file__).parents[2] / "configs"
ALL = [c for c in sorted(CONFIGS.rglob("*.yaml")) if c.parent.name != "paper"]  # those: test_paper_configs.py


def palette_png(path: Path, labels: np.ndarray) -> None:
    image = Image.fromarray(labels.astype(np.uint8), mode="P")
    image.putpalette(np.random.default_rng(0).integers(0, 255, 768).tolist())
    image.save(path)


def photo(path: Path, rng: np.random.Generator, size: tuple[int, int]) -> None:
    coarse = rng.integers(0, 255, (4, 4, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(path)


def labelled(root: Path, folders: tuple[str, str], classes: int, *, group: bool = False, number: int = 16) -> Path:
    """Images and label maps with matching stems and a splits.csv."""
    rng, (labels, photos) = np.random.default_rng(0), folders
    for folder in folders:
        (root / folder).mkdir(parents=True)
    rows = ["id,split,building" if group else "id,split"]
    for i in range(number):
        blocks = np.kron(rng.integers(0, classes, (4, 4)), np.ones((10, 12), dtype=int))
        palette_png(root / labels / f"s{i:02d}.png", blocks)
        photo(root / photos / f"s{i:02d}.jpg", rng, (48, 40))
        split = "train" if i % 2 else "val"
        rows.append(f"s{i:02d},{split},b{i:02d}" if group else f"s{i:02d},{split}")
    (root / "splits.csv").write_text("\n".join(rows) + "\n")
    return root


def side_by_side(root: Path) -> Path:
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        (root / split).mkdir(parents=True)
        for i in range(4):
            photo(root / split / f"{split}{i}.jpg", rng, (128, 64))
    return root


def published(name: str):
    """A maker of the tiny tree of a data set as it is published."""

    def make(root: Path) -> Path:
        getattr(data_trees, name)(root)
        return root

    return make


BY_NAME = ("ade20k", "cityscapes", "glas", "isic", "kvasir_seg", "maps", "nuclei")
DATA = {
    "facades": lambda root: labelled(root, ("labels", "photos"), 5, group=True),
    "wbc": lambda root: labelled(root, ("masks", "images"), 3),
    "camvid": lambda root: labelled(root, ("masks", "images"), 12),
    "zoo": lambda root: labelled(root, ("masks", "images"), 2),
    "paired": side_by_side,
    "maps": side_by_side,
    **{name: published(name) for name in BY_NAME if name != "maps"},
}
TRANSLATORS = {
    "pix2pix": ["--model.ngf=4", "--model.ndf=4"],
    "pix2pixhd": ["--model.ngf=4", "--model.ndf=4", "--model.global_blocks=1"],
    "spade": ["--model.ngf=1", "--model.hidden=4", "--model.ndf=4"],
}
SEGMENTERS = {
    "unet": ["--model.base_channels=4"],
    "deeplabv3plus": ["--model.encoder_name=test_resnet"],
    "upernet": ["--model.encoder_name=test_resnet"],
}
PAIRS = {"facades": TRANSLATORS, "wbc": SEGMENTERS, "camvid": TRANSLATORS | SEGMENTERS}
DATA |= {f"{name}_{model}": DATA[name] for name, models in PAIRS.items() for model in models}
GAN = ["--model.ngf=8", "--model.ndf=8", "--model.image_size=64", "--data.image_size=64"]
NETWORK = ["--model.base_channels=4", "--data.image_size=32"]
SMALLER = {
    "facades": GAN,
    "wbc": ["--model.base_channels=4"],
    "camvid": ["--model.base_channels=4", "--data.image_size=[32,48]"],
    "zoo": ["--model.encoder_name=test_resnet", "--data.image_size=64"],
    **{f"{name}_{m}": [*a, "--data.max_per_side=3"] for name, models in PAIRS.items() for m, a in models.items()},
    **dict.fromkeys(("paired", "maps", "translation-cityscapes"), GAN),
    **dict.fromkeys(("ade20k", "segmentation-cityscapes", "glas", "isic", "kvasir_seg", "nuclei"), NETWORK),
}
FAST = [
    "--trainer.accelerator=cpu",
    "--trainer.max_epochs=1",
    "--trainer.limit_train_batches=2",
    "--trainer.enable_progress_bar=false",
    "--trainer.log_every_n_steps=1",
]


@pytest.fixture(autouse=True)
def inside_tmp_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def run_folder(root: Path = Path()) -> Path:
    (folder,) = root.glob("runs/*/version_0")
    return folder


# Of those that differ in a name, a network or in sizes alone, one is enough here; the paper's extractor takes seconds
# to build.
SLOW = ("facades_pix2pixhd", "facades_spade", "wbc_upernet", "camvid", "zoo", "paper", "strong")
FAST_ONES = ("segmentation-nuclei", "translation-cityscapes")  # of the data sets by name, which train alike


def with_marks(configs: list[Path]) -> list:
    def is_slow(config: Path) -> bool:
        by_name = config.stem in BY_NAME and f"{config.parent.name}-{config.stem}" not in FAST_ONES
        demo = config == CONFIGS / "translation" / "demo.yaml"  # with which test_demo.py audits
        return config.stem in SLOW or demo or by_name or config.is_relative_to(CONFIGS / "paper")

    return [pytest.param(c, marks=pytest.mark.slow if is_slow(c) else ()) for c in configs]


@pytest.mark.usefixtures("quick_features")
@pytest.mark.parametrize(
    "config",
    with_marks([c for c in ALL if c.parent.name != "audit"]),
    ids=lambda c: f"{c.parent.name}-{c.stem}",
)
def test_a_training_configuration_runs(config, tmp_path, capsys):
    if config.stem == "zoo" or config.stem.endswith(("_deeplabv3plus", "_upernet")):
        pytest.importorskip("segmentation_models_pytorch", reason="needs the zoo extra")
    args = ["fit", "-c", str(config), *FAST]
    args += SMALLER.get(config.stem, SMALLER.get(f"{config.parent.name}-{config.stem}", []))
    if config.stem in DATA:
        args.append(f"--data.root={DATA[config.stem](tmp_path / 'data')}")
    if config.stem == "demo":
        args += ["--data.num_pairs=16", "--data.image_size=32"]
        args += ["--model.image_size=32"] if config.parent.name == "translation" else ["--model.base_channels=4"]
    main(args)
    folder = run_folder()
    (written,) = folder.glob("audit/audit-epoch=*.json")
    result = AuditResult.from_json(written)
    assert result.epoch == 0
    assert 0 <= result.auc <= 1
    assert (folder / "config.yaml").is_file()
    assert list(folder.glob("events.out.tfevents.*"))
    assert (folder / "audit" / "predictability.sqlite").is_file()
    assert "Memorization by audited epoch" in capsys.readouterr().out


@pytest.mark.parametrize("preset", with_marks([c for c in ALL if c.parent.name == "audit"]), ids=lambda c: c.stem)
def test_an_audit_preset_runs_on_top_of_a_training_configuration(preset, tmp_path):
    extra = []
    if preset.stem == "paper":
        import timm  # seconds to import, for one preset

        torch.save(timm.create_model("wide_resnet50_2").state_dict(), tmp_path / "wrn.pth")
        extra = [f"--audit.scorer.init_args.weights={tmp_path / 'wrn.pth'}"]
    root = DATA["facades"](tmp_path / "data")
    configs = ["-c", str(CONFIGS / "translation" / "facades.yaml"), "-c", str(preset)]
    main(["fit", *configs, f"--data.root={root}", "--data.max_per_side=3", *FAST, *SMALLER["facades"], *extra])
    (written,) = run_folder().glob("audit/audit-epoch=*.json")
    settings = AuditResult.from_json(written).meta["settings"]
    wanted = {"paper": ("method", "holdout"), "quick": ("grid", 28), "strong": ("grid", 56)}[preset.stem]
    assert settings["scorer"][wanted[0]] == wanted[1]
    assert settings["max_samples"] == (128 if preset.stem == "quick" else None)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a run in it, and its configuration as options."""
    folder = tmp_path_factory.mktemp("trained")
    root = DATA["wbc"](folder / "data")
    common = ["-c", str(CONFIGS / "segmentation" / "wbc.yaml"), f"--data.root={root}", *SMALLER["wbc"]]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "mia_lightning.audit.auditor.PredictabilityScorer", lambda: PredictabilityScorer(nn.AvgPool2d(4), grid=4)
        )
        patch.chdir(folder)
        main(["fit", *common, *FAST])
    return folder, common


@pytest.mark.usefixtures("quick_features")
def test_a_trained_checkpoint_is_audited_as_it_was_during_training(trained, tmp_path, capsys):
    folder, common = trained
    shutil.copytree(folder / "runs", "runs")
    (checkpoint,) = Path().rglob("*.ckpt")
    (during,) = run_folder().glob("audit/audit-epoch=*.json")
    main(["audit", *common, f"--ckpt_path={checkpoint}", "--output_dir=out", "--trainer.enable_progress_bar=false"])
    before, after = AuditResult.from_json(during), AuditResult.from_json("out/result.json")
    assert before.ids == after.ids
    for name, values in before.errors.items():
        np.testing.assert_allclose(after.errors[name], values, atol=1e-6)
    assert after.meta["checkpoint"] == str(checkpoint)
    assert after.epoch == 0
    assert after.meta["nonmembers_select_checkpoints"] is False
    assert not list(Path("runs").rglob("version_1")), "an audit is no run"
    written = [
        "audit-pictures.json",
        "memorization_curve.png",
        "report.html",
        "report.md",
        "result.json",
        "samples.csv",
    ]
    assert sorted(p.name for p in Path("out").iterdir()) == written
    assert read_pictures(AuditResult.from_json("out/result.json"), "out")
    assert Path("out/samples.csv").read_text().startswith("id,side,error_reconstruction")
    assert "Written: out/result.json" in capsys.readouterr().out.replace("\n", "")


@pytest.mark.usefixtures("quick_features")
def test_the_saved_configuration_of_a_run_audits_its_checkpoint(trained, tmp_path):
    folder, _ = trained
    shutil.copytree(folder / "runs", "runs")
    (checkpoint,) = Path().rglob("*.ckpt")
    main(["audit", "-c", str(run_folder() / "config.yaml"), f"--ckpt_path={checkpoint}", "--output_dir=out"])
    assert Path("out/result.json").is_file()


REAL = Path(__file__).resolve().parents[3] / "shared" / "data"


@pytest.mark.usefixtures("quick_features")
@pytest.mark.parametrize(
    "name",
    ["translation/facades", *(pytest.param(f"segmentation/{n}", marks=pytest.mark.slow) for n in ("wbc", "camvid"))],
)
def test_a_configuration_runs_on_the_data_it_was_written_for(name):
    stem = name.split("/")[1]
    if not (REAL / stem).is_dir():
        pytest.skip(f"the data set {stem} is not beside the repository")
    config = CONFIGS / f"{name}.yaml"
    main(["fit", "-c", str(config), f"--data.root={REAL / stem}", "--data.max_per_side=6", *FAST, *SMALLER[stem]])
    (written,) = run_folder().glob("audit/audit-epoch=*.json")
    result = AuditResult.from_json(written)
    by_coin = stem != "camvid"
    assert result.member.size == 12
    assert by_coin or result.member.sum() == 6
    assert result.meta["membership"]["assignment"] == ("coin" if by_coin else "split")
    assert result.meta["epsilon"]["valid"] is by_coin
    assert result.meta["nonmembers_select_checkpoints"] is False
    assert not result.excluded
