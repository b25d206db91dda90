"""The copyright question: was a model trained on these images? A test, its conclusion, and what may be said of it."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mia_lightning.evidence.wording import CANNOT_CONCLUDE, conclude, render, statements
from mia_lightning.functional.blind import SIGNIFICANT
from mia_lightning.functional.calibration import log_error
from mia_lightning.functional.folds import assign_folds
from mia_lightning.functional.intervals import delong_interval
from mia_lightning.functional.p_values import collection_p_value, conformal_p_values, simes_p_value
from mia_lightning.result.atomic_files import write_atomically
from mia_lightning.result.audit_result import AuditResult
from mia_lightning.scores.fairness import assess_fairness

Column = NDArray[np.float64]

_FORMAT = 1
_FOLDS = 5
_SIDES = {"member": "suspect", "nonmember": "reference"}
_SAID_ELSEWHERE = ("epsilon", "looks", "notes")


@dataclass(frozen=True)
class Sample:
    """One image of either side.

    Attributes:
        id: Its name.
        score: Its score, higher = more likely trained on.
        p_value: Of a suspect: the chance that a reference image would score as high. NaN for the reference.
        flagged: Whether a suspect stands out at the false discovery rate; never where the sets differ by themselves or
            nothing can be concluded.
    """

    id: str
    score: float
    p_value: float = math.nan
    flagged: bool = False


@dataclass(frozen=True)
class Comparison:
    """Suspects against reference as two collections. All p-values are one-sided.

    Attributes:
        suspects: Number of suspects.
        references: Number of reference images.
        p_value: Fisher's statistic over conformal p-values with its permutation null: the collection's p-value.
        adjusted_p_value: The same of what the statistics of the pairs (brightness and so on) do not explain of the
            score, by a regression fitted on the reference.
        simes_p_value: Simes' combination, beside it.
        auc: Chance that a suspect outscores a reference image.
        auc_low: Lower end of its 95 % interval.
        auc_high: Upper end.
    """

    suspects: int
    references: int
    p_value: float = math.nan
    adjusted_p_value: float = math.nan
    simes_p_value: float = math.nan
    auc: float = math.nan
    auc_low: float = math.nan
    auc_high: float = math.nan


@dataclass(frozen=True)
class Evidence:
    """What an audit of suspects against a reference shows.

    Attributes:
        conclusion: ``"supported"``, ``"not supported"`` or ``"cannot conclude"``.
        reason: Why, in a sentence or two.
        whole: All suspects against all of the reference.
        matched: Where the sets differ by themselves, the part of both that is alike; None otherwise.
        blind_auc: How well an attack that never asks the model tells the two sets apart.
        blind_p_value: Chance of such an area if nothing told them apart; NaN with fewer than 4 images on a side.
        level: P-value at or below which the claim counts as supported.
        fdr: False discovery rate at which single suspects are flagged.
        seed: Seed of folds and permutations.
        primary: Name of the score.
        suspects: The suspects, lowest p-value first.
        reference: The reference, highest score first.
        may_conclude: Sentences on what follows.
        may_not_conclude: Sentences on what does not.
        excluded: Images left out, each ``{"id", "side", "reason"}``.
        notes: Further remarks on how the numbers came about.
        meta: Task, checkpoint, settings and versions, as plain JSON values.
    """

    conclusion: str
    reason: str
    whole: Comparison
    matched: Comparison | None
    blind_auc: float
    blind_p_value: float
    level: float
    fdr: float
    seed: int
    primary: str
    suspects: list[Sample]
    reference: list[Sample]
    may_conclude: list[str]
    may_not_conclude: list[str]
    excluded: list[dict[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    meta: dict[str, Any] = field(default_factory=dict)

    @property
    def smallest_p_value(self) -> float:
        """The smallest p-value that a single suspect can have against this many references."""
        return 1.0 / (1.0 + self.whole.references)

    def to_text(self) -> str:
        """Put everything into plain words and tables of at most 100 columns."""
        return render(self)

    def to_json(self, path: str | Path) -> Path:
        """Write everything as JSON; floats keep every bit, NaN becomes null.

        Args:
            path: File to write; replaced in one step.

        Returns:
            The path written.
        """
        content = {"format": _FORMAT, "smallest_p_value": self.smallest_p_value, **asdict(self)}
        return write_atomically(path, json.dumps(_without_nan(content), indent=1, allow_nan=False) + "\n")

    @classmethod
    def from_json(cls, path: str | Path) -> Evidence:
        """Read what :meth:`to_json` wrote.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If the file holds no evidence.
        """
        try:
            plain = json.loads(Path(path).read_text(encoding="utf-8"))
            if plain.get("format") != _FORMAT:
                raise ValueError(f"expected evidence of format {_FORMAT}, found {plain.get('format')!r}")  # noqa: TRY301 - one message for all
            return cls(**_from_plain(plain))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} does not hold evidence: {error}") from error


def check_level(level: float) -> None:
    """Raise ValueError for a level that shuffles cannot resolve."""
    if not 0.001 <= level <= 0.1:
        raise ValueError(f"Expected a level in [0.001, 0.1], which shuffles can resolve, but got {level}.")


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
    suspects, reference = _samples(result, fdr, may_flag=may_flag)
    may, may_not = statements(conclusion, whole, matched, [s.id for s in suspects if s.flagged], fdr)
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
        meta={k: v for k, v in result.meta.items() if k not in _SAID_ELSEWHERE},
    )


def _compare(result: AuditResult, rows: NDArray[np.intp], score: Column, seed: int) -> Comparison:
    """Test the suspects among some rows against the references among them."""
    suspect = result.member[rows]
    counts = int(suspect.sum()), int((~suspect).sum())
    if 0 in counts:
        return Comparison(*counts)
    part = score[rows]
    adjusted = _adjusted(result, score, seed)[rows]
    auc, low, high = delong_interval(part, suspect)
    return Comparison(
        *counts,
        p_value=collection_p_value(part[suspect], part[~suspect], seed=seed),
        adjusted_p_value=collection_p_value(adjusted[suspect], adjusted[~suspect], seed=seed),
        simes_p_value=simes_p_value(conformal_p_values(part[suspect], part[~suspect])),
        auc=auc,
        auc_low=low,
        auc_high=high,
    )


def _matched(result: AuditResult, seed: int) -> Comparison:
    """Test those suspects and references that are alike in what the blind attack sees."""
    own_seed = int(result.meta.get("settings", {}).get("seed", seed))  # the one behind the p-value that calls for this
    fairness = assess_fairness(result.blind, result.errors["predictability"], result.member, seed=own_seed)
    rows = np.empty(0, dtype=np.intp) if fairness.matched is None else fairness.matched
    return _compare(result, rows, result.scores[result.primary], seed)


def _adjusted(result: AuditResult, score: Column, seed: int) -> Column:
    """What the statistics of the pairs do not explain of a score.

    A ridge regression on standardised statistics, fitted on references outside the sample's fold. The penalty, as
    many as there are statistics, is that of a belief that they explain about half of the score: few references shrink
    it to nothing instead of fitting noise.
    """
    table = np.column_stack([*result.blind.values(), log_error(result.errors["predictability"])])
    reference = ~result.member
    fold = assign_folds(result.member, _FOLDS, seed)
    adjusted = np.array(score)
    for number in range(_FOLDS):
        fitted = table[(fold != number) & reference]
        if not len(fitted):
            continue
        centre, spread = fitted.mean(0), fitted.std(0)
        known = spread > 1e-12 * (1.0 + np.abs(centre))
        x = (table[:, known] - centre[known]) / spread[known]
        given, wanted = x[(fold != number) & reference], score[(fold != number) & reference]
        gram = given.T @ given + len(x.T) * np.eye(len(x.T))
        slope = np.linalg.solve(gram, given.T @ (wanted - wanted.mean()))
        adjusted[fold == number] -= wanted.mean() + x[fold == number] @ slope
    return adjusted


def _samples(result: AuditResult, fdr: float, *, may_flag: bool) -> tuple[list[Sample], list[Sample]]:
    """Both sides, the most suspicious first; ties by name."""
    score, p_values = result.scores[result.primary].tolist(), result.p_values().tolist()
    flagged = result.flagged(fdr).tolist() if may_flag else [False] * len(score)
    order = sorted(range(len(score)), key=lambda i: (-score[i], result.ids[i]))
    suspects = [Sample(result.ids[i], score[i], p_values[i], flagged[i]) for i in order if result.member[i]]
    return suspects, [Sample(result.ids[i], score[i]) for i in order if not result.member[i]]


def _from_plain(plain: dict[str, Any]) -> dict[str, Any]:
    """Turn parsed JSON into the arguments of :class:`Evidence`."""
    fields = {k: v for k, v in plain.items() if k not in ("format", "smallest_p_value")}
    fields |= _with_nan({k: fields[k] for k in ("blind_auc", "blind_p_value")})
    fields |= {k: [Sample(**_with_nan(row)) for row in fields[k]] for k in ("suspects", "reference")}
    parts = {k: fields[k] for k in ("whole", "matched")}
    return fields | {k: None if v is None else Comparison(**_with_nan(v)) for k, v in parts.items()}


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_nan(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_without_nan(v) for v in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _with_nan(row: dict[str, Any]) -> dict[str, Any]:
    return {k: math.nan if v is None else v for k, v in row.items()}
