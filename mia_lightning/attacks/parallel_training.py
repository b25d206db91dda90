"""Several processes that each train a share of the reference models."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import torch

from mia_lightning.attacks.reference_folder import Reference

_POLL = 0.2  # seconds
_PATIENCE = 30.0  # seconds that an interrupted process has to stop by itself
_ERROR = "mia-lightning: error: "


class SharedFolder(Protocol):
    """A folder in which several processes have work to do, such as that of reference models."""

    @property
    def path(self) -> Path:
        """The folder."""

    @property
    def num(self) -> int:
        """How many pieces of work there are."""

    def finished(self) -> Sequence[Reference]:
        """Those that are done."""


class Work(NamedTuple):
    """What processes do, for the screen."""

    thing: str = "reference model"
    verb: str = "train"
    done: str = "trained"


def train_in_parallel(
    commands: Sequence[Sequence[str]],
    folder: SharedFolder,
    *,
    gpus: bool,
    say: Callable[[str], None],
    work: Work = Work(),  # noqa: B008 - immutable
) -> None:
    """Start processes, report each reference model that is trained, and wait for all.

    Args:
        commands: One command a process, each of which trains a share of the models of the folder.
        folder: Folder that they share; what they print is kept there while they run.
        gpus: Whether each may have a GPU for itself; else each has its part of the processor.
        say: Called with a line of text for each model.
        work: What is done with what, where it is not reference models that are trained.

    Raises:
        RuntimeError: If a process fails; the others are stopped, and the message is that of the process.
        KeyboardInterrupt: On Ctrl-C, after it has been passed on and all processes have stopped.
    """
    count = len(commands)
    logs = [folder.path / f"part-{i}-of-{count}.log" for i in range(1, count + 1)]
    reported = {r.number for r in folder.finished()}
    running: list[subprocess.Popen[bytes]] = []
    try:
        for index, (command, log) in enumerate(zip(commands, logs, strict=True)):
            with log.open("wb") as output:
                running.append(
                    subprocess.Popen(  # noqa: S603 - the caller's own command
                        list(command),
                        stdin=subprocess.DEVNULL,
                        stdout=output,
                        stderr=subprocess.STDOUT,
                        env=environment_of(index, count, gpus=gpus),
                    )
                )
        task = f"{work.verb} {folder.num - len(reported)} {work.thing}s"
        say(f"{count} processes {task}; what they print is in {folder.path}/part-*.log.")
        while any(process.poll() is None for process in running):
            time.sleep(_POLL)
            _report(folder, reported, say, work)
            _check(running, logs)
        _check(running, logs)
    finally:
        _stop(running)
    _report(folder, reported, say, work)
    for log in logs:
        log.unlink()


def environment_of(index: int, count: int, *, gpus: bool) -> dict[str, str]:
    """Environment of one of several processes: a GPU, or a part of the processor; and this process's import path."""
    own = {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    if gpus:
        listed = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        visible = listed.split(",") if listed else [str(i) for i in range(torch.cuda.device_count())]
        own["CUDA_VISIBLE_DEVICES"] = visible[index % len(visible)].strip()
    else:
        threads = str(max(1, torch.get_num_threads() // count))
        own |= {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    return os.environ | own


def _report(folder: SharedFolder, reported: set[int], say: Callable[[str], None], work: Work) -> None:
    for reference in folder.finished():
        if reference.number not in reported:
            reported.add(reference.number)
            number = f"{work.thing.capitalize()} {reference.number + 1} of {folder.num}"
            say(f"{number} ({reference.folder}) is {work.done}.")


def _check(running: Sequence[subprocess.Popen[bytes]], logs: Sequence[Path]) -> None:
    for index, (process, log) in enumerate(zip(running, logs, strict=True)):
        if process.poll():
            printed = log.read_text(encoding="utf-8", errors="replace")
            _, marked, message = printed.rpartition(_ERROR)
            reason = message.strip() if marked else "\n".join(printed.splitlines()[-15:])
            raise RuntimeError(
                f"Part {index + 1} of {len(logs)} stopped with status {process.returncode}: {reason}\nAll that it "
                f"printed is in {log}. The same command goes on from here."
            )


def _stop(running: Sequence[subprocess.Popen[bytes]]) -> None:
    """Pass Ctrl-C on to processes that still run, and insist where they do not stop."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        left = [process for process in running if process.poll() is None]
        for process in left:
            process.send_signal(number)
        deadline = time.monotonic() + _PATIENCE
        for process in left:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))


def share_of(num: int, part: str | None, parallel: int) -> tuple[int, int]:
    """Which share of the reference models a process trains, ``(i, n)``; ValueError for options that do not fit."""
    if num < 2:
        raise ValueError(f"Expected --num of at least 2 reference models, but got {num}.")
    if parallel < 1:
        raise ValueError(f"Expected --parallel of at least 1 process, but got {parallel}.")
    if part is None:
        return 1, 1
    if parallel > 1:
        raise ValueError("Expected --parallel or --part, but got both: the first makes the parts by itself.")
    match = re.fullmatch(r"(\d+)/(\d+)", part)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise ValueError(f"Expected --part i/n with 1 <= i <= n, such as 1/2, but got {part!r}.")
    return int(match[1]), int(match[2])
