"""Text of users in Markdown: what they wrote is shown as they wrote it and does nothing."""

import re
from collections.abc import Iterable, Sequence

_NOTHING = "&#8203;"  # a space without width: the eye does not see it, GitHub's linking does


def as_markdown(text: str) -> str:
    r"""Escape what Markdown or HTML would read as more than text; line breaks become spaces.

    Example:
        >>> print(as_markdown("<b>_x_</b> & [y](z)"))
        &lt;b&gt;\_x\_&lt;/b&gt; &amp; \[y\]\(z\)
    """
    plain = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_{}\[\]()#+\-!|~])", r"\\\1", plain)


def for_pull_request(text: str) -> str:
    r"""Escape what GitHub would read as more: less than :func:`as_markdown` does, since such lines are read raw, too.

    Names, numbers and addresses become neither mentions nor links.

    Example:
        >>> print(for_pull_request("@someone #12 http://x [y](z) 0.5 (p-value 0.1)"))
        @&#8203;someone #&#8203;12 http:&#8203;//x \[y\](z) 0.5 (p-value 0.1)
    """
    plain = re.sub(r"^(?=([#+=-])\1*(\s|$))", r"\\", _inline(text))  # headings, lists, rules
    return re.sub(r"^(\d+)(?=[.)](\s|$))", r"\1\\", plain)


def table(head: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    r"""Write a table of a heading and rows, every cell escaped; ``left`` columns are set left, the others right.

    Example:
        >>> print(table(["id", "p"], [["a|b", "0.1"]]))
        | id | p |
        | :-- | --: |
        | a\|b | 0.1 |
    """
    cells = [[_inline(cell) for cell in row] for row in (head, *rows)]
    cells.insert(1, [":--"] * left + ["--:"] * (len(head) - left))
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


def _inline(text: str) -> str:
    """Escape what means something anywhere in a line."""
    plain = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    plain = re.sub(r"([\\`*_\[\]|~$])", r"\\\1", plain)
    return re.sub(r"(@|#(?=\d)|www(?=\.)|:(?=//))", rf"\1{_NOTHING}", plain, flags=re.IGNORECASE)
