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
from typing import Any, NamedTuple

import torch
from jsonargparse import ArgumentParser
from lightning.pytorch import LightningDataModule, LightningModule
from torch import nn

from mia_lightning.cli.checkpoints import read_checkpoint, require_checkpoint_file
from mia_lightning.cli.given import arguments_in, classes_in
from mia_lightning.cli.words import guess

_DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")
_PARTS = {
    "model": (LightningModule, "hyper_parameters", "hparams_name"),
    "data": (LightningDataModule, "datamodule_hyper_parameters", "datamodule_hparams_name"),
}


class Filled(NamedTuple):
    """Arguments of a class that were taken from a checkpoint.

    Attributes:
        part: ``model`` or ``data``.
        owner: Name of the class.
        values: Arguments by name.
        refused: Values by name that the class's annotations do not accept.
        altered: Values by name that would reach the class as something else: without an annotation that asks for them,
            a configuration knows neither tuples nor keys other than text.
    """

    part: str
    owner: str
    values: dict[str, Any]
    refused: dict[str, Any]
    altered: dict[str, Any]

    def __str__(self) -> str:
        told = f"{self.owner} as the checkpoint says, where nothing else is given: {_listed(self.values) or 'nothing'}."
        if self.refused:
            told += f" Not taken, since its annotations do not fit: {_listed(self.refused)}."
        if self.altered:
            options = ", ".join(f"--{self.part}.{name}" for name in self.altered)
            told += (
                " Not taken, since a configuration would change them (it knows no tuples, and no keys but text): "
                f"{_listed(self.altered)}. Annotate the arguments with their types, such as tuple[int, int] or "
                f"dict[int, str], or give what the class may as well be given with {options}."
            )
        return told


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
        raise ImportError(f"{what} {path}: {module} has no {name!r}{guess(name, classes)}{hint}.") from error
    except Exception as error:  # the code of a stranger may raise anything
        raise ImportError(f"{what} {path} cannot be imported: {_where(error)}") from error


def completed(args: Sequence[str]) -> tuple[list[str], list[Filled]]:
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
    given = classes_in(args)
    checkpoint: Mapping[str, Any] | None = None
    config, filled = {}, []
    for part, (base, key, name_key) in _PARTS.items():
        path = given.get(part)
        if path is None or not _DOTTED.fullmatch(path) or path.split(".")[0] in ("mia_lightning", "lightning"):
            continue
        found = import_object(path, f"--{part}")
        _require(found, base, part, path)
        if checkpoint is None:
            checkpoint = _peek(given.get("ckpt_path"))
        remembered = checkpoint.get(key)
        if not inspect.isclass(found) or not isinstance(remembered, Mapping):
            continue
        own = arguments_in(args, part)
        missing = {k: v for k, v in _by_argument(found, remembered, checkpoint.get(name_key)).items() if k not in own}
        one = _sorted(found, part, missing)
        if one.values or one.refused or one.altered:
            config[part] = {"class_path": path, "init_args": one.values}
            filled.append(one)
    return ([args[0], f"--config={json.dumps(config)}", *args[1:]] if config else list(args)), filled


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


def _peek(path: str | None) -> Mapping[str, Any]:
    """Look into a checkpoint, without loading its weights where its format allows that."""
    if path is None:
        return {}
    require_checkpoint_file(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception:  # says so in our words, or can do without mmap
        content = read_checkpoint(path)
    return content if isinstance(content, Mapping) else {}


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


def _by_argument(cls: type, remembered: Mapping[str, Any], name: object) -> dict[str, Any]:
    """Hyperparameters by the argument that they belong to: ``save_hyperparameters(hparams)`` keeps a whole dict."""
    whole = isinstance(name, str) and name in inspect.signature(cls).parameters and name not in ("args", "kwargs")
    return {str(name): dict(remembered)} if whole else {str(k): v for k, v in remembered.items()}


def _sorted(cls: type, part: str, values: Mapping[str, Any]) -> Filled:
    """Sort values by whether a class takes them as they are."""
    arguments = [a.removeprefix("it.") for a in ArgumentParser().add_class_arguments(cls, "it", fail_untyped=False)]
    filled = Filled(part, cls.__name__, {}, {}, {})
    for name in (a for a in arguments if a in values):
        alone = ArgumentParser(exit_on_error=False)
        alone.add_class_arguments(cls, "it", skip=set(arguments) - {name}, fail_untyped=False)
        value = {"it": {name: values[name]}}
        try:
            meant = alone.parse_object(value)
        except Exception:  # jsonargparse documents none
            filled.refused[name] = values[name]
            continue
        try:
            kept = repr(alone.parse_string(json.dumps(value))) == repr(meant)  # == would not know nan
        except Exception:
            kept = False
        if kept:
            filled.values[name] = json.loads(json.dumps(values[name]))
        else:
            filled.altered[name] = values[name]
    return filled


def _where(error: BaseException) -> str:
    """An error in a few words, with the line of the project that it comes from."""
    if isinstance(error, SyntaxError):
        return f"{type(error).__name__}: {error}"
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "importlib" not in f.filename]
    last = frames[-1] if frames and Path(frames[-1].filename) != Path(__file__) else None
    return f"{type(error).__name__}: {error}" + ("" if last is None else f" ({last.filename}, line {last.lineno})")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={_short(value)}" for name, value in values.items())
