"""An adapter for outputs that are stored already: the model itself is not needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from mia_lightning.audit.adapters import AutoAdapter, Sample
from mia_lightning.functional.descriptions import describe


class StoredOutputs(AutoAdapter):
    """Reads batches that bring the model's outputs along, as dicts with ``input``, ``target`` and ``output``.

    The stored outputs answer for the inputs of the batch and no others: scores that ask about flipped or shifted copies
    (``neighbour``, ``combined``) need the model.

    Args:
        key: Where a batch keeps the outputs: images (B, C, H, W) like the targets, or logits (B, classes, H, W).

    Example:
        >>> batch = {"input": torch.zeros(2, 3, 4, 4), "target": torch.zeros(2, 3, 4, 4), "id": ["a", "b"]}
        >>> adapter = StoredOutputs()
        >>> sample = adapter.unpack(batch | {"output": torch.ones(2, 3, 4, 4)})
        >>> float(adapter.predict(no_model, sample.input).mean())
        1.0
    """

    def __init__(self, key: str = "output") -> None:
        super().__init__()
        self.key = key
        self._held: tuple[Tensor, Tensor] | None = None

    def unpack(self, batch: Any) -> Sample:
        """Split a batch, and keep its outputs at hand.

        Raises:
            TypeError: If the batch has no outputs, or none of the known forms.
        """
        sample = super().unpack(batch)
        output = batch.get(self.key) if isinstance(batch, Mapping) else None
        if not isinstance(output, Tensor):
            raise TypeError(f"The batch is {describe(batch)}; expected a dict with the outputs under {self.key!r}.")
        self._held = (sample.input, output)
        return sample

    def predict(self, module: Callable[..., Any], input: Tensor) -> Tensor:
        """Return the outputs that came with the batch.

        Args:
            module: Not called; :func:`no_model` will do.
            input: The inputs of the batch unpacked last.

        Raises:
            ValueError: If asked about anything else.
        """
        del module
        if self._held is not None:
            known, output = self._held
            if known is input or (known.shape == input.shape and torch.equal(known.to(input), input)):
                return output.to(input.device)
        raise ValueError(
            "Stored outputs answer for their own inputs only. Scores that ask about flipped or shifted copies "
            "(neighbour, combined) need the model: choose reconstruction, membership or calibrated."
        )


def no_model(input: Tensor) -> Tensor:
    """Stand in for a model where outputs are stored.

    Raises:
        ValueError: Always: there is nothing to call.
    """
    del input
    raise ValueError("There is no model to call: outputs are stored. Pass adapter=StoredOutputs() to the Auditor.")
