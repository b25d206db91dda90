"""What a training that could not begin leaves behind: nothing."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatch
from pathlib import Path

from lightning.pytorch import Trainer

_OF_A_START = ("events.out.tfevents*", "hparams.yaml", "config.yaml", "predictability.sqlite*", "membership-*.json")
"""What is written before the first step."""


@contextmanager
def no_empty_run(trainer: Trainer) -> Iterator[None]:
    """Remove the folder of a run that fails before its first step, if it was made for it and holds no results.

    Args:
        trainer: The trainer, before it runs.

    Yields:
        Nothing.
    """
    folder = Path(trainer.log_dir) if trainer.loggers and trainer.log_dir else None
    made = [] if folder is None else [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        yield
    except Exception:
        if made and trainer.is_global_zero and trainer.global_step == 0 and folder is not None:
            for logger in trainer.loggers:
                with suppress(Exception):  # the failure that is on its way says more
                    logger.finalize("failed")
            _remove(folder, made[1:])
        raise


def _remove(folder: Path, parents: list[Path]) -> None:
    files = [path for path in folder.rglob("*") if path.is_file()]
    if not folder.is_dir() or not all(any(fnmatch(file.name, name) for name in _OF_A_START) for file in files):
        return
    shutil.rmtree(folder, ignore_errors=True)
    for parent in parents:
        with suppress(OSError):  # other runs are in it
            parent.rmdir()
