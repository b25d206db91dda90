"""Scores of several audits of one training, added to an audit by another one, of an earlier checkpoint."""

from dataclasses import replace

import numpy as np

from mia_lightning import registry
from mia_lightning.registry import ScoreInputs
from mia_lightning.result.audit_result import AuditResult
from mia_lightning.result.history import aligned_errors
from mia_lightning.scores.building import score_column
from mia_lightning.scores.summary import score_metrics


def with_history_scores(
    result: AuditResult, earlier: AuditResult, when: str, *, seed: int = 0, level: float = 0.95
) -> AuditResult:
    """Add the package's scores of several audits to a result; all else in it stays as it is.

    Args:
        result: The audit of the later weights; left alone.
        earlier: An audit of earlier weights of the same training, on the same samples.
        when: Which weights these are, such as ``"after step 120"``, for what the result states of the scores.
        seed: Seed of the folds of the audit.
        level: Confidence of the intervals.

    Returns:
        A copy with these scores and their metrics, and what they were made of in ``meta["interpretation"]``. A score
        that has no number of some sample, or lacks an error that it needs, is left out, and the result's notes say why.
    """
    history = [aligned_errors(earlier, result.ids, result.member)]
    inputs = ScoreInputs(result.errors, result.member, seed, history, group=result.group_codes)
    scores, metrics, stated, notes = dict(result.scores), dict(result.metrics), dict[str, str](), list[str]()
    for spec in registry.scores:
        if not spec.built_in or "history" not in spec.needs:
            continue
        if missing := " and ".join(name for name in spec.errors if name not in result.errors):
            notes.append(f"No score {spec.name}: it needs {missing}, not measured here; add {spec.name} to scores.")
            continue
        score, statement = score_column(spec, inputs), "" if spec.statement is None else spec.statement(inputs, [when])
        if result.member.all() or not result.member.any() or not np.isfinite(score).all():
            notes.append(f"No score {spec.name}: {statement or 'it has no number of some samples'}.")
            stated[spec.name] = statement
            continue
        scores[spec.name], stated[spec.name] = score, statement
        found = score_metrics(spec.name, score, result.member, level, result.group_codes)
        metrics |= {f"{result.prefix}/{key}": value for key, value in found.items()}
    meta = result.meta | {
        "interpretation": result.meta.get("interpretation", {}) | {name: text for name, text in stated.items() if text},
        "notes": [*result.meta.get("notes", []), *notes],
    }
    return replace(result, scores=scores, metrics=metrics, meta=meta)
