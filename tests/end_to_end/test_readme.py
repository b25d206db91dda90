"""The README's Python runs as written."""

import re
from pathlib import Path

import numpy
import pytest
import torch
import yaml
from lightning_package import pl

from mia_lightning import Pix2Pix, UNetSegmenter, registry

README = (Path(__file__).parents[2] / "README.md").read_text()
WORDS = ("AuditConfig", "Auditor(task", "audit_checkpoint", "weigh_evidence")
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def pairs(count: int, first: int) -> list[dict[str, object]]:
    made = []
    for number in range(first, first + count):
        image = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(number))
        made.append({"input": image, "target": 1 - image, "id": f"pair{number}"})
    return made


def masks(count: int, first: int) -> list[dict[str, object]]:
    return [{"image": p["input"], "mask": (p["input"][0] > 0.5).long(), "id": p["id"]} for p in pairs(count, first)]


class MyTask(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Conv2d(3, 3, 1)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"input": x, "logits": self.layer(x)}


class MyData(pl.LightningDataModule):
    def train_dataloader(self) -> torch.utils.data.DataLoader:
        return torch.utils.data.DataLoader(pairs(3, 0), batch_size=3)

    def test_dataloader(self) -> torch.utils.data.DataLoader:
        return torch.utils.data.DataLoader(pairs(3, 100), batch_size=3)


@pytest.fixture
def names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = Pix2Pix(image_size=32, ngf=4, ndf=4)
    torch.save(MyTask().state_dict(), "last.ckpt")
    return {
        "MyTask": MyTask,
        "MyData": MyData,
        "Trainer": lambda **kwargs: pl.Trainer(
            **kwargs | {"max_epochs": 1},
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
        ),
        "model": model,
        "train_set": pairs(3, 0),
        "held_out_set": pairs(3, 100),
        "train_loader": torch.utils.data.DataLoader(pairs(3, 0), batch_size=3),
        "val_loader": torch.utils.data.DataLoader(pairs(3, 100), batch_size=3),
        "numpy": numpy,
        "EarlyStopping": pl.callbacks.EarlyStopping,
    }


def test_every_block_runs_in_order(names):
    settings, python, checkpoint, evidence = (next(n for n, b in enumerate(BLOCKS) if word in b) for word in WORDS)
    assert len(BLOCKS) == 6
    try:
        for number, block in enumerate(BLOCKS):
            if number == python:
                names |= {
                    "model": UNetSegmenter(2, base_channels=4, depth=2),
                    "members": masks(3, 0),
                    "nonmembers": masks(3, 100),
                }
            if number == evidence:
                names |= {"suspects": masks(5, 0), "reference": masks(5, 100)}
            exec(compile(block, f"README block {number}", "exec"), names)
            if number == settings:
                result = names["audit"].auditor.run(names["model"], names["train_set"], names["held_out_set"])
                assert {"l2", "worst_pixel"} <= set(result.errors)
                assert {"audit/gap/worst", "audit/auc/worst"} <= set(result.metrics)
            if number == checkpoint:
                assert names["result"].ids == [f"pair{n}" for n in (0, 1, 2, 100, 101, 102)]
            if number == 0:
                assert names["audit"].result.ids[0] == "pair0"
    finally:
        for kind, name in (("errors", "worst_pixel"), ("scores", "worst"), ("metrics", "gap")):
            if name in getattr(registry, kind):
                getattr(registry, kind).remove(name)
    assert all(Path(name).is_file() for name in ("result.json", "samples.csv", "evidence.json"))


def test_the_commands_of_the_readme_exist():
    for line in re.findall(r"^mia-lightning (\w+)", README, re.MULTILINE):
        from mia_lightning.cli.main import COMMANDS

        assert line in COMMANDS
    for config in re.findall(r"configs/\S+\.yaml", README):
        assert (Path(__file__).parents[2] / config).is_file()


def test_continuous_integration_runs_the_test_command_of_the_readme():
    script = (Path(__file__).parents[2] / ".ci" / "run").read_text()
    assert "test command" in script
    (command,) = re.findall(r"<!-- test command -->\n```bash\n(.*?)\n```", README)
    for check in ("pip install -e '.[dev]'", "ruff check", "ruff format --check", "mypy", "pytest"):
        assert check in command


def test_the_makefile_types_the_test_command_of_the_readme():
    (command,) = re.findall(r"<!-- test command -->\n```bash\n(.*?)\n```", README)
    makefile = (Path(__file__).parents[2] / "Makefile").read_text()
    recipes = re.findall(r"^\t(.*)$", makefile, re.MULTILINE)
    assert " && ".join(recipes[:4]) == command
    assert set(re.findall(r"^(\w+):", makefile, re.MULTILINE)) == {"install", "lint", "types", "test", "demo"}


def test_the_workflow_runs_the_checks_and_builds_the_wheel():
    workflow = yaml.safe_load((Path(__file__).parents[2] / ".github" / "workflows" / "ci.yml").read_text())
    checks, wheel = workflow["jobs"]["checks"], workflow["jobs"]["wheel"]
    assert checks["strategy"]["matrix"]["python"] == ["3.11", "3.12"]
    assert checks["steps"][-1]["run"] == ".ci/run"
    assert "pip wheel" in " ".join(step.get("run", "") for step in wheel["steps"])
