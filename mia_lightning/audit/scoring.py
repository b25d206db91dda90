"""One row a sample: prediction, reconstruction error, predictability error, and the reason where there is no number."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from mia_lightning.audit.adapters import Adapter
from mia_lightning.audit.cache import PredictabilityCache, content_keys
from mia_lightning.audit.settings import Settings, check_prediction
from mia_lightning.functional.reconstruction import segmentation_error, translation_error

COLUMNS = ("reconstruction", "predictability", "reason")
REASONS = {
    1: "the prediction holds NaN or infinite values",
    2: "no pixel of the target carries a class",
    3: "the target or the input holds NaN or infinite values",
    4: "too few pixels carry a class to be seen on the predictability grid; a scorer with a larger grid would see them",
}


class Scorer(Protocol):
    """What the audit asks of a predictability scorer."""

    def __call__(
        self, input: Tensor, target: Tensor, task: Any, *, num_classes: int | None, ignore_index: int
    ) -> Tensor:
        """Score a batch of pairs, (B,)."""

    def fingerprint(self) -> str:
        """Identify settings and weights."""


class RowScorer:
    """Turns batches into rows of errors; keeps predictability errors so that each is computed once.

    Args:
        settings: Settings of the audit.
        adapter: Reads batches and calls the model.
        scorer: Computes predictability errors.
        cache_dir: Folder of the cache; None keeps it in memory. It may be set until the first batch.
    """

    def __init__(self, settings: Settings, adapter: Adapter, scorer: Scorer, cache_dir: str | Path | None) -> None:
        self.settings, self.adapter, self.scorer, self.cache_dir = settings, adapter, scorer, cache_dir
        self._cache: PredictabilityCache | None = None
        self._fingerprint: str | None = None
        self._binary_labels: set[int] = set()
        self._range_checked = False

    def rows(
        self,
        module: Callable[..., Any],
        batch: Any,
        task: Literal["translation", "segmentation"],
        device: torch.device,
        forward_context: Callable[[], AbstractContextManager[Any]],
    ) -> tuple[list[str] | None, dict[str, Tensor]]:
        """Score one batch.

        Args:
            module: The audited model.
            batch: What the loader gave.
            task: The task, resolved.
            device: Where the model lives.
            forward_context: Gives the context of the forward pass.

        Returns:
            Ids, or None where the data have none, and for each name in :data:`COLUMNS` one value a sample.
        """
        sample = self.adapter.unpack(batch)
        target = self.settings.prepare_target(sample, task)
        with forward_context():
            prediction = self.adapter.predict(module, to_model(sample.input, module, device))
        check_prediction(prediction, target, task, self.settings.num_classes)
        wanted = target.to(device)
        if task == "translation":
            reconstruction = translation_error(self.settings.unit(prediction), wanted)
            classes = None
        else:
            reconstruction = segmentation_error(prediction, wanted, ignore_index=self.settings.ignore_index)
            classes = max(2, prediction.shape[1])
            if prediction.shape[1] == 1:
                self._binary_labels |= set(torch.unique(target).tolist())
        predictability = self._predictability(sample.input, target, task, classes, device)
        reason = torch.zeros_like(reconstruction, dtype=torch.float64)
        if task == "segmentation":
            reason[~torch.isfinite(predictability)] = 4
            void = (target < 0) | (target == self.settings.ignore_index)
            reason[void.flatten(1).all(1).to(device)] = 2
        else:
            reason[~torch.isfinite(predictability)] = 3
        reason[~_finite(sample.input).to(device)] = 3
        bad_prediction = ~_finite(prediction) | ~torch.isfinite(reconstruction)
        reason[bad_prediction & (reason == 0)] = 1
        values = {"reconstruction": reconstruction, "predictability": predictability, "reason": reason}
        return sample.id, values

    def check_labels(self) -> None:
        """Refuse binary masks of 0 and 255 whose foreground would all count as void.

        Raises:
            ValueError: If no binary mask held a 1 but some held ``ignore_index``.
        """
        seen, ignore = self._binary_labels, self.settings.ignore_index
        if seen and 1 not in seen and ignore in seen:
            raise ValueError(
                f"The model has one logit, but no mask holds a 1, and {ignore} (ignore_index) counts as void. If "
                f"{ignore} is the foreground, divide the masks by it; if it is void, there is no foreground to audit."
            )

    def _predictability(
        self,
        input: Tensor,
        target: Tensor,
        task: Literal["translation", "segmentation"],
        classes: int | None,
        device: torch.device,
    ) -> Tensor:
        """Look predictability errors up, compute those not known yet, and keep them."""
        if self._cache is None:
            self._cache = PredictabilityCache(self.cache_dir)
        if self._fingerprint is None:
            self._fingerprint = self.scorer.fingerprint()
        s = self.settings
        depends = (self._fingerprint, task, classes, s.ignore_index, s.mean, s.std, s.target_range)
        keys = content_keys(repr(depends), input, target)
        known = self._cache.get(keys)
        missing = [i for i, value in enumerate(known) if value is None]
        if missing:
            images, targets = s.as_image(input[missing], task).to(device), target[missing].to(device)
            self._warn_of_range(images)
            fresh = self.scorer(images, targets, task, num_classes=classes, ignore_index=s.ignore_index).tolist()
            self._cache.put([keys[i] for i in missing], fresh)
            for i, value in zip(missing, fresh, strict=True):
                known[i] = value
        return torch.tensor(known, dtype=torch.float64, device=device)

    def _warn_of_range(self, images: Tensor) -> None:
        if self._range_checked or not images.is_floating_point():
            return
        self._range_checked = True
        low, high = (float(v) for v in torch.aminmax(images))
        if low < -0.05 or high > 1.05:
            warnings.warn(
                f"The feature extractor expects images in [0, 1], but the inputs span [{low:.3g}, {high:.3g}]. If they "
                "were normalised, pass mean and std, so that predictability is measured on images.",
                stacklevel=2,
            )


def to_model(input: Tensor, module: Callable[..., Any], device: torch.device) -> Tensor:
    """Bring an input to the model's device and, unless it holds integers, to the precision of the model's weights."""
    parameters = module.parameters() if isinstance(module, nn.Module) else ()
    weights = next((p for p in parameters if p.is_floating_point()), input)
    return input.to(device, weights.dtype if input.is_floating_point() else input.dtype)


def _finite(batch: Tensor) -> Tensor:
    return torch.isfinite(batch).flatten(1).all(1)
