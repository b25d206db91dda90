"""The first command that anybody runs."""

import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from mia_lightning import DemoDataModule
from mia_lightning.cli.main import main
from mia_lightning.result.audit_result import AuditResult

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("task", "seed", "smaller"),
    [
        ("translation", None, ["--data.num_pairs=16"]),
        pytest.param("translation", None, [], marks=pytest.mark.slow),
        pytest.param("segmentation", 1, [], marks=pytest.mark.slow),
    ],
)
def test_the_demo_and_the_next_command_that_it_names(task, seed, smaller, tmp_path, monkeypatch, capsys):
    if smaller:
        data = partial(DemoDataModule, num_pairs=16)
        monkeypatch.setattr("mia_lightning.data.demo.DemoDataModule", data)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    main(["demo", f"--task={task}", "--epochs=1", *([f"--seed={seed}"] if seed is not None else [])])
    shown = capsys.readouterr().out
    folder = tmp_path / "runs" / "demo" / "version_0"
    assert list(folder.glob("events.out.tfevents.*"))
    assert (folder / "audit" / "memorization_curve.png").read_bytes().startswith(b"\x89PNG")
    (audit,) = folder.glob("audit/audit-epoch=*.json")
    (command,) = re.findall(r"^  mia-lightning (audit .*)$", shown, re.MULTILINE)
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    main([*command.split(), *smaller, "--output_dir=again", "--trainer.enable_progress_bar=false"])
    during, after = AuditResult.from_json(audit), AuditResult.from_json("again/result.json")
    assert after.ids == during.ids
    for report in (folder / "audit" / "report.html", Path("again/report.html")):
        assert f"{during.auc:.3f}" in report.read_text(encoding="utf-8")
    np.testing.assert_allclose(after.errors["membership"], during.errors["membership"], atol=1e-5)


def test_a_wrong_option_of_the_demo_is_named(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["demo", "--tsk=translation"])
    assert stopped.value.code == 2
    assert "tsk" in capsys.readouterr().err


def test_the_help_of_the_demo_reads_well(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["demo", "--help"])
    assert stopped.value.code == 0
    shown = capsys.readouterr().out
    assert "usage: mia-lightning demo" in shown
    assert "Train a small model on embedded photographs" in shown
