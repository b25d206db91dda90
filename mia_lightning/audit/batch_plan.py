"""What is computed of every batch of an audit, decided once by the first samples of both sides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import NamedTuple

from torch import Tensor

from mia_lightning import registry
from mia_lightning.audit.cache import SEEN
from mia_lightning.audit.config import VERDICT_SCORE, AuditConfig
from mia_lightning.audit.interpretation import Interpretation
from mia_lightning.audit.output_meaning import OutputMeaning
from mia_lightning.audit.plausibility import BASELINES, constant_of
from mia_lightning.audit.target_range import Range
from mia_lightning.functional.batches import Batch
from mia_lightning.functional.blind import pair_statistics
from mia_lightning.functional.descriptions import describe
from mia_lightning.functional.near_copies import SIZE, appearance
from mia_lightning.functional.neighbours import FLIPS, NEIGHBOURS, Choice, choose_neighbours
from mia_lightning.functional.tiles import has_tiles
from mia_lightning.functional.volumes import is_volume, spatial_size
from mia_lightning.registry import ErrorSpec, Task
from mia_lightning.scores.building import (
    NEIGHBOUR,
    TILE_NEIGHBOUR,
    TILES,
    attacks_on_one_model,
    errors_of,
    errors_of_classes,
    measured_errors,
)

BLIND = "blind/"  # columns of model-free statistics begin with it
CHECK = "check/"  # columns that only say whether the data are what they seem
BOUNDARY_DISTANCE = "boundary_distance"  # the error that label maps have beside the 0/1 error
CONTENT = CHECK + "content"
FOREGROUND, IGNORED = CHECK + "foreground", CHECK + "ignored"
BACKGROUND, NEGATIVE, FURTHER = CHECK + "background", CHECK + "negative", CHECK + "further"
LABELS = (FOREGROUND, IGNORED, BACKGROUND, NEGATIVE, FURTHER)  # what a target holds
LOOK = CHECK + "appearance/"  # what a pair looks like from afar
EACH = "each/"  # columns of errors of one class begin with it
BASELINE = CHECK + "baseline/"  # errors of predictions that need no model
LOOKS = [f"{LOOK}{i:02d}" for i in range(SIZE)]


class Attacks(NamedTuple):
    """The scores of an audit, and what becomes of its verdict.

    Attributes:
        scores: The scores to report.
        verdict_score: The one that the verdict rests on.
        neighbours: Transforms whose copies the model predicts; None where no score needs them.
        optional: Whether the audit goes on without those copies, and the scores that need them, where it has none.
        note: Why the verdict does not rest on the strongest attack, where it should have; else empty.
    """

    scores: tuple[str, ...]
    verdict_score: str
    neighbours: Choice | None = None
    optional: bool = False
    note: str = ""

    def without_neighbours(self, config: AuditConfig, why: str) -> Attacks:
        """What is left where the model has no answer to copies."""
        alone = attacks_on_one_model(with_neighbours=False)
        scores = tuple(name for name in self.scores if name in config.scores or name in alone)
        note = f"The verdict rests on the {config.primary} score, and not on {VERDICT_SCORE}: {why}"
        return Attacks(scores, config.primary, note=note)


@dataclass(frozen=True)
class BatchPlan:
    """What is computed of every batch."""

    interpretation: Interpretation
    errors: tuple[ErrorSpec, ...]  # those that are measured
    attacks: Attacks
    statistics: tuple[str, ...]  # of what the pairs show without the model, the names
    spare_input: Tensor  # for forward passes whose results are dropped, (1, ...)
    constant: Tensor | None = None  # what would be predicted without a model, (C,)
    output: OutputMeaning | None = None  # what predictions are; None until the first one is there
    class_errors: tuple[ErrorSpec, ...] = ()  # those that are measured of each class
    classes: int = 0  # how many the first prediction has; 0 of pictures
    tiles: bool = False  # whether pairs and their copies are compared tile by tile, too

    @classmethod
    def of(
        cls,
        config: AuditConfig,
        batches: Sequence[Batch],
        augmentations: Sequence[str] = (),
        has_model: bool = True,
        target_range: Range | None = None,
        reading: tuple[Task, str] | None = None,
        *,
        all_attacks: bool = False,
    ) -> BatchPlan:
        """Decide by the first samples of both sides, batches of one, and by what the training augments with.

        What ``target_range="auto"`` is may have been settled by more targets than these, and their task may have been
        read already: as for :meth:`Interpretation.of`. ``all_attacks`` is whether the verdict of the audit rests on the
        strongest attack, where the settings leave that open.

        Raises:
            ValueError: If the task, the errors or the neighbours do not fit the batches.
        """
        interpretation, batch = Interpretation.of(config, batches, target_range, reading), batches[0]
        if config.needs_neighbours and not has_model:
            raise ValueError(
                "Stored outputs cover the original inputs only. Scores that need predictions for flipped or shifted "
                "copies (neighbour, combined) need the model: choose reconstruction, membership or calibrated."
            )
        attacks = attacks_of(config, batch, augmentations, has_model=has_model, all_attacks=all_attacks)
        neighbours = attacks.neighbours
        if neighbours is not None and (
            unfit := _unfit(chosen_neighbours(config, batch, augmentations, all_sizes=True), batch)
        ):
            volumes = is_volume(batch.input)
            found = (
                f"{_size(batch.input, volumes)} pixels of the input and {_size(batch.target, volumes)} of the target"
            )
            moved = f"{', '.join(neighbours.used)}; not {', '.join(unfit)}: {found} cannot both be moved by whole ones"
            interpretation = interpretation.with_decisions({"neighbours": moved})
        target = interpretation.prepare_target(batch)
        plan = cls(
            interpretation,
            tuple(measured_errors(interpretation.task, attacks.scores, config.errors)),
            attacks,
            (
                *statistics_of(interpretation, batch.input, target),
                *(BLIND + name for name in SEEN),
            ),
            batch.input,
            constant_of(interpretation, [b.target for b in batches]),
            class_errors=tuple(errors_of_classes(config.errors)),
            tiles=neighbours is not None and TILE_NEIGHBOUR in errors_of(attacks.scores, config.errors),
        )
        sizes = (spatial_size(interpretation.prepare_target(one), interpretation.volumes) for one in batches)
        if not plan.tiles or any(map(has_tiles, sizes)):  # a smaller one among them has the ratio of its picture
            return plan
        size = " x ".join(map(str, spatial_size(target, interpretation.volumes)))
        return plan._without_tiles(f"targets of {size} pixels are too small to be cut into them")

    def _without_tiles(self, why: str) -> BatchPlan:
        """The plan of an audit that compares whole pictures with their copies, as the reading of the data says.

        Raises:
            ValueError: If the error that compares tiles was asked for by its name, or a score needs it.
        """
        config = self.interpretation.config
        needing = [name for name in self.attacks.scores if TILE_NEIGHBOUR in registry.scores.get(name).errors]
        if needing or TILE_NEIGHBOUR in (*config.errors, *config.scores):
            left_out = " and ".join([f"the score {name}" for name in needing] or [TILE_NEIGHBOUR])
            raise ValueError(
                f"{TILE_NEIGHBOUR} compares pairs with their copies tile by tile, but {why}. Leave {left_out} out of "
                "errors and scores: combined does without."
            )
        decided = self.interpretation.with_decisions({"tiles": f"none, and combined compares whole pictures: {why}"})
        return replace(self, interpretation=decided, tiles=False)

    def with_output(self, output: OutputMeaning, decisions: Mapping[str, str] = MappingProxyType({})) -> BatchPlan:
        """Return the plan of an audit whose predictions are this; those of class numbers have further errors.

        Args:
            output: What predictions are.
            decisions: What the adapter decided beside that, in words, by subject.
        """
        errors = list(self.errors)
        single = output.labels_only and self.interpretation.task == "segmentation"  # each pixel has one class
        if single and all(spec.name != BOUNDARY_DISTANCE for spec in errors):
            errors.append(registry.errors.get(BOUNDARY_DISTANCE))
        decided = self.interpretation.with_decisions({"output": output.decision, **decisions})
        plan = replace(self, interpretation=decided, errors=tuple(errors), output=output)
        if not (self.tiles and output.labels_only):
            return plan
        return plan._without_tiles("predictions are class numbers, which are right or wrong by pixels")

    def with_classes(self, prediction: Tensor, target: Tensor) -> BatchPlan:
        """Return the plan of an audit whose first prediction, as the model gave it, has as many classes as this."""
        if self.interpretation.task == "translation":
            return self
        channels = self.read(prediction, target).shape[1]
        return replace(self, classes=max(2, channels) if self.interpretation.task == "segmentation" else channels)

    @property
    def labels_only(self) -> bool:
        """Whether predictions are class numbers and nothing else."""
        return self.output is not None and self.output.labels_only

    def read(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Bring a prediction to what errors expect, at the resolution of its prepared target.

        Raises:
            ValueError: If its values contradict what was decided.
        """
        if self.output is None:
            return prediction
        return self.output.read(prediction, spatial_size(target, self.interpretation.volumes))

    @property
    def copies(self) -> tuple[str, ...]:
        """Names of the neighbours that are used."""
        return self.attacks.neighbours.used if self.attacks.neighbours else ()

    @property
    def columns(self) -> list[str]:
        """Names of a row's values: errors, what the pair shows without the model, why there may be no number."""
        first = ["reconstruction", "predictability"]
        further = [spec.name for spec in self.errors if spec.name not in first]
        task = self.interpretation.task
        checks = [CONTENT, *(LABELS if task != "translation" else ())]
        checks += [BASELINE + name for name in BASELINES.get(task, ())]
        copies = [NEIGHBOUR + name for name in self.copies]
        each = [f"{EACH}{spec.name}/{number}" for spec in self.class_errors for number in range(self.classes)]
        return [*first, *further, *each, *checks, *copies, *([TILES] if self.tiles else []), *self.statistics, "reason"]


def attacks_of(
    config: AuditConfig, batch: Batch, augmentations: Sequence[str], *, has_model: bool, all_attacks: bool
) -> Attacks:
    """Decide which scores an audit reports, what its verdict rests on, and which neighbours the pairs have for it.

    Raises:
        ValueError: If the inputs are no images, or the requested neighbours do not fit them, and the settings ask for
            scores or errors that need them.
    """
    neighbours = neighbours_of(config, batch, augmentations)
    if not all_attacks or config.verdict != "auto":
        return Attacks(tuple(config.scores), config.primary, neighbours)
    every = Attacks(tuple(dict.fromkeys((*config.scores, *attacks_on_one_model()))), VERDICT_SCORE)
    if not has_model:
        return every.without_neighbours(
            config,
            "that attack asks the model about flipped or shifted copies of the pairs; stored outputs have none.",
        )
    if neighbours is not None:  # for an error
        return every._replace(neighbours=neighbours)
    try:
        return every._replace(neighbours=chosen_neighbours(config, batch, augmentations), optional=True)
    except ValueError as reason:
        return every.without_neighbours(config, str(reason))


def neighbours_of(config: AuditConfig, batch: Batch, augmentations: Sequence[str]) -> Choice | None:
    """Decide which neighbours the pairs have; None where no score or error of the settings needs them.

    Raises:
        ValueError: As :func:`chosen_neighbours`.
    """
    return chosen_neighbours(config, batch, augmentations) if config.needs_neighbours else None


def chosen_neighbours(
    config: AuditConfig, batch: Batch, augmentations: Sequence[str], *, all_sizes: bool = False
) -> Choice:
    """Choose the neighbours of the pairs.

    Those that would move input and target, where they differ in size, by parts of pixels are left out, or kept
    with ``all_sizes``.

    Raises:
        ValueError: If the inputs are no images, or the requested neighbours do not fit them.
    """
    if batch.input.ndim < 3:
        raise ValueError(
            f"Neighbours are flips and shifts of images, but the inputs are {describe(batch.input)}. Ask for scores "
            "without them: reconstruction, membership, calibrated."
        )
    square, volumes = is_square(batch.input, batch.target), is_volume(batch.input)
    known = tuple(augmentations)
    choice = choose_neighbours(config.neighbours, square=square, augmentations=known, volumes=volumes)
    unfit = [] if all_sizes else _unfit(choice, batch)
    if unfit and config.neighbours != "auto":
        raise ValueError(
            f"{', '.join(unfit)} would move inputs of {_size(batch.input, volumes)} and targets of "
            f"{_size(batch.target, volumes)} pixels by parts of pixels: choose flips or turns as neighbours."
        )
    used = tuple(name for name in choice.used if name not in unfit)
    if not used:  # shifts were chosen since the training flips
        return choose_neighbours(FLIPS, square=square, augmentations=known, volumes=volumes)
    return Choice(used, tuple(name for name in choice.weak if name not in unfit), choice.dropped)


def _unfit(choice: Choice | None, batch: Batch) -> list[str]:
    """Neighbours that do not act on these sizes by whole pixels."""
    volumes = is_volume(batch.input)
    sizes = spatial_size(batch.input, volumes), spatial_size(batch.target, volumes)
    return [] if choice is None else [name for name in choice.used if not NEIGHBOURS[name].fits(*sizes)]


def _size(image: Tensor, volumes: bool) -> str:
    return " x ".join(map(str, spatial_size(image, volumes)))


def statistics_of(interpretation: Interpretation, input: Tensor, target: Tensor) -> dict[str, Tensor]:
    """What pairs show without the model, (B,) by column; nothing of inputs that are neither pictures nor label maps."""
    image = interpretation.as_image(input)
    several = image.ndim in (4, 5)
    labels = not image.is_floating_point() and (image.ndim == 3 or (several and image.shape[1] == 1))
    readable = labels or (image.is_floating_point() and several)
    if not readable:
        image = input.new_zeros((len(input), 1, 1, 1)).float()
    statistics = pair_statistics(image, target, interpretation.task, interpretation.config.ignore_index)
    shown = {BLIND + name: v for name, v in statistics.items() if readable or not name.startswith("input_")}
    return shown | _look_of(interpretation, image if readable else target, target)


def _look_of(interpretation: Interpretation, image: Tensor, target: Tensor) -> dict[str, Tensor]:
    """What pairs look like from afar, (B,) by column: the input if it is a picture, else the target; else nothing."""
    if not image.is_floating_point():
        image = target
    if not image.is_floating_point() or (image is target and interpretation.task != "translation"):
        return {}
    return dict(zip(LOOKS, appearance(image).unbind(1), strict=True))


def is_square(*images: Tensor) -> bool:
    """Whether all are as high as wide."""
    return all(image.shape[-2] == image.shape[-1] for image in images)
