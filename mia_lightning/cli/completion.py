"""Scripts that complete commands and options in a shell, as jsonargparse makes them with shtab."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from mia_lightning.cli.options import LIGHTNING_COMMANDS, lightning_parser
from mia_lightning.cli.parser import Helpful

_SHELLS = ("bash", "zsh", "tcsh")


def print_completion(shells: Sequence[str], commands: Sequence[str]) -> None:
    """Print the script of a shell, which completes the options of the first screens of help.

    Those that only ``--help all`` shows are left out: of the parsers of Lightning's commands, with every class that
    they know, such a script takes minutes to make and megabytes to load.

    Args:
        shells: What follows the option: the one shell.
        commands: All commands.

    Raises:
        ImportError: If shtab is not installed.
        ValueError: If there is no such shell.
    """
    if len(shells) != 1 or shells[0] not in _SHELLS:
        raise ValueError(f"Expected --print_completion SHELL with one of {', '.join(_SHELLS)}, but got {list(shells)}.")
    if importlib.util.find_spec("shtab") is None:
        raise ImportError("Completion needs shtab: pip install 'mia-lightning[completion]'.")
    parser = Helpful(prog="mia-lightning", description=__doc__)
    subcommands = parser.add_subcommands()
    for name in commands:
        if name in LIGHTNING_COMMANDS:
            options = lightning_parser(name)
        else:
            options = getattr(importlib.import_module(f"mia_lightning.cli.{name}"), f"{name}_parser")()
        subcommands.add_subcommand(name, options)
    sys.stdout.write(parser.get_completion_script(f"shtab-{shells[0]}"))
