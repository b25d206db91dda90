"""What a project may bring to an audit: an object that reads its batches and calls its model, and a scorer."""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from mia_lightning.functional.batches import Batch


@runtime_checkable
class Adapter(Protocol):
    """Reads a project's batches and calls its model."""

    def unpack(self, batch: Any) -> Batch:
        """Split a batch of the project's loader into ids, input and target."""

    def predict(self, module: Callable[..., Any], input: Tensor) -> Tensor:
        """Call the model; return its prediction, (B, C, H, W) or (B, C, D, H, W)."""


class Scorer(Protocol):
    """Computes predictability errors."""

    def __call__(
        self, input: Tensor, target: Tensor, task: Any, *, num_classes: int | None, ignore_index: int
    ) -> Tensor:
        """Score a batch of pairs, (B,); of volumes with ``slices=``, where the setting limits them."""

    def fingerprint(self) -> str:
        """Identify settings and weights."""


class DescribingScorer(Scorer, Protocol):
    """Says, beside predictability errors, what its extractor makes of the inputs."""

    def with_features(
        self, input: Tensor, target: Tensor, task: Any, *, num_classes: int | None, ignore_index: int
    ) -> tuple[Tensor, Tensor]:
        """Score a batch of pairs as a call does, (B,), and describe the inputs, (B, 16)."""
