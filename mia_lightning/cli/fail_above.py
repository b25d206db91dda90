"""``--fail_above``: what an audit found of the limits that a command names, on the screen and as its exit code."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING

from mia_lightning.cli.terminal import add_to_json

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser
    from rich.console import Console

    from mia_lightning.result.audit_result import AuditResult
    from mia_lightning.result.limits import LimitsOutcome

OPTION = "--fail_above"
TEXT = "Such as auc=0.6; repeatable. Exit code 3 where it is exceeded, 4 where the data cannot tell."
_exit_code: ContextVar[int] = ContextVar("exit_code", default=0)


def add_limits(parser: ArgumentParser) -> None:
    """Declare the option."""
    parser.add_argument(OPTION, action="append", type=str, metavar="LIMIT", help=TEXT)


def as_setting(args: Sequence[str]) -> list[str]:
    """Turn the option into the setting of the audit, ``audit.fail_above``, which configurations may name, too.

    Raises:
        ValueError: If a limit cannot be read.

    Example:
        >>> as_setting(["fit", "--fail_above", "auc=0.6", "-c", "run.yaml"])
        ['fit', '-c', 'run.yaml', '--audit.fail_above={"auc": 0.6}']
    """
    if not any(arg.split("=")[0] == OPTION for arg in args):
        return list(args)
    from mia_lightning.result.limits import read_limits

    rest, limits = list[str](), list[str]()
    words = iter(args)
    for word in words:
        name, equals, value = word.partition("=")
        if name == OPTION:
            limits.append(value if equals else next(words, ""))
        else:
            rest.append(word)
    return [*rest, f"--audit.fail_above={json.dumps(read_limits(limits))}"]


def show_limits(console: Console, limits: Mapping[str, float] | None, result: AuditResult) -> None:
    """Say what an audit found of limits, and have the command end with their exit code; None or empty: nothing."""
    if not limits:
        return
    from mia_lightning.result.limits import check_limits

    show_outcome(console, check_limits(limits, result))


def show_outcome(console: Console, outcome: LimitsOutcome) -> None:
    """Likewise, of limits that were judged already."""
    from rich.text import Text

    console.print(Text(str(outcome), style="" if outcome.finding == "below" else "bold red"), soft_wrap=True)
    add_to_json(limits=[{**check._asdict(), "exit_code": outcome.exit_code} for check in outcome.checks])
    # Of several audits the one that is exceeded decides, then the one that cannot tell.
    codes = {_exit_code.get(), outcome.exit_code} - {0}
    _exit_code.set(min(codes, default=0))


def fail_with(code: int) -> None:
    """Have the command end with an exit code, unless it has one already."""
    _exit_code.set(_exit_code.get() or code)


def take_exit_code() -> int:
    """The exit code of the command that has ended; the next begins with 0."""
    code = _exit_code.get()
    _exit_code.set(0)
    return code
