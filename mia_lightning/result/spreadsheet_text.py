"""Names in tables that spreadsheets open: none is run as a formula there, and our readers find the same names again."""

import re
from collections.abc import Collection

# What spreadsheets take for the start of a formula, full-width forms (U+FF0B and so on) included, or skip before one.
_FORMULA = re.compile("'* *[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")


def spreadsheet_text(name: str) -> str:
    """Write a name so that no spreadsheet runs it: an apostrophe comes before what looks like a formula.

    Names that begin with an apostrophe and look like this already get one more, so that :func:`text_of_spreadsheet`
    finds every name again.

    Example:
        >>> [spreadsheet_text(name) for name in ("=1+1", "'=1+1", "s01", "'s")]
        ["'=1+1", "''=1+1", 's01', "'s"]
    """
    return f"'{name}" if _FORMULA.match(name) else name


def text_of_spreadsheet(text: str) -> str:
    """The name that :func:`spreadsheet_text` wrote.

    Example:
        >>> [text_of_spreadsheet(text) for text in ("'=1+1", "''=1+1", "s01", "'s", "=1+1")]
        ['=1+1', "'=1+1", 's01', "'s", '=1+1']
    """
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text


def name_among(text: str, names: Collection[str]) -> str:
    """The one of `names` that a cell means: as :func:`spreadsheet_text` wrote it, or as it stands; else the cell."""
    plain = text_of_spreadsheet(text)
    return plain if plain in names else text
