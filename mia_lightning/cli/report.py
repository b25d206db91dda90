"""``mia-lightning report``: pages on a finished run for readers who did not train it, and comparisons of runs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from mia_lightning.cli.fail_above import add_limits, show_limits
from mia_lightning.cli.parser import Helpful
from mia_lightning.cli.terminal import add_to_json
from mia_lightning.report.run_folder import require_run

_USAGE = """mia-lightning report RUN_DIR [--format NAME ...]
       mia-lightning report --compare RUN_DIR RUN_DIR ... [options]"""
_DESCRIPTION = """Writes report.html, one page that needs no network and runs no script, and report.md for pull
requests, from the files of a finished run: RUN_DIR is a run's folder (runs/NAME/version_0), its audit folder, the
output folder of 'mia-lightning audit', or a result.json. --compare writes comparison.html and comparison.md: the runs
side by side, with the differences of their AUCs, paired where they were audited on the same samples."""
_FORMATS = ("html", "markdown", "model-card", "csv", "dpia")  # those of report/write.py, whose import takes seconds


def report_parser() -> Helpful:
    """Declare the options, without the imports that writing a report needs."""
    parser = Helpful(prog="mia-lightning report", usage=_USAGE, description=_DESCRIPTION)
    parser.add_argument("run_dir", nargs="?", type=str, help="The run.")
    runs = "Runs to compare; RUN_DIR, where given, is the first."
    parser.add_argument("--compare", nargs="+", type=str, metavar="RUN_DIR", help=runs)
    what = (
        f"What to write, of {', '.join(_FORMATS)}; html and markdown by default. csv: metrics.csv, one row an audit; "
        "dpia: dpia.html, the risks for a data-protection impact assessment."
    )
    parser.add_argument("--format", nargs="+", choices=_FORMATS, metavar="NAME", help=what)
    folder = "Where to write; the audit folder of the (first) run by default."
    parser.add_argument("--output_dir", type=str, help=folder)
    parser.add_argument("--prefix", type=str, help="Which audit, where several lie side by side in a run.")
    parser.add_argument("--auditor", type=str, default="", help="Who audited, for the dpia page.")
    add_limits(parser)
    return parser


def report_command(args: Sequence[str]) -> None:
    """Read runs, write their reports and print the paths.

    Args:
        args: Arguments after the command's name.

    Raises:
        OSError: If a run does not exist or the reports cannot be written.
        ValueError: If a folder holds no readable audit, or the options do not fit together.
    """
    options = report_parser().parse_args(list(args))
    paths = [path for path in (options.run_dir, *(options.compare or ())) if path is not None]
    if not paths:
        raise ValueError("Name the run to report on: mia-lightning report runs/NAME/version_0.")
    if options.compare and options.format:
        raise ValueError("A comparison is written as HTML and Markdown: leave out --format.")
    if options.compare and len(paths) < 2:
        raise ValueError(f"Name at least two runs to compare: --compare {paths[0]} ANOTHER_RUN.")
    if options.output_dir is not None and Path(options.output_dir).is_file():
        raise ValueError(f"--output_dir names a folder to write into, but {options.output_dir} is a file.")
    for path in paths:
        require_run(path)
    # Seconds of imports, which the help and a wrong folder do without.
    from mia_lightning.report.compare import compare
    from mia_lightning.report.json_summary import json_summary
    from mia_lightning.report.run import read_run
    from mia_lightning.report.write import USUAL, write_comparison, write_report
    from mia_lightning.result.limits import checked_limits, read_limits

    limits = checked_limits(read_limits(options.fail_above or ()))
    runs = [read_run(path, options.prefix) for path in paths]
    if options.compare:
        comparison = compare(runs)
        files = write_comparison(comparison, options.output_dir)
        differences = [asdict(pair) | {"difference": pair.difference._asdict()} for pair in comparison.pairs]
        add_to_json(runs=[run.name for run in runs], score=comparison.score, files=list(map(str, files)))
        add_to_json(differences=differences)
    else:
        files = write_report(replace(runs[0], auditor=options.auditor), options.output_dir, options.format or USUAL)
        add_to_json(audits=[json_summary(runs[0].history)], files=[str(path) for path in files])
    lines = [f"{run.name}: {run.result.verdict.summary}" for run in runs]
    sys.stdout.write("\n".join([*lines, f"Written: {', '.join(map(str, files))}"]) + "\n")
    if limits:
        from rich.console import Console

        for run in runs:
            show_limits(Console(), limits, run.result)
