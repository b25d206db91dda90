"""The examples run as written, are short, and end with an audit that says something."""

from __future__ import annotations

import importlib.util
import os
import re
import runpy
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from torch import nn

from mia_lightning import MembershipAudit
from mia_lightning.features import PredictabilityScorer

FOLDER = Path(__file__).parents[2] / "examples"
DATA = ("photographs", "ellipsoids")
EXAMPLES = sorted(p.stem for p in FOLDER.glob("*.py") if p.stem not in DATA)
USUAL = "gan"  # which needs no package of its own
PACKAGES = ("segmentation_models_pytorch", "torchgeo", "monai", "transformers")


def test_they_are_short_and_the_table_lists_them() -> None:
    assert len(EXAMPLES) == 10
    for path in FOLDER.glob("*.py"):
        assert len(path.read_text().splitlines()) <= 40, path.name
    listed = re.findall(r"^\| \[(\w+)\.py\]\((\w+)\.py\)", (FOLDER / "README.md").read_text(), re.MULTILINE)
    assert sorted(name for name, _ in listed) == EXAMPLES
    assert all(name == target for name, target in listed)


def needs(name: str) -> None:
    text = (FOLDER / f"{name}.py").read_text()
    for package in PACKAGES:
        if re.search(rf"^(import|from) {package}\b", text, re.MULTILINE) and not importlib.util.find_spec(package):
            pytest.skip(f"{package} is not installed: the example {name}.py uses it")


def run(name: str) -> MembershipAudit:
    return runpy.run_path(str(FOLDER / f"{name}.py"), run_name="__main__")["audit"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.setenv("PL_GLOBAL_SEED", "0")  # seed_everything sets it for good


def check(audit: MembershipAudit, printed: str) -> None:
    low, _ = audit.result.interval()
    assert low > 0.5
    assert not audit.result.excluded
    epochs = [r.epoch for r in audit.history]
    assert len(epochs) > 1
    assert epochs == sorted(set(epochs))
    assert printed.rstrip().endswith("\n".join(map(repr, audit.history)))


@pytest.mark.usefixtures("here")
def test_it_runs_with_quick_features(monkeypatch, capsys) -> None:
    scorer = partial(PredictabilityScorer, nn.AvgPool2d(4), grid=4)
    monkeypatch.setattr("mia_lightning.audit.auditor.PredictabilityScorer", scorer)
    check(run(USUAL), capsys.readouterr().out)


@pytest.mark.slow
@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("name", EXAMPLES)
def test_it_finds_what_was_memorised(name: str, capsys) -> None:
    needs(name)
    check(run(name), capsys.readouterr().out)


@pytest.mark.slow
def test_it_runs_from_a_shell(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(FOLDER.parent)}
    command = [sys.executable, str(FOLDER / f"{USUAL}.py")]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    pattern = r"AuditResult\(epoch (\d+), 24 members, 24 nonmembers, auc=(\S+) \[(\S+), \S+\]\)"
    curve = [re.fullmatch(pattern, line) for line in done.stdout.splitlines()[-3:]]
    assert [match[1] for match in curve] == ["4", "9", "14"]
    assert float(curve[-1][3]) > 0.5
