"""Writes reports and comparisons as files."""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, get_args

from mia_lightning.report.compare import Comparison
from mia_lightning.report.comparison_page import comparison_html, comparison_markdown
from mia_lightning.report.html_page import html
from mia_lightning.report.impact_assessment import impact_assessment
from mia_lightning.report.markdown_page import markdown, model_card
from mia_lightning.report.metrics_table import metrics_table
from mia_lightning.report.run import Run, run_of
from mia_lightning.result.atomic_files import write_atomically
from mia_lightning.result.audit_result import AuditResult
from mia_lightning.result.history import stem

Format = Literal["html", "markdown", "model-card", "csv", "dpia"]
FORMATS: tuple[Format, ...] = get_args(Format)
USUAL: tuple[Format, ...] = ("html", "markdown")

_WRITERS: dict[Format, tuple[str, Callable[[Run], str]]] = {
    "html": ("report.html", html),
    "markdown": ("report.md", markdown),
    "model-card": ("model-card.md", model_card),
    "csv": ("metrics.csv", lambda run: metrics_table(run.history)),
    "dpia": ("dpia.html", impact_assessment),
}


def write_report(run: Run, folder: str | Path | None = None, formats: Sequence[Format] = USUAL) -> list[Path]:
    """Write reports on a run.

    Args:
        run: The run.
        folder: Where to write; the folder of its audits by default. Missing folders are made.
        formats: Which: ``html`` (report.html), ``markdown`` (report.md), ``model-card`` (model-card.md), ``csv``
            (metrics.csv, one row an audit) and ``dpia`` (dpia.html, the risk section of a data-protection impact
            assessment).

    Returns:
        Paths written, in the order of the formats; files are replaced in one step. Audits of another prefix than
        ``audit`` get it in front of the names, so that reports side by side can share a folder.

    Raises:
        ValueError: If a format is unknown or none is named.
    """
    if not formats or set(formats) - set(FORMATS):
        raise ValueError(f"Expected some of the formats {', '.join(FORMATS)}, but got {', '.join(formats) or 'none'}.")
    place = run.folder if folder is None else Path(folder)
    before = "" if run.result.prefix == "audit" else f"{stem(run.result.prefix)}-"
    chosen = [_WRITERS[name] for name in dict.fromkeys(formats)]
    return [write_atomically(place / f"{before}{name}", write(run)) for name, write in chosen]


def write_report_or_warn(history: Sequence[AuditResult], folder: str | Path) -> list[Path]:
    """Write a report on audits, in order, where their files are; whatever goes wrong, the finished work stands.

    Returns:
        Paths written; none without an audit, or where it failed, which a warning says.
    """
    if not history:
        return []
    try:
        return write_report(run_of(history, folder))
    except Exception as error:
        warnings.warn(
            f"The report could not be written ({type(error).__name__}: {error}); the audit is complete in {folder}. "
            f"To try again: mia-lightning report {folder}",
            stacklevel=2,
        )
        return []


def write_comparison(comparison: Comparison, folder: str | Path | None = None) -> list[Path]:
    """Write ``comparison.html`` and ``comparison.md``, by default into the folder of the first run's audits."""
    place = comparison.runs[0].folder if folder is None else Path(folder)
    pages = {"comparison.html": comparison_html(comparison), "comparison.md": comparison_markdown(comparison)}
    return [write_atomically(place / name, text) for name, text in pages.items()]
