"""How a model's stored outputs lie on disk; without anything heavy, since the command line shows it in its help."""

from __future__ import annotations  # OutputOptions repeats these annotations as they are written

from dataclasses import dataclass
from typing import Literal

from mia_lightning.data.exif_rule import Exif

OutputKind = Literal["images", "probabilities", "logits", "labels"]


@dataclass(frozen=True)
class OutputFiles:
    """How a model's outputs lie on disk, beside the inputs and targets that they belong to.

    Args:
        inputs_dir: Name of the folder of inputs.
        targets_dir: Name of the folder of targets.
        outputs_dir: Name of the folder of outputs.
        kind: What a segmenter's outputs are, where their values do not tell: the same as the setting ``output``.
        foreground: Mask value of the foreground, such as 255, which becomes class 1.
        white: Value that is white in images of more than 8 bits, such as 4095 for data of 12 bits.
        exif: pair: EXIF turns of files that belong together are applied, or refused where they contradict each other;
            apply: each file is turned by its own tag; ignore: pixels are read as they are stored.
    """

    inputs_dir: str = "inputs"
    targets_dir: str = "targets"
    outputs_dir: str = "outputs"
    kind: OutputKind | None = None
    foreground: int | None = None
    white: float | None = None
    exif: Exif = "pair"
