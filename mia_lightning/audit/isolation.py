"""Isolation: after an audit, training goes on as if there had been none, to the bit."""

import random
import sys
from collections import Counter
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from types import BuiltinMethodType, CellType, FunctionType, MethodType, ModuleType
from typing import Any, cast

import numpy as np
import torch
from torch import nn
from torch.nn.parameter import is_lazy
from torch.utils.data import IterableDataset

_GENERATORS = (np.random.Generator, np.random.RandomState, random.Random, torch.Generator)


@contextmanager
def isolated(module: object, *sources: object) -> Iterator[None]:
    """Run a block without gradients and in eval mode; afterwards put back all that it may have touched.

    Put back are the states of the global generators (torch on every device, NumPy, ``random``), the training flag of
    every submodule one by one (restoring the root alone would flip frozen batch norms), the buffers that forward passes
    write into (running means of a batch norm that a model keeps in training mode, counts of calls), the gradient mode,
    and the state of generators held by the model, and by data sets that training may share with the audit
    (albumentations keeps such). Of streams, which must be read to be audited, the counters and orders that reading
    moves are put back, too.

    Args:
        module: The audited model; flags and buffers are kept only for a :class:`torch.nn.Module`.
        *sources: Data sets, loaders or functions whose own generators must not advance.
    """
    flags = [(m, m.training) for m in module.modules()] if isinstance(module, nn.Module) else []
    buffers = _buffers_of(module)
    generators = [(g, _state_of(g)) for g in generators_in(module, *sources)]
    counters = [one for holder in _stream_parts(*sources) for one in _counters_of(holder)]
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
        with torch.no_grad():
            for buffer in buffers:
                buffer.put_back()
        for generator, state in generators:
            _restore(generator, state)
        for counter in counters:
            counter.put_back()
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


def generators_in(*sources: object) -> Iterator[Any]:
    """Find the random generators that objects hold, each once."""
    yield from (value for value in _reached(*sources) if isinstance(value, _GENERATORS))


def _reached(*sources: object, depth: int = 8) -> Iterator[object]:
    """What objects hold, each once: in every submodule, and that deep in all else."""
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
        if earlier is None:
            yield value
        if not isinstance(value, _GENERATORS) and level < depth:
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
    attributes += _generators_of_class(cast(Hashable, type(value)))
    return [*attributes, *value.children()] if isinstance(value, nn.Module) else attributes


@cache
def _generators_of_class(kind: Any) -> list[Any]:
    """Generators that all objects of a class share, as MONAI's transforms do until they are seeded."""
    return [v for base in kind.__mro__ for v in vars(base).values() if isinstance(v, _GENERATORS)]


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


def _seed(generator: Any, seed: int) -> None:
    if isinstance(generator, np.random.Generator):
        generator.bit_generator.state = type(generator.bit_generator)(seed).state
    elif isinstance(generator, torch.Generator):
        generator.manual_seed(seed)
    else:
        generator.seed(seed)


class OwnDraws:
    """Random draws of a reader's own: within a ``with``, the global generators are its own, seeded when it is made.

    What reads samples then draws the same at each audit, on each process, whatever else draws meanwhile. Those of
    devices are left alone.

    Args:
        seed: The seed, 0 or more.
        *sources: Objects whose generators are seeded, too; :func:`isolated` puts them back.
    """

    def __init__(self, seed: int, *sources: object) -> None:
        outer = _global_states()
        torch.default_generator.manual_seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002 - what data sets of others draw from
        random.seed(seed)
        self._own, self._outer = _global_states(), outer
        _set_global_states(outer)
        for generator in generators_in(*sources):
            _seed(generator, seed % 2**32)

    def __enter__(self) -> None:
        self._outer = _global_states()
        _set_global_states(self._own)

    def __exit__(self, *_: object) -> None:
        self._own = _global_states()
        _set_global_states(self._outer)


def _global_states() -> tuple[Any, ...]:
    return torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002 - as above


def _set_global_states(states: tuple[Any, ...]) -> None:
    torch.set_rng_state(states[0])
    np.random.set_state(states[1])  # noqa: NPY002 - as above
    random.setstate(states[2])


class _Buffer:
    """A buffer of a part of a model, by its name, and what it held."""

    def __init__(self, part: nn.Module, name: str, buffer: torch.Tensor) -> None:
        self.part, self.name, self.buffer, self.content = part, name, buffer, buffer.detach().clone()

    def put_back(self) -> None:
        """Put it back as it was; one of another size or type is a table made for the size of the inputs, and stays."""
        now = getattr(self.part, self.name, None)
        if now is None or any(getattr(now, of) != getattr(self.content, of) for of in ("shape", "dtype", "device")):
            return
        if now is not self.buffer and isinstance(self.part._buffers, dict):  # that of TorchScript is none
            self.part._buffers[self.name] = now = self.buffer
        if not torch.equal(now, self.content):
            now.copy_(self.content)


def _buffers_of(module: object) -> list[_Buffer]:
    """The buffers of a model that are whole on this process and hold something; sparse and nested ones are left alone.

    These cannot be compared, and forward passes do not write into them.
    """
    named = module.modules() if isinstance(module, nn.Module) else ()
    return [
        _Buffer(part, name, buffer)
        for part in named
        for name, buffer in part._buffers.items()
        if isinstance(buffer, torch.Tensor)
        and not (is_lazy(buffer) or buffer.is_inference() or buffer.is_meta or type(buffer).__name__ == "DTensor")
        and buffer.layout is torch.strided
        and not buffer.is_nested
    ]


class _Counter:
    """A number, or an order, that an object holds under a name: an epoch that is counted, a list that is shuffled."""

    def __init__(self, holder: Any, name: str, value: Any) -> None:
        self.holder, self.name, self.value = holder, name, value
        self.content = None if isinstance(value, int) else value.copy() if hasattr(value, "copy") else value.clone()

    def put_back(self) -> None:
        """Put it back as it was; what has grown or shrunk meanwhile is no order, and stays."""
        now = vars(self.holder).get(self.name)
        if type(now) is not type(self.value) or isinstance(now, bool):
            return
        if self.content is None or now is self.value or len(now) == len(self.content):
            vars(self.holder)[self.name] = self.value
        if self.content is not None and len(self.value) == len(self.content):
            self._reorder(self.content)

    def _reorder(self, content: Any) -> None:
        if not isinstance(self.value, list) or Counter(map(id, self.value)) == Counter(map(id, content)):
            self.value[:] = content


def _stream_parts(*sources: object) -> Iterator[Any]:
    """What streams are made of, each once."""
    streams = [value for value in _reached(*sources) if isinstance(value, IterableDataset)]
    excluded = (nn.Module, type, ModuleType, FunctionType, torch.Tensor, *_GENERATORS)
    if streams:
        yield from (v for v in _reached(*streams) if hasattr(v, "__dict__") and not isinstance(v, excluded))


class _Added:
    """Numbers that an object did not hold itself, but its class: an epoch that begins as an attribute of the class."""

    def __init__(self, holder: Any) -> None:
        self.holder, self.names = holder, set(vars(holder))

    def put_back(self) -> None:
        """Leave it to the class again."""
        values = vars(self.holder)
        for name in [n for n in values if n not in self.names and hasattr(type(self.holder), n)]:
            if type(values[name]) is int:
                del values[name]


def _counters_of(holder: Any) -> list[_Counter | _Added]:
    counters = [_Counter(holder, name, value) for name, value in vars(holder).items() if _is_counter(value)]
    return [*counters, _Added(holder)]


def _is_counter(value: object) -> bool:
    if isinstance(value, np.ndarray):
        return value.ndim == 1 and value.dtype.kind in "iu" and value.flags.writeable
    if isinstance(value, torch.Tensor):
        return value.ndim == 1 and not value.is_floating_point() and not value.is_complex()
    return type(value) in (int, list)
