"""The part of a configuration that a checkpoint remembers: classes of model and data, and their arguments."""

import inspect
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from mia_lightning.checkpoints.class_paths import import_class
from mia_lightning.checkpoints.hyperparameters import RememberedArguments, read_hyperparameters, remembered_arguments
from mia_lightning.lightning_packages.loaded import classes as classes_of

SECTIONS = ("model", "data")
_DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")


def remembered_configuration(
    classes: Mapping[str, str],
    passed: Mapping[str, Collection[str]],
    ckpt_path: str | Path | None,
    own: Mapping[str, type],
) -> tuple[dict[str, Any], list[RememberedArguments]]:
    """Complete what is named of model and data by what a checkpoint remembers.

    A class that is not named is taken from the checkpoint where it is one of this package: nothing else is imported
    because a file says so.

    Args:
        classes: Names or import paths of the classes that are named, by section (``model``, ``data``).
        passed: Names of the arguments that are passed, by section; they are left out.
        ckpt_path: The checkpoint; None where there is none.
        own: The models and data modules of this package by their public names.

    Returns:
        A configuration with sections for what was found, and what each section takes from the checkpoint.

    Raises:
        FileNotFoundError: If the checkpoint does not exist.
        ImportError: If a class cannot be imported.
        TypeError: If it is no LightningModule, or no data module.
        ValueError: If the file is no checkpoint, or was trained by a model of another project that is not named.
    """
    checkpoint: Mapping[str, Any] | None = None
    config: dict[str, Any] = {}
    remembered = []
    for section in SECTIONS:
        path = classes.get(section)
        if path is not None and (path.startswith("lightning.") or not (path in own or _DOTTED.fullmatch(path))):
            continue  # the parser says what is wrong with other names
        named = None if path is None else own.get(path) or import_class(path, section)
        if checkpoint is None:
            checkpoint = {} if ckpt_path is None else read_hyperparameters(ckpt_path)
        stored = _stored_class(checkpoint, section, own)
        found = stored if path is None else named
        if (
            found is None
            and section == "model"
            and (theirs := _hyperparameters(checkpoint, section).get("_class_path"))
        ):
            raise ValueError(
                f"{ckpt_path} was trained by {theirs}, which is none of mia_lightning: name it with --model {theirs} "
                "(classes of other projects are not imported because a file says so)."
            )
        if not inspect.isclass(found):
            continue
        of_another = found in own.values() and stored is not None and not issubclass(found, stored)
        # Whether the training was audited does not say whether its weights may be.
        skipped = {*passed.get(section, ()), *(["audit"] if found in own.values() else [])}
        taken = None if of_another else remembered_arguments(found, checkpoint, skip=skipped)
        if taken is not None:
            config[section] = {"class_path": path or _path_of(found), "init_args": taken.values}
            remembered.append(taken._replace(usual=_defaults(found)) if found in own.values() else taken)
    return config, remembered


def _stored_class(checkpoint: Mapping[str, Any], section: str, own: Mapping[str, type]) -> type | None:
    """The class of this package that a checkpoint was written with.

    Checkpoints of the command line name it. Of others the names of the hyperparameters tell it.
    """
    hyperparameters = _hyperparameters(checkpoint, section)
    if (path := hyperparameters.get("_class_path")) is not None:
        return next((cls for name, cls in own.items() if path in (name, f"mia_lightning.{name}", _path_of(cls))), None)
    names = {str(name) for name in hyperparameters} - {"_instantiator"}
    fitting = [
        cls
        for cls in own.values()
        if issubclass(cls, classes_of("LightningDataModule")) == (section == "data")
        and names
        and names <= _arguments(cls)
    ]
    return fitting[0] if len(fitting) == 1 else None


def _hyperparameters(checkpoint: Mapping[str, Any], section: str) -> Mapping[Any, Any]:
    found = checkpoint.get("datamodule_hyper_parameters" if section == "data" else "hyper_parameters")
    return found if isinstance(found, Mapping) else {}


def _arguments(cls: type) -> set[str]:
    return set(inspect.signature(cls).parameters)


def _defaults(cls: type) -> dict[str, Any]:
    """Defaults of a class's arguments, as configurations hold them."""
    parameters = inspect.signature(cls).parameters.values()
    plain = {p.name: p.default for p in parameters if p.default is not p.empty} | getattr(cls, "USUAL", {})
    return {name: list(value) if isinstance(value, tuple) else value for name, value in plain.items()}


def _path_of(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"
