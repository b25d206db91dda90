"""Errors of voxels and statistics of volumes against references of a few lines each; which slices are taken."""

import math
from itertools import product

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.ndimage import correlate1d
from torch import Tensor

from mia_lightning.functional.blind import IMAGE_STATISTICS, LABEL_STATISTICS, pair_statistics
from mia_lightning.functional.boundaries import boundary_distance
from mia_lightning.functional.multilabel import MULTILABEL_ERRORS, multilabel_error
from mia_lightning.functional.reconstruction import SEGMENTATION_ERRORS, segmentation_error, translation_error
from mia_lightning.functional.volumes import least_axis, matching_place, middle_slice, slice_places

DRAW = torch.Generator().manual_seed(0)
SIZE = (4, 5, 6)
LOGITS = torch.randn(2, 3, *SIZE, generator=DRAW, dtype=torch.float64)
LABELS = torch.randint(-1, 3, (2, *SIZE), generator=DRAW)
LABELS[0, 1, 2] = 255
IMAGES = torch.rand(2, 2, *SIZE, generator=DRAW, dtype=torch.float64)
OTHERS = torch.rand(2, 2, *SIZE, generator=DRAW, dtype=torch.float64)
MASKS = torch.where(torch.rand(2, 3, *SIZE, generator=DRAW) < 0.2, torch.nan, (LOGITS > 0.3).float())


def test_translation_errors_are_means_over_voxels():
    for kind, power in (("l1", 1), ("l2", 2)):
        expected = [np.mean(np.abs(p.numpy() - t.numpy()) ** power) for p, t in zip(IMAGES, OTHERS, strict=True)]
        assert translation_error(IMAGES, OTHERS, kind).tolist() == pytest.approx(expected)


def windows(lengths: tuple[int, ...]) -> list[np.ndarray]:
    found = [np.exp(-((np.arange(length) - length // 2) ** 2) / 4.5) for length in lengths]
    return [window / window.sum() for window in found]


@pytest.mark.parametrize(("size", "lengths"), [((12, 13, 14), (11, 11, 11)), ((4, 13, 12), (3, 11, 11))])
def test_structural_similarity_has_a_window_in_three_dimensions(size, lengths):
    x, y = (torch.rand(2, 1, 2, *size, generator=DRAW, dtype=torch.float64)).numpy()

    def smooth(channel: np.ndarray) -> np.ndarray:
        for axis, window in enumerate(windows(lengths)):
            channel = correlate1d(channel, window, axis)
        return channel[tuple(slice(k // 2, n - k // 2) for n, k in zip(size, lengths, strict=True))]

    similarities = []
    for a, b in zip(x[0], y[0], strict=True):
        ma, mb, va, vb, ab = map(smooth, (a, b, a * a, b * b, a * b))
        above = (2 * ma * mb + 1e-4) * (2 * (ab - ma * mb) + 9e-4)
        similarities.append(above / (ma**2 + mb**2 + 1e-4) / (va - ma**2 + vb - mb**2 + 9e-4))
    error = translation_error(torch.from_numpy(x), torch.from_numpy(y), "ssim")
    assert error.item() == pytest.approx(1 - np.mean(similarities))


def by_voxel(kind: str, logits: Tensor, labels: Tensor) -> float:
    """Errors of one sample by a loop over its voxels."""
    values, overlap, size, held = [], np.zeros(3), np.zeros(3), np.zeros(3, dtype=bool)
    for place in product(*map(range, SIZE)):
        label = int(labels[place])
        if label in (-1, 255):
            continue
        p, truth = logits[(slice(None), *place)].softmax(0).numpy(), np.eye(3)[label]
        found = {
            "cross_entropy": -math.log(p[label]),
            "brier": ((p - truth) ** 2).sum(),
            "soft_error": 1 - p[label],
            "zero_one": float(p.argmax() != label),
        }
        values.append(found.get(kind, 0.0))
        overlap, size, held = overlap + p * truth, size + p + truth, held | (truth > 0)
    return float(1 - (2 * overlap / size)[held].mean()) if kind == "dice" else float(np.mean(values))


@pytest.mark.parametrize("kind", SEGMENTATION_ERRORS)
def test_segmentation_errors_are_means_over_valid_voxels(kind):
    expected = [by_voxel(kind, logits, labels) for logits, labels in zip(LOGITS, LABELS, strict=True)]
    assert segmentation_error(LOGITS, LABELS, kind).tolist() == pytest.approx(expected)


@pytest.mark.parametrize("kind", MULTILABEL_ERRORS)
def test_errors_of_independent_channels_are_those_of_the_voxels_as_one_long_row(kind):
    flat = multilabel_error(LOGITS.flatten(2).unsqueeze(2), MASKS.flatten(2).unsqueeze(2), kind)
    assert multilabel_error(LOGITS, MASKS, kind).tolist() == pytest.approx(flat.tolist())


def surface(mask: np.ndarray, valid: np.ndarray) -> np.ndarray:
    steps = np.concatenate([np.eye(3, dtype=int), -np.eye(3, dtype=int)])
    inside = {tuple(p) for p in np.argwhere(mask)}
    beyond = {tuple(p) for p in np.argwhere(valid & ~mask)}
    return np.array([p for p in inside if any(tuple(p + step) in beyond for step in steps)])


def test_the_boundary_distance_is_the_mean_distance_of_surfaces_both_ways():
    rng = np.random.default_rng(0)
    true, predicted = (rng.integers(0, 2, (2, 2, 3)).repeat(3, 0).repeat(3, 1).repeat(2, 2) for _ in range(2))
    true[0, 0] = 255
    valid, found = true != 255, []
    for k in range(2):
        a, b = (surface((labels == k) & valid, valid) for labels in (predicted, true))
        apart = np.linalg.norm(a[:, None] - b[None], axis=2)
        found.append((apart.min(1).mean() + apart.min(0).mean()) / 2 / np.linalg.norm(true.shape))
    distance = boundary_distance(torch.from_numpy(predicted)[None], torch.from_numpy(true)[None], 2)
    assert distance.item() == pytest.approx(np.mean(found))


def test_statistics_of_volumes():
    found = pair_statistics(IMAGES, LABELS, "segmentation")
    x, code = IMAGES.numpy(), np.where(LABELS == 255, -1, LABELS)
    steps = [np.abs(np.diff(x, axis=axis)) for axis in (2, 3, 4)]
    change = sum(step.reshape(2, -1).sum(1) for step in steps) / sum(step[0].size for step in steps)
    spread = np.sqrt(((x - x.mean((2, 3, 4), keepdims=True)) ** 2).mean((1, 2, 3, 4)))
    for name, expected in zip(IMAGE_STATISTICS, (x.mean((1, 2, 3, 4)), spread, change), strict=True):
        assert found[f"input_{name}"].tolist() == pytest.approx(expected)
    edge = np.zeros(code.shape, dtype=bool)
    for axis, step in product((1, 2, 3), (-1, 1)):
        other = np.roll(code, step, axis)
        place = [slice(None)] * 4
        place[axis] = 0 if step == 1 else -1
        other[tuple(place)] = -1
        edge |= (code >= 0) & (other >= 0) & (code != other)
    expected = edge.reshape(2, -1).sum(1) / (code >= 0).reshape(2, -1).sum(1)
    assert found["target_boundary"].tolist() == pytest.approx(expected)
    assert found["target_void"].tolist() == pytest.approx((code < 0).reshape(2, -1).mean(1))
    as_input = pair_statistics(LABELS.unsqueeze(1), IMAGES, "translation")
    assert [as_input[f"input_{name}"].tolist() for name in LABEL_STATISTICS] == [
        found[f"target_{name}"].tolist() for name in LABEL_STATISTICS
    ]
    masks = pair_statistics(IMAGES, MASKS, "multilabel")
    steps = [MASKS.double().diff(dim=axis).abs().flatten(1) for axis in (2, 3, 4)]
    assert masks["target_boundary"].tolist() == pytest.approx(torch.cat(steps, 1).nanmean(1).tolist())


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"\(B, classes, D, H, W\) for a volume \(B, D, H, W\)"):
        segmentation_error(LOGITS, LABELS[:, 0])
    with pytest.raises(ValueError, match="one logit for each channel and pixel"):
        multilabel_error(LOGITS, MASKS[:, :, 0])


# ---- slices


def test_the_axis_of_the_fewest_voxels():
    assert [least_axis(size) for size in ((3, 3, 3), (9, 3, 3), (9, 9, 3), (3, 9, 3))] == [0, 1, 2, 0]
    volume = torch.arange(60).view(1, 3, 4, 5)
    assert torch.equal(middle_slice(volume, 0), volume[:, 1])
    assert torch.equal(middle_slice(volume, 1), volume[:, :, 2])
    assert torch.equal(middle_slice(volume, 2), volume[..., 2])


def test_some_slices_are_spread_over_the_depth_and_always_the_same():
    for depth, number in ((10, 3), (7, 7), (155, 16)):
        places = slice_places(depth, number)
        assert places == sorted(set(places))
        assert len(places) == number
        state = torch.get_rng_state()
        assert slice_places(depth, number) == places
        assert torch.equal(torch.get_rng_state(), state)
        assert all(i * depth // number <= place < (i + 1) * depth // number for i, place in enumerate(places))
    assert slice_places(5, 9) == slice_places(5, None) == [0, 1, 2, 3, 4]
    assert len({tuple(slice_places(100, 5, seed)) for seed in range(20)}) > 10
    with pytest.raises(ValueError, match="slices >= 1, or None for all, but got 0"):
        slice_places(5, 0)


def test_slices_of_another_resolution_lie_at_the_same_height():
    assert [matching_place(i, 8, 8) for i in range(8)] == list(range(8))
    heights = F.interpolate(torch.arange(4.0).view(1, 1, 4), size=8, mode="nearest-exact").flatten().long().tolist()
    assert [matching_place(i, 8, 4) for i in range(8)] == heights
