"""The nearest of several names to one that does not exist, for error messages."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def suggestion(name: str, names: Iterable[str]) -> str:
    """Name the one that was probably meant, in brackets.

    Args:
        name: What was typed.
        names: What there is.

    Returns:
        The end of a phrase; empty where no name is close.

    Example:
        >>> "no score 'membrship'" + suggestion("membrship", ["reconstruction", "membership"])
        "no score 'membrship' (did you mean 'membership'?)"
    """
    close = difflib.get_close_matches(name, list(names), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
