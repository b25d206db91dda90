"""Predictability errors of a batch: looked up by content, computed where not known yet."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from mia_lightning.audit.cache import PredictabilityCache, content_keys, content_numbers
from mia_lightning.audit.config import Settings

Task = Literal["translation", "segmentation"]


class Scorer(Protocol):
    """What the audit asks of a predictability scorer."""

    def __call__(
        self, input: Tensor, target: Tensor, task: Any, *, num_classes: int | None, ignore_index: int
    ) -> Tensor:
        """Score a batch of pairs, (B,)."""

    def fingerprint(self) -> str:
        """Identify settings and weights."""


class PredictabilityLookup:
    """Gives predictability errors and keeps them, so that each is computed once.

    Args:
        settings: Settings of the audit.
        scorer: Computes predictability errors.
        cache_dir: Folder of the cache; None keeps it in memory. It may be set until the first batch.
    """

    def __init__(self, settings: Settings, scorer: Scorer, cache_dir: str | Path | None) -> None:
        self.settings, self.scorer, self.cache_dir = settings, scorer, cache_dir
        self._cache: PredictabilityCache | None = None
        self._fingerprint: str | None = None
        self._range_checked = False

    def __call__(
        self,
        input: Tensor,
        target: Tensor,
        task: Task,
        classes: int | None,
        device: torch.device,
    ) -> tuple[Tensor, Tensor]:
        """Look predictability errors up, compute those not known yet, and keep them.

        Args:
            input: Inputs as the loader gave them, (B, ...).
            target: Prepared targets, (B, ...).
            task: The task.
            classes: Number of classes of a segmentation.
            device: Where to compute.

        Returns:
            The predictability errors, and whole numbers that are equal for equal pairs: both (B,) float64.
        """
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
        errors, numbers = (torch.tensor(v, dtype=torch.float64, device=device) for v in (known, content_numbers(keys)))
        return errors, numbers

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
