"""What the command line says to people who mistype."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mia_lightning.cli.main import COMMANDS, main

CONFIGS = Path(__file__).parents[2] / "configs"
WBC = str(CONFIGS / "segmentation" / "wbc.yaml")
QUIET = [
    "--trainer.accelerator=cpu",
    "--trainer.max_epochs=1",
    "--trainer.logger=false",
    "--trainer.enable_progress_bar=false",
]


@pytest.fixture(autouse=True)
def inside_tmp_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def failure(capsys, args: list[str], status: int) -> str:
    with pytest.raises(SystemExit) as stopped:
        main(args)
    assert stopped.value.code == status
    return capsys.readouterr().err


def test_help_lists_the_commands_without_importing_torch():
    code = "import sys; from mia_lightning.cli.main import main; main(['--help']); assert 'torch' not in sys.modules"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    for command in COMMANDS:
        assert re.search(rf"^  {command} ", shown, re.MULTILINE)


def test_the_help_of_a_command_explains_the_audit(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["fit", "--help"])
    assert stopped.value.code == 0
    shown = capsys.readouterr().out
    assert "--audit.every_n_epochs" in shown
    assert "--audit.alpha" in shown
    assert "Weight of the predictability error" in re.sub(r"\s+", " ", shown)


@pytest.fixture
def data_folder(tmp_path, monkeypatch):
    """The folder that the configuration names: a missing one is noticed first."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data" / "wbc").mkdir(parents=True)


def test_version(capsys):
    main(["--version"])
    assert capsys.readouterr().out.startswith("mia-lightning 0.")


def test_an_unknown_command_names_the_known_ones(capsys):
    message = failure(capsys, ["adit"], 2)
    assert "unknown command 'adit' (did you mean 'audit'?); commands are demo, fit, audit" in message


def test_a_missing_configuration_names_those_there_are(capsys):
    message = failure(capsys, ["fit", "-c", str(CONFIGS / "segmentation" / "cells.yaml")], 2)
    assert "cells.yaml does not exist; there are" in message
    assert "wbc.yaml" in message


@pytest.mark.usefixtures("data_folder")
def test_an_unknown_option_is_named(capsys):
    message = failure(capsys, ["fit", "-c", WBC, "--audit.every_epoch=2"], 2)
    assert "unknown option '--audit.every_epoch' (did you mean '--audit.every_n_epochs'?); options there are" in message
    assert "--audit.alpha" in message
    assert ".help" not in message
    assert "--audit.mean+" not in message
    assert message.splitlines()[-1] == "mia-lightning fit --help all lists all options."
    assert len(message.splitlines()) == 2, "the usage is what --help is for"


@pytest.mark.usefixtures("data_folder")
def test_an_unknown_model_option_is_named(capsys):
    message = failure(capsys, ["fit", "-c", WBC, "--model.base_chanels=2"], 2)
    assert "UNetSegmenter has no option 'base_chanels' (did you mean 'base_channels'?); its options are" in message
    message = failure(capsys, ["fit", "-c", WBC, "--data.rooot=x"], 2)
    assert "SegmentationDataModule has no option 'rooot' (did you mean 'root'?); its options are root," in message


def test_a_missing_data_folder_is_one_line(capsys):
    message = failure(capsys, ["fit", "-c", WBC, "--data.root=nowhere", *QUIET], 1).splitlines()[-1]
    assert message.startswith("mia-lightning: error: ")
    assert "nowhere" in message


def test_a_missing_data_folder_is_found_before_anything_heavy_is_imported(tmp_path):
    code = f"""
import sys
from mia_lightning.cli.main import main
try:
    main(["audit", "-c", {WBC!r}, "--data.root", "nowhere"])
except SystemExit as stopped:
    assert stopped.code == 1
assert "torch" not in sys.modules
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path).stderr
    assert f"the data folder nowhere does not exist (--data.root, looked up from {tmp_path})" in said


def test_the_folder_of_somebody_elses_data_may_still_be_missing(tmp_path, monkeypatch, capsys):
    (tmp_path / "downloads.py").write_text(
        "from lightning.pytorch import LightningDataModule\n"
        "class Downloads(LightningDataModule):\n"
        "    def __init__(self, root: str):\n"
        "        super().__init__()\n"
    )
    monkeypatch.setattr(sys, "path", list(sys.path))
    args = ["audit", "--model=UNetSegmenter", "--model.num_classes=2", "--data=downloads.Downloads", "--data.root=new"]
    assert "Downloads does not say which samples the model was trained on" in failure(capsys, args, 1)


def test_training_without_data_says_what_to_add(capsys):
    message = failure(capsys, ["fit", "--model=Pix2Pix", *QUIET], 1)
    assert "There are no data: name a data module with --data CLASS, such as PairedImageDataModule, or give" in message
    assert "Pix2Pix a train_dataloader()." in message


@pytest.mark.usefixtures("data_folder")
def test_what_is_required_is_said_in_options(capsys):
    message = failure(capsys, ["audit"], 2)
    assert (
        "mia-lightning: error: name the model with --model CLASS, or a configuration that does with -c FILE" in message
    )
    message = failure(capsys, ["fit", "--model=Pix2Pix", "--data=PairedImageDataModule"], 2)
    assert "mia-lightning: error: PairedImageDataModule needs --data.root\n" in message
    message = failure(capsys, ["fit", "-c", WBC, "--audit.alpha=much"], 2)
    assert "mia-lightning: error: --audit.alpha: expected float, but got 'much'\n" in message


def test_the_help_of_audit_begins_with_the_ways_there_are(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["audit", "--help"])
    assert stopped.value.code == 0
    before, options, _ = capsys.readouterr().out.partition("\noptions:\n")
    assert options
    text = " ".join(before.split())
    assert len(before.splitlines()) < 25
    assert text.index("--model CLASS --data CLASS --ckpt_path FILE") < text.index("audit --outputs DIR")
    assert "--members train --nonmembers test" in text
    assert "DIR/members and DIR/nonmembers with the folders inputs, targets and outputs in each" in text
    assert "Tensor" not in options


def test_auditing_without_a_checkpoint_says_what_to_add(capsys, wbc):
    message = failure(capsys, ["audit", "-c", WBC, f"--data.root={wbc}", "--trainer.logger=false"], 1)
    assert "name the trained weights with --ckpt_path" in message


def test_auditing_a_missing_checkpoint_names_those_beside_it(capsys, wbc, tmp_path):
    (tmp_path / "other.ckpt").touch()
    args = ["audit", "-c", WBC, f"--data.root={wbc}", f"--ckpt_path={tmp_path / 'last.ckpt'}", "--trainer.logger=false"]
    message = failure(capsys, args, 1)
    assert "last.ckpt does not exist" in message
    assert "other.ckpt" in message


def test_a_missing_checkpoint_is_found_before_anything_heavy_is_imported(tmp_path):
    code = """
import sys
from mia_lightning.cli.main import main
try:
    main(["audit", "--model=nowhere.Task", "--ckpt_path", "gone.ckpt"])
except SystemExit as stopped:
    assert stopped.code == 1
assert "torch" not in sys.modules
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path).stderr
    assert "The checkpoint gone.ckpt does not exist. There is no checkpoint in that folder." in said


@pytest.mark.usefixtures("quick_features")
def test_auditing_a_checkpoint_of_another_model_says_how_they_differ(capsys, wbc):
    main(["fit", "-c", WBC, f"--data.root={wbc}", "--model.base_channels=4", *QUIET, "--trainer.limit_train_batches=1"])
    (checkpoint,) = Path().rglob("*.ckpt")
    common = ["audit", "-c", WBC, f"--data.root={wbc}", f"--ckpt_path={checkpoint}", "--trainer.logger=false"]
    message = failure(capsys, [*common, "--model.base_channels=8"], 1)
    assert "checkpoint of another model than UNetSegmenter" in message
    assert "of another shape" in message
    assert "It was trained with base_channels=4 (now 8)" in message


def test_a_checkpoint_that_holds_code_is_refused(capsys, wbc, tmp_path):
    torch.save({"state_dict": {}, "evil": Path()}, tmp_path / "evil.ckpt")
    args = ["audit", "-c", WBC, f"--data.root={wbc}", f"--ckpt_path={tmp_path / 'evil.ckpt'}", "--trainer.logger=false"]
    message = failure(capsys, args, 1)
    assert "evil.ckpt cannot be read as a checkpoint of weights and plain values: it holds a pathlib." in message
    assert "refused, since reading them can run code" in message


def test_a_file_that_is_no_checkpoint_is_named(capsys, wbc, tmp_path):
    (tmp_path / "notes.ckpt").write_text("not weights")
    args = [
        "audit",
        "-c",
        WBC,
        f"--data.root={wbc}",
        f"--ckpt_path={tmp_path / 'notes.ckpt'}",
        "--trainer.logger=false",
    ]
    assert "notes.ckpt cannot be read as a checkpoint" in failure(capsys, args, 1)
