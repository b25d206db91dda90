"""What is computed of every batch of an audit, decided once by the first samples of both sides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from mia_lightning import registry
from mia_lightning.audit.config import AuditConfig
from mia_lightning.audit.interpretation import Interpretation
from mia_lightning.audit.output_meaning import OutputMeaning
from mia_lightning.audit.plausibility import BASELINES, constant_of
from mia_lightning.functional.batches import Batch
from mia_lightning.functional.blind import pair_statistics
from mia_lightning.functional.descriptions import describe
from mia_lightning.functional.neighbours import Choice, choose_neighbours
from mia_lightning.functional.volumes import is_volume
from mia_lightning.registry import ErrorSpec
from mia_lightning.scores.building import NEIGHBOUR, measured_errors

BLIND = "blind/"  # columns of model-free statistics begin with it
CHECK = "check/"  # columns that only say whether the data are what they seem
BOUNDARY_DISTANCE = "boundary_distance"  # the error that label maps have beside the 0/1 error
FOREGROUND, IGNORED, CONTENT = CHECK + "foreground", CHECK + "ignored", CHECK + "content"
BASELINE = CHECK + "baseline/"  # errors of predictions that need no model


@dataclass(frozen=True)
class BatchPlan:
    """What is computed of every batch."""

    interpretation: Interpretation
    errors: tuple[ErrorSpec, ...]  # those that are measured
    neighbours: Choice | None  # transforms of the pairs whose copies the model predicts; None where nothing needs them
    statistics: tuple[str, ...]  # of what the pairs show without the model, the names
    spare_input: Tensor  # for forward passes whose results are dropped, (1, ...)
    constant: Tensor | None = None  # what would be predicted without a model, (C,)
    output: OutputMeaning | None = None  # what predictions are; None until the first one is there

    @classmethod
    def of(
        cls, config: AuditConfig, batches: Sequence[Batch], augmentations: Sequence[str] = (), has_model: bool = True
    ) -> BatchPlan:
        """Decide by the first samples of both sides, batches of one, and by what the training augments with.

        Raises:
            ValueError: If the task, the errors or the neighbours do not fit the batches.
        """
        interpretation, batch = Interpretation.of(config, batches), batches[0]
        if config.needs_neighbours and not has_model:
            raise ValueError(
                "Stored outputs cover the original inputs only. Scores that need predictions for flipped or shifted "
                "copies (neighbour, combined) need the model: choose reconstruction, membership or calibrated."
            )
        return cls(
            interpretation,
            tuple(measured_errors(interpretation.task, config.scores, config.errors)),
            neighbours_of(config, batch, augmentations),
            tuple(statistics_of(interpretation, batch.input, interpretation.prepare_target(batch))),
            batch.input,
            constant_of(interpretation, [b.target for b in batches]),
        )

    def with_output(self, output: OutputMeaning) -> BatchPlan:
        """Return the plan of an audit whose predictions are this; those of class numbers have further errors."""
        errors = list(self.errors)
        single = output.labels_only and self.interpretation.task == "segmentation"  # each pixel has one class
        if single and all(spec.name != BOUNDARY_DISTANCE for spec in errors):
            errors.append(registry.errors.get(BOUNDARY_DISTANCE))
        decided = self.interpretation.with_decision("output", output.decision)
        return replace(self, interpretation=decided, errors=tuple(errors), output=output)

    @property
    def labels_only(self) -> bool:
        """Whether predictions are class numbers and nothing else."""
        return self.output is not None and self.output.labels_only

    def read(self, prediction: Tensor) -> Tensor:
        """Bring a prediction to what errors expect; ValueError if its values contradict what was decided."""
        return prediction if self.output is None else self.output.read(prediction)

    @property
    def copies(self) -> tuple[str, ...]:
        """Names of the neighbours that are used."""
        return self.neighbours.used if self.neighbours else ()

    @property
    def columns(self) -> list[str]:
        """Names of a row's values: errors, what the pair shows without the model, why there may be no number."""
        first = ["reconstruction", "predictability"]
        further = [spec.name for spec in self.errors if spec.name not in first]
        task = self.interpretation.task
        checks = [CONTENT, *([FOREGROUND, IGNORED] if task != "translation" else [])]
        checks += [BASELINE + name for name in BASELINES.get(task, ())]
        copies = [NEIGHBOUR + name for name in self.copies]
        return [*first, *further, *checks, *copies, *self.statistics, "reason"]


def neighbours_of(config: AuditConfig, batch: Batch, augmentations: Sequence[str]) -> Choice | None:
    """Decide which neighbours the pairs have; None where no score or error needs them.

    Raises:
        ValueError: If the inputs are no images, or the requested neighbours do not fit them.
    """
    if not config.needs_neighbours:
        return None
    if batch.input.ndim < 3:
        raise ValueError(
            f"Neighbours are flips and shifts of images, but the inputs are {describe(batch.input)}. Ask for scores "
            "without them: reconstruction, membership, calibrated."
        )
    square, volumes = is_square(batch.input, batch.target), is_volume(batch.input)
    return choose_neighbours(config.neighbours, square=square, augmentations=tuple(augmentations), volumes=volumes)


def statistics_of(interpretation: Interpretation, input: Tensor, target: Tensor) -> dict[str, Tensor]:
    """What pairs show without the model, (B,) by column; nothing of inputs that are neither pictures nor label maps."""
    image = interpretation.as_image(input)
    several = image.ndim in (4, 5)
    labels = not image.is_floating_point() and (image.ndim == 3 or (several and image.shape[1] == 1))
    readable = labels or (image.is_floating_point() and several)
    if not readable:
        image = input.new_zeros((len(input), 1, 1, 1)).float()
    statistics = pair_statistics(image, target, interpretation.task, interpretation.config.ignore_index)
    return {BLIND + name: v for name, v in statistics.items() if readable or not name.startswith("input_")}


def is_square(*images: Tensor) -> bool:
    """Whether all are as high as wide."""
    return all(image.shape[-2] == image.shape[-1] for image in images)
