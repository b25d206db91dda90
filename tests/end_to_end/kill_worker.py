"""Trains in forked processes, kills them, and resumes them: what test_kill.py looks at afterwards.

A program of its own: who forks must not have started a thread. Each training is a fork that reports through a pipe.
"""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from lightning_package import LightningModule, ModelCheckpoint, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader

from mia_lightning import Auditor, AuditResult, MembershipAudit, PredictabilityScorer
from mia_lightning.audit.adapters import AutoAdapter
from mia_lightning.audit.cache import PredictabilityCache
from mia_lightning.figures import style  # forks have it then: fonts take seconds to find

EPOCHS, PER_EPOCH = 3, 2


class Kill(NamedTuple):
    """When a training dies: at the ``count``-th event of a name; ``+`` is any beginning.

    Without a ``delay`` it ends itself there and then; otherwise its parent does, so many seconds after hearing of it.
    """

    count: int
    event: str = "+"
    delay: float | None = None


class Net(LightningModule):
    """Batch norm and dropout; random numbers follow from the step, so that a resumed training draws the same."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Dropout(), nn.Conv2d(4, 3, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x).sigmoid()

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        torch.manual_seed(self.global_step)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return F.l1_loss(self(batch[0]), batch[1])

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("loss", F.l1_loss(self(batch[0]), batch[1]), batch_size=2)

    def configure_optimizers(self) -> Any:
        return torch.optim.AdamW(self.parameters(), 0.05)


class Resumable(DataLoader):
    """Goes on within an epoch. Lightning starts an epoch's plain loader again from its first batch."""

    passed = 0

    def __iter__(self) -> Iterator[Any]:
        for batch in list(super().__iter__())[self.passed :]:
            self.passed = (self.passed + 1) % len(self)
            yield batch

    def state_dict(self) -> dict[str, int]:
        return {"passed": self.passed}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.passed = state["passed"]


def pairs(count: int, seed: int, name: str) -> list[tuple[Tensor, Tensor, str]]:
    x, y = torch.rand(2, count, 3, 16, 16, generator=torch.Generator().manual_seed(seed))
    return [(x[i], y[i], f"{name}{i}") for i in range(count)]


def train(folder: Path) -> list[MembershipAudit]:
    """Two audits side by side, the second of which begins an epoch later; goes on from the last checkpoint."""
    members, nonmembers = pairs(8, 1, "in"), pairs(6, 2, "out")
    shared = {"scorer": PredictabilityScorer(nn.AvgPool2d(4), grid=8), "batch_size": 2, "cache_dir": folder / "cache"}
    shared |= {"figures_every_n_audits": 4}
    audits = [
        MembershipAudit(members, nonmembers, **shared, output_dir=folder / "audits"),
        MembershipAudit(
            *(members[:4], pairs(5, 3, "far")), **shared, output_dir=folder / "audits", prefix="far", every_n_epochs=2
        ),
    ]
    saving = ModelCheckpoint(folder / "checkpoints", save_last=True)
    plain = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary"), False)
    lengths = {"max_epochs": EPOCHS, "val_check_interval": 1 / PER_EPOCH, "num_sanity_val_steps": 1}
    where = {"accelerator": "cpu", "devices": 1, "default_root_dir": folder}
    Trainer(callbacks=[*audits, saving], **plain, **lengths, **where).fit(
        Net(), Resumable(members, 2), DataLoader(nonmembers, 2), ckpt_path="last"
    )
    return audits


def watch(report: Callable[[str], None]) -> None:
    """Have what leaves traces on disk reported: ``+`` when it begins, ``-`` when it is done."""
    going: list[str] = []

    @contextmanager
    def section(name: str) -> Iterator[None]:
        report(f"+{name}")
        going.append(name)
        yield
        going.remove(name)
        report(f"-{name}")

    def wrap(owner: Any, attribute: str, name: str) -> None:
        inner = getattr(owner, attribute)

        def outer(*args: Any, **options: Any) -> Any:
            with section(name):
                return inner(*args, **options)

        setattr(owner, attribute, outer)

    wrap(Auditor, "run", "audit")
    wrap(AutoAdapter, "predict", "prediction")
    wrap(PredictabilityCache, "put", "cache")
    wrap(AuditResult, "to_json", "json")
    wrap(AuditResult, "to_csv", "csv")
    wrap(Trainer, "save_checkpoint", "checkpoint")
    wrap(Net, "training_step", "step")
    os.fsync = lambda handle: None  # a killed process loses nothing that it gave to the kernel
    wrap(os, "fsync", "fsync")  # all is written, but not yet under its name

    class InHalves(io.FileIO):
        """A file that reports when half of a part is on disk."""

        def write(self, content: Any) -> int:
            half = super().write(content[: len(content) // 2])
            report("half")
            return half + super().write(content[half:])

    os.fdopen = InHalves

    # SQLite calls back while it executes: within the transaction.
    connect = sqlite3.connect

    def hooked(*args: Any, **options: Any) -> sqlite3.Connection:
        connection = connect(*args, **options)
        connection.set_progress_handler(lambda: report("statement") if "cache" in going else None, 20)
        return connection

    sqlite3.connect = hooked


def child(folder: Path, kill: Kill | None, pipe: int, parquet: bool) -> None:
    log = os.open(folder / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(log, stream)
    if not parquet:
        sys.modules["pyarrow"] = None
    seen, over = 0, False

    def report(event: str) -> None:
        nonlocal seen
        if over:
            return
        os.write(pipe, f"{event}\n".encode())
        seen += kill is not None and meant(kill, event)
        if kill is not None and kill.delay is None and seen == kill.count:
            os.kill(os.getpid(), signal.SIGKILL)

    watch(report)
    audits = train(folder)
    over = True
    for audit in audits:
        for place, result in enumerate(audit.history):
            result.to_json(folder / "history" / f"{audit.prefix}-{place}.json")


def meant(kill: Kill, event: str) -> bool:
    return event == kill.event or (kill.event == "+" and event[0] == "+")


def run(folder: Path, kill: Kill | None = None, *, parquet: bool = False) -> tuple[bool, list[str]]:
    """Train in a fork. Return whether it was killed, and its events in order."""
    folder.mkdir(parents=True, exist_ok=True)
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        try:
            os.close(reading)
            child(folder, kill, writing, parquet)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    os.close(writing)
    count, pending = 0, kill is not None and kill.delay is not None
    with os.fdopen(reading) as pipe:
        events = []
        for line in pipe:
            events.append(line.strip())
            count += kill is not None and meant(kill, events[-1])
            if pending and count == kill.count:
                time.sleep(kill.delay)
                os.kill(process, signal.SIGKILL)  # a child that has ended waits to be asked how
                pending = False
    status = os.waitpid(process, 0)[1]
    if os.WIFSIGNALED(status):
        return True, events
    if os.WEXITSTATUS(status):
        raise RuntimeError((folder / "log.txt").read_text(encoding="utf-8")[-4000:])
    return False, events


def place_of(events: list[str]) -> list[str]:
    """What was going on at the end of a list of events, the outermost first."""
    going: list[str] = []
    for event in events:
        if event[0] == "+":
            going.append(event[1:])
        elif event[0] == "-":
            going.pop()
    return going + [events[-1]] * (events[-1] in ("half", "statement"))


def draw(number: int, runs: int, whole: Counter[str], rng: random.Random) -> Kill:
    """Choose a death: first in known places, the smallest, which a clock would hardly find; then by the clock."""

    def one_of(event: str, delay: float | None = None, first: int = 2) -> Kill:
        return Kill(rng.randint(first, whole[event]), event, delay)

    aimed = [
        lambda: Kill(1, "+audit"),  # before anything is there
        lambda: one_of("+prediction", first=3),  # the first two are tried before training
        lambda: one_of("statement", first=4),
        lambda: one_of("statement", first=4),
        lambda: one_of("+cache", rng.uniform(0, 0.003)),  # about when the transaction is committed
        lambda: one_of("half"),  # within a file
        lambda: one_of("half"),
        lambda: one_of("+fsync"),  # before a file gets its name
        lambda: one_of("+csv"),  # between two files of one audit
        lambda: one_of("+checkpoint", rng.uniform(0, 0.01)),
    ]
    if number < len(aimed):
        return aimed[number]()
    # A random moment of each part of the training in turn.
    part = (number - len(aimed) + rng.random()) / (runs - len(aimed))
    return Kill(
        1 + int(part * sum(count for event, count in whole.items() if event[0] == "+")), "+", rng.uniform(0, 0.05)
    )


def find_fonts() -> None:
    """Draw a letter, so that no fork has to look for the fonts."""
    figure = style.new_figure(1.0, 1.0)
    figure.text(0.0, 0.0, "a")
    style.to_png(figure)


def main(folder: Path, runs: int, seed: int) -> None:
    """Train undisturbed, then ``runs`` times with a death each; leave everything in ``folder``."""
    torch.set_num_threads(1)
    find_fonts()
    # Lightning writes a checkpoint in the temporary folder and moves it: one step only within a file system.
    tempfile.tempdir = str(folder / "temporary")
    Path(tempfile.tempdir).mkdir()
    rng, report = random.Random(seed), []
    _, events = run(folder / "whole-csv")
    run(folder / "whole-parquet", parquet=True)
    for number in range(runs):
        name, parquet = f"run-{number:02d}", bool(number % 2)
        for _ in range(50):
            kill = draw(number, runs, Counter(events), rng)
            killed, until = run(folder / name, kill, parquet=parquet)
            if killed:
                break
            shutil.rmtree(folder / name)  # it had ended before the clock did
        else:
            raise RuntimeError(f"Run {number} does not die: {kill}.")
        shutil.copytree(folder / name, folder / f"{name}-killed")
        report.append(
            {"kill": kill._asdict(), "place": place_of(until), "done": Counter(e for e in until if e[0] == "-")}
        )
        if number % 4 == 0:  # the resumed run dies, too, if it lives so long
            again, _ = run(folder / name, Kill(rng.randint(1, 60), delay=rng.uniform(0, 0.05)), parquet=parquet)
            report[-1]["again"] = again
            shutil.copytree(folder / name, folder / f"{name}-again")
        run(folder / name, parquet=parquet)
    (folder / "report.json").write_text(json.dumps(report), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
