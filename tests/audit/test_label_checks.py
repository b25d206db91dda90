"""Masks of which one class alone would be audited, since what marks the other one is ignored."""

import pytest
import torch
from torch import Tensor, nn

from mia_lightning import Auditor, PredictabilityScorer

Pairs = list[tuple[Tensor, Tensor]]


def pairs(seed: int, *, below: int = 0, above: int = 1) -> Pairs:
    """Pictures whose masks hold two values."""
    images = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    return [(x, torch.where(x[0] > 0.5, above, below)) for x in images]


def auditor() -> Auditor:
    return Auditor(scorer=PredictabilityScorer(nn.AvgPool2d(2), grid=4), verdict="primary")


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Conv2d(3, 3, 1)


@pytest.mark.parametrize(
    ("members", "nonmembers", "message"),
    [
        (pairs(0, above=255), pairs(1, above=255), "No target holds a class other than 0, .*--foreground 255"),
        (pairs(0, below=-1), pairs(1, below=-1), "All targets hold the class 1 and negative labels, .*make it 0"),
    ],
)
def test_masks_of_which_one_class_would_be_left_are_refused(model, members, nonmembers, message):
    with pytest.raises(ValueError, match=message):
        auditor().check(model, members, nonmembers)
    with pytest.raises(ValueError, match=message):
        auditor().run(model, members, nonmembers)


@pytest.mark.parametrize("side", ["members", "nonmembers"])
def test_sides_with_masks_of_two_forms_are_warned_of(model, side):
    sides = [pairs(0), pairs(1, above=255)][:: 1 if side == "nonmembers" else -1]
    with pytest.warns(UserWarning, match=f"masks of the {side} hold 255 .*ignore_index.*both sides"):
        result = auditor().run(model, *sides)
    assert any(note.startswith(f"The masks of the {side} hold 255") for note in result.meta["notes"])


def test_ignored_pixels_beside_classes_are_no_fault(model):
    members, nonmembers = pairs(0), pairs(1, below=-1, above=2)  # sides with and without them, other classes
    nonmembers[0][1][:, :4] = 255
    auditor().check(model, members, nonmembers)
    assert len(auditor().run(model, members, nonmembers).ids) == 8
