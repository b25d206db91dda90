"""The argument parser, with words for those who mistype an option."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Sequence
from typing import NoReturn

from lightning.pytorch.cli import LightningArgumentParser

from mia_lightning.cli.main import guess

_OF_A_CLASS = re.compile(r"given class_path '([\w.]+)':\s+Option '([\w.]+)' is not accepted")
_UNKNOWN = re.compile(r"unrecognized arguments: --([\w.]+)")


class HelpfulParser(LightningArgumentParser):
    """A parser whose errors name the options there are."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print what is wrong and what would be right, and exit with status 2."""
        super().error(explain(message, [s for a in self._actions for s in a.option_strings]), ex)


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
        return f"{name} has no option {of_class[2]!r}{guess(of_class[2], known)}; its options are {', '.join(known)}"
    if unknown := _UNKNOWN.search(message):
        option = f"--{unknown[1]}"
        group = option.split(".")[0] + "." if "." in option else "--"
        near = [o for o in options if o.startswith(group) and ("." in option or "." not in o)]
        return f"unknown option {option!r}{guess(option, near)}; options there are {', '.join(near) or 'none'}"
    return message
