"""Models and data modules of other people's projects: found by import path, built as the checkpoint says."""

from __future__ import annotations

import importlib
import inspect
import json
import re
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningDataModule, LightningModule
from torch import nn

from mia_lightning.checkpoints.hyperparameters import RememberedArguments, read_hyperparameters, remembered_arguments
from mia_lightning.cli.given import arguments_in, classes_in
from mia_lightning.functional.suggestions import suggestion

_DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")
_BASES = {"model": LightningModule, "data": LightningDataModule}


def make_importable(folder: Path) -> None:
    """Let modules in a folder be imported; console scripts leave the current folder out.

    Last, not first: a file in a folder that somebody sent must not take the place of an installed package.
    """
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


def import_object(path: str, what: str) -> Any:
    """Import something by its path.

    Args:
        path: Such as ``my_project.tasks.MyTask``.
        what: What it is for, such as ``--model``.

    Returns:
        The class, function or other object.

    Raises:
        ImportError: If that fails; says what failed, in whose file.
    """
    module, _, name = path.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        if error.name is not None and (module == error.name or module.startswith(f"{error.name}.")):
            raise ImportError(
                f"{what} {path} cannot be imported: there is no module {error.name!r}, neither installed nor in the "
                f"current folder {Path.cwd()}. Run the command in the folder from which your project is imported."
            ) from error
        raise ImportError(f"{what} {path} cannot be imported: {_where(error)}") from error
    except AttributeError as error:
        found = sys.modules.get(module)
        if found is None or hasattr(found, name):
            raise ImportError(f"{what} {path} cannot be imported: {_where(error)}") from error
        classes = [n for n, v in vars(found).items() if inspect.isclass(v) and v.__module__ == module]
        hint = f"; its classes are {', '.join(classes)}" if classes else ""
        raise ImportError(f"{what} {path}: {module} has no {name!r}{suggestion(name, classes)}{hint}.") from error
    except Exception as error:  # the code of a stranger may raise anything
        raise ImportError(f"{what} {path} cannot be imported: {_where(error)}") from error


def completed(args: Sequence[str]) -> tuple[list[str], list[RememberedArguments]]:
    """Put what a checkpoint remembers of other people's classes in front of the arguments, so that the latter win.

    Args:
        args: Arguments of ``audit``, the command's name first.

    Returns:
        The arguments to parse, and what was added.

    Raises:
        FileNotFoundError: If a class is of another project and there is no checkpoint to be looked into.
        ImportError: If a class cannot be imported.
        TypeError: If it is no LightningModule, or no data module.
        ValueError: If the file is no checkpoint.
    """
    named = classes_in(args)
    checkpoint: Mapping[str, Any] | None = None
    config, remembered = {}, []
    for section, base in _BASES.items():
        path = named.get(section)
        if path is None or not _DOTTED.fullmatch(path) or path.split(".")[0] in ("mia_lightning", "lightning"):
            continue
        found = import_object(path, f"--{section}")
        _require(found, base, section, path)
        if checkpoint is None:
            checkpoint = read_hyperparameters(named["ckpt_path"]) if "ckpt_path" in named else {}
        arguments = (
            remembered_arguments(found, checkpoint, skip=arguments_in(args, section))
            if inspect.isclass(found)
            else None
        )
        if arguments is not None:
            config[section] = {"class_path": path, "init_args": arguments.values}
            remembered.append(arguments)
    return ([args[0], f"--config={json.dumps(config)}", *args[1:]] if config else list(args)), remembered


def adapter_from(path: str) -> Any:
    """Make the adapter that ``--audit.adapter`` names.

    Raises:
        ImportError: If it cannot be imported.
        TypeError: If it cannot be made without arguments.
    """
    found = import_object(path, "--audit.adapter")
    if not inspect.isclass(found) and not inspect.isfunction(found):
        return found
    try:
        return found()
    except TypeError as error:
        raise TypeError(
            f"--audit.adapter {path} is called without arguments, which failed: {error}. Name a function without "
            "arguments that returns the adapter, or an adapter itself."
        ) from error


def _require(found: Any, base: type, part: str, path: str) -> None:
    if inspect.isfunction(found) or (inspect.isclass(found) and issubclass(found, base)):
        return
    what = f"a class that is no {base.__name__}" if inspect.isclass(found) else f"a {type(found).__name__}"
    hint = ""
    if inspect.isclass(found) and issubclass(found, nn.Module):
        hint = (
            f" Wrap the network:\n    class Audited(LightningModule):\n        def __init__(self):\n"
            f"            super().__init__()\n            self.net = {found.__name__}(...)\n\n"
            "        def forward(self, x):\n            return self.net(x)"
        )
    raise TypeError(f"--{part} {path} is {what}; expected a {base.__name__}, or a function that returns one.{hint}")


def _where(error: BaseException) -> str:
    """An error in a few words, with the line of the project that it comes from."""
    if isinstance(error, SyntaxError):
        return f"{type(error).__name__}: {error}"
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "importlib" not in f.filename]
    last = frames[-1] if frames and Path(frames[-1].filename) != Path(__file__) else None
    return f"{type(error).__name__}: {error}" + ("" if last is None else f" ({last.filename}, line {last.lineno})")
