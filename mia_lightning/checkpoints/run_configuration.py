"""The configuration that a run keeps, beside its checkpoints; without anything heavy, since every command reads it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml


def read_config(path: str | Path) -> Mapping[str, Any]:
    """Content of a configuration; empty where it cannot be read, which the parser that follows says better."""
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return content if isinstance(content, Mapping) else {}


def seed_of_training(ckpt_path: str | Path | None, configs: Sequence[Mapping[str, Any]]) -> int | None:
    """Seed of the training that wrote a checkpoint: in the configuration kept beside it, else in the last that has one.

    The command line keeps ``RUN/config.yaml`` beside ``RUN/checkpoints/last.ckpt``.
    """
    beside = None if ckpt_path is None else Path(ckpt_path).absolute().parent.parent / "config.yaml"
    for config in ([] if beside is None else [read_config(beside)]) + list(configs)[::-1]:
        seed = config.get("seed_everything")
        if isinstance(seed, int) and not isinstance(seed, bool):
            return seed
    return None
