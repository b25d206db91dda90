"""What ``mia-lightning evidence`` is to weigh: its own options, with the model and with outputs alone."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Request:
    """What is to be weighed.

    Args:
        suspects: Folder of the images in question.
        reference: Folder of images like them that cannot have been trained on.
        suspect_ids: With a model: text file with one id a line, instead of a folder.
        reference_ids: With a model: likewise.
        primary: The score to judge by; by default combined with a model, and membership with outputs alone.
        level: P-value at or below which the claim counts as supported.
        output_dir: Folder for evidence.json and evidence.txt.
    """

    suspects: str | None = None
    reference: str | None = None
    suspect_ids: str | None = None
    reference_ids: str | None = None
    primary: str | None = None
    level: float = 0.01
    output_dir: str = "evidence"
