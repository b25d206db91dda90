"""The automatic adapter: reads batches and model outputs of the usual forms."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mia_lightning.audit.config import AuditConfig
from mia_lightning.audit.protocols import Adapter
from mia_lightning.functional.batches import Batch, BatchReader, Key
from mia_lightning.functional.descriptions import describe, is_sequence

OUTPUT_KEYS = ("out", "output", "logits", "prediction", "pred")

Sample = Batch
"""The former name of a batch, which adapters of users return."""


class AutoAdapter:
    """Reads batches as :class:`~mia_lightning.functional.batches.BatchReader` does, and picks a model's prediction.

    Args:
        output_key: Where a model that returns a dict or a tuple keeps its prediction; None takes the only tensor there
            is, or the one under ``out``, ``output``, ``logits``, ``prediction`` or ``pred``.
        input_key: As for :class:`~mia_lightning.functional.batches.BatchReader`, and so the other keys.
        target_key: Likewise.
        id_key: Likewise.
        group_key: Likewise.

    Example:
        >>> batch = {"image": torch.zeros(2, 3, 4, 4), "mask": torch.zeros(2, 4, 4), "id": ["a", "b"]}
        >>> parts = AutoAdapter().unpack(batch)
        >>> parts.id, parts.target.shape
        (['a', 'b'], torch.Size([2, 4, 4]))
    """

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

    def predict(self, module: Callable[..., Any], input: Tensor) -> Tensor:
        """Call the model and pick its prediction.

        Raises:
            TypeError: If the output holds no prediction, or several and ``output_key`` does not say which, or if there
                is an ``output_key`` and the output is a tensor.
        """
        output = _as_tensor(module(input))
        if isinstance(output, Tensor):
            if self.output_key is None:
                return output
            raise TypeError(
                f"The model returns {describe(output)}, in which there is nothing to look up, but "
                f"output_key={self.output_key!r} was given; leave it out."
            )
        if self.output_key is not None:
            try:
                picked = _as_tensor(output[self.output_key])
            except (KeyError, IndexError, TypeError):
                picked = None
            if isinstance(picked, Tensor):
                return picked
            raise TypeError(
                f"output_key={self.output_key!r} finds no tensor in the model's output, {describe(output)}."
            )
        named = output if isinstance(output, Mapping) else dict(enumerate(output)) if is_sequence(output) else {}
        tensors = {k: v for k, v in ((k, _as_tensor(v)) for k, v in named.items()) if isinstance(v, Tensor)}
        usual = [k for k in OUTPUT_KEYS if k in tensors]
        if len(tensors) == 1 or len(usual) == 1:
            return tensors[usual[0]] if usual else next(iter(tensors.values()))
        key = next(iter(tensors), 0)
        named_one = f"name the prediction with output_key, for example output_key={key!r}. " if tensors else ""
        raise TypeError(
            f"The model turned {describe(input)} into {describe(output)}; expected one tensor: {named_one}"
            f"{write_one('predict(self, module, input)', f'module(input)[{key!r}]')}"
        )


def _as_tensor(value: Any) -> Any:
    """NumPy arrays as tensors, all else as it is."""
    return torch.from_numpy(value) if isinstance(value, np.ndarray) else value


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
    named = dict(batch) if isinstance(batch, Mapping) else dict(enumerate(batch)) if is_sequence(batch) else {}
    large = [k for k, v in named.items() if isinstance(v, Tensor) and v.ndim > 2]
    large.sort(key=lambda k: not (named[k].ndim == 4 and named[k].is_floating_point()))  # images before label maps
    first, second = ([f"batch[{k!r}]" for k in large] + ["the_input", "the_target"][len(large) :])[:2]
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
