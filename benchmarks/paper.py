"""The paper's experiments: each configuration trained and audited by the command line, and one table of all.

    python benchmarks/paper.py --small --data path/to/data

``path/to/data`` has a folder for each data set (``facades``, ``wbc``), named as in the configurations. Runs that are
finished are read, one that was interrupted goes on from its last checkpoint, and the table is written anew after each:
``OUTPUT/table.md`` and ``OUTPUT/table.csv``.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mia_lightning.result.audit_result import AuditResult
from mia_lightning.result.history import read_audits

CONFIGS = Path(__file__).resolve().parents[1] / "configs" / "paper"
SCORES = ("reconstruction", "membership", "combined")
UTILITY = ("val/ssim", "val/miou")
FINISHED = "finished.json"
NOTE_EVERY = 20.0
"""Seconds between notes of how long a run has taken: at most as much is lost where it is killed."""
LEAST_NONMEMBERS = 99
"""Without so many, a true-positive rate at 1 % false positives says nothing."""


@dataclass(frozen=True)
class Row:
    """One run.

    Attributes:
        experiment: The configuration's name.
        members: Number of members.
        nonmembers: Number of nonmembers.
        auc: For each score the AUC with the bounds of its 95 % interval; absent where the audit has none.
        tpr: For each score the true-positive rate at 1 % false positives.
        utility: The name of a validation metric, and its value at the last audit.
        seconds: What training and audits took, over all attempts.
    """

    experiment: str
    members: int
    nonmembers: int
    auc: dict[str, tuple[float, float, float]]
    tpr: dict[str, float]
    utility: tuple[str, float] | None
    seconds: float


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("configs", nargs="*", type=Path, help="configurations; none: all of configs/paper")
    parser.add_argument("--small", action="store_true", help="those of configs/paper/small, without a GPU")
    parser.add_argument("--data", type=Path, required=True, help="folder with a folder for each data set")
    parser.add_argument("--output", type=Path, default=Path("runs/paper"), help="folder of runs and table")
    parser.add_argument("--options", nargs=argparse.REMAINDER, default=[], help="further options of mia-lightning fit")
    options = parser.parse_args(arguments)
    folder = CONFIGS / "small" if options.small else CONFIGS
    configs = options.configs or sorted(folder.glob("*.yaml"))
    if not configs:
        sys.exit(f"There is no configuration in {folder}; name some, or pass --small.")
    rows = []
    for config in configs:
        rows.append(row_of(config, run(config, options.data, options.output, options.options)))
        write_table(rows, options.output)
        print((options.output / "table.md").read_text(encoding="utf-8"), flush=True)


def run(config: Path, data: Path, output: Path, options: Sequence[str] = ()) -> Path:
    """Train and audit as a configuration says, unless that was done; return the folder of the run."""
    folder = output / config.stem
    notes = folder / FINISHED
    text = config.read_text(encoding="utf-8")
    earlier: dict[str, Any] = json.loads(notes.read_text()) if notes.is_file() else {"finished": False, "seconds": 0.0}
    settings = yaml.safe_load(text)
    same = yaml.safe_load(earlier.get("configuration", text)) == settings  # comments aside
    for name, is_same in (("configuration", same), ("options", earlier.get("options", list(options)) == list(options))):
        if not is_same:
            sys.exit(f"{folder} holds a run with other {name}: delete it, or name another folder with --output.")
    if earlier["finished"]:
        return folder
    root = data / Path(settings["data"]["init_args"]["root"]).name
    if not root.is_dir():
        sys.exit(f"{config.name} is trained on {root}, which is no folder; --data names the one that holds it.")
    logger = "--trainer.logger.init_args."
    command = [sys.executable, "-m", "mia_lightning", "fit", "-c", str(config), f"--data.root={root}"]
    command += [f"{logger}save_dir={output}", f"{logger}name={config.stem}", f"{logger}version=", *options]
    if checkpoints := sorted(folder.glob("checkpoints/*.ckpt"), key=lambda path: path.stat().st_mtime):
        command.append(f"--ckpt_path={checkpoints[-1]}")
    (folder / "config.yaml").unlink(missing_ok=True)  # of a run before, which the command line does not replace
    print(f"$ mia-lightning {' '.join(command[3:])}", flush=True)
    record = {"command": command[3:], "configuration": text, "options": list(options)}
    code = attempt(command, notes, record, earlier["seconds"])
    if code != 0:
        sys.exit(f"{config.name} ended with code {code}; the same command goes on with it.")
    return folder


def attempt(command: Sequence[str], notes: Path, record: Mapping[str, object], spent: float) -> int:
    """Run a command to its end, and note all along what it and attempts before took together; return its code."""
    start = time.monotonic()
    code = None
    process = subprocess.Popen(command)
    try:
        while code is None:
            try:
                code = process.wait(NOTE_EVERY)
            except subprocess.TimeoutExpired:
                pass
            finally:
                notes.parent.mkdir(parents=True, exist_ok=True)
                new = notes.with_suffix(".new")
                seconds = spent + time.monotonic() - start
                new.write_text(json.dumps({"finished": code == 0, "seconds": seconds, **record}))
                new.replace(notes)
    finally:
        if code is None:
            process.kill()
    return code


def row_of(config: Path, folder: Path) -> Row:
    """Read the last audit of a run."""
    result: AuditResult = read_audits(folder / "audit")[-1]
    metrics = result.metrics
    named = [name for name in SCORES if f"audit/auc/{name}" in metrics]
    utility = result.meta.get("utility", {})
    return Row(
        config.stem,
        int(result.member.sum()),
        int((~result.member).sum()),
        {n: (metrics[f"audit/auc/{n}"], metrics[f"audit/auc_low/{n}"], metrics[f"audit/auc_high/{n}"]) for n in named},
        {n: metrics[f"audit/tpr_at_fpr_0.01/{n}"] for n in named},
        next(((name, utility[name]) for name in UTILITY if name in utility), None),
        json.loads((folder / FINISHED).read_text())["seconds"],
    )


def written_area(area: tuple[float, float, float] | None) -> str:
    """An AUC with its interval, where there is one."""
    if area is None:
        return ""
    return f"{area[0]:.3f} (no interval)" if math.isnan(area[1]) else f"{area[0]:.3f} ({area[1]:.2f} to {area[2]:.2f})"


def mean_area(areas: Sequence[float]) -> str:
    """The mean AUC of runs, and of how many, where there are any."""
    return f"**{sum(areas) / len(areas):.3f}** of {len(areas)}" if areas else ""


def write_table(rows: Sequence[Row], output: Path) -> None:
    """Write all runs as Markdown and as CSV."""
    head = ["experiment", "members + nonmembers", *(f"AUC {name}" for name in SCORES)]
    head += ["TPR at 1 % FPR", "utility", "minutes"]
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for row in rows:
        areas = [written_area(row.auc.get(name)) for name in SCORES]
        rates = " / ".join(f"{row.tpr[name]:.2f}" for name in SCORES if name in row.tpr)
        rates = rates if row.nonmembers >= LEAST_NONMEMBERS else "-"
        utility = f"{row.utility[0].removeprefix('val/')} {row.utility[1]:.3f}" if row.utility else ""
        cells = [row.experiment, f"{row.members} + {row.nonmembers}", *areas, rates, utility, f"{row.seconds / 60:.1f}"]
        lines.append(f"| {' | '.join(cells)} |")
    if len(rows) > 1:
        means = [mean_area([row.auc[name][0] for row in rows if name in row.auc]) for name in SCORES]
        minutes = sum(row.seconds for row in rows) / 60
        lines.append(f"| **mean** |  | {' | '.join(means)} |  |  | {minutes:.1f} in all |")
    lines += ["", f"TPR at 1 % FPR: {' / '.join(SCORES)}."]
    output.mkdir(parents=True, exist_ok=True)
    (output / "table.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    with (output / "table.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        columns = [f"{kind}_{name}" for name in SCORES for kind in ("auc", "auc_low", "auc_high", "tpr_at_fpr_0.01")]
        writer.writerow(["experiment", "members", "nonmembers", *columns, "utility", "utility_value", "seconds"])
        for row in rows:
            values = [v for n in SCORES for v in (*row.auc.get(n, ("", "", "")), row.tpr.get(n, ""))]
            writer.writerow(
                [row.experiment, row.members, row.nonmembers, *values, *(row.utility or ("", "")), row.seconds]
            )


if __name__ == "__main__":
    main()
