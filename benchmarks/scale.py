"""What the statistics cost: time for 100,000 + 100,000 samples, alone, in groups and slices; memory for a million.

python benchmarks/scale.py
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from mia_lightning.audit.batch_plan import CONTENT, Attacks
from mia_lightning.audit.cache import SEEN
from mia_lightning.audit.config import AuditConfig
from mia_lightning.audit.grouping import Grouping
from mia_lightning.audit.interpretation import Interpretation
from mia_lightning.audit.plausibility import PlausibilityCheck
from mia_lightning.audit.result_assembly import FairnessMemory, OverlapCheck, make_result
from mia_lightning.audit.slicing import Slicing
from mia_lightning.functional.blind import IMAGE_STATISTICS
from mia_lightning.functional.neighbours import AUTO, Choice
from mia_lightning.functional.slice_audit import audit_slices
from mia_lightning.measures.group_auc import group_auc
from mia_lightning.metrics.collector import SampleCollector
from mia_lightning.registry import MetricInputs
from mia_lightning.result.audit_result import AuditResult
from mia_lightning.result.context import AuditContext
from mia_lightning.scores.analysis import Plan, analyse
from mia_lightning.scores.building import NEIGHBOUR, TILES
from mia_lightning.scores.fairness import assess_fairness

ATTACKS = ("reconstruction", "membership", "calibrated", "neighbour", "combined")
GROUPS = 20_000
STATISTICS = tuple(f"{side}_{name}" for side in ("input", "target") for name in IMAGE_STATISTICS) + SEEN


def main() -> None:
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--memory", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--groups", action="store_true", help="groups and slices alone")
    options = parser.parse_args()
    if options.memory:
        memory_of_a_million()
        return
    if options.groups:
        time_of_groups_and_slices()
        return
    time_of_statistics()
    time_of_groups_and_slices()
    subprocess.run([sys.executable, __file__, "--memory"], check=True)


def time_of_statistics(each: int = 100_000) -> None:
    rng = np.random.default_rng(0)
    member = np.arange(2 * each) < each
    shared = rng.normal(size=2 * each)
    raw = {
        "reconstruction": np.exp(shared + 0.5 * rng.normal(size=2 * each) - 0.2 * member),
        "predictability": np.exp(shared + 0.5 * rng.normal(size=2 * each)),
        **{name: rng.normal(size=2 * each) - 0.2 * member for name in (*(NEIGHBOUR + copy for copy in AUTO), TILES)},
    }
    blind = {name: rng.normal(size=2 * each) for name in STATISTICS}
    group = np.repeat(np.arange(GROUPS), 2 * each // GROUPS)
    for unit, codes in (("samples", None), (f"{GROUPS:,} groups", group)):
        start = time.process_time()
        fairness = assess_fairness(blind, raw["predictability"], member, group=codes)
        tested = time.process_time()
        analysis = analyse(raw, blind, member, Plan(ATTACKS, "combined"), fairness=fairness, group=codes)
        scored = time.process_time()
        names = None if codes is None else [str(g) for g in codes.tolist()]
        ids = [str(i) for i in range(2 * each)]
        AuditResult(analysis.metrics, ids, member, analysis.errors, analysis.scores, groups=names).flagged()
        flagged = time.process_time()
        print(
            f"{2 * each:,} samples, counted by {unit}: blind test {tested - start:.2f} s (once for a set of samples); "
            f"five scores, AUC, intervals, TPR, tests, epsilon bounds {scored - tested:.2f} s; p-values and flags "
            f"{flagged - scored:.2f} s; together {flagged - start:.2f} s"
        )


def time_of_groups_and_slices(each: int = 100_000) -> None:
    """What is added to an audit: groups by the ids, and their scores; slices by entries of batches, audited."""
    rng = np.random.default_rng(0)
    member, number = np.arange(2 * each) < each, np.arange(2 * each) * GROUPS // (2 * each)
    ids = [f"patient{g:05d}-{i}" for i, g in enumerate(number.tolist())]
    score, predictability = rng.normal(size=2 * each) + 0.2 * member, rng.normal(size=2 * each)
    rows = [json.dumps([f"site {g % 20}", "f" if g % 2 else "m"]) for g in number.tolist()]

    start = time.process_time()
    names = Grouping(lambda id: id.partition("-")[0]).of(ids)
    result = AuditResult({}, ids, member, {"predictability": predictability}, {"membership": score}, groups=names)
    codes = result.group_codes
    table = result.group_table()
    group_auc(MetricInputs(result.errors, result.scores, member, "membership", group=codes))
    grouped = time.process_time()
    columns = Slicing({"site": None, "sex": None}).columns(rows, ids, ids)
    found = audit_slices(columns, score, member, blind=-predictability, group=codes)
    sliced = time.process_time()
    assert table is not None
    print(
        f"{2 * each:,} samples: grouping in {len(table.names):,} groups, their scores, p-values, flags and AUC "
        f"{grouped - start:.2f} s; {len(found)} slices of two columns {sliced - grouped:.2f} s"
    )


def memory_of_a_million(count: int = 1_000_000, batch: int = 1_000) -> None:
    """Collect rows as an audit does, make the result and write it."""
    settings = AuditConfig(scores=ATTACKS, primary="combined")
    blind = [f"blind/{name}" for name in STATISTICS]
    columns = [CONTENT, "reconstruction", "predictability", *(NEIGHBOUR + n for n in AUTO), TILES, *blind]
    start, rng = _peak(), np.random.default_rng(0)
    collector = SampleCollector([*columns, "reason"])
    for first in range(0, count, batch):
        values = {name: torch.from_numpy(np.exp(rng.normal(size=batch))) for name in columns}
        values["reason"] = torch.zeros(batch)
        names = [f"member-{i:06d}" for i in range(first, first + batch)]
        collector.update(names, torch.arange(first, first + batch), first < count // 2, values)
    table = collector.compute()
    collector.reset()
    result = make_result(
        table, Interpretation(settings, "translation"), scorer_settings={}, context=AuditContext(),
        attacks=Attacks(tuple(settings.scores), settings.primary, Choice(AUTO, (), ())),
        capped=False, looks=1, fairness=FairnessMemory(), overlap=OverlapCheck(),
        plausibility=PlausibilityCheck(),
    )  # fmt: skip
    del table
    with tempfile.TemporaryDirectory() as folder:
        result.to_csv(Path(folder) / "samples.csv")
        result.to_json(Path(folder) / "result.json")
    print(f"a million samples, {len(columns)} numbers each: {_peak() - start:.0f} MB above the imports")


def _peak() -> float:
    return float(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024


if __name__ == "__main__":
    main()
