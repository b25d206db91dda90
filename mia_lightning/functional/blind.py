"""Blind baseline: an attack that never queries the model, and matching of samples that it cannot distinguish.

Where features of the pairs alone distinguish members from nonmembers, an attack may reach its area under the ROC
without any memorization. Members and nonmembers matched on the blind attack's log-odds are alike in all that it uses.
"""

import heapq
import math
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from mia_lightning.functional.calibration import log_error
from mia_lightning.functional.classifier import PermutationTest, permutation_test
from mia_lightning.functional.feature_means import is_feature
from mia_lightning.functional.groups import Codes, as_codes, group_means
from mia_lightning.functional.multilabel import MASK_STATISTICS, mask_statistics
from mia_lightning.functional.picture_technique import TECHNIQUE
from mia_lightning.functional.predictability import Task
from mia_lightning.functional.roc import Floats

CLASS_BINS = 16
IMAGE_STATISTICS = ("mean", "contrast", "sharpness")
LABEL_STATISTICS = (*(f"class_{c:02d}" for c in range(CLASS_BINS)), "void", "boundary")
SIGNIFICANT = 0.05
"""P-value below which the blind attack counts as having found a difference between the sides."""


def image_statistics(image: Tensor) -> Tensor:
    """Mean, contrast and sharpness of images.

    Contrast is the root of the channels' mean variance over pixels, sharpness the mean absolute difference of
    neighbouring pixels: unlike a Laplacian's log-variance it is finite for constant images and one-pixel-high ones.
    Both look at each channel: one-hot planes sum to one everywhere, and a luminance would show nothing of them.

    Args:
        image: (B, C, H, W) or (B, C, D, H, W) floating-point numbers in [0, 1], NaN at void pixels; another shape or
            type is a ValueError.

    Returns:
        (B, 3) in the order of :data:`IMAGE_STATISTICS`, float64, in units of the image, over what is not void; 0 where
        all is.

    Example:
        >>> image_statistics(torch.tensor([[[[0.0, 1.0], [0.0, 1.0]]]]))
        tensor([[0.5000, 0.5000, 0.5000]], dtype=torch.float64)
    """
    if image.ndim not in (4, 5) or not image.is_floating_point():
        raise ValueError(f"Expected float images (B, C, H, W), but got {image.dtype} {tuple(image.shape)}.")
    x = image.detach().double()
    if bool((void := torch.isnan(x)).any()):
        broken = void.flatten(1).any(1)
        plain = image_statistics(torch.where(void, 0.0, x))
        return torch.where(broken.unsqueeze(1), _statistics_of_valid(x, ~void), plain)
    axes = tuple(range(2, x.ndim))
    contrast = (x - x.mean(axes, keepdim=True)).square().mean((1, *axes)).sqrt()
    change, pairs = x.new_zeros(len(x)), 0
    for axis in reversed(axes):
        step = x.diff(dim=axis).abs()
        change = change + step.sum((1, *axes))
        pairs += math.prod(step.shape[1:])
    return torch.stack([x.mean((1, *axes)), contrast, change / max(1, pairs)], 1)


def _statistics_of_valid(x: Tensor, valid: Tensor) -> Tensor:
    """Mean, contrast and sharpness over the values that are valid."""

    def mean(values: Tensor, where: Tensor, dims: tuple[int, ...]) -> Tensor:
        return torch.where(where, values, 0.0).sum(dims, keepdim=True) / where.sum(dims, keepdim=True).clamp_min(1)

    axes = tuple(range(2, x.ndim))
    everywhere = (1, *axes)
    contrast = mean((x - mean(x, valid, axes)).square(), valid, everywhere).sqrt()
    steps = torch.cat([x.diff(dim=axis).abs().flatten(1) for axis in axes], 1)  # NaN beside a void pixel
    sharpness = mean(steps, ~torch.isnan(steps), (1,))
    return torch.stack([mean(x, valid, everywhere).flatten(), contrast.flatten(), sharpness.flatten()], 1)


def label_statistics(labels: Tensor, ignore_index: int = 255) -> Tensor:
    """Shares of classes, of ignored pixels and of pixels on class boundaries.

    Classes are folded into 16 bins (class c counts in bin c mod 16), so that the number of columns never depends on
    what a batch contains. A pixel lies on a boundary if one of its four neighbours (of a voxel, six) has another class;
    ignored pixels neither lie on one nor make one.

    Args:
        labels: (B, H, W) or (B, D, H, W) integers; another shape or type is a ValueError.
        ignore_index: Label of ignored pixels, beside negative ones.

    Returns:
        (B, 18) in the order of :data:`LABEL_STATISTICS`, float64, in [0, 1]: ``void``, the ignored pixels, is a
        share of all pixels, the others are shares of those that carry a class (0 where none does).

    Example:
        >>> row = label_statistics(torch.tensor([[[0, 0, 1, 255]]]))[0].tolist()
        >>> [round(row[LABEL_STATISTICS.index(name)], 3) for name in ("class_00", "class_01", "void", "boundary")]
        [0.667, 0.333, 0.25, 0.667]
    """
    if labels.ndim not in (3, 4) or labels.is_floating_point():
        raise ValueError(f"Expected integer label maps (B, H, W), but got {labels.dtype} {tuple(labels.shape)}.")
    code = labels.detach().long()
    code = torch.where(code == ignore_index, -1, code)
    batch, ignored = len(code), code < 0
    # Bin 16 takes the ignored pixels; one offset an image makes a single count of all histograms.
    bins = torch.where(ignored, CLASS_BINS, code % CLASS_BINS).flatten(1)
    bins = bins + (CLASS_BINS + 1) * torch.arange(batch, device=bins.device).unsqueeze(1)
    counts = torch.bincount(bins.flatten(), minlength=batch * (CLASS_BINS + 1)).view(batch, CLASS_BINS + 1).double()
    valid = counts[:, :CLASS_BINS].sum(1, keepdim=True).clamp_min(1.0)
    boundary = _on_boundary(code).flatten(1).sum(1, keepdim=True)
    pixels = max(1, math.prod(code.shape[1:]))
    return torch.cat([counts[:, :CLASS_BINS] / valid, counts[:, CLASS_BINS:] / pixels, boundary / valid], 1)


def _on_boundary(code: Tensor) -> Tensor:
    edge = torch.zeros_like(code, dtype=torch.bool)
    for dim in range(1, code.ndim):
        pairs = max(0, code.shape[dim] - 1)
        first, second = code.narrow(dim, 0, pairs), code.narrow(dim, code.shape[dim] - pairs, pairs)
        differ = (first != second) & (first >= 0) & (second >= 0)
        edge.narrow(dim, 0, pairs).logical_or_(differ)
        edge.narrow(dim, code.shape[dim] - pairs, pairs).logical_or_(differ)
    return edge


def pair_statistics(input: Tensor, target: Tensor, task: Task, ignore_index: int = 255) -> dict[str, Tensor]:
    """Statistics of the pairs that the blind attack uses; the model is never queried.

    Args:
        input: Images (B, C, H, W) in [0, 1], or integer label maps (B, H, W) or (B, 1, H, W). Volumes have D before
            H, and label volumes as inputs a dimension of channels.
        target: Images (B, C, H, W) for ``"translation"``, NaN at void pixels; integer label maps (B, H, W) for
            ``"segmentation"``; masks (B, K, H, W) in [0, 1], NaN where they are ignored, for ``"multilabel"``.
        task: ``"translation"``, ``"segmentation"`` or ``"multilabel"``.
        ignore_index: Label of ignored pixels.

    Returns:
        One (B,) float64 tensor a statistic, on the input's device: ``input_mean``, ``target_class_03`` and so on. A
        ValueError if a tensor is neither images nor label maps, or the target does not fit the task.

    Example:
        >>> sorted(pair_statistics(torch.rand(2, 3, 4, 4), torch.rand(2, 1, 4, 4), "translation"))[:3]
        ['input_contrast', 'input_mean', 'input_sharpness']
    """
    if task not in ("translation", "segmentation", "multilabel"):
        raise ValueError(f"Unknown task {task!r}; expected 'translation', 'segmentation' or 'multilabel'.")
    if len(input) != len(target):
        raise ValueError(f"Expected one target an input, but got {len(input)} inputs and {len(target)} targets.")
    if input.ndim in (4, 5) and not input.is_floating_point():
        if input.shape[1] != 1:
            raise ValueError(f"Expected integer label maps (B, H, W), but got {input.dtype} {tuple(input.shape)}.")
        input = input.squeeze(1)
    of_labels = partial(label_statistics, ignore_index=ignore_index), LABEL_STATISTICS
    of_images = image_statistics, IMAGE_STATISTICS
    of_targets: Mapping[Task, tuple[Callable[[Tensor], Tensor], tuple[str, ...]]]
    of_targets = {"translation": of_images, "segmentation": of_labels, "multilabel": (mask_statistics, MASK_STATISTICS)}
    sides = (
        ("input", input, of_images if input.is_floating_point() else of_labels),
        ("target", target.to(input.device), of_targets[task]),
    )
    statistics: dict[str, Tensor] = {}
    for side, values, (summary, names) in sides:
        table = summary(values)
        statistics |= {f"{side}_{name}": column for name, column in zip(names, table.unbind(1), strict=True)}
    return statistics


def blind_test(
    features: Mapping[str, ArrayLike | Tensor],
    member: ArrayLike,
    *,
    predictability: ArrayLike | Tensor | None = None,
    permutations: int = 199,
    seed: int = 0,
    group: ArrayLike | None = None,
) -> PermutationTest:
    """Test by ``classifier.permutation_test`` whether features of the pairs alone tell members from nonmembers.

    One classifier sees the few statistics of :func:`pair_statistics` and predictability, a second, regularised one all
    features: those that :func:`is_further` names are left to it.

    Args:
        features: One (N,) column of finite numbers a name, such as :func:`pair_statistics` gives. The order of names
            does not matter; constant columns are dropped.
        member: (N,) booleans, True for members.
        predictability: (N,) predictability errors; their logarithm becomes one more column.
        permutations: Number of permuted labelings behind the p-value.
        seed: Seed of folds and permutations.
        group: Group of each sample, (N,), as for ``classifier.permutation_test``.

    Returns:
        Area, p-value and log-odds. Area 0.5 and p-value 1 where no column varies; NaN below 4 samples a side. A
        ValueError if a column has another length or holds a value that is not finite.

    Example:
        >>> member = np.arange(80) < 40
        >>> brightness = np.random.default_rng(0).normal(size=80) + 1.5 * member
        >>> test = blind_test({"input_mean": brightness}, member)
        >>> test.auc > 0.7, test.p_value
        (True, 0.005)
    """
    sides = np.asarray(member, dtype=bool)
    columns = {name: _column(name, features[name], sides.size) for name in sorted(features)}
    if predictability is not None:
        columns["log predictability"] = log_error(_column("predictability", predictability, sides.size))
    varying = {name: column for name, column in columns.items() if column.size and np.ptp(column) > 0}
    few = [column for name, column in varying.items() if not is_further(name)]
    further = [column for name, column in varying.items() if is_further(name)]
    table = np.column_stack([*few, *further]) if varying else np.empty((sides.size, 0))
    return permutation_test(
        table[:, : len(few)],
        sides,
        permutations=permutations,
        seed=seed,
        group=group,
        wider=table if further else None,
    )


def is_further(name: str) -> bool:
    """Whether a feature is one of the many that only the regularised classifier sees.

    Example:
        >>> is_further("input_detail_2"), is_further("feature_07"), is_further("input_mean")
        (True, True, False)
    """
    return is_feature(name) or name.removeprefix("input_").removeprefix("target_") in TECHNIQUE


def _column(name: str, values: ArrayLike | Tensor, size: int) -> Floats:
    array = values.detach().cpu().numpy() if isinstance(values, Tensor) else values
    column = np.asarray(array, dtype=np.float64)
    if column.shape != (size,):
        raise ValueError(f"Expected feature {name!r} of shape ({size},), one value a sample, but got {column.shape}.")
    if not np.isfinite(column).all():
        raise ValueError(
            f"Expected finite features, but {name!r} is NaN or infinite for {int((~np.isfinite(column)).sum())} of "
            f"{size} samples; leave those samples out."
        )
    return column


def explained_share(blind_auc: float, attack_auc: float) -> float:
    """How much of an attack's area under the ROC above one half the blind attack reaches without the model.

    Returns:
        ``(blind_auc - 0.5) / (attack_auc - 0.5)``, clipped to [0, 1]; NaN where there is nothing to explain (an attack
        at one half or below) or either area is NaN.

    Example:
        >>> round(explained_share(0.6, 0.7), 3), explained_share(0.45, 0.7), explained_share(0.9, 0.7)
        (0.5, 0.0, 1.0)
    """
    if math.isnan(blind_auc) or not attack_auc > 0.5:
        return float("nan")
    return min(1.0, max(0.0, (blind_auc - 0.5) / (attack_auc - 0.5)))


def matched_subsample(
    logits: ArrayLike, member: ArrayLike, *, caliper: float = 0.2, group: Codes | None = None
) -> NDArray[np.intp]:
    """Rows of members and nonmembers that the blind attack cannot tell apart: pairs of equal log-odds.

    One-to-one propensity matching without replacement (Rosenbaum and Rubin, 1985), the closest pair first, within a
    caliper of the log-odds (Austin, 2011: 0.2 of their pooled standard deviation). In one dimension the closest pair
    left always stands side by side in sorted order, so a heap finds all of them in O(N log N). Pairing from one end of
    the order instead would make as many pairs or more, but nearly all of them leaning the same way by up to a caliper.

    Pairs are closer than chance would have them, so the blind attack on the matched rows tends to fall *below* one
    half; that is no sign of a difference.

    Args:
        logits: (N,) cross-fitted log-odds of membership; samples where they are not finite are left out.
        member: (N,) booleans, True for members; another length is a ValueError.
        caliper: Largest distance within a pair, 0 (ties alone) or more, in pooled standard deviations of the log-odds.
        group: Number of each sample's group, (N,): groups are matched as wholes, by the mean of the log-odds of their
            members, or of their nonmembers, where they stand on both sides.

    Returns:
        Sorted row numbers, as many members as nonmembers or, where samples come in groups, of as many groups; empty
        where the sides do not overlap or a side is empty.

    Example:
        >>> matched_subsample([0.0, 1.0, 9.0, 0.1, 1.1, -9.0], [True, True, True, False, False, False]).tolist()
        [0, 1, 3, 4]
    """
    z, sides = np.asarray(logits, dtype=np.float64), np.asarray(member, dtype=bool)
    if z.ndim != 1 or z.shape != sides.shape:
        raise ValueError(f"Expected log-odds and flags of one shape (N,), but got {z.shape} and {sides.shape}.")
    if not caliper >= 0:
        raise ValueError(f"Expected caliper >= 0, but got {caliper}.")
    if group is not None:
        return _matched_groups(z, sides, group, caliper)
    order = np.argsort(z, kind="stable")
    order = order[np.isfinite(z[order])]
    z, sides = z[order], sides[order]
    if not sides.any() or sides.all():
        return np.empty(0, dtype=np.intp)
    spread = math.sqrt(sum(part.var(ddof=min(1, part.size - 1)) for part in (z[sides], z[~sides])) / 2)
    return np.sort(order[_closest_pairs(z.tolist(), sides.tolist(), caliper * spread)])


def _matched_groups(z: Floats, sides: NDArray[np.bool_], group: Codes, caliper: float) -> NDArray[np.intp]:
    """Rows of matched groups: a group is one unit a side on which it stands."""
    rows = np.flatnonzero(np.isfinite(z))
    if not rows.size:
        return rows
    units = as_codes(2 * group[rows] + sides[rows], rows.size)
    of_unit = np.zeros(int(units.max()) + 1, dtype=bool)
    of_unit[units] = sides[rows]
    chosen = matched_subsample(group_means(z[rows], units), of_unit, caliper=caliper)
    return rows[np.isin(units, chosen)]


def _closest_pairs(z: list[float], sides: list[bool], within: float) -> NDArray[np.intp]:
    """Positions in sorted order, taken out pair by pair; its two neighbours are then adjacent."""
    before, after = list(range(-1, len(z) - 1)), list(range(1, len(z) + 1))
    taken = [False] * len(z)
    heap: list[tuple[float, int, int]] = []

    def offer(low: int, high: int) -> None:
        if low >= 0 and high < len(z) and sides[low] != sides[high] and z[high] - z[low] <= within:
            heapq.heappush(heap, (z[high] - z[low], low, high))

    for low in range(len(z) - 1):
        offer(low, low + 1)
    pairs: list[int] = []
    while heap:
        _, low, high = heapq.heappop(heap)
        if taken[low] or taken[high]:
            continue
        taken[low] = taken[high] = True
        pairs += [low, high]
        left, right = before[low], after[high]
        if left >= 0:
            after[left] = right
        if right < len(z):
            before[right] = left
        offer(left, right)
    return np.array(pairs, dtype=np.intp)
