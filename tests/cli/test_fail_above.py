"""``--fail_above``: exit codes, one line why, and what programs read."""

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from scipy.stats import norm
from torch import nn

from mia_lightning import AuditResult, PredictabilityScorer
from mia_lightning.cli.fail_above import as_setting
from mia_lightning.cli.main import main
from mia_lightning.result.limits import LimitCheck, LimitsOutcome
from mia_lightning.scores.analysis import Plan, analyse

FIT = (
    "--model=Pix2Pix",
    "--model.image_size=16",
    "--model.ngf=4",
    "--model.ndf=4",
    "--data=PairedImageDataModule",
    "--data.root=data",
    "--data.image_size=16",
    "--data.batch_size=4",
    "--trainer.max_epochs=1",
    "--trainer.num_sanity_val_steps=0",
    "--trainer.enable_model_summary=false",
    "--trainer.logger=TensorBoardLogger",
    "--trainer.logger.save_dir=runs",
)
CPU = ("--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root, rng = tmp_path_factory.mktemp("limits"), np.random.default_rng(0)
    for name in (f"{side}/{split}/{i}.png" for side in "AB" for split in ("train", "val") for i in range(6)):
        (root / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(root / "data" / name)
    return root


@pytest.fixture(autouse=True)
def quick(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(
        "mia_lightning.audit.auditor.PredictabilityScorer", lambda: PredictabilityScorer(nn.AvgPool2d(4), grid=4)
    )


def ended(*args):
    """The exit code of a command."""
    try:
        main([*map(str, args)])
    except SystemExit as stopped:
        return stopped.code
    return 0


def audited(folder, area, count=150):
    rng, member = np.random.default_rng(0), np.arange(2 * count) < count
    raw = {
        "reconstruction": 10.0 + rng.normal(size=2 * count) - np.sqrt(2.0) * norm.ppf(area) * member,
        "predictability": 1e-9 * rng.normal(size=2 * count),
    }
    found = analyse(raw, {}, member, Plan())
    meta = {"settings": {"primary": "membership"}}
    result = AuditResult(found.metrics, [*map(str, range(2 * count))], member, found.errors, found.scores, meta)
    result.to_json(folder / "result.json")
    return folder / "result.json"


def test_a_report_ends_with_the_exit_code(tmp_path, capsys):
    run = audited(tmp_path, 0.8)
    assert ended("report", run, "--fail_above", "auc=0.6") == 3
    assert capsys.readouterr().out.splitlines()[-1].startswith("Limits exceeded: auc <= 0.6: exceeded; auc of memb")
    assert (tmp_path / "report.html").is_file()
    assert ended("report", run, "--fail_above=auc=0.8", "--fail_above", "auc/reconstruction=0.97") == 4
    assert ended("report", run, "--fail_above", "auc=0.95") == 0
    assert ended("report", run) == 0
    assert "Limits" not in capsys.readouterr().out.splitlines()[-1]


def test_programs_read_what_was_found(tmp_path, capsys):
    run = audited(tmp_path, 0.8)
    assert ended("report", run, "--fail_above", "auc=0.6", "--json") == 3
    (limit,) = json.loads(capsys.readouterr().out)["limits"]
    assert (limit["key"], limit["limit"], limit["finding"], limit["exit_code"]) == ("auc", 0.6, "above", 3)


def test_of_compared_runs_the_worst_decides(tmp_path):
    for name, area in (("a", 0.5), ("b", 0.9)):
        (tmp_path / name).mkdir()
        audited(tmp_path / name, area)
    assert ended("report", "--compare", tmp_path / "a", tmp_path / "b", "--fail_above", "auc=0.7") == 3


@pytest.mark.parametrize("command", [["report", "run"], ["audit", "--outputs", "run"]])
@pytest.mark.parametrize(
    ("limit", "text"), [("auk=0.6", "did you mean 'auc'"), ("auc", "NAME=NUMBER"), ("auc=2", "has no effect")]
)
def test_a_limit_that_is_none_is_refused(tmp_path, monkeypatch, capsys, command, limit, text):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    audited(tmp_path / "run", 0.8)
    assert ended(*command, "--fail_above", limit) == 1
    assert text in capsys.readouterr().err


def test_every_command_that_audits_takes_limits(folder, tmp_path, capsys):
    assert ended("fit", *FIT, *CPU, "--fail_above", "auc=0.6", "--quiet") == 4  # six a side tell nothing
    (run,) = (folder / "runs").rglob("version_0")
    assert (run / "audit" / "report.html").is_file()
    assert "auc: 0.6" in (run / "config.yaml").read_text(encoding="utf-8")
    checkpoint = next((run / "checkpoints").glob("*.ckpt"))
    more = ("--ckpt_path", checkpoint, *CPU)
    assert ended("audit", *more, "--output_dir", tmp_path / "audit", "--fail_above=auc=0.6", "--json") == 4
    shown = json.loads(capsys.readouterr().out)
    assert shown["limits"][0]["finding"] == "undecided"
    assert ended("validate", "-c", run / "config.yaml", "--ckpt_path", checkpoint, *CPU, "--quiet") == 4
    assert ended("predict", *more, "--output_dir", tmp_path / "stored", "--quiet") == 0
    stored = ("audit", "--outputs", tmp_path / "stored", "--output_dir", tmp_path / "outputs")
    assert ended(*stored, "--fail_above", "auc=0.6", "--fail_above", "tpr_at_fpr_0.01=0.05") == 4
    assert capsys.readouterr().out.splitlines()[-1].startswith("Limits not decided: auc <= 0.6: cannot tell; auc of")


def test_a_training_above_a_limit_ends_with_3_and_its_report(folder, monkeypatch, capsys):
    outcome = LimitsOutcome((LimitCheck("auc", 0.6, "above", "as if"),))
    monkeypatch.setattr("mia_lightning.callbacks.membership_audit.check_limits", lambda limits, result: outcome)
    more = ("--trainer.max_epochs=5", "--trainer.logger.name=stopped", "--fail_above", "auc=0.6")
    more = (*more, "--audit.slices", "resolution")
    with pytest.warns(UserWarning, match="stops after this epoch"):
        assert ended("fit", *FIT, *CPU, *more) == 3
    (run,) = (folder / "runs" / "stopped").rglob("version_0")
    assert len(list((run / "audit").glob("audit-epoch=*.json"))) == 1
    assert (run / "audit" / "report.html").is_file()
    screen = capsys.readouterr().out
    assert "Limits exceeded: auc <= 0.6: exceeded; as if" in screen
    assert "resolution=20x20" in screen.partition("Slices")[2]


def test_the_option_is_the_setting():
    words = as_setting(["fit", "--fail_above", "auc=0.6", "-c", "a.yaml", "--fail_above=tpr_at_fpr_0.01=0.05"])
    assert words == ["fit", "-c", "a.yaml", '--audit.fail_above={"auc": 0.6, "tpr_at_fpr_0.01": 0.05}']
    assert as_setting(["fit", "-c", "a.yaml"]) == ["fit", "-c", "a.yaml"]


@pytest.mark.parametrize("command", ["fit", "audit", "report"])
def test_help_lists_it(command, capsys):
    assert ended(command, "--help") == 0
    assert "--fail_above LIMIT" in capsys.readouterr().out


@pytest.mark.slow
def test_of_two_processes_the_first_has_report_and_exit_code(folder):
    options = [
        *("--trainer.devices=2", "--trainer.strategy=ddp_find_unused_parameters_true", "--trainer.logger.name=two"),
        *("--fail_above", "auc=0.6"),
    ]
    command = [sys.executable, "-m", "mia_lightning", "fit", *FIT, *CPU, *options]
    ended_with = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert ended_with.returncode == 4, ended_with.stderr
    assert ended_with.stdout.count("Limits not decided") == 1
    (run,) = (folder / "runs" / "two").rglob("version_0")
    assert (run / "audit" / "report.html").is_file()
