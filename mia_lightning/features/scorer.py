"""The scorer of predictability errors, built on a frozen extractor."""

import hashlib
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mia_lightning.features.extractors import FeatureExtractor, load_extractor
from mia_lightning.functional.labels import as_rgb
from mia_lightning.functional.predictability import Task, predictability_error


class PredictabilityScorer:
    """Predictability error of a pair: how badly frozen features of the input alone predict the target.

    It sees one pair at a time, knows neither the audited model nor its training set, and is deterministic. The
    extractor is built on first use. Source: Shafran, Peleg and Hoshen, ICCV 2021; the paper's own setting is
    ``PredictabilityScorer("wide_resnet50_2", method="holdout", ridge=0.0)``.

    Args:
        extractor: ``"efficientnet_lite0"``, ``"wide_resnet50_2"``, any timm ``features_only`` name, or a module that
            takes images (B, 3, H, W) in [0, 1] and returns feature maps.
        grid: Side of the grid of pixels that are fitted; images are resized to ``4 * grid`` with their whole content.
        method: ``"crossfit"``: every pixel is predicted by a fold that did not see it. ``"holdout"``: fit on a random
            ``1 - holdout`` of the pixels and measure on the others, as in the paper.
        folds: Number of folds of ``"crossfit"``.
        holdout: Share of pixels that ``"holdout"`` measures on.
        ridge: Ridge penalty; 0 is ordinary least squares.
        seed: Seed of the folds or of the held-out pixels.
        weights: Local weights file for a named extractor.

    Raises:
        ValueError: If a setting is out of range.

    Example:
        >>> scorer = PredictabilityScorer(nn.AvgPool2d(4), grid=8)
        >>> image = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
        >>> scorer(image, 1.0 - image, "translation").shape
        torch.Size([2])
    """

    def __init__(
        self,
        extractor: str | nn.Module = "efficientnet_lite0",
        *,
        grid: int = 56,
        method: Literal["crossfit", "holdout"] = "crossfit",
        folds: int = 5,
        holdout: float = 0.3,
        ridge: float = 1e-3,
        seed: int = 0,
        weights: str | Path | None = None,
    ) -> None:
        if grid < 4:
            raise ValueError(f"Expected grid >= 4, but got {grid}.")
        if method not in ("crossfit", "holdout"):
            raise ValueError(f"Expected method 'crossfit' or 'holdout', but got {method!r}.")
        if not 0.0 < holdout < 1.0:
            raise ValueError(f"Expected holdout between 0 and 1, but got {holdout}.")
        if ridge < 0.0:
            raise ValueError(f"Expected ridge >= 0, but got {ridge}.")
        if not 2 <= folds <= grid * grid:
            raise ValueError(f"Expected 2 to {grid * grid} folds for grid={grid}, but got {folds}.")
        self.extractor, self.weights = extractor, weights
        self.grid, self.method, self.folds, self.holdout = grid, method, folds, holdout
        self.ridge, self.seed = ridge, seed
        self._network = load_extractor(extractor) if isinstance(extractor, nn.Module) else None

    @property
    def network(self) -> FeatureExtractor:
        """The frozen extractor, built on first use."""
        if self._network is None:
            self._network = load_extractor(self.extractor, self.weights)
        return self._network

    @property
    def settings(self) -> dict[str, str | int | float]:
        """All that the numbers depend on but the weights, as plain values."""
        name = self.extractor if isinstance(self.extractor, str) else self.network.name
        method = {"folds": self.folds} if self.method == "crossfit" else {"holdout": self.holdout}
        chosen: dict[str, str | int | float] = {"extractor": name, "grid": self.grid, "method": self.method}
        return {**chosen, **method, "ridge": self.ridge, "seed": self.seed}

    def fingerprint(self) -> str:
        """Identify settings and weights; the cache keeps results of different fingerprints apart."""
        return hashlib.sha256(f"{sorted(self.settings.items())}{self.network.fingerprint()}".encode()).hexdigest()

    def __call__(
        self,
        input: Tensor,
        target: Tensor,
        task: Task = "translation",
        *,
        num_classes: int | None = None,
        ignore_index: int = 255,
    ) -> Tensor:
        """Score a batch of pairs: errors, (B,), float64, on the input's device; NaN where no pixel carries a class.

        Args:
            input: Images (B, C, H, W) in [0, 1] of any size and number of channels, or integer label maps (B, H, W).
            target: Images (B, C, H, W) in [0, 1]; for segmentation integer label maps (B, H, W) or (B, 1, H, W); for
                independent channels masks (B, K, H, W) in [0, 1], NaN where they are ignored.
            task: ``"translation"``, ``"segmentation"`` or ``"multilabel"``.
            num_classes: Number of classes of a segmentation. None: one more than an image's own largest label, image by
                image, so that a score never depends on the company in the batch.
            ignore_index: Label of ignored pixels.
        """
        if task == "segmentation" and target.ndim == 4 and target.shape[1] == 1:
            target = target[:, 0]
        if task == "segmentation" and num_classes is None:
            each = []
            for one, labels in zip(input.tensor_split(len(input)), target.tensor_split(len(target)), strict=True):
                classes = labels[(labels >= 0) & (labels != ignore_index)]
                own = max(2, int(classes.max()) + 1) if classes.numel() else 2
                each.append(self(one, labels, task, num_classes=own, ignore_index=ignore_index))
            return torch.cat(each)
        network = self.network.to(input.device)
        side = 4 * self.grid
        colours = as_rgb(input).float()
        image = F.interpolate(colours, size=(side, side), mode="bilinear", antialias=True, align_corners=False)
        return predictability_error(
            network(image),
            target,
            grid=self.grid,
            fit_mask=self._fit_mask() if self.method == "holdout" else None,
            folds=self.folds,
            ridge=self.ridge,
            task=task,
            num_classes=num_classes,
            ignore_index=ignore_index,
            seed=self.seed,
        )

    def _fit_mask(self) -> Tensor:
        pixels = self.grid**2
        order = torch.randperm(pixels, generator=torch.Generator().manual_seed(self.seed))
        mask = torch.zeros(pixels, dtype=torch.bool)
        mask[order[: min(pixels - 1, max(1, round((1.0 - self.holdout) * pixels)))]] = True
        return mask
