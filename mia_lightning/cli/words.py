"""Small helps with what was typed."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path

_CHECKPOINTS = (".ckpt", ".pt", ".pth", ".safetensors")


def guess(word: str, words: Iterable[str]) -> str:
    """Name the word that was probably meant, in brackets; empty where none is close."""
    close = difflib.get_close_matches(word, list(words), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def no_such_checkpoint(path: Path) -> str:
    """Say that a checkpoint does not exist, and name those beside it."""
    beside = sorted(path.parent.glob("*")) if path.parent.is_dir() else []
    near = [p for p in beside if p.suffix in _CHECKPOINTS and exported_kind(p) is None]
    hint = f"Checkpoints there: {', '.join(map(str, near[:5]))}." if near else "There is no checkpoint in that folder."
    return f"The checkpoint {path} does not exist. {hint}"


def exported_kind(path: Path) -> str | None:
    """Which kind of exported model a file is; None where it is none."""
    from mia_lightning.exported import kind_of

    try:
        return kind_of(path)
    except (OSError, ValueError):
        return None
