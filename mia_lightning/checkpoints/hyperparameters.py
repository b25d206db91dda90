"""The arguments that a checkpoint remembers of a class, and which of them the class takes as they are."""

import inspect
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import torch
from jsonargparse import ArgumentParser

from mia_lightning.checkpoints.checkpoint_file import require_checkpoint_file
from mia_lightning.checkpoints.trained_weights import read_checkpoint
from mia_lightning.lightning_packages.loaded import classes


class RememberedArguments(NamedTuple):
    """Arguments of a class that a checkpoint remembers.

    Attributes:
        section: Section of a configuration that builds the class: ``model`` or ``data``.
        owner: Name of the class.
        values: Arguments that the class takes as they are, by name, as JSON values.
        refused: Values by name that the class's annotations do not accept.
        altered: Values by name that would reach the class as something else: without an annotation that asks for them,
            a configuration holds neither tuples nor keys other than text.
        usual: Defaults by name that need not be told.
    """

    section: str
    owner: str
    values: dict[str, Any]
    refused: dict[str, Any]
    altered: dict[str, Any]
    usual: Mapping[str, Any] = MappingProxyType({})

    def __str__(self) -> str:
        told = {name: v for name, v in self.values.items() if name not in self.usual or self.usual[name] != v}
        nothing = "its defaults" if self.values else "nothing"
        text = f"{self.owner} as the checkpoint says, where nothing else is given: {_listed(told) or nothing}."
        if self.refused:
            text += f" Not taken, since its annotations do not fit: {_listed(self.refused)}."
        if self.altered:
            options = ", ".join(f"--{self.section}.{name}" for name in self.altered)
            text += (
                " Not taken, since a configuration would change them (it knows no tuples, and no keys but text): "
                f"{_listed(self.altered)}. Annotate the arguments with their types, such as tuple[int, int] or "
                f"dict[int, str], or give what the class may as well be given with {options}."
            )
        return text


def remembered_arguments(
    cls: type, checkpoint: Mapping[str, Any], *, skip: Collection[str] = ()
) -> RememberedArguments | None:
    """Sort what ``save_hyperparameters()`` has left in a checkpoint by whether a class takes it as it is.

    Args:
        cls: A LightningModule or LightningDataModule.
        checkpoint: Content of a checkpoint, as :func:`read_hyperparameters` returns it.
        skip: Names of arguments that are not of interest.

    Returns:
        The arguments; None where the checkpoint remembers none of this class, or only those to skip.

    Example:
        >>> from lightning.pytorch import LightningDataModule
        >>> class Data(LightningDataModule):
        ...     def __init__(self, root: str, size: int = 4, area=None): ...
        >>> kept = {"datamodule_hyper_parameters": {"root": "here", "size": "large", "area": (1, 2), "old": 1}}
        >>> remembered_arguments(Data, kept)[2:5]
        ({'root': 'here'}, {'size': 'large'}, {'area': (1, 2)})
    """
    of_data = issubclass(cls, classes("LightningDataModule"))
    prefix = "datamodule_" if of_data else ""
    hyperparameters = checkpoint.get(f"{prefix}hyper_parameters")
    if not isinstance(hyperparameters, Mapping):
        return None
    values = _by_argument(cls, hyperparameters, checkpoint.get(f"{prefix}hparams_name"))
    found = RememberedArguments("data" if of_data else "model", cls.__name__, {}, {}, {})
    arguments = [a.removeprefix("it.") for a in ArgumentParser().add_class_arguments(cls, "it", fail_untyped=False)]
    taken = {name: values[name] for name in arguments if name in values and name not in skip}
    # A parser takes long to build: one says that all arguments fit, as they mostly do, or else one for each says how.
    all_fit = bool(taken) and _fit(cls, arguments, taken) == "values"
    for name, value in taken.items():
        kind = "values" if all_fit else _fit(cls, arguments, {name: value})
        getattr(found, kind)[name] = json.loads(json.dumps(value)) if kind == "values" else value
    return found if found.values or found.refused or found.altered else None


def _fit(cls: type, arguments: Collection[str], values: Mapping[str, Any]) -> Literal["values", "refused", "altered"]:
    """Field of :class:`RememberedArguments` in which values of some of a class's arguments belong, all of them."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(cls, "it", skip=set(arguments) - values.keys(), fail_untyped=False)
    section = {"it": dict(values)}
    try:
        accepted = parser.parse_object(section)
    except Exception:  # jsonargparse does not document which it raises
        return "refused"
    try:
        same = repr(parser.parse_string(json.dumps(section))) == repr(accepted)  # nan == nan is false
    except Exception:
        same = False
    return "values" if same else "altered"


def read_hyperparameters(path: str | Path) -> Mapping[str, Any]:
    """Read what a checkpoint holds beside its weights; where its format allows that, these stay on the disk.

    Raises:
        FileNotFoundError: If there is no such file; names the checkpoints beside it.
        ValueError: If the file is no checkpoint.
    """
    path = require_checkpoint_file(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception:  # what read_checkpoint refuses with a reason, or a format that cannot be mapped
        content = read_checkpoint(path)
    return content if isinstance(content, Mapping) else {}


def _by_argument(cls: type, hyperparameters: Mapping[str, Any], name: object) -> dict[str, Any]:
    """Hyperparameters by argument: ``save_hyperparameters(hparams)`` keeps the content of one dict argument."""
    whole = isinstance(name, str) and name in inspect.signature(cls).parameters and name not in ("args", "kwargs")
    return {str(name): dict(hyperparameters)} if whole else {str(k): v for k, v in hyperparameters.items()}


def _listed(values: Mapping[str, Any]) -> str:
    texts = {name: repr(value) for name, value in values.items()}
    return ", ".join(f"{name}={text if len(text) <= 40 else f'{text[:37]}...'}" for name, text in texts.items())
