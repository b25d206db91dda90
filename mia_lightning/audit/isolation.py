"""Isolation: after an audit, training goes on as if there had been none, to the bit."""

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from types import BuiltinMethodType, CellType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import nn


@contextmanager
def isolated(module: object, *sources: object) -> Iterator[None]:
    """Run a block without gradients and in eval mode; afterwards put back all that it may have touched.

    Put back are the states of the global generators (torch on every device, NumPy, ``random``), the training flag of
    every submodule one by one (restoring the root alone would flip frozen batch norms), the gradient mode, and the
    state of generators held by the model, and by data sets that training may share with the audit (albumentations keeps
    such).

    Args:
        module: The audited model; flags are kept only for a :class:`torch.nn.Module`.
        *sources: Data sets, loaders or functions whose own generators must not advance.
    """
    flags = [(m, m.training) for m in module.modules()] if isinstance(module, nn.Module) else []
    generators = [(g, _state_of(g)) for g in _generators_in(module, *sources)]
    cpu, gpus = torch.get_rng_state(), _device_states()
    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002 - the global state is what must survive
    try:
        if isinstance(module, nn.Module):
            module.eval()
        with torch.no_grad():
            yield
    finally:
        for part, flag in flags:
            part.training = flag
        for generator, state in generators:
            _restore(generator, state)
        torch.set_rng_state(cpu)
        if gpus:
            torch.cuda.set_rng_state_all(gpus)
        random.setstate(python)
        np.random.set_state(legacy)  # noqa: NPY002 - the global state is what is put back


@contextmanager
def uncompiled() -> Iterator[None]:
    """Run a block without :func:`torch.compile`: what is compiled already is called as it was written.

    Batches of the audit's sizes would have a network compiled anew with sizes left open, and the training would go on
    with kernels that round otherwise.
    """
    if "torch._dynamo" not in sys.modules:  # nothing is compiled, and the import takes seconds
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield


def _device_states() -> list[torch.Tensor]:
    # Asking a device that nobody uses would start it up.
    if not torch.cuda.is_available() or not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]  # has no types of its own
        return []
    return torch.cuda.get_rng_state_all()


def _generators_in(*sources: object, depth: int = 8) -> Iterator[Any]:
    """Find the random generators that objects hold, each once: in every submodule, and that deep in all else."""
    levels: dict[int, int] = {}  # how deep each object was met
    stack: list[tuple[object, int]] = [(source, 0) for source in sources]
    while stack:
        value, level = stack.pop()
        if isinstance(value, nn.Module):
            level = 0  # networks are as deep as they are
        earlier = levels.get(id(value))
        if earlier is not None and earlier <= level:
            continue
        levels[id(value)] = level
        if isinstance(value, (np.random.Generator, np.random.RandomState, random.Random, torch.Generator)):
            if earlier is None:
                yield value
        elif level < depth:
            stack.extend((child, level + 1) for child in _children(value))


def _children(value: object) -> list[object]:
    if isinstance(value, (dict, list, tuple, set)):
        # Long ones hold data, not transforms; a million file names need not be walked before each audit.
        if len(value) > 256:
            return []
        return list(value.values() if isinstance(value, dict) else value)
    if isinstance(value, (torch.Tensor, np.ndarray, str, bytes, type, ModuleType)):
        return []
    if any(kind.__name__ == "Trainer" for kind in type(value).__mro__):  # every Lightning module holds all of it
        return []
    if isinstance(value, partial):
        return [value.func, *value.args, *value.keywords.values()]
    if isinstance(value, FunctionType):  # a lambda keeps its generator in a closure
        return [c.cell_contents for c in value.__closure__ or () if c != CellType()]
    if isinstance(value, (MethodType, BuiltinMethodType)):
        return [value.__self__]
    attributes = list(vars(value).values()) if hasattr(value, "__dict__") else []
    return [*attributes, *value.children()] if isinstance(value, nn.Module) else attributes


def _state_of(generator: Any) -> Any:
    if isinstance(generator, np.random.Generator):
        return generator.bit_generator.state
    if isinstance(generator, random.Random):
        return generator.getstate()
    return generator.get_state()


def _restore(generator: Any, state: Any) -> None:
    if isinstance(generator, np.random.Generator):
        generator.bit_generator.state = state
    elif isinstance(generator, random.Random):
        generator.setstate(state)
    else:
        generator.set_state(state)
