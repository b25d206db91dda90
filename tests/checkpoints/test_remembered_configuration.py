"""What a checkpoint says of the classes that wrote it, and what is taken from it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from mia_lightning import DemoDataModule, PairedImageDataModule, Pix2Pix, SegmentationDataModule, UNetSegmenter
from mia_lightning.checkpoints.remembered_configuration import remembered_configuration

OWN = {
    cls.__name__: cls for cls in (Pix2Pix, UNetSegmenter, PairedImageDataModule, SegmentationDataModule, DemoDataModule)
}
TRANSLATION = (Pix2Pix(image_size=32, ngf=6, ndf=4, betas=(0.4, 0.9)), PairedImageDataModule("root", membership="coin"))
SEGMENTATION = (
    UNetSegmenter(num_classes=3, base_channels=4, depth=2, ignore_index=7),
    SegmentationDataModule("root", 3, ignore_index=7, palette=[(0, 0, 0), (1, 1, 1), (2, 2, 2)], image_size=(32, 48)),
)


def write(model: Any, data: Any, *, command_line: bool, path: str = "last.ckpt") -> str:
    """A checkpoint as Lightning writes it, from a script or from the command line, which names the classes."""
    content: dict[str, Any] = {"state_dict": {}, "pytorch-lightning_version": "2.6.0"}
    for key, part in (("hyper_parameters", model), ("datamodule_hyper_parameters", data)):
        if part is not None:
            content[key] = dict(part.hparams)
            if command_line:
                content[key] |= {"_class_path": f"mia_lightning.{type(part).__name__}", "_instantiator": "a.function"}
    torch.save(content, path)
    return path


@pytest.fixture(autouse=True)
def inside_tmp_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("command_line", [True, False])
@pytest.mark.parametrize("pair", [TRANSLATION, SEGMENTATION])
def test_a_checkpoint_alone_says_what_was_trained_on_what(pair, command_line):
    config, remembered = remembered_configuration({}, {}, write(*pair, command_line=command_line), OWN)
    assert [arguments.owner for arguments in remembered] == [type(part).__name__ for part in pair]
    for section, part in zip(("model", "data"), pair, strict=True):
        assert config[section]["class_path"] == f"{type(part).__module__}.{type(part).__name__}"
        built = type(part)(**config[section]["init_args"])
        assert {k: _plain(v) for k, v in built.hparams.items()} == {k: _plain(v) for k, v in part.hparams.items()}


@pytest.mark.parametrize("name", ["Pix2Pix", "mia_lightning.Pix2Pix", "mia_lightning.models.pix2pix.Pix2Pix"])
def test_a_class_may_be_named_and_what_is_passed_is_left_out(name):
    path = write(TRANSLATION[0], None, command_line=False)
    config, _ = remembered_configuration({"model": name}, {"model": {"ndf"}}, path, OWN)
    assert config["model"]["class_path"] == name
    assert config["model"]["init_args"]["ngf"] == 6
    assert "ndf" not in config["model"]["init_args"]
    assert "data" not in config


def test_another_class_of_ours_than_the_one_that_was_trained_takes_nothing():
    path = write(*TRANSLATION, command_line=True)
    config, remembered = remembered_configuration({"data": "SegmentationDataModule"}, {}, path, OWN)
    assert list(config) == ["model"]
    assert [arguments.owner for arguments in remembered] == ["Pix2Pix"]


def test_classes_of_other_projects_are_not_imported_because_a_file_says_so():
    Path("their_project.py").write_text("raise RuntimeError('imported')\n")
    torch.save({"state_dict": {}, "hyper_parameters": {"_class_path": "their_project.Net", "width": 3}}, "theirs.ckpt")
    with pytest.raises(ValueError, match=r"trained by their_project\.Net.*name it with --model their_project\.Net"):
        remembered_configuration({}, {}, "theirs.ckpt", OWN)
    assert "their_project" not in sys.modules


@pytest.mark.parametrize("content", [{"a.weight": torch.zeros(1)}, {"state_dict": {}, "hyper_parameters": {"lr": 0.1}}])
def test_files_that_do_not_say_what_they_are_of_give_nothing(content):
    torch.save(content, "weights.pt")
    assert remembered_configuration({}, {}, "weights.pt", OWN) == ({}, [])


def _plain(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return str(value) if isinstance(value, Path) else value
