"""The test for evidence: were suspects treated by a model as images that it was trained on?"""

import numpy as np
from numpy.typing import NDArray

from mia_lightning.evidence.comparison import Comparison, ScoredImage
from mia_lightning.evidence.decision import CANNOT_CONCLUDE, check_level, conclude, statements
from mia_lightning.evidence.evidence_record import Evidence
from mia_lightning.functional.adjustment import adjusted_score, statistics_table
from mia_lightning.functional.blind import SIGNIFICANT
from mia_lightning.functional.groups import units
from mia_lightning.functional.intervals import delong_interval
from mia_lightning.functional.p_values import collection_p_value, member_p_values, simes_p_value
from mia_lightning.result.audit_result import AuditResult
from mia_lightning.scores.fairness import assess_fairness

Column = NDArray[np.float64]

_SIDES = {"member": "suspect", "nonmember": "reference"}
_REPORTED_ELSEWHERE = ("epsilon", "looks", "notes")


def weigh(result: AuditResult, *, level: float = 0.01, fdr: float = 0.1, seed: int = 0) -> Evidence:
    """Weigh an audit in which suspects stand in the place of members and the reference in that of nonmembers.

    The claim is that some of the suspects were trained on. It is *supported* only if the two sets look alike without
    the model, the collection's p-value is at or below the level, and so is the p-value adjusted for what the pairs
    show by themselves: a difference too small for the blind check can still move a score that depends on it. Where the
    blind check does find a difference, 20 or more matched pairs that pass both tests may support the claim, but not
    speak against it. Too little data, or a difference that nothing corrects, gives *cannot conclude*. (Conformal
    p-values: Bates et al., Annals of Statistics 2023. Matching and regression together: Rubin, JASA 1979.)

    Args:
        result: The audit. Its scores were fitted, if at all, on the reference alone and cross-fitted.
        level: P-value at or below which the claim counts as supported, in [0.001, 0.1].
        fdr: False discovery rate at which single suspects are flagged, in (0, 1).
        seed: Seed of folds and permutations.

    Returns:
        The evidence.

    Raises:
        ValueError: If the level or the rate is out of range.

    Example:
        >>> generator = np.random.default_rng(0)
        >>> suspect = np.arange(80) < 40
        >>> errors = {"reconstruction": generator.uniform(0.2, 0.4, 80) - 0.15 * suspect, "predictability": np.ones(80)}
        >>> scores = {"reconstruction": -errors["reconstruction"]}
        >>> metrics = {"audit/blind_auc": 0.5, "audit/blind_p_value": 1.0}
        >>> evidence = weigh(AuditResult(metrics, [f"{i:02d}" for i in range(80)], suspect, errors, scores))
        >>> evidence.conclusion, evidence.whole.p_value
        ('supported', 0.0001)
    """
    check_level(level)
    if not 0.0 < fdr < 1.0:
        raise ValueError(f"Expected a false discovery rate fdr in (0, 1), but got {fdr}.")
    blind_auc, blind_p_value = result.metric("blind_auc"), result.metric("blind_p_value")
    whole = _compare(result, np.arange(len(result.ids)), result.scores[result.primary], seed)
    matched = _matched(result, seed) if blind_p_value < SIGNIFICANT else None
    conclusion, reason = conclude(whole, matched, blind_auc, blind_p_value, level)
    may_flag = conclusion != CANNOT_CONCLUDE and matched is None  # elsewhere single p-values mean little
    suspects, reference = _scored_images(result, fdr, may_flag=may_flag)
    may, may_not = statements(conclusion, whole, matched, [s.id for s in suspects if s.flagged], fdr, level)
    return Evidence(
        conclusion=conclusion,
        reason=reason,
        whole=whole,
        matched=matched,
        blind_auc=blind_auc,
        blind_p_value=blind_p_value,
        level=level,
        fdr=fdr,
        seed=seed,
        primary=result.primary,
        suspects=suspects,
        reference=reference,
        may_conclude=may,
        may_not_conclude=may_not,
        excluded=[row | {"side": _SIDES.get(row["side"], row["side"])} for row in result.excluded],
        notes=list(result.meta.get("notes", [])),
        meta={k: v for k, v in result.meta.items() if k not in _REPORTED_ELSEWHERE} | {"errors": list(result.errors)},
    )


def _compare(result: AuditResult, rows: NDArray[np.intp], score: Column, seed: int) -> Comparison:
    """Test the suspects among some rows against the references among them."""
    suspect = result.member[rows]
    counts = int(suspect.sum()), int((~suspect).sum())
    codes = None if result.group_codes is None else result.group_codes[rows]
    groups_a_side = (0, 0) if codes is None else units(suspect, codes)
    in_groups = dict(zip(("suspect_groups", "reference_groups"), groups_a_side, strict=True))
    if 0 in counts:
        return Comparison(*counts, **in_groups)
    part = score[rows]
    table = statistics_table(result.blind, result.errors["predictability"])
    adjusted = adjusted_score(score, table, result.member, seed=seed, group=result.group_codes)[rows]
    groups = None if codes is None else (codes[suspect], codes[~suspect])
    auc, low, high = delong_interval(part, suspect, group=codes)
    return Comparison(
        *counts,
        p_value=collection_p_value(part[suspect], part[~suspect], seed=seed, groups=groups),
        adjusted_p_value=collection_p_value(adjusted[suspect], adjusted[~suspect], seed=seed, groups=groups),
        simes_p_value=simes_p_value(member_p_values(part, suspect, codes)[suspect]),
        auc=auc,
        auc_low=low,
        auc_high=high,
        **in_groups,
    )


def _matched(result: AuditResult, seed: int) -> Comparison:
    """Test those suspects and references that are alike in what the blind attack sees."""
    own_seed = int(result.meta.get("settings", {}).get("seed", seed))  # the one behind the p-value that calls for this
    statistics = result.blind, result.errors["predictability"]
    fairness = assess_fairness(*statistics, result.member, seed=own_seed, group=result.group_codes)
    rows = np.empty(0, dtype=np.intp) if fairness.matched is None else fairness.matched
    return _compare(result, rows, result.scores[result.primary], seed)


def _scored_images(result: AuditResult, fdr: float, *, may_flag: bool) -> tuple[list[ScoredImage], list[ScoredImage]]:
    """Both sides, the most suspicious first; ties by name."""
    score, p_values = result.scores[result.primary].tolist(), result.p_values().tolist()
    flagged = result.flagged(fdr).tolist() if may_flag else [False] * len(score)
    order = sorted(range(len(score)), key=lambda i: (-score[i], result.ids[i]))
    suspects = [ScoredImage(result.ids[i], score[i], p_values[i], flagged[i]) for i in order if result.member[i]]
    return suspects, [ScoredImage(result.ids[i], score[i]) for i in order if not result.member[i]]
