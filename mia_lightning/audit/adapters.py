"""The automatic adapter: reads batches and model outputs of the usual forms."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from mia_lightning.audit.config import AuditConfig
from mia_lightning.audit.machine_failures import MACHINE_FAILURES
from mia_lightning.audit.protocols import Adapter
from mia_lightning.functional.batches import TARGET_KEYS, Batch, BatchReader
from mia_lightning.functional.descriptions import describe
from mia_lightning.functional.entries import Key, entry_at, tensors_in, way_to
from mia_lightning.functional.predictions import OUTPUT_KEYS, as_tensor, pick_prediction

_TARGETS = frozenset({*TARGET_KEYS, "masks", "targets", "y", "y_true", "gt", "ground_truth"})
_FAILURES = (AssertionError, AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError)

Sample = Batch
"""The former name of a batch, which adapters of users return."""


class OutputError(TypeError):
    """What a model returned holds no prediction, or several."""


@dataclass
class _Habits:
    """How a model is called and what is taken of its outputs, decided on the first call of an audit.

    Attributes:
        size: Height and width of the targets.
        channel: Whether pictures (B, H, W) get a dimension of channels; None: not decided yet.
        key: Where the prediction is; None: not decided yet.
        reason: Why there; empty where there was no choice.
        absent: Arguments of the model that stand for targets: it is called with None for them. None: not decided yet.
    """

    size: tuple[int, ...] | None = None
    channel: bool | None = None
    key: Key | None = None
    reason: str = ""
    absent: tuple[str, ...] | None = None


class AutoAdapter:
    """Reads batches as :class:`~mia_lightning.functional.batches.BatchReader` does, and picks a model's prediction.

    The model is called with the inputs as the batch has them. Pictures without a dimension of channels, (B, H, W), get
    one where the model does not take them as they are. Arguments that a model wants beside the inputs and that have
    names of targets, such as ``labels``, are None. Of several outputs,
    :func:`~mia_lightning.functional.predictions.pick_prediction` says which one is the prediction.

    Args:
        output_key: Where a model that returns a dict, a tuple or an object keeps its prediction, with dots through
            nested ones; None takes the only one that it could be.
        input_key: As for :class:`~mia_lightning.functional.batches.BatchReader`, and so the other keys.
        target_key: Likewise.
        id_key: Likewise.
        group_key: Likewise.

    Example:
        >>> import torch
        >>> batch = {"image": torch.zeros(2, 3, 4, 4), "mask": torch.zeros(2, 4, 4), "id": ["a", "b"]}
        >>> parts = AutoAdapter().unpack(batch)
        >>> parts.id, parts.target.shape
        (['a', 'b'], torch.Size([2, 4, 4]))
    """

    _habits = _Habits()

    def __init__(
        self,
        output_key: Key | None = None,
        *,
        input_key: Key | None = None,
        target_key: Key | None = None,
        id_key: Key | None = None,
        group_key: Key | None = None,
    ) -> None:
        self.output_key = output_key
        self.reader = BatchReader(input_key, target_key, id_key, group_key)

    def unpack(self, batch: Any) -> Batch:
        """Take a batch apart; TypeError, with an adapter for it in the message, if it has none of the known forms."""
        try:
            return self.reader(batch)
        except TypeError as error:
            raise TypeError(f"{error} {_write_unpack(batch)}") from None

    def begin(self, target: Tensor) -> None:
        """Decide anew, on the next call of a model, how it is called and what of its outputs is taken.

        Args:
            target: Targets of the audit, (B, ..., H, W).
        """
        self._habits = _Habits(tuple(target.shape[1:]))

    @property
    def decisions(self) -> Mapping[str, str]:
        """What was decided since :meth:`begin`, in words, by subject; nothing where there was no choice."""
        habits = self._habits
        absent = " and ".join(f"{name}=None" for name in habits.absent or ())
        decisions = {
            "call": f"forward of the inputs and {absent}" if absent else "",
            "shape": "pictures (B, H, W), to which the model gets a channel added, (B, 1, H, W)"
            if habits.channel
            else "pictures (B, H, W), which the model gets as they are"
            if habits.channel is not None
            else "",
            "prediction": habits.reason,
        }
        return {subject: decision for subject, decision in decisions.items() if decision}

    def predict(self, module: Callable[..., Any], input: Tensor) -> Tensor:
        """Call the model and pick its prediction.

        Raises:
            TypeError: If the output holds no prediction, or several and ``output_key`` does not say which, or if there
                is an ``output_key`` and the output is a tensor.
        """
        habits = self._habits if self._habits.size is not None else _Habits()
        if habits.absent is None:
            habits.absent = _absent(module)
        channel = habits.channel
        if channel is None and input.ndim == 3 and input.is_floating_point():
            channel = habits.channel = self._wants_channel(module, input, habits)
        output = _call(module, input.unsqueeze(1) if channel else input, habits)
        return self._picked(as_tensor(output), input, habits)

    def _wants_channel(self, module: Callable[..., Any], input: Tensor, habits: _Habits) -> bool:
        """Whether a model takes pictures (B, H, W) with a dimension of channels only, by calling it with two of them.

        A batch of one may pass for a picture with one channel, as convolutions take it.
        """
        pair = input[:1].expand(2, -1, -1)

        def answers(trial: Tensor) -> bool:
            try:
                return len(self._picked(as_tensor(_call(module, trial, habits)), trial, _Habits(habits.size))) == 2
            except MACHINE_FAILURES:
                raise
            except _FAILURES:
                return False

        return not answers(pair.clone()) and answers(pair.unsqueeze(1).clone())

    def _picked(self, output: Any, input: Tensor, habits: _Habits) -> Tensor:
        if isinstance(output, Tensor):
            if self.output_key is None:
                return output
            raise OutputError(
                f"The model returns {describe(output)}, in which there is nothing to look up, but "
                f"output_key={self.output_key!r} was given; leave it out."
            )
        key = habits.key if self.output_key is None else self.output_key
        if key is not None:
            try:
                found = as_tensor(entry_at(output, key))
            except KeyError:
                found = None
            if isinstance(found, Tensor):
                return found
            raise OutputError(f"output_key={key!r} finds no tensor in the model's output, {describe(output)}.")
        picked = pick_prediction(output, habits.size)
        if picked is None:
            raise OutputError(_unclear(output, input, habits.size))
        if habits.size is not None:
            habits.key, habits.reason = picked.key, picked.reason
        return picked.prediction


def _absent(module: Callable[..., Any]) -> tuple[str, ...]:
    """Arguments that a model needs beside its input, if all of them have names of targets."""
    try:
        forward = module.forward if isinstance(module, nn.Module) else module
        parameters = list(inspect.signature(forward).parameters.values())[1:]
    except (AttributeError, TypeError, ValueError):
        return ()
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD, inspect.Parameter.POSITIONAL_ONLY)
    needed = [p.name for p in parameters if p.default is p.empty and p.kind not in variadic]
    return tuple(needed) if all(name in _TARGETS for name in needed) else ()


def _call(module: Callable[..., Any], input: Tensor, habits: _Habits) -> Any:
    return module(input, **dict.fromkeys(habits.absent)) if habits.absent else module(input)


def _unclear(output: Any, input: Tensor, size: tuple[int, ...] | None) -> str:
    """Ask which of a model's outputs is its prediction, and propose one of the target's size."""
    found = [key for key, tensor in tensors_in(output) if tensor.ndim >= 3] or [key for key, _ in tensors_in(output)]
    usual = [key for key in found if str(key).rsplit(".", 1)[-1] in OUTPUT_KEYS]
    full = [key for key, t in tensors_in(output) if size and t.ndim > 2 and tuple(t.shape[2:]) == size[2 - t.ndim :]]
    key = next(iter([*(key for key in usual if key in full), *full, *usual, *found]), 0)
    named_one = f"name the prediction with output_key, for example output_key={key!r}. " if found else ""
    way = way_to(output, key, "module(input)") if found else "module(input)[0]"
    return (
        f"The model turned {describe(input)} into {describe(output)}; expected one tensor: {named_one}"
        f"{write_one('predict(self, module, input)', way)}"
    )


def write_one(method: str, returned: str) -> str:
    """The lines that a project writes where the automatic adapter cannot decide.

    Example:
        >>> print(write_one("predict(self, module, input)", "module(input)[0]"))
        Or write an adapter and pass adapter=Mine() (AutoAdapter and Batch are in mia_lightning):
        <BLANKLINE>
            class Mine(AutoAdapter):
                def predict(self, module, input):
                    return module(input)[0]
    """
    return (
        "Or write an adapter and pass adapter=Mine() (AutoAdapter and Batch are in mia_lightning):\n\n"
        f"    class Mine(AutoAdapter):\n        def {method}:\n            return {returned}"
    )


def _write_unpack(batch: Any) -> str:
    """An adapter for this batch, with a guess which of its parts are input and target."""
    named = dict(tensors_in(batch))
    large = [k for k, v in named.items() if v.ndim > 2]
    large.sort(key=lambda k: not (named[k].ndim == 4 and named[k].is_floating_point()))  # images before label maps
    first, second = ([way_to(batch, k, "batch") for k in large] + ["the_input", "the_target"][len(large) :])[:2]
    return write_one("unpack(self, batch)", f"Batch(None, {first}, {second})")


def get_adapter(config: AuditConfig) -> Adapter:
    """Make or take the adapter that the settings name; TypeError if the object lacks a method."""
    if config.adapter is None or config.adapter == "auto":
        return AutoAdapter(
            config.output_key,
            input_key=config.input_key,
            target_key=config.target_key,
            id_key=config.id_key,
            group_key=config.group_key,
        )
    if isinstance(config.adapter, Adapter):
        return config.adapter
    raise TypeError(f"Expected adapter 'auto' or an object with unpack and predict, but got {config.adapter!r}.")
