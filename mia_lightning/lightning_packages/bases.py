"""Base classes that belong to every package that is loaded, whichever is imported first, and whenever."""

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, Any

from mia_lightning.lightning_packages.loaded import KINDS, PACKAGES, loaded_packages, package_of

if TYPE_CHECKING:
    from lightning.pytorch import Callback, LightningDataModule, LightningModule

__all__ = ["Callback", "LightningDataModule", "LightningModule", "first_package", "put_first"]


class _Unbound:
    """The base while no package is loaded; bases of classes that derive from ``object`` alone cannot be set."""


# Their bases are set, so that classes that derive from them, and instances of these, belong to what is loaded later,
# too: nothing has to be made anew, and what is stored names one class.
_JOINED: dict[str, type] = {
    kind: type(kind, (_Unbound,), {"__module__": __name__, "__doc__": f"A ``{kind}`` of each package that is loaded."})
    for kind in KINDS
}


def __getattr__(name: str) -> Any:
    """The base classes; modules and data modules cannot be made without Lightning, so that they load it."""
    if name not in _JOINED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name != "Callback":
        first_package()
    return _JOINED[name]


def first_package() -> ModuleType:
    """The package whose methods come first; where none is loaded, ``lightning.pytorch``, which is imported then."""
    if not loaded_packages():
        importlib.import_module(PACKAGES[0])
    found = package_of(_JOINED["Callback"])
    assert found is not None  # joined when it was loaded
    return found


def put_first(trainer: object) -> None:
    """Have the methods of a trainer's package come first: it takes those of another package for overridden ones."""
    package = package_of(type(trainer))
    if package is None:
        return
    for kind, joined in _JOINED.items():
        first = getattr(package, kind)
        if joined.__bases__[0] is not first:
            joined.__bases__ = (first, *(base for base in joined.__bases__ if base is not first))


def _join(package: ModuleType) -> None:
    for kind, joined in _JOINED.items():
        base = getattr(package, kind)
        if not issubclass(joined, base):
            joined.__bases__ = (*(b for b in joined.__bases__ if b is not _Unbound), base)


class _JoinWhenLoaded(MetaPathFinder):
    """Joins a package when its import is complete; how modules are found and loaded stays as it is."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in PACKAGES:
            return None
        specs = (finder.find_spec(fullname, path, target) for finder in sys.meta_path if finder is not self)
        spec = next((spec for spec in specs if spec is not None), None)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_join(module: ModuleType) -> None:
                execute(module)
                _join(module)

            spec.loader.exec_module = execute_and_join  # type: ignore[method-assign]  # of the loader of this module
        return spec


sys.meta_path.insert(0, _JoinWhenLoaded())
for _package in loaded_packages():
    _join(_package)
