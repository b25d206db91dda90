"""Several processes that each train their share of the reference models."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from mia_lightning.attacks.reference_folder import ReferenceFolder

_PROGRAM = "from mia_lightning.cli.main import main; main()"
_POLL = 0.2  # seconds
_PATIENCE = 30.0  # seconds that an interrupted part has to stop by itself
_OURS = "mia-lightning: error: "


def train_in_parts(
    args: Sequence[str], parts: int, folder: ReferenceFolder, *, gpus: bool, say: Callable[[str], None]
) -> None:
    """Start one process a part, tell of each reference model that is trained, and wait for all.

    Args:
        args: Arguments of the command that is split, its name first.
        parts: Number of processes.
        folder: Folder that they share.
        gpus: Whether each may have a GPU for itself.
        say: Prints a line.

    Raises:
        RuntimeError: If a part fails; the others are stopped, and the message is that of the part.
        KeyboardInterrupt: On Ctrl-C, after it has been passed on and all parts have stopped.
    """
    logs = [folder.path / f"part-{i}-of-{parts}.log" for i in range(1, parts + 1)]
    known = {r.number for r in folder.finished()}
    running = []
    try:
        for index, log in enumerate(logs):
            extra = [
                *("--parallel=1", f"--part={index + 1}/{parts}", f"--seed_everything={folder.seed}"),
                "--trainer.enable_progress_bar=false",
                *(["--trainer.devices=1"] if gpus else []),
            ]
            with log.open("wb") as output:
                running.append(
                    subprocess.Popen(  # noqa: S603 - this program, with the arguments it was given itself
                        [sys.executable, "-c", _PROGRAM, *args, *extra],
                        stdin=subprocess.DEVNULL,
                        stdout=output,
                        stderr=subprocess.STDOUT,
                        env=_environment(index, parts, gpus),
                    )
                )
        say(f"{parts} processes train {folder.num} reference models; what they print is in {folder.path}/part-*.log.")
        while any(process.poll() is None for process in running):
            time.sleep(_POLL)
            _tell(folder, known, say)
            _check(running, logs)
        _check(running, logs)
    finally:
        _stop(running)
    _tell(folder, known, say)
    for log in logs:
        log.unlink()


def _tell(folder: ReferenceFolder, known: set[int], say: Callable[[str], None]) -> None:
    for reference in folder.finished():
        if reference.number not in known:
            known.add(reference.number)
            say(f"Reference model {reference.number + 1} of {folder.num} ({reference.folder}) is trained.")


def _check(running: Sequence[subprocess.Popen[bytes]], logs: Sequence[Path]) -> None:
    for index, (process, log) in enumerate(zip(running, logs, strict=True)):
        if process.poll():
            printed = log.read_text(encoding="utf-8", errors="replace")
            _, ours, own = printed.rpartition(_OURS)
            what = own.strip() if ours else "\n".join(printed.splitlines()[-15:])
            raise RuntimeError(
                f"Part {index + 1} of {len(logs)} stopped with status {process.returncode}: {what}\nAll that it "
                f"printed is in {log}. The same command goes on from here."
            )


def _stop(running: Sequence[subprocess.Popen[bytes]]) -> None:
    """Pass Ctrl-C on to parts that still run, and insist where they do not stop."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        left = [process for process in running if process.poll() is None]
        for process in left:
            process.send_signal(number)
        deadline = time.monotonic() + _PATIENCE
        for process in left:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))


def _environment(index: int, parts: int, gpus: bool) -> dict[str, str]:
    """One GPU, or a share of the processor; and the modules that this process can import."""
    own = {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    if gpus:
        given = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        visible = given.split(",") if given else [str(i) for i in range(torch.cuda.device_count())]
        own["CUDA_VISIBLE_DEVICES"] = visible[index % len(visible)].strip()
    else:
        threads = str(max(1, torch.get_num_threads() // parts))
        own |= {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    return os.environ | own
