"""Which settings of an audit count: those that were passed; the model decides the others."""

from __future__ import annotations

from dataclasses import fields

import pytest
import yaml
from lightning.pytorch import Trainer

from mia_lightning.audit.config import AuditConfig
from mia_lightning.callbacks.membership_audit import MembershipAudit
from mia_lightning.cli.early_arguments import EarlyArguments
from mia_lightning.cli.lightning_commands import AuditCLI

ARGS = [
    *("fit", "--model=UNetSegmenter", "--model.num_classes=4", "--model.ignore_index=7"),
    *("--data=DemoDataModule", "--data.task=segmentation", "--trainer.logger=false", "--trainer.accelerator=cpu"),
]


@pytest.fixture
def settings(monkeypatch, tmp_path):
    """Settings of the audit that a command line makes, and the configuration that it would save."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["mia-lightning"])
    monkeypatch.setattr(Trainer, "fit", lambda self, *args, **kwargs: None)

    def run(*args: str) -> tuple[AuditConfig, dict]:
        cli = AuditCLI([*ARGS, *args])
        (audit,) = (c for c in cli.trainer.callbacks if isinstance(c, MembershipAudit))
        saved = yaml.safe_load(cli._parser("fit").dump(cli.config["fit"], skip_none=False))
        return audit.auditor.config, saved["audit"]

    return run


def test_what_is_left_alone_is_the_models_to_decide(settings):
    config, saved = settings("--audit.alpha=1.0")
    assert (config.ignore_index, config.num_classes, config.task) == (7, 4, "segmentation")
    assert saved == {"alpha": 1.0}


def test_an_explicit_default_counts(settings, tmp_path):
    assert settings("--audit.ignore_index=255")[0].ignore_index == 255
    (tmp_path / "run.yaml").write_text("audit: {ignore_index: 255, every_n_epochs: 2}")
    config, saved = settings("-c", str(tmp_path / "run.yaml"))
    assert config.ignore_index == 255
    assert saved == {"ignore_index": 255, "every_n_epochs": 2}


def test_a_configuration_that_holds_every_setting_says_nothing_by_a_default(settings, tmp_path):
    """Runs saved all settings once, those that nobody had passed included."""
    plain = {f.name: list(f.default) if isinstance(f.default, tuple) else f.default for f in fields(AuditConfig)}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"audit": plain | {"alpha": 0.5, "every_n_epochs": 1}}))
    config, _ = settings("-c", str(tmp_path / "config.yaml"))
    assert (config.ignore_index, config.num_classes, config.alpha) == (7, 4, 0.5)


def test_a_configuration_of_before_there_were_further_settings_says_as_little(settings, tmp_path):
    names = "task adapter scorer scores primary alpha neighbours num_classes ignore_index mean std target_range"
    names += " output_key max_samples batch_size num_workers seed fdr prefix cache_dir output_dir"
    first = {name: AuditConfig.__dataclass_fields__[name].default for name in names.split()}
    plain = {name: list(value) if isinstance(value, tuple) else value for name, value in first.items()}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"audit": plain | {"alpha": 0.5}}))
    assert settings("-c", str(tmp_path / "config.yaml"))[0].ignore_index == 7
    del plain["mean"]  # not all of them: somebody has written these
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"audit": plain}))
    assert settings("-c", str(tmp_path / "config.yaml"))[0].ignore_index == 255


def test_a_place_in_a_tuple_is_a_number(settings):
    assert settings("--audit.output_key=1")[0].output_key == 1
    assert settings("--audit.output_key=image")[0].output_key == "image"


@pytest.mark.parametrize(
    ("text", "expected"),
    [("auto", "auto"), pytest.param("[-1,1]", (-1.0, 1.0), marks=pytest.mark.slow), ("[0, 255]", (0.0, 255.0))],
)
def test_a_range_of_targets_is_auto_or_two_numbers(settings, text, expected):
    config, saved = settings(f"--audit.target_range={text}")
    assert config.target_range == expected
    assert "target_range" in saved
    assert settings()[0].target_range == "auto"


def test_ranges_of_older_configurations_say_nothing(settings, tmp_path):
    names = "task adapter scorer scores primary alpha neighbours num_classes ignore_index mean std target_range"
    names += " output_key max_samples batch_size num_workers seed fdr prefix cache_dir output_dir"
    plain = {name: AuditConfig.__dataclass_fields__[name].default for name in names.split()}
    plain = {name: list(value) if isinstance(value, tuple) else value for name, value in plain.items()}
    for value, expected in (([0.0, 1.0], "auto"), ([-1.0, 1.0], (-1.0, 1.0))):
        (tmp_path / "config.yaml").write_text(yaml.safe_dump({"audit": plain | {"target_range": value}}))
        assert settings("-c", str(tmp_path / "config.yaml"))[0].target_range == expected


def test_what_is_named_last_counts(tmp_path):
    (tmp_path / "one.yaml").write_text("model: {class_path: a.One, init_args: {x: 1}}\nckpt_path: one.ckpt\ndata: b.D")
    early = EarlyArguments.of(["audit", "--model", "a.Two", "-c", f"{tmp_path}/one.yaml", "--model.init_args.y=2"])
    assert early.classes == {"model": "a.One", "data": "b.D"}
    assert early.names == {"model": {"x", "y"}, "data": set()}
    assert early.ckpt_path == "one.ckpt"
    early = EarlyArguments.of(["audit", "-c", f"{tmp_path}/one.yaml", "--model=a.Two", "--ckpt_path=null"])
    assert (early.classes["model"], early.ckpt_path) == ("a.Two", None)
    assert EarlyArguments.of(["audit", "-c"]) == EarlyArguments()
    assert EarlyArguments.of(["audit", "-c", "nowhere.yaml"]).classes == {}


def test_the_seed_of_the_training_is_kept_beside_its_checkpoints(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "other.yaml").write_text("seed_everything: 4")
    args = ["audit", f"--ckpt_path={tmp_path}/checkpoints/last.ckpt", f"--config={tmp_path}/other.yaml"]
    assert EarlyArguments.of(args).seed_of_training == 4
    (tmp_path / "config.yaml").write_text("seed_everything: 3")
    assert EarlyArguments.of(args).seed_of_training == 3
    (tmp_path / "config.yaml").write_text("seed_everything: true")
    assert EarlyArguments.of(args[:2]).seed_of_training is None
