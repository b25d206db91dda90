"""``mia-lightning report``: pages for people who were not there, from the files of a run; and runs side by side."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from mia_lightning.cli.parser import Helpful
from mia_lightning.cli.terminal import tell, tell_audits
from mia_lightning.report.compare import compare
from mia_lightning.report.run import read_run, run_of
from mia_lightning.report.write import FORMATS, USUAL, write_comparison, write_report

if TYPE_CHECKING:
    from mia_lightning.result.audit_result import AuditResult

_USAGE = """mia-lightning report RUN_DIR [--format html markdown model-card] [options]
       mia-lightning report --compare RUN_DIR RUN_DIR ... [options]"""
_DESCRIPTION = """Writes report.html, one page that needs no network and runs no script, and report.md for pull
requests, from the files of a finished run: RUN_DIR is a run's folder (runs/NAME/version_0), its audit folder, the
output folder of 'mia-lightning audit', or a result.json. --compare writes comparison.html and comparison.md: the runs
side by side, with the differences of their AUCs, paired where they were audited on the same samples."""


def report_command(args: Sequence[str]) -> None:
    """Read runs, write what was asked for and print the paths.

    Args:
        args: Arguments after the command's name.

    Raises:
        OSError: If a run does not exist or the reports cannot be written.
        ValueError: If a folder holds no readable audit, or the options do not fit together.
    """
    parser = Helpful(prog="mia-lightning report", usage=_USAGE, description=_DESCRIPTION)
    parser.add_argument("run_dir", nargs="?", type=str, help="The run.")
    parser.add_argument("--compare", nargs="+", type=str, help="Runs to compare; RUN_DIR, where given, is the first.")
    parser.add_argument("--format", nargs="+", choices=FORMATS, help="What to write; html and markdown by default.")
    parser.add_argument(
        "--output_dir", type=str, help="Where to write; the audit folder of the (first) run by default."
    )
    parser.add_argument("--prefix", type=str, help="Which audit, where several lie side by side in a run.")
    given = parser.parse_args(list(args))
    if given.output_dir is not None and Path(given.output_dir).exists() and not Path(given.output_dir).is_dir():
        raise ValueError(f"--output_dir names a folder to write into, but {given.output_dir} is a file.")
    if given.compare:
        if given.format:
            raise ValueError("A comparison is written as HTML and Markdown: leave out --format.")
        paths = [path for path in [given.run_dir, *given.compare] if path is not None]
        if len(paths) < 2:
            raise ValueError(f"Name at least two runs to compare: --compare {paths[0]} ANOTHER_RUN.")
        comparison = compare([read_run(path, given.prefix) for path in paths])
        told = [f"{run.name}: {run.result.verdict.grade}" for run in comparison.runs]
        written = write_comparison(comparison, given.output_dir)
        tell(runs=[run.name for run in comparison.runs], score=comparison.score, files=[str(path) for path in written])
        tell(differences=[asdict(p) | {"difference": p.difference._asdict()} for p in comparison.pairs])
    elif given.run_dir is None:
        raise ValueError("Name the run to report on: mia-lightning report runs/NAME/version_0.")
    else:
        run = read_run(given.run_dir, given.prefix)
        told = [f"{run.name}: {run.result.verdict.grade}"]
        written = write_report(run, given.output_dir, given.format or USUAL)
        tell_audits(run.history, written)
    sys.stdout.write("\n".join([*told, f"Written: {', '.join(map(str, written))}"]) + "\n")


def leave_report(history: Sequence[AuditResult], folder: str | Path) -> list[Path]:
    """Write a report at the end of a training or an audit; whatever goes wrong, the finished work stands.

    Args:
        history: Audits, in order; without one nothing is written.
        folder: Where their files are.

    Returns:
        Paths written; none where it failed, which a warning says.
    """
    if not history:
        return []
    try:
        return write_report(run_of(history, folder))
    except Exception as error:
        warnings.warn(
            f"The report could not be written ({type(error).__name__}: {error}); the audit is complete in {folder}. "
            f"To try again: mia-lightning report {folder}",
            stacklevel=2,
        )
        return []
