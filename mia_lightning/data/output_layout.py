"""How a model's stored outputs lie on disk; without anything heavy, since the command line shows it in its help."""

from __future__ import annotations  # OutputOptions repeats these annotations as they are written

from dataclasses import dataclass
from typing import Literal

OutputKind = Literal["images", "probabilities", "logits", "labels"]


@dataclass(frozen=True)
class OutputFiles:
    """How a model's outputs lie on disk, beside the inputs and targets that they belong to.

    Args:
        inputs_dir: Name of the folder of inputs.
        targets_dir: Name of the folder of targets.
        outputs_dir: Name of the folder of outputs.
        kind: What a segmenter's outputs are, where their values do not tell: the same as the setting ``output``.
        foreground: Mask value of the foreground where there is one class, or two, such as 255.
    """

    inputs_dir: str = "inputs"
    targets_dir: str = "targets"
    outputs_dir: str = "outputs"
    kind: OutputKind | None = None
    foreground: int | None = None
