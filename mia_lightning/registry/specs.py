"""Declarations of errors, scores and metrics: what each is called, what it means, what it needs, how it is computed."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

Column = NDArray[np.float64]
"""One number a sample, (N,)."""

Sides = NDArray[np.bool_]
"""True for members, (N,)."""

GroupNumbers = NDArray[np.intp]
"""The number of each sample's group, (N,), from 0."""

Task = Literal["translation", "segmentation", "multilabel"]
Need = Literal["neighbours", "references", "history", "nonmembers"]

TASKS: tuple[Task, ...] = ("translation", "segmentation", "multilabel")
_NAME = re.compile(r"[a-z][a-z0-9]*([._][a-z0-9]+)*")
_LAST = 1000


class Colour(NamedTuple):
    """Colour in every figure, as hexadecimal RGB, on a light and on a dark ground."""

    light: str
    dark: str


class Outputs(NamedTuple):
    """A batch that the model has answered.

    Attributes:
        prediction: Translation: images (B, C, H, W) in [0, 1]. Segmentation: logits (B, K, H, W), K = 1 for binary.
            Multilabel: logits (B, K, H, W) of independent channels.
        target: Translation: images (B, C, H, W) in [0, 1]. Segmentation: label maps (B, H, W), int64.
            Multilabel: masks (B, K, H, W) in [0, 1], NaN where they are ignored.
            Of volumes, both have D before H.
        task: The task.
        ignore_index: Label of ignored pixels; negative labels are ignored, too.
        labels_only: Whether the model gave class numbers and nothing else: its logits then make one class certain.
    """

    prediction: Tensor
    target: Tensor
    task: Task
    ignore_index: int = 255
    labels_only: bool = False


@dataclass(frozen=True, eq=False)
class ErrorTable:
    """Errors of all samples, from which further ones are derived.

    Attributes:
        errors: Errors by name, each (N,), low = member.
        log_ratios: log r(x, y) - log r(Tx, Ty) for each neighbour T, by its name, each (N,).
        member: True for members, (N,).
        alpha: Weight of the predictability error.
        seed: Seed of folds.
        group: Number of each sample's group, (N,), which folds do not split; None where there are no groups.
        tile_ratio: The log-ratio to the easiest neighbours, tile by tile, (N,); None where it was not measured.
    """

    errors: Mapping[str, Column]
    log_ratios: Mapping[str, Column]
    member: Sides
    alpha: float = 1.0
    seed: int = 0
    group: GroupNumbers | None = None
    tile_ratio: Column | None = None


@dataclass(frozen=True, eq=False)
class ScoreInputs:
    """What a score is computed from.

    Attributes:
        errors: Errors by name, each (N,), low = member.
        member: True for members, (N,). An attack looks at it to fit on nonmembers only, and cross-fits.
        seed: Seed of folds.
        history: Errors of the earlier audits of the same training, in order, each (N,) in the order of these samples;
            NaN where an earlier audit has no number of a sample. Given to scores that need ``"history"``.
        references: Statistics of reference models on the same samples, a
            :class:`~mia_lightning.scores.reference_statistics.References`, for scores that need ``"references"``.
        group: Number of each sample's group, (N,), which folds do not split; None where there are no groups.
    """

    errors: Mapping[str, Column]
    member: Sides
    seed: int = 0
    history: Sequence[Mapping[str, Column]] = ()
    references: Any = None
    group: GroupNumbers | None = None


class Look(NamedTuple):
    """One look at a training, as its statistics see it when all looks are allowed for.

    Attributes:
        p_values: Corrected p-value by score, of those that claims rest on.
        exposed: Corrected p-value of the most exposed samples by the same scores.
        levels: By score, the confidence at which its own interval holds together with those of all other looks.
        number: Which look it is, from 1.
        planned: How many there will be, by the plan of now.
        spent: Share of the error that it and those before use up.
        open: Whether the length of the training is open, so that the plan is one of several.
        share: Share of the error that this look uses up by itself.
    """

    p_values: Mapping[str, float]
    exposed: Mapping[str, float]
    levels: Mapping[str, float]
    number: int
    planned: int
    spent: float
    open: bool = False
    share: float = 1.0


@dataclass(frozen=True, eq=False)
class MetricInputs:
    """What a metric of a whole audit is computed from; both sides have samples unless the metric is one-sided.

    Attributes:
        errors: Errors by name, each (N,), low = member.
        scores: Scores by name, each (N,), high = member.
        member: True for members, (N,).
        primary: Name of the score behind the headline.
        level: Confidence of intervals and bounds.
        looks: Number of audits of the same training that are looked at.
        look: What the tests of all looks at the training make of this one; None outside of a training.
        seed: Seed of folds and permutations.
        group: Number of each sample's group, (N,): groups count in place of samples; None where there are no groups.
    """

    errors: Mapping[str, Column]
    scores: Mapping[str, Column]
    member: Sides
    primary: str
    level: float = 0.95
    looks: int = 1
    seed: int = 0
    group: GroupNumbers | None = None
    look: Look | None = None


class Estimate(NamedTuple):
    """A number with its confidence interval; NaN where it has none."""

    value: float
    low: float = float("nan")
    high: float = float("nan")


@dataclass(frozen=True, kw_only=True)
class Spec:
    """What errors, scores and metrics have in common.

    Attributes:
        name: Name in settings, metric keys and columns: lower case letters, digits, underscores and points.
        label: Short heading of tables and figures, at most 16 characters.
        sentence: One sentence of what it is, for reports.
        order: Place among others of its kind; what is registered later comes last by default.
        built_in: Whether the package brings it; the decorators tell by the function's module.
    """

    name: str
    label: str
    sentence: str
    order: int = _LAST
    built_in: bool = False

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(
                f"Expected a name of lower case letters, digits and underscores, such as 'l2_error' (it becomes a part "
                f"of metric keys and column names), but got {self.name!r}."
            )
        if not self.label or not self.sentence:
            raise ValueError(f"Expected a label and a sentence for {self.name!r}: reports and tables show them.")


@dataclass(frozen=True, kw_only=True)
class ErrorSpec(Spec):
    """An error of single samples; **low means member**.

    Attributes:
        measure: Computes it from a batch that the model has answered: :class:`Outputs` -> (B,). None for derived errors
            and for the predictability error, which the audit's scorer measures.
        derive: Computes it from the errors of all samples: :class:`ErrorTable` -> (N,), or None where these samples do
            not have it.
        each_class: Computes an error of each class (of independent channels, each channel) from a batch that the model
            has answered, in place of the two above: :class:`Outputs` -> (B, K), NaN where a target does not show the
            class. Each is an error of its own, ``<name>/<class>``, with an AUC among the samples that show the class.
        tasks: The tasks that it is defined for.
        always: Whether every audit has it; others are asked for by ``errors=``, or by a score that needs them.
        needs: ``"neighbours"`` where it is derived from errors on transformed copies.
        colour: Its colour in figures; None takes a spare one.
    """

    measure: Callable[[Outputs], Tensor] | None = None
    derive: Callable[[ErrorTable], Column | None] | None = None
    each_class: Callable[[Outputs], Tensor] | None = None
    tasks: tuple[Task, ...] = TASKS
    always: bool = False
    needs: frozenset[Need] = frozenset()
    colour: Colour | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.each_class is not None and ("translation" in self.tasks or self.always):
            raise ValueError(
                f"The error {self.name!r} is of each class, which pictures do not have: register it with "
                "tasks=('segmentation', 'multilabel'), or one of them, and not for every audit."
            )


@dataclass(frozen=True, kw_only=True)
class ScoreSpec(Spec):
    """A score of single samples; **high means member**.

    Attributes:
        function: Computes it: :class:`ScoreInputs` -> (N,). None where a procedure of its own does (the patch attack).
        errors: Errors that it needs.
        further_errors: Errors that it takes where samples have them.
        needs: What else it needs: errors on transformed copies (``"neighbours"``), reference models, the errors of
            earlier audits (``"history"``), or enough nonmembers to fit on (``"nonmembers"``).
        attack: Whether it could be computed by somebody who does not know who is a member.
        interval: Whether DeLong's interval holds for its AUC.
        own_test: AUC and p-value by a test of its own, where DeLong's interval does not hold.
        remark: What is said of it beside its name, such as ``"told who is a member (estimate)"``.
        statement: What an audit states of it under its name in ``meta["interpretation"]``: what it was made of, or why
            it is absent. Takes :class:`ScoreInputs` and, for each audit of its history, when it was made (``"after
            step 120"``, or an empty text). None: nothing.
        colour: Its colour in figures; None takes a spare one.
    """

    function: Callable[[ScoreInputs], Column] | None = None
    errors: tuple[str, ...] = ()
    further_errors: tuple[str, ...] = ()
    needs: frozenset[Need] = frozenset()
    attack: bool = True
    interval: bool = True
    own_test: Callable[[ScoreInputs], tuple[float, float]] | None = None
    remark: str = ""
    statement: Callable[[ScoreInputs, Sequence[str]], str] | None = None
    colour: Colour | None = None


@dataclass(frozen=True, kw_only=True)
class MetricSpec(Spec):
    """A number of an audit.

    Attributes:
        of: ``"score"``: computed for each score, with the key ``<name>/<score>``; ``"audit"``: once, with the key
            ``<name>``.
        function: ``"score"``: (score (N,), member (N,), level) -> :class:`Estimate` or a number; with ``grouped``
            numbers of the groups, (N,) or None, come fourth. ``"audit"``:
            :class:`MetricInputs` -> :class:`Estimate`, a number, or several by key. None:
            the analysis itself makes the numbers (those of the blind classifier and of epsilon).
        bounds: Names of the keys of the interval's two ends; empty where there is none.
        keys: ``"audit"``: the keys of a function that returns several, or that the analysis makes.
        promised: Keys, or what stands before their slash, that are logged where they are NaN, too: stopping rules fail
            where the key that they watch is missing.
        headline: Whether the primary score's value is repeated under the bare name.
        applies: Whether an audit has the metric at all, by its :class:`MetricInputs`; None: every audit has it.
        without_scores: Whether it is computed where the primary score has no number for a sample, too.
        one_sided: Whether it is computed where a side has no samples, too.
        grouped: Whether the function of a score takes the groups: its interval then counts groups. The interval of one
            that does not is left out where samples come in groups.
        fewest_nonmembers: Nonmembers, or groups of them, below which an audit does not have the metric at all.
    """

    of: Literal["score", "audit"] = "score"
    function: Callable[..., Any] | None = None
    bounds: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    promised: tuple[str, ...] = ()
    headline: bool = False
    applies: Callable[[MetricInputs], bool] | None = None
    without_scores: bool = False
    one_sided: bool = False
    grouped: bool = False
    fewest_nonmembers: int = 0
