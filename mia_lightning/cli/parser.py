"""Argument parsers whose help fits a screen and whose errors name the options that there are."""

from __future__ import annotations

import argparse
import importlib
import inspect
import re
import sys
import textwrap
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeVar

from jsonargparse import ArgumentParser

import mia_lightning
from mia_lightning.functional.suggestions import suggestion

_ActionT = TypeVar("_ActionT", bound=argparse.Action)

FOR_ALL = "Every command takes --quiet (warnings only) and --json (one JSON document on stdout) as well."


class CompactFormatter(argparse.HelpFormatter):
    """Names, texts and defaults of options, without types; a blank line or a "(" ends a paragraph."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=30)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        paragraphs = re.split(r"(\n\n|\n(?=\())", text)
        return "".join(p if p.isspace() else textwrap.fill(p, width, break_on_hyphens=False) for p in paragraphs)

    def _get_help_string(self, action: argparse.Action) -> str:
        text = (action.help or "").replace("``", "")
        if action.default in (None, argparse.SUPPRESS) or "default" in text:
            return text
        return f"{text.removesuffix('.')} (default: {action.default})."


class _Help(argparse._HelpAction):
    """``--help`` shows what people use, ``--help all`` every option."""

    def __init__(self, option_strings: Sequence[str], **kwargs: Any) -> None:
        super().__init__(option_strings, help="Show this help and exit.")
        self.nargs, self.metavar = "?", "all"

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        if values == "all":
            for action in parser._actions:
                action.help = parser.hidden.get(action.dest, action.help)
        parser.print_help()
        parser.exit()


class Helpful(ArgumentParser):
    """A parser whose errors name the options there are. Without Lightning, which takes seconds to import.

    Args:
        first_screen: Names of the options that ``--help`` shows; the others are shown by ``--help all``. None shows
            all of them at once.
        **kwargs: Of the parser.
    """

    formatter: type[argparse.HelpFormatter] = CompactFormatter

    def __init__(self, *args: Any, first_screen: Sequence[str] | None = None, **kwargs: Any) -> None:
        self.first_screen = first_screen
        self.hidden: dict[str, str | None] = {}
        kwargs.setdefault("formatter_class", self.formatter)
        kwargs.setdefault("allow_abbrev", False)  # what is short for one option today may be short for two tomorrow
        kwargs.setdefault("epilog", FOR_ALL if first_screen is None else f"--help all shows every option. {FOR_ALL}")
        super().__init__(*args, add_help=False, **kwargs)
        self.add_argument("-h", "--help", action=_Help)

    def _add_action(self, action: _ActionT) -> _ActionT:
        shown = self.first_screen is None or action.dest in self.first_screen or isinstance(action, _Help)
        if not shown and action.help != argparse.SUPPRESS:
            self.hidden[action.dest], action.help = action.help, argparse.SUPPRESS
        return super()._add_action(action)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print what is wrong and what would be right, and exit with status 2; the usage is what ``--help`` is for."""
        named = [a for a in self._actions if a.dest in self.hidden or a.help != argparse.SUPPRESS]
        explanation = explain(message, [s for a in named for s in a.option_strings])
        if not self.exit_on_error:
            super().error(explanation, ex)
        name = getattr(getattr(ex, "subcommand_parser", None) or self, "prog", self.prog).replace(" [options]", "")
        fail_usage(explanation, name)


def fail_usage(explanation: str, name: str) -> NoReturn:
    """Print what is wrong with the options of a command and where they are listed, and exit with status 2."""
    sys.stderr.write(f"mia-lightning: error: {explanation}\n{name} --help all lists all options.\n")
    raise SystemExit(2)


def explain(message: str, options: Sequence[str]) -> str:
    """Turn the parser's message into one that names what could have been meant.

    Args:
        message: The parser's message.
        options: Option strings of the command, such as ``--audit.alpha``.

    Returns:
        A shorter message where the cause is known; otherwise the message itself.

    Example:
        >>> explain("unrecognized arguments: --audit.alfa=2", ["--audit.alpha", "--audit.seed", "--ckpt_path"])
        "unknown option '--audit.alfa' (did you mean '--audit.alpha'?); options there are --audit.alpha, --audit.seed"
    """
    if unknown := _UNKNOWN.search(message):
        return _unknown_option(f"--{unknown[1]}", options)
    for pattern, rewrite in _REWRITES:
        if found := pattern.search(message):
            return rewrite(found)
    return message


def _unknown_option(option: str, options: Sequence[str]) -> str:
    options = [o for o in options if o.startswith("--") and not o.endswith(("+", ".help"))]
    group = [o for o in options if "." in option and o.startswith(option.split(".")[0] + ".")]
    listed = group or [o for o in options if "." not in o]
    near = suggestion(option, group or options)
    return f"unknown option {option!r}{near}; options there are {', '.join(listed) or 'none'}"


def _unknown_argument(found: re.Match[str]) -> str:
    module, _, name = found[1].rpartition(".")
    arguments = list(inspect.signature(getattr(importlib.import_module(module), name)).parameters)
    near = suggestion(found[2], arguments)
    return f"{name} has no option {found[2]!r}{near}; its options are {', '.join(arguments)}"


def _missing(found: re.Match[str]) -> str:
    part = _OF_A_CLASS.search(found.string)
    names = ", ".join(f"--{part[1] if part else 'model'}.{name.strip()}" for name in found[2].split(","))
    text = f"{found[1].rpartition('.')[2]} needs {names}"
    if found[1].startswith("mia_lightning."):
        return text
    return f"{text}: no value is given, and no checkpoint remembers one (with save_hyperparameters() they do)"


def _no_class(found: re.Match[str]) -> str:
    if base := re.search(r"does not correspond to a subclass of (\w+)", found.string):
        return f"--{found[1]}: expected a {base[1]}, but {found[2]} is none"
    near = suggestion(found[2], mia_lightning.__all__)
    return f"--{found[1]}: expected the name of a class or its import path, but got {found[2]!r}{near}"


def _wrong_type(found: re.Match[str]) -> str:
    names = [name.rpartition(".")[2] for name in re.findall(r"<class '([\w.]+)'>", found[2])]
    types = " or ".join("null" if name == "NoneType" else name for name in names)
    return f"--{found[1]}: expected {types}, but got {found[3].strip()!r}"


def _wrong_argument(found: re.Match[str]) -> str:
    text = " ".join(found[3].split())
    return f"--{found[1]}.{text[2:]}" if text.startswith("--") else f"--{found[1]} {found[2]}: {text}"


_UNKNOWN = re.compile(r"unrecognized arguments: --([\w.]+)")
_OF_A_CLASS = re.compile(r'^Parser key "([\w.]+)".*?given class_path \'([\w.]+)\':\s+(.*?)\n\s+- Expected a', re.DOTALL)
# What jsonargparse and argparse say, and how to say it in terms of options: the first that fits.
_REWRITES: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], str]], ...] = (
    (re.compile(r"given class_path '([\w.]+)':\s+Option '([\w.]+)' is not accepted"), _unknown_argument),
    (re.compile(r"given class_path '([\w.]+)':\s+the following arguments are required: ([\w., ]+)"), _missing),
    (
        re.compile(r"required: \w+\.(model|data)\b"),
        lambda found: f"name the {found[1]} with --{found[1]} CLASS, or a configuration that does with -c FILE",
    ),
    (_OF_A_CLASS, _wrong_argument),
    (
        re.compile(
            r'\A\s*Parser key "([\w.]+)"(?: element \d+)?:\s+Expected an? '
            r"<class '(?:\w+\.)*(\w+)'>\. Got value: (.*)\Z",
            re.S,
        ),
        lambda found: f"--{found[1]}: expected {found[2]}, but got {found[3].strip()!r}",
    ),
    (re.compile(r'\A\s*Parser key "(model|data)":.*?Given value: ([^\n{]*)\Z', re.S), _no_class),
    (
        re.compile(
            r'\A\s*Parser key "([\w.]+)":.*?Subtypes: \[((?:<class \'[\w.]+\'>(?:, )?)+)\].*Given value: (.*)\Z', re.S
        ),
        _wrong_type,
    ),
    (
        re.compile(r'\A\s*Parser key "([\w.]+)":.*?Literal\[([^\]]+)\].*?(?:Given|Got) value: (.*)\Z', re.S),
        lambda found: f"--{found[1]}: expected one of {found[2]}, but got {found[3].strip()!r}",
    ),
    (
        re.compile(r"^argument (?:-\w/)?(--[\w.]+)\S*: expected (?:at least )?one argument"),
        lambda found: f"{found[1]} needs a value",
    ),
    (re.compile(r"^argument (?:-\w/)?(--[\w.]+)\S*: (.*)", re.S), lambda found: f"{found[1]}: {found[2]}"),
    (
        re.compile(r"unrecognized arguments: ([^-].*)"),
        lambda found: f"unexpected {found[1]!r}: options begin with --, and a value follows its option",
    ),
)
