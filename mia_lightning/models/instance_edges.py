"""Borders between the objects of an image, from a map of their numbers, as a further channel of the input."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from mia_lightning.audit.adapters import AutoAdapter
from mia_lightning.functional.batches import Batch
from mia_lightning.functional.descriptions import describe
from mia_lightning.functional.entries import Key, entry_at


def instance_edges(instance: Tensor) -> Tensor:
    """Mark pixels whose object differs from that of a pixel above, below, left or right (Wang et al., 2018, sec. 3.3).

    Args:
        instance: The number of each pixel's object, integers, (B, H, W) or (B, 1, H, W).

    Returns:
        Float, (B, 1, H, W), ones on borders and zeros elsewhere.

    Raises:
        ValueError: If it is neither.

    Example:
        >>> instance_edges(torch.tensor([[[1, 1, 1, 7, 7]]]))
        tensor([[[[0., 0., 1., 1., 0.]]]])
    """
    x = instance.squeeze(1) if instance.ndim == 4 and instance.shape[1] == 1 else instance
    if x.ndim != 3 or x.is_floating_point():
        raise ValueError(
            f"Expected instance maps of integers, (B, H, W) or (B, 1, H, W), the number of each pixel's object, but "
            f"got {describe(instance)}."
        )
    edges = torch.zeros_like(x, dtype=torch.bool)
    for dim in (1, 2):
        differs = x.diff(dim=dim) != 0
        length = differs.shape[dim]
        edges.narrow(dim, 0, length).logical_or_(differs)
        edges.narrow(dim, 1, length).logical_or_(differs)
    return edges.unsqueeze(1).float()


class EdgesAdapter(AutoAdapter):
    """Reads batches that have a map of objects, and appends its borders to the input as the last channel.

    Args:
        instance_key: Where a batch keeps the map: a key or a place in a tuple.
        input_key: As for :class:`~mia_lightning.functional.batches.BatchReader`.
        target_key: Likewise.

    Example:
        >>> batch = {"input": torch.zeros(2, 5, 8, 8), "target": torch.zeros(2, 3, 8, 8)}
        >>> batch["instance"] = torch.ones(2, 8, 8, dtype=torch.long)
        >>> EdgesAdapter("instance").unpack(batch).input.shape
        torch.Size([2, 6, 8, 8])
    """

    def __init__(self, instance_key: Key, *, input_key: Key | None = None, target_key: Key | None = None) -> None:
        super().__init__(input_key=input_key, target_key=target_key)
        self.instance_key = instance_key

    def unpack(self, batch: Any) -> Batch:
        """Take a batch apart; TypeError if it has none of the known forms, or no map of objects."""
        read = super().unpack(batch)
        return replace(read, input=self.with_edges(batch, read.input))

    def with_edges(self, batch: Any, input: Tensor) -> Tensor:
        """Append the borders that a batch holds to its inputs, (B, C, H, W): (B, C + 1, H, W).

        Raises:
            TypeError: If the batch has no map of objects.
            ValueError: If the map is none, or of another size.
        """
        try:
            instance = entry_at(batch, self.instance_key)
        except KeyError:
            instance = None
        if not isinstance(instance, Tensor):
            raise TypeError(
                f"instance_key={self.instance_key!r} finds no tensor in the batch, {describe(batch)}; expected the "
                "number of each pixel's object there, integers (B, H, W). The data modules of mia_lightning bring "
                "none: give samples of your own such an entry, or leave the edge map out (instance_key=None)."
            )
        edges = instance_edges(instance)
        if edges.shape[-2:] != input.shape[-2:] or len(edges) != len(input):
            raise ValueError(
                f"The instance map is {tuple(instance.shape)} but the input {tuple(input.shape)}; they must be of one "
                "size: apply the same crops and resizes to both (the map's to the nearest pixel)."
            )
        return torch.cat([input, edges.to(input)], 1)
