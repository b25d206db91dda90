"""The nearest of several names to one that does not exist, for error messages."""

import difflib
from collections.abc import Iterable


def suggestion(name: str, names: Iterable[str]) -> str:
    """End a phrase with the name that was probably meant, in brackets; empty where none is close.

    Example:
        >>> "no score 'membrship'" + suggestion("membrship", ["reconstruction", "membership"])
        "no score 'membrship' (did you mean 'membership'?)"
    """
    close = difflib.get_close_matches(name, list(names), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
