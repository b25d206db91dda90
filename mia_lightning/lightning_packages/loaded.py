"""The classes of whichever of the two packages are loaded, for tests of what something is."""

import sys
from operator import attrgetter
from types import ModuleType
from typing import Any

from lightning_utilities.core.overrides import is_overridden as _differs

PACKAGES = ("lightning.pytorch", "pytorch_lightning")
LOGGER_NAMES = (*PACKAGES, "lightning.fabric", "lightning_fabric")
"""Names of what they print with."""
KINDS = ("Callback", "LightningModule", "LightningDataModule")
"""What belongs to a package, beside its trainer."""
FITTING, VALIDATING = "fit", "validate"
"""Values of ``trainer.state.fn``: the enumerations of the two packages hold text and equal it."""


def loaded_packages() -> list[ModuleType]:
    """The packages that are loaded."""
    modules = (sys.modules.get(name) for name in PACKAGES)
    return [module for module in modules if module is not None and hasattr(module, "Trainer")]


def classes(path: str) -> tuple[type[Any], ...]:
    """A class of each package that is loaded and has it, for ``isinstance``.

    Args:
        path: Where the class is in a package, such as ``"callbacks.ModelCheckpoint"``.

    Example:
        >>> import lightning.pytorch as pl
        >>> pl.callbacks.EarlyStopping in classes("callbacks.EarlyStopping"), classes("callbacks.Unheard")
        (True, ())
    """
    found = []
    for package in loaded_packages():
        try:
            found.append(attrgetter(path)(package))
        except AttributeError:  # a class of later versions
            continue
    return tuple(found)


def package_of(cls: type) -> ModuleType | None:
    """The package that a class belongs to, the first among its bases; None where it belongs to neither."""
    bases = {getattr(package, kind): package for package in loaded_packages() for kind in (*KINDS, "Trainer")}
    return next((bases[base] for base in cls.__mro__ if base in bases), None)


def is_overridden(method: str, instance: object) -> bool:
    """Whether a module, data module or callback of either package has a method of its own."""
    parents = [cls for kind in KINDS for cls in classes(kind) if isinstance(instance, cls)]
    if not parents:  # something that has what is asked for, and belongs to neither package
        return callable(getattr(instance, method, None))
    return all(_differs(method, instance, parent) for parent in parents)
