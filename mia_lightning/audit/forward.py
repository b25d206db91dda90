"""Calling the audited model: on its device, in its context, with a message that says what it got where it fails."""

import itertools
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from mia_lightning.audit.adapters import AutoAdapter, OutputError, write_one
from mia_lightning.audit.isolation import uncompiled
from mia_lightning.audit.loading import Prepare, as_loaded
from mia_lightning.audit.machine_failures import MACHINE_FAILURES
from mia_lightning.audit.protocols import Adapter
from mia_lightning.functional.batches import STORED_OUTPUT_KEY, Batch
from mia_lightning.functional.descriptions import describe
from mia_lightning.functional.last_operation import Operation, watched
from mia_lightning.functional.volumes import is_volume

Module = Callable[..., Any]

_WITHOUT_STATISTICS = "Expected more than 1 "  # value per channel, spatial element: torch's words for norms
_OF_THE_CALL = (AssertionError, AttributeError, IndexError, KeyError, RuntimeError, TypeError)


@dataclass(frozen=True)
class Runtime:
    """What a trainer adds to an audit; the defaults do without one.

    Attributes:
        device: Where the model gets its inputs and errors, predictability included, are computed. None: where the
            model's weights are; the CPU for a callable that has none.
        prepare: Applied to each batch, as loaded, before it is read: a trainer's batch-transfer hooks.
        forward_context: Gives the context of each forward pass, for example a trainer's precision.
    """

    device: torch.device | str | None = None
    prepare: Prepare = as_loaded
    forward_context: Callable[[], AbstractContextManager[Any]] = nullcontext


class AuditedModel:
    """The audited model as an audit calls it, or the outputs that it left, where ``module`` is None."""

    def __init__(self, module: Module | None, adapter: Adapter, runtime: Runtime) -> None:
        self.module, self.adapter, self.runtime = module, adapter, runtime
        self.device = _device_of(module, runtime.device)
        self.passes = 0  # forward passes since this was last set
        self.failed_copies: dict[str, str] = {}  # why there is no prediction of copies that may lack one, by neighbour

    def begin(self, batch: Batch) -> None:
        """Let the automatic adapter decide anew, on the next call, how the model is called and what of it is taken."""
        if isinstance(self.adapter, AutoAdapter):
            self.adapter.begin(batch.target)

    @property
    def decisions(self) -> Mapping[str, str]:
        """What it decided then, in words, by subject."""
        return self.adapter.decisions if isinstance(self.adapter, AutoAdapter) else {}

    def input_of(self, input: Tensor) -> Tensor:
        """Bring an input to the device and, unless it holds integers, to the precision of the model's weights."""
        parameters = self.module.parameters() if isinstance(self.module, nn.Module) else ()
        weights = next((p for p in parameters if p.is_floating_point()), input)
        return input.to(self.device, weights.dtype if input.is_floating_point() else input.dtype)

    def output_of(self, batch: Batch) -> Tensor:
        """The prediction for a batch, (B, ...), on the device: computed, or stored where there is no model.

        Raises:
            ValueError: As :meth:`predict`, or if there is neither a model nor a stored output.
        """
        if self.module is not None:
            return self.predict(self.input_of(batch.input))
        # A user's adapter may return an object of its own, with no more than id, input and target.
        output = getattr(batch, "stored_output", None)
        if output is None:
            raise ValueError(
                f"There is no model to call, and the batch brings no stored outputs. Pass the model, or batches that "
                f"keep its outputs under {STORED_OUTPUT_KEY!r}."
            )
        return cast(Tensor, output).to(self.device)

    def watched_output_of(self, batch: Batch, *, watch: bool = True) -> tuple[Tensor, Operation | None]:
        """As :meth:`output_of`, and the operation that made the prediction, where it can be watched.

        Of a compiled model a second forward pass, of one sample, is watched: its numbers are those of the kernels that
        it was compiled to, and these cannot be seen into.
        """
        if self.module is None or not watch:
            return self.output_of(batch), None
        compiled = is_compiled(self.module)
        prediction = self.output_of(batch) if compiled else None
        try:
            with uncompiled() if compiled else nullcontext():
                input = self.input_of(batch.input[:1] if compiled else batch.input)
                seen, operation = watched(lambda: self.predict(input))
        except MACHINE_FAILURES:
            raise
        except Exception:
            return (self.output_of(batch) if prediction is None else prediction), None
        return (seen if prediction is None else prediction), operation(seen)

    def predict(self, input: Tensor) -> Tensor:
        """Call the model, with a copy of the input: it may write into it, keep it, or return a view of it.

        Args:
            input: Its input, (B, ...), as :meth:`input_of` returns it.

        Returns:
            The prediction, on the device; a copy, for a model may answer twice in the same memory.

        Raises:
            ValueError: If the forward pass fails, as it does on pictures with another number of channels than the model
                takes, or where it takes a whole batch; says which lines help. Failures of the machine, such as too
                little memory, pass as they are.
        """
        assert self.module is not None
        self.passes += 1
        with self.runtime.forward_context():
            answer = self._called(self.module, input.clone())
            return answer.to(self.device, copy=True)

    def _called(self, module: Module, input: Tensor) -> Tensor:
        try:
            return self.adapter.predict(module, input)
        except OutputError:
            raise
        except _OF_THE_CALL as error:
            if isinstance(error, MACHINE_FAILURES):
                raise
            raise _failure_like(error)(
                f"The model failed on a batch of the audit, {describe(input)} ({type(error).__name__}: {error}). It "
                f"was called with this tensor alone. {_advice(error, input)} "
                + write_one("predict(self, module, input)", "module(input)  # called as the project calls it")
            ) from error
        except ValueError as error:
            if not str(error).startswith(_WITHOUT_STATISTICS):
                raise
            raise _CallError(
                f"The model failed on a batch of the audit, {describe(input)} (ValueError: {error}). One of its norms "
                "takes statistics of the batch at evaluation as well, and one value has none. Expected answers that do "
                "not depend on the other samples of a batch: give batch norms running statistics "
                "(track_running_stats=True), and instance norms maps larger than one pixel. "
                + write_one(
                    "predict(self, module, input)",
                    "module(torch.cat([input, input]))[: len(input)]  # each sample twice, which changes no statistics",
                )
            ) from error


class _CallError(ValueError):
    """A model failed when it was called as an audit calls it."""

    __str__ = Exception.__str__  # KeyError would put the message into quotes


def _failure_like(error: Exception) -> type[ValueError]:
    """The error to raise instead of one: a ValueError, and of its kind too, for whoever catches that."""
    kinds = (AttributeError, IndexError, KeyError, TypeError)
    kind = next((kind for kind in kinds if isinstance(error, kind)), None)
    return _CallError if kind is None else type("CallError", (_CallError, kind), {})


def _advice(error: Exception, input: Tensor) -> str:
    if isinstance(error, (RuntimeError, AssertionError)):
        windows = " A network for patches answers volumes with adapter=MonaiSlidingWindow(roi_size)."
        return (
            "Expected members and nonmembers that it can be called with as they come: check their number of channels "
            "and their size, and give them the evaluation transforms of the project's own validation data."
            + (windows if is_volume(input) else "")
        )
    return (
        "Expected a model that takes the inputs alone: where its forward takes a whole batch, or more than the inputs, "
        "an adapter calls it so, for example module({'image': input})."
    )


def is_compiled(module: Module) -> bool:
    """Whether a model, or a part of it, is compiled by :func:`torch.compile`."""
    parts = module.modules() if isinstance(module, nn.Module) else (module,)
    return any(
        type(part).__name__ == "OptimizedModule"
        or getattr(part, "_compiled_call_impl", None) is not None
        or hasattr(part, "_torchdynamo_orig_callable")
        or hasattr(getattr(part, "forward", None), "_torchdynamo_orig_callable")
        for part in parts
    )


def _device_of(module: Module | None, device: torch.device | str | None) -> torch.device:
    if device is not None:
        return torch.device(device)
    if isinstance(module, nn.Module):
        first = next(itertools.chain(module.parameters(), module.buffers()), None)
        if first is not None:
            return first.device
    return torch.device("cpu")
