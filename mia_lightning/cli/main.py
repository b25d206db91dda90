"""Entry point of ``mia-lightning``: a thin dispatcher, so that help comes before anything heavy is imported."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import textwrap
import traceback
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from mia_lightning.cli.fail_above import take_exit_code
from mia_lightning.cli.terminal import screen, split_flags
from mia_lightning.functional.suggestions import suggestion
from mia_lightning.version import __version__

COMMANDS = {
    "demo": "train a small translator on embedded photographs and watch it memorise (no download, about a minute)",
    "fit": "train a model from a configuration; the audit runs at validation epochs",
    "audit": "audit what is trained already: a checkpoint, any LightningModule, an exported model, a folder of outputs",
    "report": "write what a run's audits found as a page (HTML), for pull requests and model cards; compare runs",
    "evidence": "was a model trained on these images? p-values, and what may be concluded; model or outputs alone",
    "export": "write a trained model as one file that runs without its code: ONNX, TorchScript or torch.export",
    "references": "train reference models on random halves of the data: for the strongest attacks on a result",
    "benchmark": "train a configuration over several seeds, reference models too, and tabulate every attack",
    "validate": "run one validation epoch, audit included",
    "test": "evaluate on the test split",
    "data": "check a folder of data before a training: what is there, missing, broken or twice; list data sets",
    "predict": "store what a model predicts, for audit --outputs; without --output_dir, predict for callbacks",
}

_PACKAGE = Path(__file__).parents[1]
_COMPLETION = "--print_completion"
_WITHOUT_LIGHTNING = ("demo", "report", "evidence", "data")  # modules of this package, with a function NAME_command

_HELP = """usage: mia-lightning COMMAND [options]

Train image translators and segmenters with a built-in membership audit, and
audit trained models.

commands:
{commands}

examples:
  mia-lightning demo
  mia-lightning fit -c configs/translation/facades.yaml --data.root DATA
  mia-lightning fit -c configs/segmentation/wbc.yaml -c configs/audit/quick.yaml
  mia-lightning data check DATA --preset cityscapes --output sheet
  mia-lightning audit -c RUN/config.yaml --ckpt_path RUN/checkpoints/last.ckpt
  mia-lightning audit --model my_project.MyTask --data my_project.MyData \\
      --ckpt_path last.ckpt
  mia-lightning audit --model ExportedModel --model.path model.onnx \\
      --data my_project.MyData
  mia-lightning predict --ckpt_path last.ckpt --output_dir outputs
  mia-lightning audit --outputs outputs
  mia-lightning export --ckpt_path last.ckpt --format onnx
  mia-lightning report runs/facades/version_0
  mia-lightning report --compare runs/a/version_0 runs/b/version_0
  mia-lightning references -c configs/translation/facades.yaml --num 4
  mia-lightning benchmark -c configs/segmentation/wbc.yaml --seeds 1 2 3
  mia-lightning evidence --task translation --suspects DIR --reference DIR

Every command takes --quiet (nothing on the screen but warnings) and --json
(one JSON document and nothing else). 'mia-lightning COMMAND --help' shows the
options that people use, '--help all' every one, and '--print_config' writes a
configuration to start from. Completion in bash (or zsh, tcsh), with shtab:
eval "$(mia-lightning --print_completion bash)"
"""


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line.

    Args:
        args: Arguments after the program's name; None takes ``sys.argv``.

    Raises:
        SystemExit: With status 2 for wrong usage, 1 where the data, a checkpoint or a setting does not fit; where
            limits are named (``--fail_above``), 3 if one is exceeded and 4 if the data cannot tell.
    """
    arguments, flags = split_flags(sys.argv[1:] if args is None else args)
    if args is None:
        sys.argv[1:] = arguments  # the parsers below, and processes that Lightning starts, read them there
    command, *options = arguments or ["--help"]
    if command in ("-h", "--help", "help"):
        texts = [f"  {name:<12}{text}" for name, text in COMMANDS.items()]
        texts = [textwrap.fill(text, 80, subsequent_indent=" " * 14) for text in texts]
        sys.stdout.write(_HELP.format(commands="\n".join(texts)))
    elif command == "--version":
        sys.stdout.write(f"mia-lightning {__version__}\n")
    elif command not in (*COMMANDS, _COMPLETION):
        _fail(f"unknown command {command!r}{suggestion(command, COMMANDS)}; commands are {', '.join(COMMANDS)}", 2)
    else:
        _guarded(command, options, flags, from_shell=args is None)


def _guarded(command: str, options: list[str], flags: set[str], *, from_shell: bool) -> None:
    """Run a command; of our own errors only the message is shown."""
    try:
        with screen(command, flags):
            _dispatch(command, options, from_shell=from_shell)
        if code := take_exit_code():
            raise SystemExit(code)
    except argparse.ArgumentError as error:
        from mia_lightning.cli.parser import explain, fail_usage

        fail_usage(explain(str(error), ()), f"mia-lightning {command}")
    except (ValueError, TypeError, OSError, ImportError, RuntimeError) as error:
        # Our own messages say all there is to say; anything else keeps its traceback.
        own = _own(error)
        if os.environ.get("MIA_LIGHTNING_TRACEBACK") or own is None:
            raise
        _fail(str(own), 1)


def _dispatch(command: str, options: list[str], *, from_shell: bool) -> None:
    """Choose the parser by hand: one parser of all commands would import what each of them needs."""
    if command == _COMPLETION:
        from mia_lightning.cli.completion import print_completion

        return print_completion(options, list(COMMANDS))
    named = [(option.split("=")[0], following) for option, following in pairwise([*options, ""])]
    outputs_alone = command == "audit" and any(word == "--outputs" for word, _ in named)
    first_screen = any(word in ("-h", "--help") and following != "all" for word, following in named)
    if not any(word in ("-h", "--help") for word, _ in named):
        from mia_lightning.cli.early_arguments import EarlyArguments

        EarlyArguments.of(options).check(command)
    if command in _WITHOUT_LIGHTNING or outputs_alone:
        name = "audit_outputs" if outputs_alone else command
        getattr(importlib.import_module(f"mia_lightning.cli.{name}"), f"{name}_command")(options)
    elif first_screen:
        from mia_lightning.cli.options import lightning_parser

        lightning_parser(command).parse_args(["--help"])
    else:
        _run_lightning([command, *options], from_shell=from_shell)


def _run_lightning(arguments: list[str], *, from_shell: bool) -> None:
    from mia_lightning.cli.benchmark_command import BenchmarkCLI
    from mia_lightning.cli.lightning_commands import AuditCLI
    from mia_lightning.cli.references_command import ReferencesCLI

    several = {"references": ReferencesCLI, "benchmark": BenchmarkCLI}.get(arguments[0])
    if from_shell and several is None:
        AuditCLI()  # several devices: Lightning starts the other processes with the arguments of this one
        return
    # LightningCLI warns when it is handed arguments while the process has some of its own.
    before, sys.argv = sys.argv, [sys.argv[0]]
    try:
        (several or AuditCLI)(args=arguments)
    finally:
        sys.argv = before


def _own(error: BaseException) -> BaseException | None:
    """The error itself where this package raised it, or what the parser has wrapped of it while making an object."""
    cause: BaseException | None = error
    while cause is not None:
        frames = traceback.extract_tb(cause.__traceback__)
        raised_in = Path(frames[-1].filename).parts if frames else ()
        if raised_in[: len(_PACKAGE.parts)] == _PACKAGE.parts:
            return cause
        cause = cause.__cause__ or cause.__context__ if "jsonargparse" in raised_in else None
    return None


def _fail(message: str, status: int) -> None:
    sys.stderr.write(f"mia-lightning: error: {message}\n")
    raise SystemExit(status)
