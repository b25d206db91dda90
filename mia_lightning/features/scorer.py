"""The scorer of predictability errors, built on a frozen extractor."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mia_lightning.features.extractors import FeatureExtractor, load_extractor
from mia_lightning.functional.feature_means import feature_means
from mia_lightning.functional.labels import as_rgb
from mia_lightning.functional.predictability import Task, predictability_error
from mia_lightning.functional.volumes import is_volume, least_axis, matching_place, slice_places

_SLICES_AT_ONCE = 16
"""So many slices of a volume go through the backbone together: what that takes does not grow with the volume."""


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
        slices: int | None = None,
    ) -> Tensor:
        """Score a batch of pairs: errors, (B,), float64, on the input's device; NaN where no pixel carries a class.

        Volumes are scored slice by slice along the axis on which the target has the fewest voxels (D where axes are
        equal), as the pictures that the slices of input and target are; their error is the mean over slices, those left
        out of which no pixel carries a class.

        Args:
            input: Images (B, C, H, W) in [0, 1] of any size and number of channels, or integer label maps (B, H, W);
                volumes (B, C, D, H, W), or integer label volumes (B, 1, D, H, W).
            target: Images (B, C, H, W) in [0, 1]; for segmentation integer label maps (B, H, W) or (B, 1, H, W); for
                independent channels masks (B, K, H, W) in [0, 1], NaN where they are ignored. With D before H where
                the input is a volume.
            task: ``"translation"``, ``"segmentation"`` or ``"multilabel"``.
            num_classes: Number of classes of a segmentation. None: one more than an image's own largest label, image by
                image, so that a score never depends on the company in the batch.
            ignore_index: Label of ignored pixels.
            slices: How many slices of a volume are scored, one drawn by the scorer's seed out of each of as many equal
                parts, the same for all volumes of one depth; None scores all.

        Raises:
            ValueError: If shapes or ``slices`` do not fit.
        """
        return self.with_features(
            input, target, task, num_classes=num_classes, ignore_index=ignore_index, slices=slices
        )[0]

    def with_features(
        self,
        input: Tensor,
        target: Tensor,
        task: Task = "translation",
        *,
        num_classes: int | None = None,
        ignore_index: int = 255,
        slices: int | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Score a batch of pairs, as a call does, and say what the extractor makes of the inputs.

        Arguments and errors are those of a call.

        Returns:
            The errors, (B,), and :func:`~mia_lightning.functional.feature_means.feature_means` of the inputs, (B, 16),
            of volumes the mean over the slices that are scored; float64.
        """
        volumes = is_volume(input)
        if task == "segmentation" and target.ndim == 4 + volumes and target.shape[1] == 1:
            target = target[:, 0]
        if task == "segmentation" and num_classes is None:
            each = []
            for one, labels in zip(input.tensor_split(len(input)), target.tensor_split(len(target)), strict=True):
                classes = labels[(labels >= 0) & (labels != ignore_index)]
                own = max(2, int(classes.max()) + 1) if classes.numel() else 2
                each.append(
                    self.with_features(one, labels, task, num_classes=own, ignore_index=ignore_index, slices=slices)
                )
            return _joined(each)
        if not volumes:
            return self._score(input, target, task, num_classes, ignore_index)
        if target.ndim != input.ndim - (task == "segmentation"):
            expected = "label maps (B, D, H, W)" if task == "segmentation" else "targets (B, C, D, H, W)"
            raise ValueError(f"Expected {expected} for volumes {tuple(input.shape)}, but got {tuple(target.shape)}.")
        scored = []
        for volume, aim in zip(input, target, strict=True):
            parts = _slices_of(volume, aim, slices, self.seed)
            errors, features = _joined(
                [self._score(pictures, aims, task, num_classes, ignore_index) for pictures, aims in parts]
            )
            broken = volume.is_floating_point() and not bool(torch.isfinite(volume).all())
            scored.append((errors.nanmean(0, keepdim=True) + (torch.nan if broken else 0.0), features.mean(0)[None]))
        return _joined(scored)

    def _score(
        self, input: Tensor, target: Tensor, task: Task, num_classes: int | None, ignore_index: int
    ) -> tuple[Tensor, Tensor]:
        """Score pictures: their errors, and their features' means."""
        network = self.network.to(input.device)
        side = 4 * self.grid
        colours = as_rgb(input).float()
        image = F.interpolate(colours, size=(side, side), mode="bilinear", antialias=True, align_corners=False)
        maps = network(image)
        errors = predictability_error(
            maps,
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
        return errors, feature_means(maps)

    def _fit_mask(self) -> Tensor:
        pixels = self.grid**2
        order = torch.randperm(pixels, generator=torch.Generator().manual_seed(self.seed))
        mask = torch.zeros(pixels, dtype=torch.bool)
        mask[order[: min(pixels - 1, max(1, round((1.0 - self.holdout) * pixels)))]] = True
        return mask


def _joined(parts: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    errors, features = zip(*parts, strict=True)
    return torch.cat(errors), torch.cat(features)


def _pictures_at(volume: Tensor, axis: int, places: Sequence[int]) -> Tensor:
    """The slices of a volume at places along an axis counted from the end, (S, ...)."""
    chosen = torch.tensor(places, device=volume.device)
    return volume.index_select(axis % volume.ndim, chosen).movedim(axis, 0)


def _slices_of(volume: Tensor, target: Tensor, slices: int | None, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Pictures (S, C, H, W) out of a volume (C, D, H, W), with what the target has there, a few at a time."""
    axis = least_axis(target.shape[-3:]) - 3
    depth, own = target.shape[axis], volume.shape[axis]
    places = slice_places(depth, slices, seed)
    for start in range(0, len(places), _SLICES_AT_ONCE):
        some = places[start : start + _SLICES_AT_ONCE]
        beside = [matching_place(place, depth, own) for place in some]
        yield _pictures_at(volume, axis, beside), _pictures_at(target, axis, some)
