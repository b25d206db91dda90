"""Argument parsers with words for those who mistype an option."""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from jsonargparse import ArgumentParser

from mia_lightning.functional.suggestions import suggestion

_FOR_ALL = "Every command takes --quiet (warnings only) and --json (one JSON document on stdout) as well."
_OF_A_CLASS = re.compile(r"given class_path '([\w.]+)':\s+Option '([\w.]+)' is not accepted")
_NEEDED = re.compile(r"given class_path '([\w.]+)':\s+the following arguments are required: ([\w., ]+)")
_NO_PART = re.compile(r"required: \w+\.(model|data)\b")
_PROBLEM = re.compile(r'^Parser key "([\w.]+)".*?given class_path \'([\w.]+)\':\s+(.*?)\n\s+- Expected a', re.DOTALL)
_WRONG = re.compile(r'Parser key "([\w.]+)":\s+Expected an? <class \'(?:\w+\.)*(\w+)\'>\. Got value: (.*)', re.DOTALL)
_CHOICE = re.compile(r'Parser key "([\w.]+)":.*?Literal\[([^\]]+)\].*?(?:Given|Got) value: (.*)', re.DOTALL)
_UNKNOWN = re.compile(r"unrecognized arguments: --([\w.]+)")


class Helpful(ArgumentParser):
    """A parser whose errors name the options there are. Without Lightning, which takes seconds to import."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("epilog", _FOR_ALL)
        super().__init__(*args, **kwargs)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print what is wrong and what would be right, and exit with status 2; the usage is what ``--help`` is for."""
        told = explain(message, [s for a in self._actions for s in a.option_strings])
        if not self.exit_on_error:
            super().error(told, ex)
        name = getattr(getattr(ex, "subcommand_parser", None) or self, "prog", self.prog).replace(" [options]", "")
        sys.stderr.write(f"mia-lightning: error: {told}\n{name} --help lists all options.\n")
        raise SystemExit(2)


def explain(message: str, options: Sequence[str]) -> str:
    """Turn the parser's message into one that names what could have been meant.

    Args:
        message: The parser's message.
        options: Option strings of the command, such as ``--audit.alpha``.

    Returns:
        A shorter message where the cause is an option that does not exist; otherwise the message itself.

    Example:
        >>> explain("unrecognized arguments: --audit.alfa=2", ["--audit.alpha", "--audit.seed", "--ckpt_path"])
        "unknown option '--audit.alfa' (did you mean '--audit.alpha'?); options there are --audit.alpha, --audit.seed"
    """
    if of_class := _OF_A_CLASS.search(message):
        module, _, name = of_class[1].rpartition(".")
        known = list(inspect.signature(getattr(importlib.import_module(module), name)).parameters)
        return (
            f"{name} has no option {of_class[2]!r}{suggestion(of_class[2], known)}; its options are {', '.join(known)}"
        )
    if needed := _NEEDED.search(message):
        part = _PROBLEM.search(message)
        options_of_it = ", ".join(f"--{part[1] if part else 'model'}.{n.strip()}" for n in needed[2].split(","))
        told = f"{needed[1].rpartition('.')[2]} needs {options_of_it}"
        if needed[1].startswith("mia_lightning."):
            return told
        return f"{told}: no value is given, and no checkpoint remembers one (with save_hyperparameters() they do)"
    if part := _NO_PART.search(message):
        return f"name the {part[1]} with --{part[1]} CLASS, or a configuration that does with -c FILE"
    if problem := _PROBLEM.search(message):
        told = " ".join(problem[3].split())
        return f"--{problem[1]}.{told[2:]}" if told.startswith("--") else f"--{problem[1]} {problem[2]}: {told}"
    if wrong := _WRONG.fullmatch(message.strip()):
        return f"--{wrong[1]}: expected {wrong[2]}, but got {wrong[3]!r}"
    if choice := _CHOICE.fullmatch(message.strip()):
        return f"--{choice[1]}: expected one of {choice[2]}, but got {choice[3]!r}"
    if unknown := _UNKNOWN.search(message):
        option = f"--{unknown[1]}"
        group = option.split(".")[0] + "." if "." in option else "--"
        near = [o for o in options if o.startswith(group) and ("." in option or "." not in o)]
        near = [o for o in near if not o.endswith(("+", ".help"))]
        return f"unknown option {option!r}{suggestion(option, near)}; options there are {', '.join(near) or 'none'}"
    return message
