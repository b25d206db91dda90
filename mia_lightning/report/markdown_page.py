"""The report as Markdown: short for a pull request, and as a section of a model card."""

from collections.abc import Sequence

from mia_lightning import registry
from mia_lightning.report import exposed_samples, slices, statements
from mia_lightning.report.charts import curve_table
from mia_lightning.report.run import Run, when
from mia_lightning.result.audit_result import AuditResult
from mia_lightning.result.markdown_text import for_pull_request, table
from mia_lightning.result.remarks import sizes
from mia_lightning.result.verdict import headline
from mia_lightning.version import __version__

TOP = 10
"""Exposed members, and slices with numbers, that are listed."""
_AUDITS = 20  # rows of the table of audits; a longer one hides the rest of a pull request


def markdown(run: Run) -> str:
    """Write a report that fits a pull request; ids and other text of users are escaped, and mention nobody."""
    verdict, result = run.result.verdict, run.result
    audits = curve_table(run.course)
    blocks = [
        f"## Membership audit of {for_pull_request(run.name)}: {verdict.grade}",
        f"**{for_pull_request(headline(result))}**",
        *map(for_pull_request, verdict.sentences),
        _list(verdict.remarks),
        for_pull_request(statements.aside(run.aside)),
        _list(statements.failures(run.failures)),
        _numbers(result),
        _further_metrics(result),
    ]
    if len(run.course) > 1:
        cut = f"The last {_AUDITS} of {len(audits.rows)}:" if len(audits.rows) > _AUDITS else ""
        blocks += ["### Audits", cut, table(audits.head, audits.rows[-_AUDITS:])]
    if values := statements.utility(result):
        blocks.append(f"Utility at the last audit: {for_pull_request(', '.join(f'{k} {v}' for k, v in values))}.")
    if words := slices.slices_in_words(result):
        blocks += ["### Slices", for_pull_request(" ".join(words)), table(slices.HEAD, slices.slice_rows(result, TOP))]
    if samples := exposed_samples.most_exposed(run, TOP):
        score = f"{registry.scores.label(result.primary)} score"
        head = ["id", score, *samples[0].errors, "p-value", "flagged", "since"]
        rows = [[s.id, s.score, *s.errors.values(), s.p_value, s.mark, s.since or "-"] for s in samples]
        flagged = for_pull_request(exposed_samples.flagged_in_words(run))
        blocks += ["### Most exposed members", flagged, table(head, rows)]
    blocks += ["### Fairness of the comparison", _list(statements.fairness(result))]
    if reasons := statements.exclusions(result):
        blocks += ["### Left out", _list([f"{count}: {reason}" for reason, count in reasons])]
    blocks.append(f"<sub>mia_lightning {__version__}; report.html has the limits of these numbers.</sub>")
    return _joined(blocks)


def model_card(run: Run) -> str:
    """Write a section for a model card, as Hugging Face shows them, with a heading of the second level."""
    result, verdict = run.result, run.result.verdict
    age = f" {when(result)}" if when(result) else ""
    versions = ", ".join(f"{name} {version}" for name, version in result.meta.get("versions", {}).items())
    seed = result.meta.get("settings", {}).get("seed", "unknown")
    audited = for_pull_request(f"Audited with {versions or 'unknown versions'}; seed {seed}.")
    head = ["score", "AUC", "95 % interval", "TPR at 1 % FPR", "at 0.1 %", "at 0 %"]
    blocks = [
        "## Privacy: membership audit",
        f"Whether the model reveals which samples it was trained on, tested{age} on {sizes(result)}. "
        f"**Verdict: {verdict.summary}.** It rests on the {verdict.score} score.",
        for_pull_request(" ".join(verdict.sentences)),
        _list(verdict.remarks),
        "### Results",
        _numbers(result),
        table(head, statements.scores_table(result)),
        _list(statements.unknown_rates(result)),
        _further_metrics(result),
        "### Data and method",
        _list([*statements.fairness(result), *(f"Score {name}: {what}" for name, what in statements.methods(result))]),
        "### Limits",
        _list(statements.limits(result)),
        f"<sub>{audited}</sub>",
    ]
    return _joined(blocks)


def _numbers(result: AuditResult) -> str:
    rows = [[f.label, f.value, f.note] for f in statements.key_numbers(result)]
    return table(("number", "value", "meaning"), rows, 3)


def _further_metrics(result: AuditResult) -> str:
    rows = statements.further_metrics(result)
    return table(("metric", "value", "95 % interval", "meaning"), rows) if rows else ""


def _list(sentences: Sequence[str]) -> str:
    return "\n".join(f"- {for_pull_request(sentence)}" for sentence in sentences)


def _joined(blocks: Sequence[str]) -> str:
    return "\n\n".join(block for block in blocks if block) + "\n"
