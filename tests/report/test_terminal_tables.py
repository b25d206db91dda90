"""Tables of the terminal read the registries: labels, remarks, and whatever others have registered."""

import io
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from mia_lightning import registry
from mia_lightning.cli.printing import print_history
from mia_lightning.report.terminal_tables import curve_table, further_metrics_table, scores_table
from mia_lightning.result.audit_result import AuditResult
from mia_lightning.scores.summary import summarise


@pytest.fixture
def plugins():
    """A score and two metrics of somebody else, forgotten afterwards."""

    @registry.register_score("louder", label="louder guess", sentence="ten times the membership score.", remark="loud")
    def louder(inputs: registry.ScoreInputs) -> np.ndarray:
        return -10 * inputs.errors["membership"]

    @registry.register_metric("gap", label="gap", sentence="mean distance.", bounds=("gap_low", "gap_high"))
    def gap(score: np.ndarray, member: np.ndarray, level: float) -> registry.Estimate:
        distance = float(score[member].mean() - score[~member].mean())
        return registry.Estimate(distance, distance - 1, distance + 1)

    @registry.register_metric("hardness", label="hardness", sentence="mean error.", of="audit")
    def hardness(inputs: registry.MetricInputs) -> float:
        return float(inputs.errors["reconstruction"].mean())

    yield
    registry.scores.remove("louder")
    for name in ("gap", "hardness"):
        registry.metrics.remove(name)


def audit() -> AuditResult:
    member = np.arange(60) < 30
    error = np.random.default_rng(0).normal(1, 0.1, 60) - 0.05 * member
    errors = {"reconstruction": error, "predictability": np.ones(60), "membership": error - 1}
    scores = {"reconstruction": -error, "membership": 1 - error}
    if "louder" in registry.scores:
        scores["louder"] = 10 * scores["membership"]
    meta = {"epoch": 0, "step": 1, "settings": {"prefix": "audit", "primary": "membership"}}
    metrics = summarise(errors, scores, member, primary="membership")
    return AuditResult(metrics, [str(i) for i in range(60)], member, errors, scores, meta)


def lines_of(thing: object) -> list[str]:
    console = Console(file=io.StringIO(), width=80, force_terminal=False)
    console.print(thing)
    return console.file.getvalue().splitlines()


def test_a_registered_score_and_metric_are_in_the_tables(plugins):
    result = audit()
    (row,) = [line for line in lines_of(scores_table(result)) if "louder guess (loud)" in line]
    assert f"{result.metric('auc/louder'):.3f}" in row
    assert "membership (primary)" in "\n".join(lines_of(scores_table(result)))
    rows = [line.split() for line in lines_of(further_metrics_table(result)) if line.startswith(("gap", "hardness"))]
    gap = result.metric("gap/louder")
    assert ["gap", "louder", "guess", f"{gap:.3f}", f"{gap - 1:.3f}", "to", f"{gap + 1:.3f}"] in rows
    assert ["hardness", f"{result.metric('hardness'):.3f}", "-"] in rows
    assert len(rows) == len(result.scores) + 1
    console = Console(file=io.StringIO(), width=80, force_terminal=False)
    print_history(console, [result], [])
    assert "Further metrics" in console.file.getvalue()


def test_without_them_there_is_no_such_table():
    assert further_metrics_table(audit()) is None


def test_scores_that_are_not_registered_here_keep_their_names():
    result = audit()
    values = result.scores | {"of_an_older_release": result.scores["membership"]}
    older = AuditResult(result.metrics, result.ids, result.member, result.errors, values, result.meta)
    assert any("of_an_older_release" in line for line in lines_of(scores_table(older)))


@pytest.mark.parametrize("name", registry.scores.names())
def test_every_label_fits_a_column_of_the_curve(name):
    result = audit()
    values = {name: result.scores["membership"]}
    meta = {"epoch": 0, "settings": {"primary": name}}
    table = curve_table([AuditResult(result.metrics, result.ids, result.member, {}, values, meta)])
    heading = str(table.columns[1].header)
    assert heading.replace("-\n", "").replace("\n", " ") == f"{registry.scores.get(name).label} AUC"
    assert max(map(len, heading.split("\n"))) <= 9


def test_the_caption_says_what_p_values_are_corrected_for():
    plain = audit()
    looked = replace(plain, meta=plain.meta | {"look": {"number": 1, "planned": 4, "spent": 0.2, "open": False}})
    for result, what in ((plain, "p corrected for the number of audits"), (looked, "p corrected for all looks at")):
        assert what in " ".join(" ".join(lines_of(curve_table([result]))).split())
