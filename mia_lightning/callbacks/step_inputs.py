"""What a validation step does before the network is called, and an audit does not see: normalising, resizing, noise."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from mia_lightning.audit.adapters import AutoAdapter, write_one
from mia_lightning.audit.distributed import forward_is_collective
from mia_lightning.audit.forward import AuditedModel, Runtime, is_compiled
from mia_lightning.audit.isolation import isolated

if TYPE_CHECKING:
    import lightning.pytorch as pl

_CALLS = 8  # of one network in a step that are remembered
_TOLERANCE = 0.05  # of the spread of the values; other precision rounds less

Inputs = dict[str, list[Tensor]]


class StepInputs:
    """Compares, on the first batch that is validated, what a step and an audit give to the networks of a module.

    Only where the audit calls the module itself: whoever writes an adapter has thought of it. One sample is run once.

    Attributes:
        note: What differs, and the adapter to write; empty where nothing does, or nothing was found out.
    """

    def __init__(self, adapter: object) -> None:
        self.adapter, self.note = adapter, ""
        self._watches = type(adapter) is AutoAdapter
        self._of_step: Inputs = {}
        self._input: Tensor | None = None
        self._recording: Any = None

    def begin(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any) -> None:
        """Watch the step of a batch, if it is the first."""
        watches, self._watches = self._watches, False
        # Hooks would have compiled networks compiled anew, and sharded weights come together on all processes.
        if not watches or not trainer.is_global_zero or is_compiled(pl_module) or forward_is_collective(pl_module):
            return
        try:
            with isolated(None):
                self._input = self.adapter.unpack(batch).input[:1].clone()  # type: ignore[attr-defined]  # an AutoAdapter
        except Exception:
            return  # a validation of other data than the audit's
        self._of_step = {}
        self._recording = _recorded(pl_module, self._of_step)
        self._recording.__enter__()

    def end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, runtime: Runtime) -> None:
        """Compare, when the step that was watched is over; warn where it differs."""
        if self._recording is None:
            return
        self._recording.__exit__(None, None, None)
        self._recording, of_audit = None, Inputs()
        model = AuditedModel(pl_module, self.adapter, runtime)  # type: ignore[arg-type]  # an AutoAdapter
        try:
            with isolated(pl_module), _recorded(pl_module, of_audit):
                model.predict(model.input_of(self._input))  # type: ignore[arg-type]  # set before the recording
        except Exception:
            return  # the check before the training says so
        self.note = _difference(self._of_step, of_audit)
        if self.note:
            warnings.warn(self.note, stacklevel=2)


@contextmanager
def _recorded(module: nn.Module, inputs: Inputs) -> Iterator[None]:
    """Record the first sample of what a module and its children are called with, by name; ``""`` is the module."""

    def note(name: str) -> Any:
        def hook(_: nn.Module, values: tuple[Any, ...]) -> None:
            calls = inputs.setdefault(name, [])
            if values and isinstance(values[0], Tensor) and values[0].ndim > 2 and len(calls) < _CALLS:
                calls.append(values[0][:1].detach().clone())

        return hook

    handles = [part.register_forward_pre_hook(note(name)) for name, part in [("", module), *module.named_children()]]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _difference(of_step: Inputs, of_audit: Inputs) -> str:
    """Say how the outermost network that both called was called differently; empty where it was not."""
    name = next((name for name, calls in of_audit.items() if calls and of_step.get(name)), None)
    if name is None or any(_alike(call, of_audit[name][0]) for call in of_step[name]):
        return ""
    network = f"the network {name!r}" if name else "the module"
    return (
        f"The validation step calls {network} with {_described(of_step[name][0])}, and an audit with "
        f"{_described(of_audit[name][0])}, as the data set has it: what a step does before forward, such as "
        "normalising or resizing, an audit does not see, so that its errors are not those of the project's validation. "
        + write_one("predict(self, module, input)", "module(prepare(input))  # prepare: what the step does before it")
    )


def _alike(first: Tensor, second: Tensor) -> bool:
    if first.shape != second.shape:
        return False
    first, second = first.double(), second.double()
    spread = float((first.max() - first.min()).clamp_min(1e-12))
    return not bool(((first - second).abs() > _TOLERANCE * spread).any())


def _described(values: Tensor) -> str:
    low, high = (float(v) for v in torch.aminmax(values.double()))
    return f"{' x '.join(map(str, values.shape[1:]))} values in [{low:.3g}, {high:.3g}]"
