"""Checks of the files and folders that a command names, before anything heavy is imported or data are read."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from mia_lightning.checkpoints.checkpoint_file import no_such_checkpoint

_FOLDER_READERS = ("PairedImageDataModule", "SegmentationDataModule")
_NO_FILES = ("", "null", "best", "last", "hpc", "registry")  # what Lightning finds itself


def check_paths(command: str, args: Sequence[str]) -> None:
    """Refuse missing configurations, checkpoints and folders by name.

    Args:
        command: The command.
        args: Its arguments.

    Raises:
        argparse.ArgumentError: If a configuration is missing, naming those there are, or an option has no value.
        FileNotFoundError: If a checkpoint or a folder is missing, naming the checkpoints there are.
    """
    # Not by the parser of the command: building it imports Lightning and every class that it knows.
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("-c", "--config", action="append", default=[], type=_configuration)
    parser.add_argument("--data.root", "--data.init_args.root")
    for name in ("data", "ckpt_path", "references", "outputs"):
        parser.add_argument(f"--{name}")
    paths = vars(parser.parse_known_args(list(args))[0])
    if paths["outputs"] is not None:
        return  # these options are for audits of the model, as the command says
    texts = [path.read_text(encoding="utf-8", errors="replace") for path in paths["config"] if path is not None]
    if any(name in text for name in _FOLDER_READERS for text in (*texts, paths["data"] or "")):
        _require_folder(paths["data.root"], "the data folder {} does not exist (--data.root")
    if command == "audit":
        _require_folder(paths["references"], "the folder of reference models {} does not exist (--references")
    checkpoint = (command != "references" and paths["ckpt_path"]) or ""  # which takes none and says so
    if checkpoint.split(":")[0] not in _NO_FILES and "://" not in checkpoint and not Path(checkpoint).exists():
        raise FileNotFoundError(no_such_checkpoint(Path(checkpoint)))


def _configuration(text: str) -> Path | None:
    """Path of a configuration; None where the argument is the configuration itself."""
    path = Path(text)
    if "\n" in text or ":" in text:
        return None
    if path.is_file():
        return path
    folder = next((parent for parent in path.parents if parent.is_dir()), Path())
    folder = Path("configs") if folder == Path() else folder
    near = sorted(map(str, folder.rglob("*.yaml")))[:12]
    hint = f"; there are {', '.join(near)}" if near else ""
    raise argparse.ArgumentTypeError(f"the configuration {text} does not exist{hint}")


def _require_folder(path: str | None, problem: str) -> None:
    if path is not None and not Path(path).is_dir():
        raise FileNotFoundError(f"{problem.format(path)}, looked up from {Path.cwd()})")
