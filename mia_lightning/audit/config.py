"""The settings of an audit: declared, documented and checked here, and nowhere else."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack, get_args

from mia_lightning.audit.slice_columns import Columns, resolved
from mia_lightning.functional.suggestions import suggestion

# The command line shows these settings in its help, which must not wait for torch: imports are where they are needed.
if TYPE_CHECKING:
    from mia_lightning.audit.protocols import Adapter, Scorer
    from mia_lightning.features import PredictabilityScorer
    from mia_lightning.scores.analysis import Plan

SCORES, PRIMARY = ("reconstruction", "membership"), "membership"
"""The scores of an audit for which none are asked, and which of them is behind ``audit/auc``."""

VERDICT_SCORE = "combined"
"""What a verdict rests on where an audit has all attacks."""

TaskName = Literal["auto", "translation", "segmentation", "multilabel"]
InputName = Literal["auto", "image", "labels"]
OutputName = Literal["auto", "logits", "probabilities", "labels"]
VerdictName = Literal["auto", "primary"]


class AuditOptions(TypedDict, total=False):
    """The fields of :class:`AuditConfig` as keywords, for editors and type checkers; their meanings stand there."""

    task: TaskName
    output: OutputName
    errors: str | Sequence[str]
    scores: Sequence[str]
    primary: str
    verdict: VerdictName
    alpha: float
    neighbours: str | Sequence[str]
    num_classes: int | None
    class_names: Sequence[str] | None
    ignore_index: int
    mean: Sequence[float] | None
    std: Sequence[float] | None
    target_range: Literal["auto"] | Sequence[float]
    void: float | None
    input_kind: InputName
    white: float | None
    slices: int | str | Sequence[str] | None
    slice_by: str | Path | Sequence[str] | Mapping[str, Any] | None
    adapter: Adapter | str | None
    scorer: PredictabilityScorer | Scorer | None
    input_key: int | str | None
    target_key: int | str | None
    id_key: int | str | None
    group_key: int | str | None
    groups: str | Path | Callable[[str], Any] | Mapping[str, Any] | None
    output_key: int | str | None
    max_samples: int | None
    batch_size: int
    num_workers: int
    seed: int
    fdr: float
    prefix: str
    cache_dir: str | Path | None
    output_dir: str | Path | None


@dataclass(frozen=True)
class AuditConfig:
    """All settings of an audit.

    ``Auditor``, ``MembershipAudit`` and the functions for evidence take it as ``config=``, or its fields as keywords,
    or both: then a keyword replaces the field of the same name.

    Args:
        task: ``"translation"``, ``"segmentation"`` (each pixel has one class), ``"multilabel"`` (a mask a channel, that
            do not exclude each other, as in BraTS), or ``"auto"``: integer label map = segmentation, float picture of
            the input's size, or of one in proportion = translation; float masks are asked about.
        output: What a segmenter returns: ``"logits"``, ``"probabilities"``, ``"labels"`` (class numbers; of several
            channels the largest counts), or ``"auto"``: told by the model's last operation, else by the values of a few
            samples; an error asks where neither tells.
        errors: Further reconstruction errors to record, by name. ``"class"`` is that of each class's pixels, of
            segmentations: an error a class, with an AUC of its own among the samples that show the class
            (``audit/class/<class>/auc``) and what slices have beside it (see ``slice_by``).
        scores: Which scores to report: ``"reconstruction"``, ``"membership"`` (the paper's), ``"calibrated"``,
            ``"neighbour"``, ``"combined"`` (recommended), ``"trained"`` (told who is a member: an estimate),
            ``"combined_history"`` (the mean of ``"combined"`` at this audit and the one before: for who holds several
            checkpoints of a run).
        primary: The score behind ``audit/auc``; an attack, not ``"trained"``. One that the default ``scores`` lack
            joins them.
        verdict: Which score the verdict rests on (``meta["verdict_score"]``). ``"auto"``: the last audit of a training,
            and every audit of a trained model, report all attacks that need no reference models, and their verdict
            rests on ``"combined"``, where the samples allow it; the other audits of a training rest on ``primary``.
            ``"primary"``: every audit reports ``scores`` alone and rests on ``primary``; so it is where ``scores`` or
            ``primary`` are passed as keywords (see :meth:`of`), or are others than the default.
        alpha: Weight of the predictability error in the membership error.
        neighbours: Transforms; the model predicts a copy of each pair under each, one forward pass each, where a score
            needs them; ``"auto"`` leaves out those that the training augments with.
        num_classes: Number of classes; None takes the channels of the first prediction (one channel: binary).
        class_names: Names of the classes, in the order of their numbers, for errors of each class and slices by class;
            None takes the ``class_names`` of the data module or the model, where they have some.
        ignore_index: Label of ignored pixels; negative labels are ignored too. In masks of independent channels, a
            value that is ignored in its channel, as NaN is.
        mean: Mean subtracted from the inputs by the project, a channel each; undone before features are computed.
        std: Deviation that inputs were divided by, likewise.
        target_range: Range that target images have, for example (-1, 1); predictions are taken to have it too, and
            errors are shares of it. ``"auto"``: (0, 1) where targets lie in it; where they look like [-1, 1], an error
            asks; else, as of depths, counts or Hounsfield units, what the targets of both sides span, settled once.
            Targets outside of a range that was passed are an error; NaN marks void pixels. Inputs without ``mean`` and
            ``std`` are taken to have it too, unless they lie in [0, 1] and it goes beyond [-1, 1].
        void: Value that marks void pixels in target images, such as -9999 or 0; they are left out, as NaN always is.
        input_kind: What inputs are: ``"image"``, ``"labels"`` (maps of class numbers), or ``"auto"``: floats and bytes
            are pictures, other integers are told by their values; an error asks where these do not tell.
        white: What white is in inputs that are pictures, for example 4095 of 12-bit data; black is 0. None: 1 in
            floats, 255 in bytes; pictures of wider integers are scaled by their own smallest and largest value. It
            matters to predictability and to brighter copies; the model gets inputs as they are.
        slices: How many slices of each volume (B, C, D, H, W) the predictability error looks at, along the axis with
            the fewest voxels: drawn by the scorer's seed, the same for all volumes of one depth. None looks at all.
            Names, such as ``["site", "sex"]``, are columns that the audit is sliced by, and go to ``slice_by``: the
            word means both, a number is always the one and a name the other.
        slice_by: Columns of which each value, such as one site, gets an AUC, a TPR (at an FPR of 0.01) and a blind AUC
            of its own (difficulty alone), each with intervals that hold for all slices together; none with fewer than
            20 samples (of groups, groups) a side. Names of entries of the batches (with dots through nested ones) or of
            columns that the data set knows (its ``metadata``, a mapping from names to one value a sample; of our data
            modules all columns of the splits file, and ``"resolution"`` of the image files), or a
            mapping from names to what ``groups`` takes: a CSV file with the columns ``id`` and that name, a function of
            the id or its import path, or a mapping of ids. A CSV file alone is all its columns, or those in ``slices``.
            ``"class"`` is the classes that a sample's target shows, ``"resolution"`` height x width of its input as
            the model gets it, unless batches or data set say it.
        adapter: Object with ``unpack(batch) -> Batch`` and ``predict(module, input) -> Tensor``; None or ``"auto"``
            understands ``(x, y)``, ``(x, y, id)``, and dicts, NamedTuples, dataclasses and other objects with
            ``image``/``input``/``pixel_values``/``source`` and ``mask``/``target``/``label``/``labels``.
        scorer: Predictability scorer; None is ``PredictabilityScorer()``.
        input_key: Where a batch keeps the inputs: a key, field, attribute or place, with dots through nested ones, such
            as ``"data.image"``; None looks under ``image``, ``input``, ``pixel_values`` and ``source``.
        target_key: Where it keeps the targets; None looks under ``mask``, ``target``, ``label`` and ``labels``.
        id_key: Where it keeps the ids; None looks under ``id``, ``ids`` and ``name``, then for the names of files.
        group_key: Where it keeps the group of each sample, such as the patient; None looks under ``group``.
        groups: Groups of samples that are not independent (images of one patient, film or building), in place of those
            in the batches: a CSV file with the columns ``id`` and ``group``, a function of the id or its import path,
            or a mapping; ``"none"``: samples are independent. Groups count in place of samples in every interval,
            test and bound, and stay together in folds. ``max_samples`` draws whole groups, where they are known before
            samples are read (some of every group, where whole ones would be fewer than 20).
        output_key: Where a model that returns a dict, tuple or object keeps its prediction, likewise.
        max_samples: Size of the seeded subset a side, the same at every audit; None audits all.
        batch_size: Batch size of a data set; a loader has its own.
        num_workers: Loading processes of a data set; a loader has its own.
        seed: Seed of the subsets, and of folds and permutations in the statistics.
        fdr: False discovery rate at which single samples are flagged.
        prefix: First part of the metric keys and of file names. Audits side by side need different ones, and ``a/b``
            and ``a_b`` count as one.
        cache_dir: Folder of the predictability cache (SQLite); None keeps it in memory.
        output_dir: Folder for the results, as JSON and CSV; None writes none.

    Raises:
        ValueError: If a setting is out of range.

    Example:
        >>> config = AuditConfig(scores="membership", max_samples=None)
        >>> config.scores
        ('membership',)
        >>> AuditConfig.of(config, alpha=0.5).max_samples is None
        True
    """

    task: TaskName = "auto"
    output: OutputName = "auto"
    errors: str | Sequence[str] = ()
    scores: Sequence[str] = SCORES
    primary: str = PRIMARY
    verdict: VerdictName = "auto"
    alpha: float = 1.0
    neighbours: str | Sequence[str] = "auto"
    num_classes: int | None = None
    class_names: Sequence[str] | None = None
    ignore_index: int = 255
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    target_range: Literal["auto"] | Sequence[float] = "auto"
    void: float | None = None
    input_kind: InputName = "auto"
    white: float | None = None
    slices: int | str | Sequence[str] | None = None
    slice_by: str | Path | Sequence[str] | Mapping[str, Any] | None = None
    adapter: Adapter | str | None = None
    scorer: PredictabilityScorer | Scorer | None = None
    input_key: int | str | None = None
    target_key: int | str | None = None
    id_key: int | str | None = None
    group_key: int | str | None = None
    groups: str | Path | Callable[[str], Any] | Mapping[str, Any] | None = None
    output_key: int | str | None = None
    max_samples: int | None = 512
    batch_size: int = 16
    num_workers: int = 0
    seed: int = 0
    fdr: float = 0.1
    prefix: str = "audit"
    cache_dir: str | Path | None = None
    output_dir: str | Path | None = None

    def __post_init__(self) -> None:
        for name in ("errors", "scores", "mean", "std", "class_names"):
            object.__setattr__(self, name, _as_tuple(getattr(self, name)))
        for name, value in zip(("slices", "slice_by"), resolved(self.slices, self.slice_by), strict=True):
            object.__setattr__(self, name, value)
        self._add_primary()
        if self.target_range != "auto":
            object.__setattr__(self, "target_range", tuple(float(v) for v in self.target_range))
        if not isinstance(self.neighbours, str):
            object.__setattr__(self, "neighbours", tuple(self.neighbours))
        if self.task not in get_args(TaskName):
            names = ", ".join(map(repr, get_args(TaskName)))
            raise ValueError(f"Expected one of {names} as task, but got {self.task!r}.")
        if self.output not in get_args(OutputName):
            raise ValueError(
                f"Expected output to be one of {', '.join(get_args(OutputName))}, but got {self.output!r}."
            )
        if self.verdict not in get_args(VerdictName):
            raise ValueError(
                f"Expected verdict to be 'auto' or 'primary', but got {self.verdict!r}. To have it rest on a score of "
                f"your choice, pass that as primary."
            )
        if (self.scores, self.primary) != (SCORES, PRIMARY):
            object.__setattr__(self, "verdict", "primary")
        self.plan()
        self._check_names()
        self._check_images()
        self._check_inputs()
        self._check_numbers()

    def _add_primary(self) -> None:
        """Ask for the primary score where it is an attack that the default scores lack; others are refused."""
        from mia_lightning import registry

        spec = registry.scores.find(self.primary)
        if self.scores == SCORES and self.primary not in SCORES and spec is not None and spec.attack:
            object.__setattr__(self, "scores", (*SCORES, self.primary))

    def _check_names(self) -> None:
        from mia_lightning import registry

        if unknown := [name for name in self.errors if name not in registry.errors]:
            raise ValueError(f"Unknown errors {unknown}; choose some of {', '.join(registry.errors.names())}.")
        names = [str(name).strip() for name in self.class_names or ()]
        if not all(names) or len(set(names)) < len(names):
            raise ValueError(f"Expected class_names to be different names, none empty, but got {names}.")
        if self.neighbours != "auto":
            from mia_lightning.functional.neighbours import choose_neighbours

            choose_neighbours(self.neighbours, square=True, volumes=True)  # unknown names
        parts = self.prefix.split("/")
        if any(part in ("", ".", "..") for part in parts) or any(c in self.prefix for c in "\\\0"):
            raise ValueError(
                "Expected a prefix of one or more names with slashes between them, such as 'audit' or 'audit/photos' "
                f"(it begins metrics, files and the checkpoint's entry), but got {self.prefix!r}."
            )

    def _check_numbers(self) -> None:
        if not math.isfinite(self.alpha):
            raise ValueError(f"Expected a finite alpha, but got {self.alpha}.")
        if not 0.0 < self.fdr < 1.0:
            raise ValueError(f"Expected a false discovery rate fdr in (0, 1), but got {self.fdr}.")
        if isinstance(self.slices, int) and self.slices < 1:
            raise ValueError(
                "Expected slices >= 1, the number of a volume's slices, or names of columns that the audit is sliced "
                f"by, such as slices=['site', 'sex'], but got {self.slices}."
            )
        for name in ("batch_size", "max_samples"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"Expected {name} >= 1, but got {value}.")
        if self.num_classes is not None and self.num_classes < 1:
            raise ValueError(f"Expected num_classes >= 1 (1: one logit), but got {self.num_classes}.")

    def _check_inputs(self) -> None:
        if self.input_kind not in get_args(InputName):
            names = ", ".join(map(repr, get_args(InputName)))
            raise ValueError(f"Expected one of {names} as input_kind, but got {self.input_kind!r}.")
        if self.white is None:
            return
        if not (self.white > 0 and math.isfinite(self.white)):
            raise ValueError(f"Expected white > 0, the value that white has in the inputs, but got {self.white}.")
        if self.input_kind == "labels":
            raise ValueError("Expected input_kind='labels' or white, which is that of pictures, but got both.")
        if self.mean is not None:
            raise ValueError(
                "Expected white, or mean and std, but got both: white is for pictures as they were stored."
            )

    def _check_images(self) -> None:
        if self.void is not None and self.task in ("segmentation", "multilabel"):
            raise ValueError(
                f"void={self.void:g} is for target images; pixels of label maps and masks are left out by ignore_index."
            )
        if (self.mean is None) != (self.std is None):
            raise ValueError("Expected mean and std together: both undo the normalisation of the inputs.")
        if self.mean is not None and self.std is not None and (len(self.mean) != len(self.std) or min(self.std) <= 0):
            raise ValueError(f"Expected one mean and one positive std a channel, but got {self.mean} and {self.std}.")
        if self.target_range == "auto":
            return
        if len(self.target_range) != 2 or not self.target_range[0] < self.target_range[1]:
            raise ValueError(
                f"Expected target_range='auto' or (low, high) with low < high, but got {self.target_range}."
            )

    @classmethod
    def of(cls, config: AuditConfig | None = None, **options: Unpack[AuditOptions]) -> AuditConfig:
        """Replace the fields that are passed; the others stay as they are in ``config``, None being all defaults.

        Where ``scores`` or ``primary`` are passed, and be they the default, ``verdict`` becomes ``"primary"``. Where
        ``slices`` is passed as names or None, without ``slice_by``, the columns of ``config`` go.

        Raises:
            TypeError: If a keyword is no field, naming the nearest.
            ValueError: If a setting is out of range.
        """
        refuse_unknown(options)
        if "scores" in options or "primary" in options:
            options = {"verdict": "primary", **options}
        if not isinstance(options.get("slices", 1), int):  # columns, or none, in place of those of before
            options = {"slice_by": None, **options}
        return replace(config or cls(), **options)

    def plan(self, looks: int = 1, scores: Sequence[str] | None = None, verdict_score: str | None = None) -> Plan:
        """What to compute from the errors.

        Args:
            looks: How many audits of the same training are looked at.
            scores: The scores to report; None: those of the settings.
            verdict_score: The one that the verdict rests on; None: the primary.
        """
        from mia_lightning.scores.analysis import Plan

        return Plan(
            tuple(self.scores if scores is None else scores),
            self.primary,
            self.alpha,
            self.prefix,
            self.seed,
            looks=looks,
            errors=tuple(self.errors),
            family=() if verdict_score in (None, self.primary) else (str(verdict_score),),
        )

    @property
    def columns(self) -> Columns:
        """What the audit is sliced by, and where each column comes from; empty where it is not sliced."""
        return self.slice_by if isinstance(self.slice_by, Mapping) else {}

    @property
    def needs_neighbours(self) -> bool:
        """Whether a score or an error needs the model's errors on transformed copies."""
        from mia_lightning.scores.building import needs_neighbours

        return needs_neighbours(self.scores, self.errors)

    def to_meta(self) -> dict[str, Any]:
        """The settings as plain values, as results record them; adapter, scorer and folders are left out."""
        left_out = ("adapter", "scorer", "cache_dir", "output_dir")
        recorded = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in left_out}
        if self.groups is not None and not isinstance(self.groups, str):
            recorded["groups"] = _name_of_groups(self.groups)
        if self.columns:
            named = {name: source and _name_of_groups(source) for name, source in self.columns.items()}
            recorded["slice_by"] = named
        return {name: list(value) if isinstance(value, tuple) else value for name, value in recorded.items()}


def refuse_unknown(options: Iterable[str], *others: str) -> None:
    """Raise a TypeError for a keyword that is neither a setting nor one of the caller's others, naming the nearest."""
    names = [*others, *(f.name for f in fields(AuditConfig))]
    for name in options:
        if name not in names:
            raise TypeError(f"Unknown setting {name!r}{suggestion(name, names)}; settings are {', '.join(names)}.")


def settings_of(model: object) -> AuditOptions:
    """What a model says of its task and labels in its ``audit_settings()``, if it has one.

    Raises:
        TypeError: If something there is no field of :class:`AuditConfig`.
    """
    settings: AuditOptions = model.audit_settings() if hasattr(model, "audit_settings") else {}
    try:
        refuse_unknown(settings)
    except TypeError as error:
        raise TypeError(
            f"{type(model).__name__}.audit_settings() may name fields of AuditConfig only. {error}"
        ) from None
    return settings


def _name_of_groups(groups: Any) -> str:
    """What a result records of groups that a setting brings: the file or the function, not what is in them."""
    if isinstance(groups, Mapping):
        return f"a mapping of {len(groups)} ids"
    return (
        str(groups) if isinstance(groups, (str, Path)) else str(getattr(groups, "__qualname__", type(groups).__name__))
    )


def _as_tuple(values: Any) -> tuple[Any, ...] | None:
    """Freeze a list; one text or number stands for itself."""
    if isinstance(values, str) or not isinstance(values, Iterable):
        return None if values is None else (values,)
    return tuple(values)
