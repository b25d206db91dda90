"""What all commands share on the screen: ``--quiet`` says nothing, ``--json`` one JSON document and nothing else."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mia_lightning.version import __version__

if TYPE_CHECKING:
    from mia_lightning.audit.progress import Progress
    from mia_lightning.result.audit_result import AuditResult

QUIET, JSON = "--quiet", "--json"
_INHERITED = "MIA_LIGHTNING_QUIET"  # tells processes that Lightning starts, whose command has no flags
_document: ContextVar[dict[str, Any] | None] = ContextVar("document", default=None)


def split_flags(args: Sequence[str]) -> tuple[list[str], set[str]]:
    """Take the two flags out of a command's arguments.

    Args:
        args: Arguments.

    Returns:
        The other arguments, and the flags that were among them.

    Example:
        >>> split_flags(["fit", "--quiet", "-c", "run.yaml"])
        (['fit', '-c', 'run.yaml'], {'--quiet'})
    """
    flags = {QUIET, JSON} & set(args)
    if {"-h", "--help", "--print_config"} & {a.split("=")[0] for a in args}:  # what is asked for is text
        flags = set()
    elif os.environ.get(_INHERITED):
        flags |= {QUIET}
    return [a for a in args if a not in (QUIET, JSON)], flags


@contextlib.contextmanager
def screen(command: str, flags: set[str]) -> Iterator[None]:
    """Run a command with as much on the screen as its flags ask for; warnings and errors always go to stderr.

    Args:
        command: Name of the command.
        flags: ``--quiet``, ``--json``, both or neither. With the latter, what the command has handed to
            :func:`add_audits_to_json` and :func:`add_to_json` is printed as JSON if it succeeds.

    Yields:
        Nothing.
    """
    if not flags:
        yield
        return
    before = logging.root.manager.disable
    document: dict[str, Any] = {"mia_lightning": __version__, "command": command}
    token = _document.set(document)
    inherited = os.environ.get(_INHERITED)
    os.environ[_INHERITED] = "1"
    try:
        logging.disable(logging.INFO)  # Lightning sets the levels of its loggers when it is imported
        with (
            warnings.catch_warnings(),
            Path(os.devnull).open("w", encoding="utf-8") as nowhere,
            contextlib.redirect_stdout(nowhere),
        ):
            warnings.filterwarnings("ignore", message=".*LeafSpec.*")  # torch's advice to Lightning
            yield
    finally:
        _document.reset(token)
        if inherited is None:
            del os.environ[_INHERITED]
        logging.disable(before)
    if JSON in flags:
        sys.stdout.write(json.dumps(without_nan(document), indent=1, allow_nan=False) + "\n")


def add_to_json(**parts: Any) -> None:
    """Add to what ``--json`` prints; without it nothing happens.

    Args:
        parts: Plain Python values by name; lists are added to those that are there.
    """
    document = _document.get()
    if document is None:
        return
    for name, value in parts.items():
        document[name] = [*document[name], *value] if isinstance(value, list) and name in document else value


def add_audits_to_json(history: Sequence[AuditResult], files: Sequence[Path]) -> None:
    """Add audits of one model: the last in full, of those before it the curve.

    Args:
        history: Audits, in order; at least one.
        files: What was written of them.
    """
    last = history[-1]
    meaning = last.verdict
    points = [("auc", f"auc/{last.primary}"), *((k, f"{k}/{last.primary}") for k in ("auc_low", "auc_high"))]
    curve = [
        {"epoch": r.epoch, "step": r.meta.get("step"), **{name: r.metric(key) for name, key in points}} for r in history
    ]
    audit = {
        "prefix": last.prefix,
        "primary": last.primary,
        "epoch": last.epoch,
        "step": last.meta.get("step"),
        "verdict": {"grade": meaning.grade, "sentences": list(meaning.sentences), "remarks": list(meaning.remarks)},
        "metrics": last.metrics,
        "curve": curve,
    }
    add_to_json(audits=[audit], files=[str(path) for path in files])


def progress_bar() -> Progress:
    """A progress bar where somebody looks, otherwise none."""
    from mia_lightning.audit.progress import no_progress, rich_progress

    return rich_progress if sys.stdout.isatty() else no_progress


def without_nan(value: Any) -> Any:
    """Put null where JSON has no word: for NaN and infinite numbers.

    Example:
        >>> without_nan({"auc": float("nan"), "ids": [1.0]})
        {'auc': None, 'ids': [1.0]}
    """
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: without_nan(item) for key, item in value.items()}
    return [without_nan(item) for item in value] if isinstance(value, (list, tuple)) else value
