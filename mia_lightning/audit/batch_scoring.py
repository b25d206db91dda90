"""One row a sample: prediction, errors, predictability, and the reason where there is no number."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mia_lightning.audit.batch_plan import (
    BASELINE,
    BLIND,
    CHECK,
    CONTENT,
    EACH,
    BatchPlan,
    statistics_of,
)
from mia_lightning.audit.cache import SEEN, PredictabilityLookup
from mia_lightning.audit.distributed import forward_is_collective
from mia_lightning.audit.forward import AuditedModel
from mia_lightning.audit.label_checks import label_columns
from mia_lightning.audit.machine_failures import MACHINE_FAILURES, OUT_OF_MEMORY
from mia_lightning.audit.output_meaning import decide_output, with_channel
from mia_lightning.audit.plausibility import baseline_errors
from mia_lightning.audit.slicing import BatchValues, Slicing
from mia_lightning.functional.batches import Batch
from mia_lightning.functional.labels import valid_pixels
from mia_lightning.functional.neighbours import NEIGHBOURS, moved_back, neighbour_error, transform_pair
from mia_lightning.functional.pixel_errors import pixel_errors
from mia_lightning.functional.tiles import tile_log_errors, tile_ratio
from mia_lightning.functional.volumes import least_axis, middle_slice, spatial_size
from mia_lightning.registry import ErrorSpec, Outputs, Task
from mia_lightning.scores.building import NEIGHBOUR, TILES

ABSENT, UNREAD = 7, 8
REASONS = {
    1: "the prediction holds NaN or infinite values",
    2: "no pixel of the target carries a class",
    3: "the target or the input holds NaN or infinite values",
    4: "too few pixels carry a class to be seen on the predictability grid; a scorer with a larger grid would see them",
    5: "none of its flipped or shifted copies has a finite prediction",
    6: "an error that was asked for has no finite value",
    ABSENT: "the data set returned None for it, or its collation left it out",
    UNREAD: "it could not be read",
    9: "too few pixels of the target have a value to be seen on the predictability grid; a scorer with a larger grid "
    "would see them",
    10: "its target goes beyond what the targets of both sides spanned when target_range was settled; pass a wider one",
}


class ScoredBatch(NamedTuple):
    """The rows of a batch: what it was read as, one tensor (B,) a column, and what it is sliced by, as text."""

    sample: Batch
    values: dict[str, Tensor]
    labels: list[str] | None = None

    @property
    def groups(self) -> list[str] | None:
        """Group of each sample; None where the data have none, or an adapter returns objects that know none."""
        return getattr(self.sample, "group", None)


class Exhibit(NamedTuple):
    """A sample to look at: batches of one on the CPU, images in [0, 1], label maps of integers, logits.

    Of a volume it holds the middle slice along the axis with the fewest voxels.
    """

    input: Tensor
    target: Tensor
    prediction: Tensor
    task: Task


def decide_by(
    batch: Any, plan: BatchPlan, model: AuditedModel, beginnings: Sequence[Sequence[Any]]
) -> tuple[BatchPlan, Tensor]:
    """Decide what predictions are, by the first batch that is scored, and where that leaves it open by `beginnings`.

    Args:
        batch: As the loader gave it and prepared.
        plan: What is computed.
        model: The model.
        beginnings: A few samples of each side, the same on every process.

    Returns:
        The plan with the decision, and the prediction of the batch, which needs no further forward pass.

    Raises:
        ValueError: If nothing decides; names the setting that does.
    """
    with _all_passes(plan, model):
        sample, interpretation = model.adapter.unpack(batch), plan.interpretation
        target = interpretation.prepare_target(sample).to(model.device)
        model.begin(sample)
        prediction, operation = model.watched_output_of(sample, watch=interpretation.config.output == "auto")
        checked = interpretation.check_prediction(prediction, sample.input, target)

        def further() -> list[Tensor]:
            every = [model.output_of(model.adapter.unpack(one)) for side in beginnings for one in side]
            return [with_channel(one, interpretation.task, axes) for one in every]

        config, axes = interpretation.config, 3 if interpretation.volumes else 2
        output = decide_output(config, interpretation.task, checked, operation, further, axes)
        plan = plan.with_output(output.beside(checked, target), model.decisions)
        return plan.with_classes(checked, target), prediction


def score_batch(
    batch: Any,
    plan: BatchPlan,
    model: AuditedModel,
    predictability: PredictabilityLookup | None,
    prediction: Tensor | None = None,
    slicing: Slicing | None = None,
) -> ScoredBatch:
    """Score one batch, as the loader gave it and prepared, and of which the prediction may be there already.

    Without ``predictability`` that error, the dearest, is left out: zeros. ``slicing`` is what the audit is sliced by.

    Returns:
        The batch as it was read, and for each of the plan's columns one value a sample.
    """
    with _all_passes(plan, model, made=0 if prediction is None else 1):
        scored, values = _score(batch, plan, model, predictability, prediction)
        return scored if slicing is None else scored._replace(labels=slicing.of_batch(batch, scored.sample, values))


@contextmanager
def _all_passes(plan: BatchPlan, model: AuditedModel, made: int = 0) -> Iterator[None]:
    """Run what makes the forward passes of a batch; where it fails, make those that other processes wait for."""
    model.passes = made
    try:
        yield
    except Exception:
        if forward_is_collective(model.module):  # other processes wait for the forward passes that were left out
            spare = model.input_of(plan.spare_input)
            for _ in range(model.passes, 1 + len(plan.copies)):
                model.predict(spare)
        raise


def _score(
    batch: Any, plan: BatchPlan, model: AuditedModel, predictability: PredictabilityLookup | None, answer: Tensor | None
) -> tuple[ScoredBatch, BatchValues]:
    sample, interpretation, device = model.adapter.unpack(batch), plan.interpretation, model.device
    prepared = interpretation.prepare_target(sample)
    answer = model.output_of(sample) if answer is None else answer
    answer = interpretation.check_prediction(answer, sample.input, prepared)
    prediction = plan.read(answer, prepared)
    if plan.output is not None:
        plan.output.require_foreground(answer, prepared)
    if interpretation.task == "segmentation" and device.type != "cpu":  # where a label out of range ends the process
        valid_pixels(prepared, max(2, prediction.shape[1]), interpretation.config.ignore_index)
    target = prepared.to(device)
    values = _errors(plan, prediction, target) | _errors_of_classes(plan, prediction, target)
    classes = None
    if interpretation.task == "segmentation":
        classes = max(2, prediction.shape[1])
    values |= label_columns(interpretation, sample.target.to(device), target)
    if predictability is None:
        values["predictability"] = values[CONTENT] = torch.zeros(len(prepared), dtype=torch.float64, device=device)
        shows = torch.zeros((len(prepared), len(SEEN)), dtype=torch.float64, device=device)
    else:
        values["predictability"], values[CONTENT], shows = predictability(
            interpretation, sample.input, prepared, classes, device
        )
    if plan.labels_only:  # a share of pixels, as their reconstruction error is: exp(-p) of the truth was expected
        values["predictability"] = -torch.expm1(-values["predictability"])
    if plan.copies:
        tiles = tile_log_errors(_pixel_errors(plan, prediction, target)) if plan.tiles else None
        values |= _neighbour_ratios(plan, model, model.input_of(sample.input), target, values["reconstruction"], tiles)
    baselines = baseline_errors(interpretation, plan.constant, sample.input.to(device), target)
    values |= {BASELINE + name: error.to(device) for name, error in baselines.items()}
    statistics = statistics_of(interpretation, sample.input.to(device), target)  # where it is fastest
    absent = torch.zeros_like(values["reconstruction"], dtype=torch.float64)
    statistics |= {BLIND + name: column for name, column in zip(SEEN, shows.unbind(1), strict=True)}
    values |= {name: statistics.get(name, absent).to(device) for name in plan.statistics}
    values["reason"] = _reason(sample.input, prepared, prediction, values, plan)
    return ScoredBatch(sample, values), BatchValues(interpretation, target, classes)


def rows_of_absent(count: int, plan: BatchPlan, reason: int) -> dict[str, Tensor]:
    """The rows of samples that are in no batch: no numbers, and the reason, by its number."""
    values = {name: 0.0 if name.startswith(CHECK) else torch.nan for name in plan.columns} | {"reason": float(reason)}
    return {name: torch.full((count,), value, dtype=torch.float64) for name, value in values.items()}


def check_rows(positions: Sequence[int], values: Mapping[str, Tensor], side: str) -> None:
    """Raise a ValueError where a batch does not hold one row for each of its samples."""
    if positions and (rows := len(values["reason"])) != len(positions):
        raise ValueError(
            f"The {len(positions)} {side}s at positions {positions[0]} to {positions[-1]} came as {rows} rows of a "
            "batch, and which row is whose cannot be told. Expected one row a sample, in order: give the data set "
            "itself, or a loader whose collate_fn neither drops nor multiplies samples (several crops of a picture "
            "are samples of their own)."
        )


def show_batch(batch: Any, plan: BatchPlan, model: AuditedModel, copy: str | None = None) -> Exhibit:
    """Run a batch, as the loader gave it and prepared, again to look at it; or the copy of it that a neighbour is.

    Raises:
        ValueError: If there is no such neighbour, or none of pairs of this size.
    """
    sample, interpretation = model.adapter.unpack(batch), plan.interpretation
    input, target = sample.input, interpretation.prepare_target(sample)
    if copy is not None:
        input, target = transform_pair(copy, input, target, **_values_of_copies(plan, input))
    output = model.output_of(sample) if copy is None else model.predict(model.input_of(input))
    answer = interpretation.check_prediction(output, input, target)
    prediction = plan.read(answer, target).float().cpu()
    if interpretation.task == "translation":
        prediction = interpretation.unit(prediction)
    image, target = interpretation.as_image(input).cpu(), target.cpu()
    if interpretation.volumes:
        axis = least_axis(target.shape[-3:])
        image, target, prediction = (middle_slice(volumes, axis) for volumes in (image, target, prediction))
    return Exhibit(image, target, prediction, interpretation.task)


def _errors(plan: BatchPlan, prediction: Tensor, target: Tensor, *names: str) -> dict[str, Tensor]:
    """The plan's errors, (B,) by name: all, or some of them."""
    if plan.interpretation.task == "translation":
        prediction = plan.interpretation.unit(prediction)
    outputs = _outputs(plan, prediction, target)
    return {spec.name: measured(spec, outputs) for spec in plan.errors if not names or spec.name in names}


def _errors_of_classes(plan: BatchPlan, prediction: Tensor, target: Tensor) -> dict[str, Tensor]:
    """Errors of each class, (B,) by column, where some were asked for; NaN where a target lacks the class.

    Raises:
        ValueError: If there are other classes than the first prediction had, or a function returns something else.
    """
    values = dict[str, Tensor]()
    for spec in plan.class_errors:
        assert spec.each_class is not None
        table = spec.each_class(_outputs(plan, prediction, target))
        if table.shape != (len(target), plan.classes):
            raise ValueError(
                f"Expected the error {spec.name!r} to give a number for each sample and class, ({len(target)}, "
                f"{plan.classes}), as many classes as the first prediction has, but got shape {tuple(table.shape)}."
            )
        values |= {f"{EACH}{spec.name}/{number}": column for number, column in enumerate(table.unbind(1))}
    return values


def _outputs(plan: BatchPlan, prediction: Tensor, target: Tensor) -> Outputs:
    interpretation = plan.interpretation
    return Outputs(prediction, target, interpretation.task, interpretation.config.ignore_index, plan.labels_only)


def measured(spec: ErrorSpec, outputs: Outputs) -> Tensor:
    """Measure a registered error on a batch; ValueError if its function does not return one number a sample."""
    assert spec.measure is not None
    error = spec.measure(outputs)
    if error.shape != (len(outputs.target),):
        raise ValueError(
            f"Expected the error {spec.name!r} to give one number a sample, ({len(outputs.target)},), but its function "
            f"returned shape {tuple(error.shape)}."
        )
    return error


def _neighbour_ratios(
    plan: BatchPlan,
    model: AuditedModel,
    input: Tensor,
    target: Tensor,
    reconstruction: Tensor,
    tiles: Tensor | None = None,
) -> dict[str, Tensor]:
    """Log-ratios of the errors to those on transformed copies of the same pairs; NaN where a copy has none.

    With the logarithms of the errors of the pairs' tiles, (B, T), that to the easiest copies tile by tile, too; pairs
    without a tile to compare have that of their pictures.

    Failures of the machine pass: scores that stay away, or rest on fewer copies, by chance could not be repeated.
    """
    how = _values_of_copies(plan, input)
    sizes = [spatial_size(images, plan.interpretation.volumes) for images in (input, target)]
    ratios, tiles_of_copies = dict[str, Tensor](), list[Tensor]()
    for name in plan.copies:
        # The first batch, by which the copies were planned, was square, or could be moved.
        if not NEIGHBOURS[name].fits(*sizes):
            model.predict(input)  # processes that make a forward pass together must all make it
            ratios[NEIGHBOUR + name] = torch.full_like(reconstruction, torch.nan)
            continue
        copy, target_copy = transform_pair(name, input, target, **how)
        try:
            answer = plan.interpretation.check_prediction(model.predict(copy), copy, target_copy)
            prediction = plan.read(answer, target_copy)
            error = _errors(plan, prediction, target_copy, "reconstruction")["reconstruction"]
            if tiles is not None:
                in_place = moved_back(name, _pixel_errors(plan, prediction, target_copy), sizes[0])
                whole = torch.isfinite(error).unsqueeze(1)  # of other copies no tile counts
                tiles_of_copies.append(torch.where(whole, tile_log_errors(in_place), torch.nan))
        except MACHINE_FAILURES as failure:
            if plan.attacks.optional and isinstance(failure, OUT_OF_MEMORY):
                failure.add_note(
                    "The audit asked the model about a copy of a batch: a smaller batch_size needs less memory, and "
                    "verdict='primary' asks about no copies."
                )
            raise
        except Exception as failure:
            if not plan.attacks.optional:
                raise
            model.failed_copies.setdefault(name, f"{type(failure).__name__}: {str(failure).partition(chr(10))[0]}")
            error = torch.full_like(reconstruction, torch.nan)
        ratios[NEIGHBOUR + name] = neighbour_error(reconstruction, error.unsqueeze(1))
    if tiles is not None:
        none = torch.full_like(tiles, torch.nan).unsqueeze(1)
        by_tile = tile_ratio(tiles, torch.stack(tiles_of_copies, 1) if tiles_of_copies else none)
        by_picture = tile_ratio(
            torch.zeros_like(reconstruction).unsqueeze(1), -torch.stack([*ratios.values()], 1).unsqueeze(2)
        )
        ratios[TILES] = torch.where(torch.isfinite(by_tile), by_tile, by_picture)
    return ratios


def _pixel_errors(plan: BatchPlan, prediction: Tensor, target: Tensor) -> Tensor:
    """What the reconstruction error is the mean of, (B, C, ...)."""
    interpretation = plan.interpretation
    if interpretation.task == "translation":
        prediction = interpretation.unit(prediction)
    return pixel_errors(prediction, target, interpretation.task, interpretation.config.ignore_index)


def _values_of_copies(plan: BatchPlan, input: Tensor) -> dict[str, Any]:
    """What the values of a batch mean, as :func:`transform_pair` takes it."""
    interpretation = plan.interpretation
    pictures = (interpretation.is_picture(input), interpretation.task == "translation")
    return {"input_range": interpretation.input_range(input), "pictures": pictures}


def _reason(input: Tensor, target: Tensor, prediction: Tensor, values: Mapping[str, Tensor], plan: BatchPlan) -> Tensor:
    """Say by number why a sample has no numbers; 0 where it has."""
    device, interpretation = prediction.device, plan.interpretation
    reason = torch.zeros(len(prediction), dtype=torch.float64, device=device)
    if interpretation.task != "translation":
        reason[~torch.isfinite(values["predictability"])] = 4
        ignored = (target < 0) | (target == interpretation.config.ignore_index) | torch.isnan(target)
        reason[ignored.flatten(1).all(1).to(device)] = 2
    else:
        reason[~torch.isfinite(values["predictability"])] = 9
        reason[interpretation.beyond_range(target).to(device)] = 10
        nothing = torch.isnan(target).flatten(1).all(1) | torch.isinf(target).flatten(1).any(1)  # NaN alone is void
        reason[nothing.to(device)] = 3
    reason[~_finite(input).to(device)] = 3
    bad_prediction = ~_finite(prediction) | ~torch.isfinite(values["reconstruction"])
    reason[bad_prediction & (reason == 0)] = 1
    copies = [v for name, v in values.items() if name.startswith(NEIGHBOUR)]
    if copies and not plan.attacks.optional:
        reason[~torch.isfinite(torch.stack(copies)).any(0) & (reason == 0)] = 5
    for spec in plan.errors:
        reason[~torch.isfinite(values[spec.name]) & (reason == 0)] = 6
    return reason


def _finite(batch: Tensor) -> Tensor:
    return torch.isfinite(batch).flatten(1).all(1)
