"""One row a sample: prediction, reconstruction error, predictability error, and the reason where there is no number."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mia_lightning.audit.cache import PredictabilityLookup
from mia_lightning.audit.config import AuditConfig
from mia_lightning.audit.distributed import forward_is_collective
from mia_lightning.audit.forward import predict, to_model
from mia_lightning.audit.interpretation import Interpretation
from mia_lightning.audit.protocols import Adapter, Scorer
from mia_lightning.functional.blind import pair_statistics
from mia_lightning.functional.descriptions import describe
from mia_lightning.functional.neighbours import (
    NEIGHBOURS,
    Choice,
    choose_neighbours,
    neighbour_error,
    transform_pair,
)
from mia_lightning.registry import ErrorSpec, Outputs, Task
from mia_lightning.scores.building import NEIGHBOUR, measured_errors

BLIND = "blind/"
"""What columns of model-free statistics begin with."""

CHECK = "check/"
"""What columns begin with that only say whether the data are what they seem."""

FOREGROUND, IGNORED, CONTENT = CHECK + "foreground", CHECK + "ignored", CHECK + "content"

REASONS = {
    1: "the prediction holds NaN or infinite values",
    2: "no pixel of the target carries a class",
    3: "the target or the input holds NaN or infinite values",
    4: "too few pixels carry a class to be seen on the predictability grid; a scorer with a larger grid would see them",
    5: "none of its flipped or shifted copies has a finite prediction",
}


class Exhibit(NamedTuple):
    """A sample to look at: batches of one on the CPU, images in [0, 1], label maps of integers, raw logits."""

    input: Tensor
    target: Tensor
    prediction: Tensor
    task: Task


class RowScorer:
    """Turns batches into rows of errors; keeps predictability errors so that each is computed once.

    Args:
        config: Settings of the audit.
        adapter: Reads batches and calls the model.
        scorer: Computes predictability errors.
    """

    def __init__(self, config: AuditConfig, adapter: Adapter, scorer: Scorer) -> None:
        self.config, self.adapter = config, adapter
        self.predictability = PredictabilityLookup(scorer, config.cache_dir)
        self.augmentations: tuple[str, ...] = ()
        self._seen: list[str] = []
        self._neighbours: tuple[str, ...] = ()
        self._passes = 0  # forward passes of the batch at hand
        self._spare = torch.zeros(0)  # an input to make others with

    def columns(self, batch: Any, interpretation: Interpretation) -> list[str]:
        """Names of a row's values: errors, what the pair shows without the model, and why there may be no number.

        Args:
            batch: The first sample; where inputs are label maps, their classes are counted.
            interpretation: How its tensors are read.
        """
        own = [CONTENT, *([FOREGROUND, IGNORED] if interpretation.task == "segmentation" else [])]
        sample = self.adapter.unpack(batch)
        self._spare = sample.input
        self._seen = list(self._blind(sample.input, interpretation.prepare_target(sample), interpretation))
        if self.config.needs_neighbours:
            self._neighbours = self.choose_neighbours(sample.input, sample.target).used
        copies = [NEIGHBOUR + name for name in self._neighbours]
        first = ["reconstruction", "predictability"]
        further = [spec.name for spec in self._measured(interpretation.task) if spec.name not in first]
        return [*first, *further, *own, *copies, *self._seen, "reason"]

    def rows(
        self,
        module: Callable[..., Any],
        batch: Any,
        interpretation: Interpretation,
        device: torch.device,
        forward_context: Callable[[], AbstractContextManager[Any]],
    ) -> tuple[list[str] | None, dict[str, Tensor]]:
        """Score one batch; call :meth:`columns` first.

        Args:
            module: The audited model.
            batch: What the loader gave.
            interpretation: How its tensors are read.
            device: Where the model lives.
            forward_context: Gives the context of the forward pass.

        Returns:
            Ids, or None where the data have none, and for each name in :meth:`columns` one value a sample.
        """
        self._passes = 0
        try:
            return self._scored(module, batch, interpretation, device, forward_context)
        except Exception:
            if forward_is_collective(module):  # other processes wait for the forward passes that were left out
                given = to_model(self._spare, module, device)
                for _ in range(self._passes, 1 + len(self._neighbours)):
                    with forward_context():
                        self.adapter.predict(module, given)
            raise

    def _scored(
        self,
        module: Callable[..., Any],
        batch: Any,
        interpretation: Interpretation,
        device: torch.device,
        forward_context: Callable[[], AbstractContextManager[Any]],
    ) -> tuple[list[str] | None, dict[str, Tensor]]:
        sample = self.adapter.unpack(batch)
        target = interpretation.prepare_target(sample)
        given = to_model(sample.input, module, device)

        def ask(input: Tensor, wanted: Tensor) -> Tensor:
            self._passes += 1
            with forward_context():
                prediction = predict(self.adapter, module, input).to(device)
            interpretation.check_prediction(prediction, input, wanted)
            return prediction

        wanted = target.to(device)
        prediction = ask(given, wanted)
        values = self._errors(prediction, wanted, interpretation)
        classes = None if interpretation.task == "translation" else max(2, prediction.shape[1])
        if interpretation.task == "segmentation":
            ignored = wanted == self.config.ignore_index
            values[FOREGROUND] = ((wanted > 0) & ~ignored).flatten(1).any(1).double()
            values[IGNORED] = ignored.flatten(1).any(1).double()
        values["predictability"], values[CONTENT] = self.predictability(
            interpretation, sample.input, target, classes, device
        )
        if self.config.needs_neighbours:
            values |= self._against_neighbours(values["reconstruction"], ask, given, wanted, interpretation)
        seen = self._blind(sample.input.to(device), wanted, interpretation)  # where it is fastest
        values |= {name: seen.get(name, _zeros(values)).to(device) for name in self._seen}
        values["reason"] = self._reason(sample.input, target, prediction, values, interpretation)
        return sample.id, values

    def exhibit(
        self,
        module: Callable[..., Any],
        batch: Any,
        interpretation: Interpretation,
        device: torch.device,
        forward_context: Callable[[], AbstractContextManager[Any]],
    ) -> Exhibit:
        """Run a batch again, to look at it; arguments as for :meth:`rows`."""
        sample = self.adapter.unpack(batch)
        with forward_context():
            prediction = self.adapter.predict(module, to_model(sample.input, module, device)).float().cpu()
        target = interpretation.prepare_target(sample).cpu()
        shown = interpretation.unit(prediction) if interpretation.task == "translation" else prediction
        return Exhibit(interpretation.as_image(sample.input).cpu(), target, shown, interpretation.task)

    def choose_neighbours(self, input: Tensor, target: Tensor) -> Choice:
        """Decide which neighbours a batch has; quarter turns need square images."""
        if input.ndim < 3:
            raise ValueError(
                f"Neighbours are flips and shifts of images, but the inputs are {describe(input)}. Ask for scores "
                "without them: reconstruction, membership, calibrated."
            )
        square = input.shape[-2] == input.shape[-1] and target.shape[-2] == target.shape[-1]
        return choose_neighbours(self.config.neighbours, square=square, augmentations=self.augmentations)

    def _errors(self, prediction: Tensor, wanted: Tensor, interpretation: Interpretation) -> dict[str, Tensor]:
        shown = interpretation.unit(prediction) if interpretation.task == "translation" else prediction
        outputs = Outputs(shown, wanted, interpretation.task, self.config.ignore_index)
        return {spec.name: measured(spec, outputs) for spec in self._measured(interpretation.task)}

    def _measured(self, task: Task) -> list[ErrorSpec]:
        """Errors that are measured on each batch: those of every audit, those asked for, those that scores need."""
        return measured_errors(task, self.config.scores, self.config.errors)

    def _blind(self, input: Tensor, target: Tensor, interpretation: Interpretation) -> dict[str, Tensor]:
        """What the pairs show of themselves; nothing of inputs that are neither pictures nor label maps."""
        image = interpretation.as_image(input)
        labels = not image.is_floating_point() and (image.ndim == 3 or (image.ndim == 4 and image.shape[1] == 1))
        readable = labels or (image.is_floating_point() and image.ndim == 4)
        seen = pair_statistics(
            image if readable else _blank(image), target, interpretation.task, self.config.ignore_index
        )
        return {BLIND + name: v for name, v in seen.items() if readable or not name.startswith("input_")}

    def _against_neighbours(
        self,
        reconstruction: Tensor,
        ask: Callable[[Tensor, Tensor], Tensor],
        given: Tensor,
        wanted: Tensor,
        interpretation: Interpretation,
    ) -> dict[str, Tensor]:
        """Log-ratios of the errors to those on transformed copies of the same pairs; NaN where a copy has none."""
        square = given.shape[-2] == given.shape[-1] and wanted.shape[-2] == wanted.shape[-1]
        ratios = {}
        for name in self._neighbours:
            if NEIGHBOURS[name].square_only and not square:  # the first picture was
                ask(given, wanted)  # processes that make a forward pass together must all make it
                ratios[NEIGHBOUR + name] = torch.full_like(reconstruction, torch.nan)
                continue
            input, target = transform_pair(name, given, wanted, input_range=interpretation.input_range(given))
            other = self._errors(ask(input, target), target, interpretation)["reconstruction"]
            ratios[NEIGHBOUR + name] = neighbour_error(reconstruction, other.unsqueeze(1))
        return ratios

    def _reason(
        self,
        input: Tensor,
        target: Tensor,
        prediction: Tensor,
        values: dict[str, Tensor],
        interpretation: Interpretation,
    ) -> Tensor:
        """Say by number why a sample has no numbers; 0 where it has."""
        device = prediction.device
        reason = torch.zeros(len(prediction), dtype=torch.float64, device=device)
        if interpretation.task == "segmentation":
            reason[~torch.isfinite(values["predictability"])] = 4
            void = (target < 0) | (target == self.config.ignore_index)
            reason[void.flatten(1).all(1).to(device)] = 2
        else:
            reason[~torch.isfinite(values["predictability"])] = 3
        reason[~_finite(input).to(device)] = 3
        bad_prediction = ~_finite(prediction) | ~torch.isfinite(values["reconstruction"])
        reason[bad_prediction & (reason == 0)] = 1
        if copies := [v for name, v in values.items() if name.startswith(NEIGHBOUR)]:
            reason[~torch.isfinite(torch.stack(copies)).any(0) & (reason == 0)] = 5
        return reason

    def check_labels(self, columns: Mapping[str, NDArray[np.float64]]) -> None:
        """Refuse masks of 0 and 255 whose foreground would all count as void, so that only the background is audited.

        Args:
            columns: Values of all samples by name, of all processes.

        Raises:
            ValueError: If no target held a label other than 0 and void, but some held ``ignore_index``.
        """
        ignore = self.config.ignore_index
        if IGNORED in columns and columns[IGNORED].any() and not columns[FOREGROUND].any():
            raise ValueError(
                f"No target holds a class other than 0, and {ignore} (ignore_index) counts as void: the background "
                f"alone would be audited. If {ignore} marks the foreground, make it 1 in the masks (stored outputs: "
                f"--foreground {ignore}, with label maps --num_classes 1 --foreground {ignore}); if it is a class, set "
                "ignore_index (--ignore_index) to an id that means void; if it is void, there is no foreground to "
                "audit."
            )


def measured(spec: ErrorSpec, outputs: Outputs) -> Tensor:
    """Measure a registered error on a batch.

    Raises:
        ValueError: If its function does not return one number a sample.
    """
    assert spec.measure is not None
    error = spec.measure(outputs)
    if error.shape != (len(outputs.target),):
        raise ValueError(
            f"Expected the error {spec.name!r} to give one number a sample, ({len(outputs.target)},), but its function "
            f"returned shape {tuple(error.shape)}."
        )
    return error


def _blank(image: Tensor) -> Tensor:
    return image.new_zeros((len(image), 1, 1, 1), dtype=torch.float32)


def _zeros(values: dict[str, Tensor]) -> Tensor:
    return torch.zeros_like(values["reconstruction"], dtype=torch.float64)


def _finite(batch: Tensor) -> Tensor:
    return torch.isfinite(batch).flatten(1).all(1)
