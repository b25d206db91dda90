"""Classes of projects that belong to one package, made to belong to the other one, too, which has the trainer."""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import ModuleType
from typing import Any

from mia_lightning.lightning_packages.loaded import KINDS, classes, loaded_packages


def adopt(cls: type, package: ModuleType) -> dict[type, tuple[type, ...]]:
    """Derive a module, data module or callback from the class of a package, where it has that of the other alone.

    The methods of the package come first, by which its trainer sees what a class has of its own. Instances follow.

    Returns:
        The bases that classes had before, by class.
    """
    before: dict[type, tuple[type, ...]] = {}
    for kind in KINDS:
        ours = getattr(package, kind)
        for theirs in (getattr(p, kind) for p in loaded_packages() if p is not package):
            for owner in cls.__mro__:
                if theirs in owner.__bases__ and not issubclass(owner, ours):
                    before.setdefault(owner, owner.__bases__)  # one may be of several kinds
                    owner.__bases__ = tuple(x for b in owner.__bases__ for x in ((ours, b) if b is theirs else (b,)))
    return before


@contextmanager
def adopted(trainer_class: type, *things: Any) -> Iterator[None]:
    """Adopt the classes of some objects by the package of a trainer's class, for as long as a block runs."""
    package = next(p for p in loaded_packages() if issubclass(trainer_class, p.Trainer))
    before: dict[type, tuple[type, ...]] = {}

    def with_callbacks(configure: Callable[[], Any]) -> Any:
        found = configure()
        for callback in found if isinstance(found, (list, tuple)) else [found]:
            before.update(adopt(type(callback), package))
        return found

    brought = []
    for thing in things:
        changed = adopt(type(thing), package)
        before.update(changed)
        if changed and hasattr(thing, "configure_callbacks"):
            thing.configure_callbacks = partial(with_callbacks, thing.configure_callbacks)
            brought.append(thing)
    try:
        yield
    finally:
        for thing in brought:
            del thing.configure_callbacks
        for owner, bases in before.items():
            owner.__bases__ = bases


def adopt_named(found: Any, package: ModuleType) -> None:
    """Adopt what an import path has led to: a class, or a function whose annotation says that it returns one."""
    if inspect.isfunction(found):
        made = inspect.signature(found, eval_str=True).return_annotation
        for kind in KINDS:
            if made in classes(kind):  # what it returns is adopted when it is there
                found.__annotations__["return"] = getattr(package, kind)
        found = made
    if inspect.isclass(found):
        adopt(found, package)
