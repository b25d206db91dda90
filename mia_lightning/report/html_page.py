"""The report as one self-contained HTML page."""

from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from mia_lightning import registry
from mia_lightning.figures.palette import palette
from mia_lightning.report import charts, exposed_groups, exposed_samples, slices, statements
from mia_lightning.report.formatting import NONE
from mia_lightning.report.run import Run, when
from mia_lightning.result.remarks import sizes
from mia_lightning.result.verdict import Grade
from mia_lightning.version import __version__

_TONES: dict[Grade, str] = {"strong": "bad", "weak": "warn", "none": "good"}
_CONFIG = 20_000  # characters of a configuration that are shown
_EXCLUDED = 50
_SMALL_SLICES = 10  # slices without numbers that are listed


def html(run: Run) -> str:
    """Write a report as HTML: one page, no network, no scripts, light and dark, for the screen and for paper.

    Ids, paths, notes and settings of the run are text, whatever they look like.
    """
    result = run.result
    return render(
        "report.html",
        title=f"Membership audit of {run.name}",
        run=run,
        result=result,
        when=when(result),
        task=result.meta.get("task"),
        sides=sizes(result),
        aside=statements.aside(run.aside),
        failures=statements.failures(run.failures),
        verdict=result.verdict,
        tone=tone(result.verdict.grade),
        key_numbers=statements.key_numbers(result),
        primary=registry.scores.label(result.primary),
        metrics=statements.further_metrics(result),
        errors=statements.error_table(result),
        scores=statements.scores_table(result) if len(result.scores) > 1 else [],
        curve=charts.memorization_curve(run.course),
        distributions=charts.distributions(result),
        roc=charts.roc(result),
        trade_offs=charts.trade_offs(run.course),
        undrawn=charts.utilities(run.course)[charts.METRICS :],
        groups_in_words=exposed_groups.groups_in_words(run),
        group_head=exposed_groups.HEAD,
        groups=exposed_groups.most_exposed_groups(run),
        slices_in_words=slices.slices_in_words(result),
        slice_head=slices.HEAD,
        slices=slices.slice_rows(result, small=_SMALL_SLICES),
        flagged=exposed_samples.flagged_in_words(run),
        galleries=exposed_samples.galleries(run),
        listed=exposed_samples.most_exposed(run),
        fairness=statements.fairness(result),
        methods=statements.methods(result),
        settings=statements.settings(result),
        provenance=statements.provenance(result),
        reasons=statements.exclusions(result),
        excluded=[[e.get(k, NONE) for k in ("id", "side", "reason")] for e in result.excluded[:_EXCLUDED]],
        config=run.config and run.config[:_CONFIG],
        config_cut=len(run.config or "") > _CONFIG,
        limits=statements.limits(result),
    )


def tone(grade: Grade) -> str:
    """Style of a grade: ``bad``, ``warn``, ``good``, or ``open`` where the audit is inconclusive."""
    return _TONES.get(grade, "open")


def render(template: str, **values: Any) -> str:
    """Fill a template of the package; every value is escaped but the charts, which have escaped theirs."""
    return _environment().get_template(template).render(version=__version__, palette=palette(), **values)


@cache
def _environment() -> Environment:
    loader = FileSystemLoader(Path(__file__).parent / "templates")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
