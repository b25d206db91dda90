"""The files that a training's audits leave."""

from __future__ import annotations

import json
import logging
import warnings
from pathlib import Path
from typing import Any

import pytest
from lightning_package import Callback, pl
from PIL import Image

from mia_lightning import AuditResult
from mia_lightning.result.history import read_audits
from mia_lightning.sinks import files
from mia_lightning.sinks.audit_images import images_of
from mia_lightning.sinks.files import write_artefacts


def test_output_dir_gets_one_json_and_one_csv_an_audit(kit, audit, trainer, loaders, tmp_path: Path) -> None:
    callback = audit(output_dir=tmp_path / "audits")
    run = trainer(callback, val_check_interval=1 / 3)
    run.fit(kit.Translator(), *loaders)
    run.validate(kit.Translator(), loaders[1], verbose=False)
    jsons = sorted((tmp_path / "audits").glob("audit-*step=*.json"))
    assert len(jsons) == len(list((tmp_path / "audits").glob("audit-*.csv"))) == len(callback.history) == 7
    assert {p.name for p in (tmp_path / "audits").iterdir()} - {
        p.with_suffix(s).name for p in jsons for s in (".json", ".csv")
    } == {
        next((tmp_path / "audits").glob("samples.*")).name,
        "audit-pictures.json",
        "memorization_curve.png",
    }
    in_order = sorted(jsons, key=lambda p: (json.loads(p.read_text())["meta"]["epoch"] is None, p.name))
    for path, result in zip(in_order, callback.history, strict=True):
        kit.same(AuditResult.from_json(path), result)
    lines = jsons[0].with_suffix(".csv").read_text().splitlines()
    assert lines[0].split(",")[:3] == ["id", "side", "error_reconstruction"]
    assert len(lines) == 1 + 11


def test_the_curve_is_drawn_in_the_end(kit, audit, trainer, loaders, tmp_path: Path, caplog) -> None:
    folder = tmp_path / "audit"
    with caplog.at_level(logging.INFO, logger=f"{pl.__name__}.utilities.rank_zero"):
        trainer(audit(output_dir=folder), audit(output_dir=folder, prefix="a/b")).fit(kit.Translator(), *loaders)
    with Image.open(folder / "memorization_curve.png") as picture:
        assert min(picture.size) > 300
    assert (folder / "a_b-memorization_curve.png").is_file()
    table = next(folder.glob("samples.*")).name
    assert f"Audits: {folder}, with {table} and memorization_curve.png" in caplog.text


def test_what_trackers_keep_is_not_drawn_again(kit, audit, trainer, loaders, tmp_path: Path, monkeypatch) -> None:
    callback = audit(output_dir=tmp_path / "audit")
    trainer(callback, max_epochs=1).fit(kit.Translator(), *loaders)
    (tmp_path / "other").mkdir()
    with monkeypatch.context() as patched:
        patched.setattr(files, "memorization_curve", lambda *_: pytest.fail("the curve was drawn again"))
        paths = write_artefacts(callback.history, tmp_path / "other")
    assert [p.parent.name for p in paths] == ["other"] * 2 + ["audit"] * 2
    assert paths[3].name == "memorization_curve.png"
    paths[3].unlink()
    assert {p.parent.name for p in write_artefacts(callback.history, tmp_path / "other")} == {"other"}


def test_figures_are_drawn_once_for_all_sinks(kit, audit, trainer, loaders) -> None:
    callback = audit()
    trainer(callback, max_epochs=2).fit(kit.Translator(), *loaders)
    first, second = callback.history
    none: list[Any] = []
    images = images_of(first, none)
    assert images_of(first, none) is images
    assert images_of(second, none) is not images
    assert images_of(first, []) == images


def test_two_trainings_in_one_folder_are_warned_of(kit, audit, trainer, loaders, tmp_path: Path) -> None:
    folder = tmp_path / "audit"
    trainer(audit(output_dir=folder)).fit(kit.Translator(), *loaders)
    with pytest.warns(UserWarning, match="holds 2 audit files of an earlier training, which will be mixed"):
        trainer(audit(output_dir=folder)).fit(kit.Translator(), *loaders)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*earlier training.*")
        trainer(audit(output_dir=folder, prefix="other")).fit(kit.Translator(), *loaders)


def test_a_broken_curve_does_not_end_a_training(kit, audit, trainer, loaders, tmp_path: Path, monkeypatch) -> None:
    def full(*args: Any) -> Any:
        raise OSError("disk full")

    class Broken(kit.Translator):
        def on_train_epoch_start(self) -> None:
            if self.current_epoch == 1:
                raise RuntimeError("the real one")

    monkeypatch.setattr("mia_lightning.sinks.files.memorization_curve", full)
    told = r"FileSink of the audit failed, and the training goes on \(OSError: disk full\)"
    with pytest.warns(UserWarning, match=told):
        trainer(audit(output_dir=tmp_path / "whole")).fit(kit.Translator(), *loaders)
    with pytest.raises(RuntimeError, match="the real one"), pytest.warns(UserWarning, match=told):
        trainer(audit(output_dir=tmp_path / "broken")).fit(Broken(), *loaders)


class FullDisk(Callback):
    """Makes a file of the folder in which the audits are to be written."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        if trainer.current_epoch == 1:
            self.folder.rename(self.folder.with_suffix(".away"))
            self.folder.touch()


def test_a_folder_that_cannot_be_written_does_not_end_a_training(kit, audit, trainer, loaders, tmp_path: Path) -> None:
    callback = audit(output_dir=tmp_path / "audit")
    with pytest.warns(UserWarning, match="FileSink of the audit failed, and the training goes on"):
        trainer(callback, FullDisk(tmp_path / "audit"), max_epochs=3).fit(kit.Translator(), *loaders)
    assert [r.epoch for r in callback.history] == [0, 1, 2]
    assert [r.epoch for r in read_audits(tmp_path / "audit.away")] == [0]
