"""What all commands share on the screen: ``--quiet`` says nothing, ``--json`` one JSON document and nothing else."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mia_lightning.result.json_values import without_nan
from mia_lightning.version import __version__

if TYPE_CHECKING:
    from mia_lightning.audit.progress import Progress

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
            :func:`add_to_json` is printed as JSON if it succeeds.

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


def progress_bar() -> Progress:
    """A progress bar where somebody looks, otherwise none."""
    from mia_lightning.audit.progress import no_progress, rich_progress

    return rich_progress if sys.stdout.isatty() else no_progress
