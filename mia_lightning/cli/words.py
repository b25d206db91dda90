"""Small helps with what was typed."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def guess(word: str, words: Iterable[str]) -> str:
    """Name the word that was probably meant, in brackets; empty where none is close."""
    close = difflib.get_close_matches(word, list(words), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
