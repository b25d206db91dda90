"""The boundary distance, against distances by hand, and finite where there is no boundary."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from mia_lightning.functional.boundaries import boundary_distance

DIAGONAL = math.hypot(10, 14)


def square(top: int, left: int, side: int = 4, label: int = 1) -> Tensor:
    labels = torch.zeros(1, 10, 14, dtype=torch.long)
    labels[0, top : top + side, left : left + side] = label
    return labels


def by_hand(predicted: Tensor, true: Tensor, classes: int, ignore: int = 255) -> float:
    valid = (true != ignore).numpy()

    def boundary(mask: np.ndarray) -> list[tuple[int, int]]:
        height, width = mask.shape
        near = [(0, 1), (1, 0), (0, -1), (-1, 0)]
        return [
            (r, c)
            for r, c in zip(*np.nonzero(mask), strict=True)
            if any(
                0 <= r + i < height and 0 <= c + j < width and valid[r + i, c + j] and not mask[r + i, c + j]
                for i, j in near
            )
        ]

    found = []
    for k in range(classes):
        masks = [(labels == k).numpy() & valid for labels in (predicted, true)]
        if not (masks[0].any() or masks[1].any()):
            continue
        first, second = map(boundary, masks)
        if not first or not second:
            found.append(float(not np.array_equal(*masks)))
            continue
        there = np.mean([min(math.dist(p, q) for q in second) for p in first])
        back = np.mean([min(math.dist(p, q) for q in first) for p in second])
        found.append((there + back) / 2 / math.hypot(*valid.shape))
    return float(np.mean(found))


def test_a_perfect_prediction_has_none():
    labels = torch.randint(0, 3, (2, 10, 14), generator=torch.Generator().manual_seed(0))
    assert boundary_distance(labels, labels, 3).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("seed", range(8))
def test_it_is_the_mean_distance_both_ways(seed):
    rng = np.random.default_rng(seed)
    true, predicted = (torch.tensor(rng.integers(0, 3, (3, 4)).repeat(3, 0).repeat(3, 1)) for _ in range(2))
    true[0] = 255
    found = boundary_distance(predicted[None], true[None], 3).item()
    assert found == pytest.approx(by_hand(predicted, true, 3), rel=1e-9)


def test_further_is_worse():
    true = square(3, 2)
    distances = [boundary_distance(square(3, 2 + d), true, 2).item() for d in range(6)]
    assert distances[0] == 0.0
    assert distances == sorted(distances)
    assert max(distances) * DIAGONAL < 6


@pytest.mark.parametrize(
    ("predicted", "true", "distance"),
    [
        (torch.zeros(1, 10, 14).long(), torch.zeros(1, 10, 14).long(), 0.0),
        (torch.zeros(1, 10, 14).long(), square(3, 2), 1.0),
        (square(3, 2), torch.ones(1, 10, 14).long(), 1.0),
        (torch.zeros(1, 10, 14).long(), torch.ones(1, 10, 14).long(), 1.0),
        (square(3, 2, label=2), square(3, 2, label=1), 2 / 3),  # the background's boundary is right
        (torch.zeros(1, 10, 14).long(), torch.full((1, 10, 14), 255), math.nan),
    ],
)
def test_without_a_boundary_it_is_finite(predicted, true, distance):
    assert boundary_distance(predicted, true, 3).item() == pytest.approx(distance, nan_ok=True)


def test_ignored_pixels_make_no_boundary():
    true = square(3, 2)
    true[0, :, 7:] = 255
    other = square(3, 2)
    other[0, :, 7:] = 1
    assert boundary_distance(other, true, 2).item() == 0.0
