"""What arguments and configurations say, before a parser that needs the classes they name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

PARTS = ("model", "data")
"""Sections of a configuration that name a class and its arguments."""


def pairs(args: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Options with their values; those without one have the argument that follows.

    Example:
        >>> list(pairs(["--data.n=2", "-c", "run.yaml"]))
        [('--data.n', '2'), ('-c', 'run.yaml')]
    """
    for arg, following in zip(args, [*args[1:], ""], strict=True):
        if arg.startswith("--") and "=" in arg:
            flag, _, value = arg.partition("=")
            yield flag, value
        elif arg.startswith("-"):
            yield arg, following


def classes_in(args: Sequence[str]) -> dict[str, str]:
    """Class paths of ``model`` and ``data``, and ``ckpt_path``, by these names; what is said last counts."""
    found: dict[str, str | None] = {}
    for flag, value in pairs(args):
        if flag in ("-c", "--config"):
            content = read_config(value)
            named = {part: _class_in(content.get(part)) for part in PARTS} | {"ckpt_path": content.get("ckpt_path")}
            found |= {name: path for name, path in named.items() if isinstance(path, str)}
        elif flag in ("--model", "--data", "--ckpt_path"):
            found[flag.lstrip("-")] = value
        elif flag in ("--model.class_path", "--data.class_path"):
            found[flag.lstrip("-").removesuffix(".class_path")] = value
    return {name: value for name, value in found.items() if value is not None and value != "null"}


def arguments_in(args: Sequence[str], part: str) -> set[str]:
    """Names of the arguments of a class that options or configurations give.

    Args:
        args: Arguments of a command.
        part: ``model`` or ``data``.
    """
    names: set[str] = set()
    for flag, value in pairs(args):
        if flag in ("-c", "--config"):
            section = read_config(value).get(part)
            given = section.get("init_args") if isinstance(section, Mapping) else None
            names |= {str(name) for name in given} if isinstance(given, Mapping) else set()
        elif flag.startswith(f"--{part}."):
            names.add(flag.removeprefix(f"--{part}.").removeprefix("init_args."))
    return names


def seed_of_training(args: Sequence[str]) -> int | None:
    """Seed of the training that made a checkpoint: in the configuration kept beside it, else in one that is given."""
    path = classes_in(args).get("ckpt_path")
    configs = [value for flag, value in pairs(args) if flag in ("-c", "--config")]
    # Where the command line keeps it: RUN/config.yaml beside RUN/checkpoints/last.ckpt.
    kept = [] if path is None else [str(Path(path).absolute().parent.parent / "config.yaml")]
    for config in (*kept, *reversed(configs)):
        seed = read_config(config).get("seed_everything")
        if isinstance(seed, int) and not isinstance(seed, bool):
            return seed
    return None


def read_config(path: str) -> Mapping[str, Any]:
    """Read a configuration; empty where it cannot be read, which whoever parses the arguments says better."""
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return content if isinstance(content, Mapping) else {}


def _class_in(section: object) -> object:
    return section.get("class_path") if isinstance(section, Mapping) else section
