"""Models and data modules of other people's projects: found by import path, built as the checkpoint says."""

from __future__ import annotations

import importlib
import inspect
import json
import re
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml
from jsonargparse import ArgumentParser
from lightning.pytorch import LightningDataModule, LightningModule
from torch import nn

from mia_lightning.cli.checkpoints import read_checkpoint
from mia_lightning.cli.words import guess

_DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")
_PARTS = {
    "model": (LightningModule, "hyper_parameters", "hparams_name"),
    "data": (LightningDataModule, "datamodule_hyper_parameters", "datamodule_hparams_name"),
}


class Filled(NamedTuple):
    """Arguments of a class that were taken from a checkpoint.

    Attributes:
        owner: Name of the class.
        values: Arguments by name.
        unused: Names that the checkpoint has values of which the class's annotations do not accept.
    """

    owner: str
    values: dict[str, Any]
    unused: list[str]

    def __str__(self) -> str:
        values = ", ".join(f"{name}={_short(value)}" for name, value in self.values.items())
        unused = f" Not taken, since its annotations do not fit: {', '.join(self.unused)}." if self.unused else ""
        return f"{self.owner} as the checkpoint says, where nothing else is given: {values or 'nothing'}.{unused}"


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
    given, flags = _given(args), {flag for flag, _ in _pairs(args)}
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
        missing = {k: v for k, v in remembered.items() if f"--{part}.{k}" not in flags}
        values, unused = _accepted(found, _by_argument(found, missing, checkpoint.get(name_key)))
        if values or unused:
            config[part] = {"class_path": path, "init_args": values}
            filled.append(Filled(found.__name__, values, unused))
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


def _given(args: Sequence[str]) -> dict[str, str]:
    """Class paths of model and data, and the checkpoint, as arguments and configurations name them; the last counts."""
    found: dict[str, str] = {}
    for flag, value in _pairs(args):
        if flag in ("-c", "--config"):
            found |= _in_config(value)
        elif flag in ("--model", "--data", "--ckpt_path"):
            found[flag.lstrip("-")] = value
        elif flag in ("--model.class_path", "--data.class_path"):
            found[flag.lstrip("-").removesuffix(".class_path")] = value
    return {name: value for name, value in found.items() if value != "null"}


def _pairs(args: Sequence[str]) -> Iterator[tuple[str, str]]:
    for arg, following in zip(args, [*args[1:], ""], strict=True):
        if arg.startswith("--") and "=" in arg:
            flag, _, value = arg.partition("=")
            yield flag, value
        elif arg.startswith("-"):
            yield arg, following


def _in_config(path: str) -> dict[str, str]:
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):  # whoever parses the arguments says what is wrong with it
        return {}
    found = {}
    for part in _PARTS:
        section = content.get(part) if isinstance(content, Mapping) else None
        name = section.get("class_path") if isinstance(section, Mapping) else section
        if isinstance(name, str):
            found[part] = name
    if isinstance(content, Mapping) and isinstance(content.get("ckpt_path"), str):
        found["ckpt_path"] = content["ckpt_path"]
    return found


def _peek(path: str | None) -> Mapping[str, Any]:
    """Look into a checkpoint, without loading its weights where its format allows that."""
    if path is None:
        return {}
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
    plain = {str(k): v for k, v in remembered.items()}
    whole = isinstance(name, str) and name in inspect.signature(cls).parameters and name not in ("args", "kwargs")
    return {str(name): plain} if whole else plain


def _accepted(cls: type, values: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Those of some values that a class takes, and the names of those that its annotations refuse."""
    arguments = [a.removeprefix("it.") for a in ArgumentParser().add_class_arguments(cls, "it", fail_untyped=False)]
    accepted, refused = {}, []
    for name in (a for a in arguments if a in values):
        alone = ArgumentParser(exit_on_error=False)
        alone.add_class_arguments(cls, "it", skip=set(arguments) - {name}, fail_untyped=False)
        try:
            alone.parse_object({"it": {name: values[name]}})
            accepted[name] = json.loads(json.dumps(values[name]))
        except Exception:  # jsonargparse documents none
            refused.append(name)
    return accepted, refused


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
