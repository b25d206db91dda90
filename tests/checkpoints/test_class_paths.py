"""Classes of other people's projects, found by their import path."""

from __future__ import annotations

import sys

import pytest

from mia_lightning.checkpoints.class_paths import import_class, import_object

PROJECT = """
from lightning.pytorch import LightningModule
from torch import nn

NUMBER = 3


class Task(LightningModule):
    pass


class Net(nn.Module):
    pass


def make():
    return Task()
"""


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    (tmp_path / "path_project.py").write_text(PROJECT)
    (tmp_path / "failing_project.py").write_text("\nraise KeyError('data')\n")
    (tmp_path / "unclosed_project.py").write_text("a = (\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in ("path_project", "failing_project", "unclosed_project"):
        sys.modules.pop(name, None)


def test_classes_and_functions_that_make_them():
    assert import_class("path_project.Task", "model").__name__ == "Task"
    assert import_class("path_project.make", "model")().__class__.__name__ == "Task"
    assert import_object("path_project.NUMBER", "--audit.adapter") == 3


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (
            "nowhere_at_all.Task",
            r"--model nowhere_at_all\.Task cannot be imported: there is no module 'nowhere_at_all'",
        ),
        ("path_project.Tsk", r"path_project has no 'Tsk' \(did you mean 'Task'\?\); its classes are Task, Net\."),
        ("failing_project.Task", r"KeyError: 'data' \(\S*failing_project\.py, line 2\)"),
        ("unclosed_project.Task", r"SyntaxError: '\(' was never closed"),
    ],
)
def test_what_fails_is_said_with_its_place(path, message):
    with pytest.raises(ImportError, match=message):
        import_class(path, "model")


@pytest.mark.parametrize(
    ("path", "section", "message"),
    [
        ("path_project.NUMBER", "model", "is a int; expected a LightningModule, or a function that returns one"),
        ("path_project.Task", "data", "is a class that is no LightningDataModule"),
        ("path_project.Net", "model", r"(?s)is a class that is no LightningModule.*Wrap the network.*self\.net = Net"),
    ],
)
def test_what_is_something_else_is_refused(path, section, message):
    with pytest.raises(TypeError, match=message):
        import_class(path, section)
