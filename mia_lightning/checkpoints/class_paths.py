"""Models and data modules of other people's projects, found by their import path."""

from __future__ import annotations

import importlib
import inspect
import sys
import traceback
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningDataModule, LightningModule
from torch import nn

from mia_lightning.functional.suggestions import suggestion


def import_object(path: str, option: str) -> Any:
    """Import something by its path.

    Args:
        path: Such as ``my_project.tasks.MyTask``.
        option: The option that names it, such as ``--model``.

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
                f"{option} {path} cannot be imported: there is no module {error.name!r}, neither installed nor in the "
                f"current folder {Path.cwd()}. Run the command in the folder from which your project is imported."
            ) from error
        raise ImportError(f"{option} {path} cannot be imported: {_with_place(error)}") from error
    except AttributeError as error:
        found = sys.modules.get(module)
        if found is None or hasattr(found, name):
            raise ImportError(f"{option} {path} cannot be imported: {_with_place(error)}") from error
        classes = [n for n, v in vars(found).items() if inspect.isclass(v) and v.__module__ == module]
        hint = f"; its classes are {', '.join(classes)}" if classes else ""
        raise ImportError(f"{option} {path}: {module} has no {name!r}{suggestion(name, classes)}{hint}.") from error
    except Exception as error:  # other people's code may raise anything
        raise ImportError(f"{option} {path} cannot be imported: {_with_place(error)}") from error


def import_class(path: str, section: str) -> Any:
    """Import the class of a model or of a data module, or a function that returns one.

    Args:
        path: Its import path.
        section: ``model`` or ``data``.

    Raises:
        ImportError: If it cannot be imported.
        TypeError: If it is something else.
    """
    found = import_object(path, f"--{section}")
    base = LightningDataModule if section == "data" else LightningModule
    if inspect.isfunction(found) or (inspect.isclass(found) and issubclass(found, base)):
        return found
    kind = f"a class that is no {base.__name__}" if inspect.isclass(found) else f"a {type(found).__name__}"
    hint = ""
    if inspect.isclass(found) and issubclass(found, nn.Module):
        hint = (
            f" Wrap the network:\n    class Audited(LightningModule):\n        def __init__(self):\n"
            f"            super().__init__()\n            self.net = {found.__name__}(...)\n\n"
            "        def forward(self, x):\n            return self.net(x)"
        )
    raise TypeError(f"--{section} {path} is {kind}; expected a {base.__name__}, or a function that returns one.{hint}")


def _with_place(error: BaseException) -> str:
    """An error in a few words, with the line of the project that it comes from."""
    if isinstance(error, SyntaxError):
        return f"{type(error).__name__}: {error}"
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "importlib" not in f.filename]
    last = frames[-1] if frames and Path(frames[-1].filename) != Path(__file__) else None
    return f"{type(error).__name__}: {error}" + ("" if last is None else f" ({last.filename}, line {last.lineno})")
