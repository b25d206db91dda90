"""A run's checkpoint alone is audited, predicted with and exported; all routes find the same numbers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from mia_lightning import AuditResult, PredictabilityScorer
from mia_lightning.cli.main import main
from mia_lightning.report.run import read_run

CPU = ("--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false")
QUICK = ("--trainer.max_epochs=1", "--trainer.enable_model_summary=false", "--trainer.num_sanity_val_steps=0")


pytestmark = pytest.mark.usefixtures("quick_features")


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """A folder of pairs, a folder of masks, and a run on each."""
    root, rng = tmp_path_factory.mktemp("runs"), np.random.default_rng(0)
    for name in (f"{split}/{i:02d}.png" for split in ("train", "val") for i in range(6)):
        for folder, high, shape in (("A", 256, (20, 20, 3)), ("B", 256, (20, 20, 3)), ("masks", 3, (20, 20))):
            path = root / "data" / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, high, shape).astype(np.uint8)).save(path)
    patch = pytest.MonkeyPatch()
    patch.setattr(
        "mia_lightning.audit.auditor.PredictabilityScorer", lambda: PredictabilityScorer(nn.AvgPool2d(4), grid=4)
    )
    patch.chdir(root)
    small = {
        "translation": ["--model=Pix2Pix", "--model.image_size=16", "--model.ngf=4", "--model.ndf=4"],
        "segmentation": [
            "--model=UNetSegmenter",
            "--model.num_classes=3",
            "--model.base_channels=4",
            "--model.depth=2",
        ],
    }
    data = {
        "translation": ["--data=PairedImageDataModule"],
        "segmentation": [
            "--data=SegmentationDataModule",
            "--data.num_classes=3",
            "--data.image_dir=A",
            "--data.class_names=[sky, road, tree]",
        ],
    }
    for task in small:
        logger = [
            "--trainer.logger=TensorBoardLogger",
            "--trainer.logger.save_dir=runs",
            f"--trainer.logger.name={task}",
        ]
        reading = [
            *data[task],
            "--data.root=data",
            "--data.image_size=16",
            "--data.augment=none",
            "--data.batch_size=4",
        ]
        main(["fit", *small[task], *reading, *logger, *CPU, *QUICK, "--quiet"])
    patch.undo()
    return root


@pytest.fixture
def inside(runs, monkeypatch) -> Path:
    monkeypatch.chdir(runs)
    return runs


def checkpoint_in(root: Path, task: str) -> Path:
    return next((root / "runs" / task / "version_0" / "checkpoints").glob("*.ckpt"))


def checkpoint(task: str) -> str:
    return str(checkpoint_in(Path(), task))


def result(*args: str, folder: Path) -> AuditResult:
    main(["audit", *args, "--output_dir", str(folder), "--quiet"])
    return AuditResult.from_json(folder / "result.json")


@pytest.mark.parametrize("task", [pytest.param("translation", marks=pytest.mark.slow), "segmentation"])
def test_all_routes_from_a_checkpoint_alone(inside, tmp_path, task):
    in_training = AuditResult.from_json(next(Path("runs", task, "version_0", "audit").glob("audit-epoch=*.json")))
    alone = result("--ckpt_path", checkpoint(task), *CPU, folder=tmp_path / "alone")
    named = "mia_lightning.Pix2Pix" if task == "translation" else "UNetSegmenter"
    by_class = result("--model", named, "--ckpt_path", checkpoint(task), *CPU, folder=tmp_path / "class")
    main(["predict", "--ckpt_path", checkpoint(task), "--output_dir", str(tmp_path / "stored"), *CPU, "--quiet"])
    stored = result("--outputs", str(tmp_path / "stored"), folder=tmp_path / "outputs")
    meaning = json.loads((tmp_path / "stored" / "members" / "samples.json").read_text())["settings"]
    assert meaning["class_names"] == (["sky", "road", "tree"] if task == "segmentation" else None)
    for other in (alone, by_class, stored):
        assert other.ids == in_training.ids
        copies = {"neighbour", "weighted_neighbour", "easiest_neighbour", "tile_neighbour"}
        without = copies if other is stored else set()  # stored outputs have no copies
        assert in_training.errors.keys() - other.errors.keys() == without
        for name, errors in other.errors.items():
            assert np.array_equal(in_training.errors[name], errors), name
        assert other.auc == in_training.auc
    exported = tmp_path / "model.ts"
    main(["export", "--ckpt_path", checkpoint(task), "--format=torchscript", "--output", str(exported), "--quiet"])
    kind = ["--data=PairedImageDataModule"]
    if task == "segmentation":
        kind = ["--data=SegmentationDataModule", "--data.num_classes=3", "--data.image_dir=A"]
    arguments = ["--model=ExportedModel", f"--model.path={exported}", *kind, "--data.root=data", "--data.image_size=16"]
    more = ["--data.augment=none"]
    from_file = result(*arguments, *more, *CPU, folder=tmp_path / "exported")
    assert np.allclose(from_file.errors["membership"], in_training.errors["membership"], atol=1e-6)


def test_what_was_taken_from_the_checkpoint_is_said(inside, tmp_path, capsys):
    main(["predict", "--ckpt_path", checkpoint("translation"), "--output_dir", str(tmp_path / "stored"), *CPU])
    shown = " ".join(capsys.readouterr().out.split())
    assert "Pix2Pix as the checkpoint says, where nothing else is given: image_size=16, ngf=4, ndf=4." in shown
    assert "PairedImageDataModule as the checkpoint says, where nothing else is given: root='data'" in shown
    assert f"Next: mia-lightning audit --outputs {tmp_path / 'stored'}" in shown


def test_json_of_exports(inside, tmp_path, capsys):
    main(
        ["export", "--ckpt_path", checkpoint("segmentation"), "--format=export", f"--output={tmp_path}/a.pt2", "--json"]
    )
    shown = json.loads(capsys.readouterr().out)
    assert (shown["command"], shown["files"], shown["format"]) == ("export", [f"{tmp_path}/a.pt2"], "export")
    assert shown["difference"] < 1e-5


def failure(capsys, *args: str, status: int = 1) -> str:
    with pytest.raises(SystemExit) as stopped:
        main(list(args))
    assert stopped.value.code == status
    return " ".join(capsys.readouterr().err.split())


def test_what_is_missing_is_said_with_its_option(inside, tmp_path, capsys):
    ckpt = f"--ckpt_path={checkpoint('segmentation')}"
    torch.save({"state_dict": {"a.weight": torch.zeros(1)}}, tmp_path / "bare.ckpt")
    (tmp_path / "empty.ckpt").touch()
    (tmp_path / "text.ckpt").write_text("hello")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    no_model = "name the model with --model CLASS"
    for args, text, status in (
        (["export"], no_model, 2),
        (["export", f"--ckpt_path={tmp_path}/bare.ckpt"], no_model, 2),
        (["export", "--ckpt_path=gone.ckpt"], "The checkpoint gone.ckpt does not exist.", 1),
        (
            ["audit", f"--ckpt_path={tmp_path}/empty.ckpt"],
            "it is empty, as if cut off while written. Name another with",
            1,
        ),
        (["audit", f"--ckpt_path={tmp_path}/text.ckpt"], "none that torch.save has written, or only a part of one", 1),
        (["predict", f"--ckpt_path={tmp_path}", f"--output_dir={tmp_path}/a"], "is a folder.", 1),
        (["predict", ckpt, f"--output_dir={tmp_path}/full", *CPU], "is not empty.*name another --output_dir", 1),
        (
            ["predict", ckpt, f"--output_dir={tmp_path}/a", "--data.root=gone"],
            "data folder gone does not exist (name another with --data.root",
            1,
        ),
        (["export", ckpt, "--format=pickle"], "--format: expected one of 'onnx', 'torchscript', 'export'", 2),
        (["export", ckpt, "--forma=onnx"], "unknown option '--forma' (did you mean '--format'?)", 2),
        (["audit", ckpt, "--trainer.accelerator=tpu"], "--trainer.accelerator: ", 1),
        (["audit", ckpt, "--trainer.accelerator=abacus"], "--trainer.accelerator: ", 1),
        (["audit", ckpt, *CPU, "--trainer.devices=0"], "--trainer.devices: ", 1),
    ):
        message = failure(capsys, *args, status=status)
        assert all(part in message for part in text.split(".*")), (args, message)
    if not torch.cuda.is_available():
        message = failure(capsys, "audit", ckpt, "--trainer.accelerator=gpu")
        assert "--trainer.accelerator: there is no gpu that torch can use here: take cpu or auto." in message


FORMS = [  # of naming the folder X
    ["--data.root=X"],
    ["-c", "data: {init_args: {root: X}}"],
    ["--data.init_args.root", "X"],
    ["-c", "data: {root: X}"],
    ["-c", "data.root: X"],
]


@pytest.mark.parametrize("forms", [FORMS[:2], pytest.param(FORMS[2:], marks=pytest.mark.slow)], ids=["usual", "others"])
def test_the_folder_of_the_data_is_named_in_one_place(inside, tmp_path, capsys, forms):
    moved = tmp_path / "moved"
    moved.symlink_to(inside / "data")
    text = Path("runs/translation/version_0/config.yaml").read_text().replace("root: data\n", "root: gone\n")
    (tmp_path / "run.yaml").write_text(text)
    ckpt = checkpoint("translation")
    usual = result("--ckpt_path", ckpt, *CPU, folder=tmp_path / "usual")
    run = ["-c", str(tmp_path / "run.yaml"), "--ckpt_path", ckpt, *CPU]
    assert "the data folder gone does not exist (--data.root" in failure(capsys, "audit", *run)
    for number, form in enumerate(forms):
        option = [word.replace("X", str(moved)) for word in form]
        if option[0] == "-c":
            (tmp_path / f"{number}.yaml").write_text(option[1])
            option[1] = str(tmp_path / f"{number}.yaml")
        found = result(*run, *option, folder=tmp_path / f"out{number}")
        assert found.errors["membership"].tolist() == usual.errors["membership"].tolist(), form


def test_results_do_not_go_over_those_of_another_audit(inside, tmp_path, monkeypatch):
    root = ["--trainer.default_root_dir", str(tmp_path), *CPU, "--quiet"]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").symlink_to(inside / "data")
    checkpoints = [checkpoint_in(inside, task) for task in ("translation", "segmentation")]
    for _ in range(2):  # a second audit of the same takes the place of the first
        for path in checkpoints:
            main(["audit", "--ckpt_path", str(path), *root])
    folders = sorted(path.name for path in tmp_path.glob("audit*"))
    assert folders == ["audit", "audit-segmentation-version_0-epoch=0-step=2"]
    found = [AuditResult.from_json(tmp_path / folder / "result.json").meta["checkpoint"] for folder in folders]
    assert found == [str(path) for path in checkpoints]
    names = [read_run(tmp_path / folder).name for folder in folders]
    assert names == ["translation/version_0/epoch=0-step=4", "segmentation/version_0/epoch=0-step=2"]


@pytest.mark.parametrize(
    ("wrong", "kept"),
    [(["--data.root=empty"], False), (["--model.in_channels=1"], False), (["--trainer.max_epochs=1"], True)],
)
def test_a_run_that_cannot_begin_leaves_no_folder(inside, tmp_path, monkeypatch, wrong, kept):
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("data").symlink_to(inside / "data")
    config = inside / "runs" / "translation" / "version_0" / "config.yaml"
    args = ["fit", "-c", str(config), "--trainer.logger.name=new", *wrong, "--quiet"]
    if kept:
        main(args)
    else:
        with pytest.raises(SystemExit):
            main(args)
    assert Path("runs").exists() == kept
