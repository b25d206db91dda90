"""Entry point of ``mia-lightning``: a thin dispatcher, so that help comes before anything heavy is imported."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from mia_lightning.checkpoints.checkpoint_file import no_such_checkpoint
from mia_lightning.cli.terminal import screen, split_flags
from mia_lightning.functional.suggestions import suggestion
from mia_lightning.version import __version__

COMMANDS = {
    "demo": "train a small translator on embedded photographs and watch it memorise (no download, about a minute)",
    "fit": "train a model from a configuration; the audit runs at validation epochs",
    "audit": "audit what is trained already: a checkpoint, any LightningModule, an exported model, a folder of outputs",
    "report": "write what a run's audits found as a page (HTML), for pull requests and model cards; compare runs",
    "evidence": "was a model trained on these images? p-values, and what may be concluded; model or outputs alone",
    "references": "train reference models on coin-flip halves of the data: for the strongest attacks on a result",
    "validate": "run one validation epoch, audit included",
    "test": "evaluate on the test split",
    "predict": "write nothing, return predictions (for callbacks that store them)",
}

_PACKAGE = Path(__file__).parents[1]
_READ_FOLDERS = ("PairedImageDataModule", "SegmentationDataModule")

HELP = """usage: mia-lightning COMMAND [options]

Train image translators and segmenters with a built-in membership audit, and audit trained models.

commands:
{commands}

examples:
  mia-lightning demo
  mia-lightning fit -c configs/translation/facades.yaml --data.root path/to/facades
  mia-lightning fit -c configs/segmentation/wbc.yaml -c configs/audit/quick.yaml --data.root path/to/wbc
  mia-lightning audit -c runs/facades/version_0/config.yaml --ckpt_path path/to/last.ckpt
  mia-lightning audit --model my_project.MyTask --data my_project.MyData --ckpt_path path/to/last.ckpt
  mia-lightning audit --model ExportedModel --model.path model.onnx --data my_project.MyData
  mia-lightning audit --outputs path/to/outputs
  mia-lightning report runs/facades/version_0
  mia-lightning report --compare runs/a/version_0 runs/b/version_0
  mia-lightning references -c configs/translation/facades.yaml --data.root path/to/facades --num 4
  mia-lightning evidence --task translation --suspects path/to/suspects --reference path/to/reference

Every command takes --quiet (nothing on the screen but warnings) and --json (one JSON document and nothing else).
'mia-lightning COMMAND --help' lists a command's options; '--print_config' writes a configuration to start from.
"""


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line.

    Args:
        args: Arguments after the program's name; None takes ``sys.argv``.

    Raises:
        SystemExit: With status 2 for wrong usage, 1 where the data, a checkpoint or a setting does not fit.
    """
    given, flags = split_flags(sys.argv[1:] if args is None else args)
    if args is None:
        sys.argv[1:] = given  # the parsers below, and processes that Lightning starts, read them there
    if not given or given[0] in ("-h", "--help", "help"):
        sys.stdout.write(HELP.format(commands="\n".join(f"  {name:<12}{text}" for name, text in COMMANDS.items())))
        return
    if given[0] == "--version":
        sys.stdout.write(f"mia-lightning {__version__}\n")
        return
    if given[0] not in COMMANDS:
        _fail(
            f"unknown command {given[0]!r}{suggestion(given[0], COMMANDS)}; commands are {', '.join(COMMANDS)}",
            status=2,
        )
    _check_configs(given)
    _check_root(given)
    _check_checkpoint(given)
    try:
        with screen(given[0], flags):
            _dispatch(given, from_shell=args is None)
    except (ValueError, TypeError, OSError, ImportError, RuntimeError) as error:
        # Our own messages say all there is to say; anything else keeps its traceback.
        own = _own(error)
        if os.environ.get("MIA_LIGHTNING_TRACEBACK") or own is None:
            raise
        _fail(str(own), status=1)


def _dispatch(given: list[str], *, from_shell: bool) -> None:
    if given[0] == "demo":
        from mia_lightning.cli.demo import demo_command

        demo_command(given[1:])
    elif given[0] == "report":
        from mia_lightning.cli.report import report_command

        report_command(given[1:])
    elif given[0] == "evidence":
        from mia_lightning.cli.evidence import evidence_command

        evidence_command(given[1:])
    elif given[0] == "audit" and any(arg.split("=")[0] == "--outputs" for arg in given):
        from mia_lightning.cli.audit_outputs import outputs_command

        outputs_command(given[1:])
    else:
        _run_lightning(given, from_shell=from_shell)


def _run_lightning(given: list[str], *, from_shell: bool) -> None:
    from mia_lightning.cli.references import ReferencesCLI
    from mia_lightning.cli.training import AuditCLI

    if from_shell and given[0] != "references":
        AuditCLI()  # several devices: Lightning starts the other processes with the arguments of this one
        return
    # LightningCLI warns when it is handed arguments while the process has some of its own.
    before, sys.argv = sys.argv, [sys.argv[0]]
    try:
        (ReferencesCLI if given[0] == "references" else AuditCLI)(args=given)
    finally:
        sys.argv = before


def _check_configs(given: Sequence[str]) -> None:
    """Name the configurations there are where one is missing, before heavy imports."""
    for flag, value in pairwise(given):
        path = Path(value)
        if flag not in ("-c", "--config") or path.is_file() or "\n" in value or ":" in value:
            continue
        folder = next((p for p in path.parents if p.is_dir()), Path())
        near = sorted(str(p) for p in folder.rglob("*.yaml"))[:12] if folder != Path() else sorted(map(str, _configs()))
        hint = f"; there are {', '.join(near)}" if near else ""
        _fail(f"the configuration {value} does not exist{hint}", status=2)


def _check_root(given: Sequence[str]) -> None:
    """Name a missing data folder before heavy imports, where one of our own data modules will read it."""
    pairs = _options(given)
    texts = [Path(v).read_text(encoding="utf-8", errors="replace") for f, v in pairs if _is_config(f, v)]
    ours = any(name in text for text in (*texts, *given) for name in _READ_FOLDERS)
    for flag, value in pairs:
        if flag == "--data.root" and ours and not Path(value).is_dir():
            _fail(f"the data folder {value} does not exist (--data.root, looked up from {Path.cwd()})", status=1)


def _check_checkpoint(given: Sequence[str]) -> None:
    """Name the checkpoints there are where one is missing, before anything heavy is imported or data are read."""
    elsewhere = {"--outputs", "--help", "-h"} & {arg.split("=")[0] for arg in given}
    if given[0] not in ("audit", "evidence") or elsewhere:
        return
    path = next((Path(value) for flag, value in reversed(_options(given)) if flag == "--ckpt_path"), None)
    if path is not None and path.name not in ("", "null") and not path.is_file():
        _fail(no_such_checkpoint(path), status=1)


def _options(given: Sequence[str]) -> list[tuple[str, str]]:
    return [*pairwise(given), *((flag, value) for flag, found, value in (a.partition("=") for a in given) if found)]


def _is_config(flag: str, value: str) -> bool:
    return flag in ("-c", "--config") and "\n" not in value and Path(value).is_file()


def _configs() -> list[Path]:
    return list(Path("configs").rglob("*.yaml"))


def _own(error: BaseException) -> BaseException | None:
    """The error itself where this package raised it, or what the parser has wrapped of it while making an object."""
    seen: BaseException | None = error
    while seen is not None:
        frames = traceback.extract_tb(seen.__traceback__)
        raised_in = Path(frames[-1].filename).parts if frames else ()
        if raised_in[: len(_PACKAGE.parts)] == _PACKAGE.parts:
            return seen
        seen = seen.__cause__ or seen.__context__ if "jsonargparse" in raised_in else None
    return None


def _fail(message: str, status: int) -> None:
    sys.stderr.write(f"mia-lightning: error: {message}\n")
    raise SystemExit(status)
