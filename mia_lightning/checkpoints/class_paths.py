"""Models and data modules of other people's projects, found by their import path."""

import importlib
import inspect
import sys
import traceback
from pathlib import Path
from typing import Any

from torch import nn

from mia_lightning.functional.suggestions import suggestion
from mia_lightning.lightning_packages.loaded import classes


def import_object(path: str, option: str) -> Any:
    """Import something by its path, such as ``my_project.tasks.MyTask``, that an option such as ``--model`` names.

    Raises:
        ImportError: If that fails; says what failed, in whose file.
    """
    module, _, name = path.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except Exception as error:  # other people's code may raise anything
        reason = f" cannot be imported: {_with_place(error)}"
        found = sys.modules.get(module)
        if isinstance(error, ModuleNotFoundError) and error.name and f"{module}.".startswith(f"{error.name}."):
            reason = (
                f" cannot be imported: there is no module {error.name!r}, neither installed nor in the current folder "
                f"{Path.cwd()}. Run the command in the folder from which your project is imported."
            )
        elif isinstance(error, AttributeError) and found is not None and not hasattr(found, name):
            classes = [n for n, v in vars(found).items() if inspect.isclass(v) and v.__module__ == module]
            hint = f"; its classes are {', '.join(classes)}" if classes else ""
            reason = f": {module} has no {name!r}{suggestion(name, classes)}{hint}."
        raise ImportError(f"{option} {path}{reason}") from error


def import_class(path: str, section: str) -> Any:
    """Import the class of a ``model`` or of ``data``, the section, or a function that returns one.

    Raises:
        ImportError: If it cannot be imported.
        TypeError: If it is something else.
    """
    found = import_object(path, f"--{section}")
    base = "LightningDataModule" if section == "data" else "LightningModule"
    if inspect.isfunction(found) or (inspect.isclass(found) and issubclass(found, classes(base))):
        return found
    kind = f"a class that is no {base}" if inspect.isclass(found) else f"a {type(found).__name__}"
    hint = ""
    if inspect.isclass(found) and issubclass(found, nn.Module):
        hint = (
            f" Wrap the network:\n    class Audited(LightningModule):\n        def __init__(self):\n"
            f"            super().__init__()\n            self.net = {found.__name__}(...)\n\n"
            "        def forward(self, x):\n            return self.net(x)"
        )
    raise TypeError(f"--{section} {path} is {kind}; expected a {base}, or a function that returns one.{hint}")


def adapter_at(path: str) -> Any:
    """Make the adapter that ``--audit.adapter`` names: an object, or a function or class to call without arguments.

    Raises:
        ImportError: If it cannot be imported.
        TypeError: If the call fails.
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


def _with_place(error: BaseException) -> str:
    """An error in a few words, with the line of the project that it comes from."""
    if isinstance(error, SyntaxError):
        return f"{type(error).__name__}: {error}"
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "importlib" not in f.filename]
    last = frames[-1] if frames and Path(frames[-1].filename) != Path(__file__) else None
    return f"{type(error).__name__}: {error}" + ("" if last is None else f" ({last.filename}, line {last.lineno})")
