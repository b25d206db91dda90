"""Layout of the text about evidence: sections, numbers and names in at most 100 columns."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Sequence

from mia_lightning.evidence.comparison import Comparison

_WIDTH = 100


def section(title: str, paragraphs: Sequence[str], bullet: str = "") -> Iterable[str]:
    """Lines of a section: an empty one, the title, and the paragraphs, wrapped and indented."""
    yield from ("", title.upper())
    for text in paragraphs:
        yield textwrap.fill(text, _WIDTH, initial_indent="  " + bullet, subsequent_indent="  " + " " * len(bullet))


def printable(name: str) -> str:
    r"""Show a file's name in one line, whatever characters it has.

    Example:
        >>> printable("house 7"), printable("two" + chr(10) + "lines")
        ('house 7', "'two\\nlines'")
    """
    return name if name.isprintable() else ascii(name)


def number(value: float) -> str:
    """Two significant digits; a dash for NaN."""
    return "-" if math.isnan(value) else f"{value:.2g}"


def p_is(value: float) -> str:
    """A p-value as sentences quote it."""
    return f"p = {number(value)}"


def area(comparison: Comparison) -> str:
    """An area under the ROC with its interval; a dash where there is none."""
    if math.isnan(comparison.auc):
        return "-"
    return f"{comparison.auc:.3f} (95 % interval {comparison.auc_low:.3f} to {comparison.auc_high:.3f}; 0.5 is chance)"
