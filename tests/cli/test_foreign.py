"""``mia-lightning audit`` of a project that nobody here wrote."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from lightning.pytorch import Trainer
from torch import nn

from mia_lightning.cli.early_arguments import EarlyArguments, completed
from mia_lightning.cli.lightning_commands import make_importable
from mia_lightning.cli.main import main
from mia_lightning.features import PredictabilityScorer
from mia_lightning.result.audit_result import AuditResult

PROJECT = '''
"""Somebody's project: dicts everywhere, no validation, hooks that are not ready for being called without data."""
from __future__ import annotations
import torch
from lightning.pytorch import LightningDataModule, LightningModule
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

STAGES = []


class Pairs(TensorDataset):
    def __getitem__(self, i):
        x, y = super().__getitem__(i)
        return {"input": x, "target": y}


def pairs(n, seed):
    return Pairs(*torch.rand(2, n, 3, 16, 16, generator=torch.Generator().manual_seed(seed)))


class Data(LightningDataModule):
    def __init__(self, n: int):
        super().__init__()
        self.save_hyperparameters()
        self.n = n

    def setup(self, stage):
        STAGES.append(stage)
        if stage == "fit":
            self.train = pairs(self.n, 0)
        elif stage == "test":
            self.held_out = pairs(self.n, 1)
        else:
            raise RuntimeError(f"there is no stage {stage} here")

    def train_dataloader(self):
        return DataLoader(self.train, batch_size=4, shuffle=True, drop_last=True)

    def test_dataloader(self):
        return [DataLoader(self.held_out, batch_size=4)]

    def predict_dataloader(self):
        return [DataLoader(self.held_out), DataLoader(self.held_out)]


class Told(Data):
    def audit_dataloaders(self):
        self.setup("test")
        return DataLoader(self.train), DataLoader(self.held_out)


class Drawn(Data):
    def setup(self, stage):
        STAGES.append(stage)
        self.train, self.held_out = random_split(pairs(2 * self.n, 0), [self.n, self.n])


class Task(LightningModule):
    def __init__(self, width: int, lr=0.01, loss: nn.Module | None = None):
        super().__init__()
        self.save_hyperparameters(ignore="loss")
        self.net = nn.Sequential(nn.Conv2d(3, width, 1), nn.Tanh(), nn.Conv2d(width, 3, 1))

    def forward(self, x):
        return {"features": x, "image": self.net(x)}

    def training_step(self, batch, i):
        return (self(batch["input"])["image"] - batch["target"]).abs().mean()

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), self.hparams.lr)

    def never(self, *args):
        raise RuntimeError("this hook has no business in an audit")

    on_validation_start = on_validation_epoch_start = on_validation_epoch_end = validation_step = never
    on_predict_start = on_predict_epoch_start = on_predict_epoch_end = on_predict_end = predict_step = never


class Wordless(LightningModule):
    def __init__(self):
        super().__init__()
        self.net = Task(4).net


class ByHand:
    def unpack(self, batch):
        from mia_lightning.audit.adapters import Sample

        return Sample([f"pair {float(x.mean()):.6f}" for x in batch["input"]], batch["input"], batch["target"])

    def predict(self, module, input):
        return module.net(input)


class Tuples(Task):
    def forward(self, x):
        return x, self.net(x)


class WithLoaders(Task):
    def setup(self, stage):
        self.data = getattr(self, "data", Data(6))
        self.data.setup(stage)

    def train_dataloader(self):
        return self.data.train_dataloader()

    def test_dataloader(self):
        return self.data.test_dataloader()


def smaller(width: int = 6) -> Task:
    return Task(width, 0.5)


class Varied(LightningModule):
    def __init__(self, bare=None, table=None, pair: tuple[int, int] = (1, 2), names: dict[int, str] | None = None,
                 bound=None):
        super().__init__()
        self.save_hyperparameters()


class Whole(LightningModule):
    def __init__(self, hparams: dict):
        super().__init__()
        self.save_hyperparameters(hparams)


class Net(nn.Module):
    pass


def needs_more(a):
    return ByHand()
'''
CPU = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]
SPLITS = ["--members=train", "--nonmembers=test"]
KEY = "--audit.output_key=image"


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """The project, trained for an epoch by its own means."""
    folder = tmp_path_factory.mktemp("stranger")
    (folder / "foreign_project.py").write_text(PROJECT)
    (folder / "broken_project.py").write_text("import not_installed_anywhere\n")
    sys.path.insert(0, str(folder))
    module = importlib.import_module("foreign_project")
    sys.path.remove(str(folder))
    trainer = Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    task = module.Task(6)
    trainer.fit(task, datamodule=module.Data(6))
    trainer.save_checkpoint(folder / "trained.ckpt")
    torch.save(module.Task(4).net.state_dict(), folder / "net.pt")
    (folder / "text.ckpt").write_text("no weights")
    return folder


@pytest.fixture(autouse=True)
def inside_the_project(project, monkeypatch):
    monkeypatch.chdir(project)
    # A console script does not put the current folder there.
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p not in ("", str(project))])
    monkeypatch.setattr(
        "mia_lightning.audit.auditor.PredictabilityScorer", lambda: PredictabilityScorer(nn.AvgPool2d(4), grid=4)
    )


@pytest.fixture
def audit(tmp_path) -> Callable[..., AuditResult]:
    def run(*args: str) -> AuditResult:
        main(["audit", *CPU, f"--output_dir={tmp_path / 'out'}", *args])
        return AuditResult.from_json(tmp_path / "out" / "result.json")

    return run


def failure(capsys, *args: str, status: int = 1) -> str:
    with pytest.raises(SystemExit) as stopped:
        main(["audit", *CPU, *args])
    assert stopped.value.code == status
    return capsys.readouterr().err


def complete(args: list[str]):
    return completed(args, EarlyArguments.of(args))


def task(name: str = "Task", data: str = "Data") -> list[str]:
    return [f"--model=foreign_project.{name}", f"--data=foreign_project.{data}"]


def by_hand(project: Path) -> np.ndarray:
    """Reconstruction errors of six members and six nonmembers, with nothing of ours."""
    module = sys.modules["foreign_project"]
    model = module.Task(6)
    model.load_state_dict(torch.load(project / "trained.ckpt", weights_only=True)["state_dict"])
    samples = [s for seed in (0, 1) for s in module.pairs(6, seed)]
    with torch.no_grad():
        return np.array([float((model.net(s["input"]) - s["target"]).abs().mean()) for s in samples])


def test_any_module_with_its_checkpoint(project, audit, capsys):
    module = sys.modules["foreign_project"]
    module.STAGES.clear()
    result = audit(*task(), *SPLITS, KEY, "--ckpt_path=trained.ckpt")
    text = " ".join(capsys.readouterr().out.split())
    assert module.STAGES == ["fit", "test"]
    assert result.ids == [f"{side}-{i:06d}" for side in ("member", "nonmember") for i in range(6)]
    np.testing.assert_allclose(result.errors["reconstruction"], by_hand(project), atol=1e-6)
    assert "Task as the checkpoint says, where nothing else is given: width=6, lr=0.01." in text
    assert "Data as the checkpoint says, where nothing else is given: n=6." in text
    assert "Members are those of Data.train_dataloader(), under its transforms" in text
    assert (result.meta["stage"], result.meta["checkpoint"]) == ("audit", "trained.ckpt")
    assert (result.epoch, result.meta["step"]) == (0, 1), "saved after the fit of one epoch"
    assert "global random generators" not in text
    sides = {"members": "train_dataloader", "nonmembers": "test_dataloader"}
    assert result.meta["membership"] == {"assignment": "given"} | sides


def test_what_the_user_says_wins_over_the_checkpoint(audit, capsys):
    result = audit(*task("Task", "Told"), KEY, "--ckpt_path=trained.ckpt", "--model.lr=7", "--data.n", "5")
    text = capsys.readouterr().out
    assert len(result.ids) == 10
    assert "Task as the checkpoint says, where nothing else is given: width=6." in text
    assert "Data as" not in text
    message = failure(capsys, *task(), *SPLITS, "--ckpt_path=trained.ckpt", "--model.width=5")
    assert "trained.ckpt is a checkpoint of another model than Task: tensors 3 of another shape" in message
    assert "It was trained with width=6 (now 5)." in message


def test_a_split_drawn_from_the_global_generators_is_told_of(audit, project, tmp_path, capsys):
    checkpoint = tmp_path / "run" / "checkpoints" / "last.ckpt"
    checkpoint.parent.mkdir(parents=True)
    shutil.copy(project / "trained.ckpt", checkpoint)
    adapter = "--audit.adapter=foreign_project.ByHand"  # names samples by their content
    args = [*task("Wordless", "Drawn"), "--data.n=6", *SPLITS, adapter, "--ckpt_path=net.pt"]
    result = audit(*args, "--seed_everything=4")
    assert len(set(result.ids)) == 12, "the set-up for the test draws what that for the training drew"
    told = "Drawn: setup() draws from the global random generators. Where that decides who is a member, samples that"
    (note,) = (note for note in result.meta["notes"] if note.startswith(told))
    assert note.endswith(
        "this audit has --seed_everything=4, the training's seed is not known. Pass it with --seed_everything, or give "
        "the split a generator of its own."
    )
    assert told in " ".join(capsys.readouterr().out.split())
    other = audit(*args, "--seed_everything=3")
    assert sorted(other.ids) == sorted(result.ids)
    assert other.ids != result.ids
    args = [*task("Task", "Drawn"), *SPLITS, KEY, f"--ckpt_path={checkpoint}"]
    (tmp_path / "run" / "config.yaml").write_text("seed_everything: 3\n")
    assert "the training had 3. Repeat it with --seed_everything=3, or give" in " ".join(audit(*args).meta["notes"])
    assert "global random generators" not in " ".join(audit(*args, "--seed_everything=3").meta["notes"])


def test_a_configuration_names_the_class_and_several_audits(audit, project, tmp_path, capsys):
    other = {"class_path": "mia_lightning.MembershipAudit", "init_args": {"prefix": "two/b", "output_key": "image"}}
    first = {"class_path": "mia_lightning.MembershipAudit", "init_args": {"output_key": "image"}}
    config = {
        "model": {"class_path": "foreign_project.Task", "init_args": {"lr": 0.5}},
        "data": "foreign_project.Data",
        "trainer": {"callbacks": [first, other]},
        "ckpt_path": str(project / "trained.ckpt"),
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(config))
    result = audit("-c", str(tmp_path / "run.yaml"), *SPLITS)
    second = AuditResult.from_json(tmp_path / "out" / "two_b" / "result.json")
    assert (result.prefix, second.prefix) == ("audit", "two/b")
    np.testing.assert_allclose(result.errors["reconstruction"], by_hand(project), atol=1e-6)
    np.testing.assert_array_equal(result.errors["membership"], second.errors["membership"])
    assert second.meta["checkpoint"] == result.meta["checkpoint"]
    assert capsys.readouterr().out.count("Memorization by audited epoch") == 2


def test_an_adapter_of_the_project_for_a_model_without_forward(audit, project):
    adapter = "--audit.adapter=foreign_project.ByHand"
    result = audit(*task("Wordless"), "--data.n=6", *SPLITS, adapter, "--ckpt_path=net.pt")
    module = sys.modules["foreign_project"]
    net = module.Task(4).net
    net.load_state_dict(torch.load(project / "net.pt", weights_only=True))
    first = module.pairs(6, 0)[0]
    with torch.no_grad():
        error = float((net(first["input"]) - first["target"]).abs().mean())
    assert result.ids[0] == f"pair {float(first['input'].mean()):.6f}"
    assert result.errors["reconstruction"][0] == pytest.approx(error, abs=1e-6)


def test_a_place_in_a_tuple_and_loaders_of_the_model_itself(audit, project):
    expected = by_hand(project)
    result = audit(*task("Tuples"), *SPLITS, "--audit.output_key=1", "--ckpt_path=trained.ckpt")
    np.testing.assert_allclose(result.errors["reconstruction"], expected, atol=1e-6)
    args = ["--model=foreign_project.WithLoaders", *SPLITS, KEY, "--ckpt_path=trained.ckpt"]
    np.testing.assert_allclose(audit(*args).errors["reconstruction"], expected, atol=1e-6)


def test_a_function_that_makes_the_model(audit, project):
    result = audit(*task("smaller"), *SPLITS, KEY, "--ckpt_path=trained.ckpt")
    np.testing.assert_allclose(result.errors["reconstruction"], by_hand(project), atol=1e-6)


def test_an_exported_model_needs_no_checkpoint(audit, project, tmp_path, capsys):
    model = sys.modules["foreign_project"].Task(6)
    model.load_state_dict(torch.load("trained.ckpt", weights_only=True)["state_dict"])
    path = str(tmp_path / "model.ts")
    torch.jit.trace(model.net, torch.rand(1, 3, 16, 16)).save(path)
    args = ["--model=ExportedModel", f"--model.path={path}", "--data=foreign_project.Told", "--data.n=6"]
    result = audit(*args)
    np.testing.assert_allclose(result.errors["reconstruction"], by_hand(project), atol=1e-6)
    assert result.meta["checkpoint"] == path
    assert result.meta["epoch"] is None
    message = failure(capsys, *args, "--ckpt_path=trained.ckpt")
    assert "ExportedModel has its weights in its own file: leave out --ckpt_path." in message


@pytest.mark.slow
def test_two_processes_from_the_shell_give_what_one_gives(project, tmp_path):
    command = Path(sys.executable).with_name("mia-lightning")
    args = [*task(), *SPLITS, KEY, "--ckpt_path=trained.ckpt", *CPU, "--data.n=5", "--audit.batch_size=2"]
    done = subprocess.run(
        [command, "audit", *args, "--trainer.devices=2", f"--output_dir={tmp_path / 'two'}"],
        capture_output=True,
        text=True,
        cwd=project,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Written:") == done.stdout.count("Task as the checkpoint says") == 1
    main(["audit", *args, f"--output_dir={tmp_path / 'one'}"])
    one, two = (AuditResult.from_json(tmp_path / name / "result.json") for name in ("one", "two"))
    assert (one.ids, one.member.tolist()) == (two.ids, two.member.tolist())
    np.testing.assert_allclose(one.errors["reconstruction"], two.errors["reconstruction"], atol=1e-6)


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (
            ["--model=ExportedModel", "--model.path=gone.onnx", "--data=foreign_project.Told", "--data.n=6"],
            "There is no file gone.onnx",
        ),
        (
            [*task(), "--members=train", "--nonmembers=train", "--ckpt_path=trained.ckpt"],
            "but got members=train and nonme",
        ),
        (
            [*task(), *SPLITS, "--ckpt_path=trained.ckpt", "--data.n=0"],
            "Data.train_dataloader() has no samples: its data set is empty. Check the path and the split",
        ),
        (
            [*task(), *SPLITS, KEY, "--ckpt_path=trained.ckpt", "--audit.task=segmentation"],
            "Targets that are pictures are for task='translation'",
        ),
        (
            [*task(), *SPLITS, "--ckpt_path=trained.ckpt", "--audit.every_n_epochs=2"],
            "A trained model is audited once: --audit.every_n_epochs has no effect here, leave it out.",
        ),
        (
            [*task(), *SPLITS, "--ckpt_path=trained.ckpt", "--audit.output_dir=a", "--output_dir=b"],
            "--audit.output_dir and --output_dir name the same folder here: leave out one of the two.",
        ),
        ([*task(), *SPLITS, "--ckpt_path=trained.ckpt", "--audit.prefix=.."], "but got '..'."),
        (["--model=nowhere.Task"], "--model nowhere.Task cannot be imported: there is no module 'nowhere', neither"),
        (["--model=broken_project.Task"], "No module named 'not_installed_anywhere' ("),
        (["--model=foreign_project.Tsk"], "foreign_project has no 'Tsk' (did you mean 'Task'?); its classes are Pairs"),
        (["--model=foreign_project.Net"], "is a class that is no LightningModule; expected a LightningModule, or a"),
        (["--model=foreign_project.STAGES"], "--model foreign_project.STAGES is a list; expected a LightningModule"),
        (["--model=foreign_project.Task", "--data=foreign_project.Net"], "is a class that is no LightningDataModule"),
        ([*task(), "--ckpt_path=gone.ckpt"], "The checkpoint gone.ckpt does not exist. Checkpoints there: "),
        ([*task(), "--ckpt_path=text.ckpt"], "text.ckpt cannot be read as a checkpoint"),
        ([*task(), "--ckpt_path=trained.ckpt"], "Data does not say which samples the model was trained on. Name two"),
        (
            [*task(), "--ckpt_path=trained.ckpt"],
            "    def audit_dataloaders(self):\n        if not hasattr(self, 'train_set'):  # the training must not",
        ),
        ([*task(), *SPLITS, "--model.width=6", "--data.n=6"], "Nothing to audit: name the trained weights with --ckpt"),
        ([*task(), "--members=train", "--ckpt_path=trained.ckpt"], "Expected two loaders, such as --members train"),
        (
            [*task(), "--members=train", "--nonmembers=val", "--ckpt_path=trained.ckpt"],
            "Data has no val_dataloader(); those that it has are train, test, predict.",
        ),
        (
            ["--model=foreign_project.Task", "--ckpt_path=trained.ckpt"],
            "There is no audit to run: name the data module that has the samples with --data my_project.MyData.",
        ),
        (
            [*task(), *SPLITS, "--audit.adapter=nowhere.A", "--ckpt_path=trained.ckpt"],
            "--audit.adapter nowhere.A cannot",
        ),
        (
            [*task(), *SPLITS, "--audit.adapter=foreign_project.needs_more", "--ckpt_path=trained.ckpt"],
            "--audit.adapter foreign_project.needs_more is called without arguments, which failed: needs_more()",
        ),
    ],
)
def test_what_does_not_fit_is_said(capsys, args, text):
    assert text in failure(capsys, *args)


def test_several_loaders_of_a_split_are_told(capsys, monkeypatch):
    module = sys.modules["foreign_project"]
    loaders = lambda self: [1, 2]  # noqa: E731 - a method
    monkeypatch.setattr(module.Data, "test_dataloader", loaders)
    message = failure(capsys, *task(), *SPLITS, "--ckpt_path=trained.ckpt")
    assert "Data.test_dataloader() gives 2 loaders; expected one DataLoader." in message


def test_missing_arguments_of_a_class_are_options(capsys):
    message = failure(capsys, *task(), "--data.n=6", status=2)
    assert "mia-lightning: error: Task needs --model.width: no value is given, and no checkpoint remembers" in message
    message = failure(capsys, *task(), "--model.width=wide", "--data.n=6", status=2)
    assert "mia-lightning: error: --model.width: expected int, but got 'wide'" in message


def test_the_loaders_there_are_and_other_choices_are_named(capsys):
    message = failure(capsys, *task(), "--members=train", "--nonmembers=foo", "--ckpt_path=trained.ckpt", status=2)
    assert "error: --nonmembers: expected one of 'train', 'val', 'test', 'predict', but got 'foo'\n" in message
    message = failure(capsys, *task(), *SPLITS, "--audit.task=painting", "--ckpt_path=trained.ckpt", status=2)
    assert (
        "error: --audit.task: expected one of 'auto', 'translation', 'segmentation', 'multilabel', but got 'painting'\n"
        in message
    )


def test_the_folder_may_be_named_as_in_a_training_and_settings_of_a_training_are_left_alone(project, tmp_path):
    settings = {"audit": {"every_n_epochs": 3, "output_dir": str(tmp_path / "training")}}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(settings))
    given = ["audit", *CPU, *task(), *SPLITS, KEY, "--ckpt_path=trained.ckpt", "-c", str(tmp_path / "run.yaml")]
    main([*given, "--audit.output_dir", str(tmp_path / "named")])
    assert (tmp_path / "named" / "result.json").is_file()
    assert not (tmp_path / "training").exists()


def test_audits_that_would_write_into_one_folder_are_refused(tmp_path, capsys):
    audits = [
        {"class_path": "mia_lightning.MembershipAudit", "init_args": {"prefix": prefix}} for prefix in ("a/b", "a_b")
    ]
    (tmp_path / "two.yaml").write_text(yaml.safe_dump({"trainer": {"callbacks": audits}}))
    message = failure(capsys, *task(), *SPLITS, "--ckpt_path=trained.ckpt", "-c", str(tmp_path / "two.yaml"))
    assert "'a/b' and 'a_b' name their files alike" in message


def test_values_that_a_configuration_would_change_are_left_to_the_user(tmp_path):
    remembered = {
        "bare": (3, 4),
        "table": {1: "a"},
        "pair": (5, 6),
        "names": {2: "b"},
        "bound": float("inf"),
    }
    content = {"state_dict": {"w": torch.zeros(1)}, "hyper_parameters": remembered}
    torch.save(content, tmp_path / "varied.ckpt")
    make_importable(Path.cwd())
    given = ["audit", "--model=foreign_project.Varied", f"--ckpt_path={tmp_path / 'varied.ckpt'}"]
    args, (filled,) = complete(given)
    assert json.loads(args[1].removeprefix("--config="))["model"]["init_args"] == {
        "pair": [5, 6], "names": {"2": "b"}
    }  # fmt: skip
    assert str(filled) == (
        "Varied as the checkpoint says, where nothing else is given: pair=[5, 6], names={'2': 'b'}. Not "
        "taken, since a configuration would change them (it knows no tuples, and no keys but text): bare=(3, 4), "
        "table={1: 'a'}, bound=inf. "
        "Annotate the arguments with their types, such as tuple[int, int] or dict[int, str], or give what the class "
        "may as well be given with --model.bare, --model.table, --model.bound."
    )
    (tmp_path / "own.yaml").write_text(yaml.safe_dump({"model": {"init_args": {"bare": 1, "pair": [7, 8]}}}))
    _, (filled,) = complete(
        [*given, "-c", str(tmp_path / "own.yaml"), "--model.init_args.table=null", "--model.bound=1"]
    )
    assert (filled.values, filled.altered) == ({"names": {"2": "b"}}, {}), "what is said elsewhere is not listed"


def test_values_that_annotations_refuse_are_left_to_the_user(tmp_path, audit, capsys):
    checkpoint = torch.load("trained.ckpt", weights_only=True)
    checkpoint["hyper_parameters"] |= {"width": "six", "unheard_of": 1}
    torch.save(checkpoint, tmp_path / "odd.ckpt")
    args = [*task(), *SPLITS, KEY, f"--ckpt_path={tmp_path / 'odd.ckpt'}"]
    assert "Task needs --model.width" in failure(capsys, *args, status=2)
    audit(*args, "--model.width=6")
    assert "Task as the checkpoint says, where nothing else is given: lr=0.01." in capsys.readouterr().out


def test_a_dict_of_hyperparameters_goes_where_it_came_from(tmp_path):
    name = "hparams"
    content = {"state_dict": {"w": torch.zeros(1)}, "hyper_parameters": {"width": 3, "lr": 0.1}, "hparams_name": name}
    torch.save(content, tmp_path / "whole.ckpt")
    given = ["audit", "--model=foreign_project.Whole", f"--ckpt_path={tmp_path / 'whole.ckpt'}"]
    make_importable(Path.cwd())
    args, filled = complete(given)
    assert json.loads(args[1].removeprefix("--config="))["model"]["init_args"] == {name: {"width": 3, "lr": 0.1}}
    assert args[2:] == given[1:]
    assert str(filled[0]) == (
        "Whole as the checkpoint says, where nothing else is given: hparams={'width': 3, 'lr': 0.1}."
    )


def test_classes_of_this_package_need_no_checkpoint():
    passed = ["audit", "--model", "ExportedModel", "--model.path=a.onnx", "--data=mia_lightning.DemoDataModule"]
    assert complete(passed) == (passed, [])
