"""Which of a model's outputs is its prediction: forms, numbers of tensors and sizes, one by one and swept."""

from __future__ import annotations

import itertools
from collections import OrderedDict
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from mia_lightning.functional.predictions import OUTPUT_KEYS, pick_prediction

FULL, HALF, QUARTER = (torch.rand(2, 3, side, side) for side in (16, 8, 4))
OTHER, LOSS, CLASSES = torch.rand(2, 5, 16, 16), torch.tensor(0.3), torch.rand(2, 4)


@dataclass
class Output:
    logits: Tensor
    loss: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None


class Named(NamedTuple):
    loss: Tensor
    prediction: Tensor
    features: Tensor


@pytest.mark.parametrize(
    ("output", "key"),
    [
        ({"out": FULL, "aux": OTHER}, "out"),
        (OrderedDict(out=FULL, aux=FULL + 1), "out"),
        ({"loss": LOSS, "logits": FULL}, "logits"),
        ({"loss": LOSS, "anything": FULL}, "anything"),
        ({"loss": LOSS[None], "losses": torch.rand(2), "anything": FULL}, "anything"),
        (Output(FULL), "logits"),
        (Output(FULL, LOSS, (HALF, QUARTER)), "logits"),
        (SimpleNamespace(predicted_depth=FULL, loss=None), "predicted_depth"),
        (Named(LOSS, FULL, OTHER), "prediction"),
        ((LOSS, FULL), 1),
        ([LOSS, FULL, None, "note"], 1),
        ((FULL, "note"), 0),
        ((LOSS.numpy(), FULL.numpy()), 1),
        ([FULL], 0),
        ([FULL, HALF, QUARTER], 0),
        ((FULL, FULL + 1), 0),
        ((LOSS, FULL, HALF), 1),
        ([HALF, FULL], 1),
        ([QUARTER, HALF, FULL], 2),
        ([HALF, QUARTER], 0),
        ([QUARTER, HALF], 1),
        ((LOSS, [FULL, HALF]), "1.0"),
        ({"loss": LOSS, "outputs": {"logits": FULL, "features": OTHER}}, "outputs.logits"),
        ({"out": [HALF, FULL], "features": [OTHER]}, "out.1"),
        ({"loss": LOSS, "classes": CLASSES}, "classes"),
    ],
)
def test_the_prediction(output, key):
    assert pick_prediction(output, (16, 16)).key == key


@pytest.mark.parametrize(
    "output",
    [
        (FULL, OTHER),
        [HALF, FULL, FULL + 1],
        [HALF, QUARTER, torch.rand(2, 3, 6, 6)],
        [FULL, torch.rand(2, 3, 16, 8)],
        (FULL, torch.rand(3, 3, 16, 16)),
        (FULL, CLASSES),
        {"a": FULL, "b": FULL + 1},
        {"out": FULL, "logits": FULL + 1},
        {"a": [FULL], "b": [HALF]},
        {"loss": LOSS},
        [LOSS, LOSS],
        None,
        [],
        3,
    ],
)
def test_what_could_be_several_or_none_is_asked_about(output):
    assert pick_prediction(output, (16, 16)) is None


def test_without_a_target_the_largest_one_counts():
    assert pick_prediction([QUARTER, FULL]).key == 1
    assert pick_prediction([FULL, QUARTER]).key == 0
    assert pick_prediction([HALF, FULL, QUARTER]) is None


def test_the_targets_size_decides_between_resolutions():
    """Progressive super-resolution returns all its scales; a target of the lower one is that one's."""
    assert [pick_prediction([QUARTER, HALF, FULL], (side, side)).key for side in (4, 8, 16)] == [0, 1, 2]
    assert [pick_prediction([FULL, HALF, QUARTER], (side, side)).key for side in (4, 8, 16)] == [2, 1, 0]
    assert pick_prediction([HALF, FULL], (5, 16, 16)).key == 1  # channels or slices before height and width


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ({"only": FULL}, ""),
        ({"out": FULL, "aux": OTHER}, "'out', beside 'aux'"),
        ((LOSS, FULL), "1, beside 0"),
        ([FULL, HALF], "the first of 2 alike"),
        ([HALF, FULL], "1, the one of the target's size, 16 x 16, of 2 alike"),
        ([QUARTER, HALF], "1, the last and largest of 2 alike"),
    ],
)
def test_a_choice_is_said(output, said):
    assert pick_prediction(output, (16, 16)).reason == said


VOLUME = torch.rand(2, 3, 8, 8, 8)


def test_volumes_have_three_sides():
    coarse = torch.rand(2, 3, 4, 4, 4)
    assert pick_prediction([VOLUME, coarse], (8, 8, 8)).key == 0
    assert pick_prediction([coarse, VOLUME], (8, 8, 8)).key == 1


CONTAINERS: dict[str, Any] = {
    "list": list,
    "tuple": tuple,
    "places": lambda tensors: dict(enumerate(tensors)),
    "names": lambda tensors: {f"entry_{i}": t for i, t in enumerate(tensors)},
    "object": lambda tensors: SimpleNamespace(**{f"entry_{i}": t for i, t in enumerate(tensors)}),
}


@pytest.mark.parametrize("container", CONTAINERS)
def test_sweep(container):
    """Whatever is picked is the only picture, one under a usual key, or of a list of alike ones the right size."""
    pool = {"full": FULL, "second": FULL + 1, "half": HALF, "other": OTHER, "loss": LOSS, "none": None}
    for count in (1, 2, 3):
        for names in itertools.permutations(pool, count):
            picked = pick_prediction(CONTAINERS[container]([pool[name] for name in names]), (16, 16))
            dense = [name for name in names if name not in ("loss", "none")]
            if len(dense) == 1:
                assert picked.prediction is pool[dense[0]], names
            elif not dense or "other" in dense or container not in ("list", "tuple"):
                assert picked is None, names
            elif picked is not None:
                assert picked.prediction.shape[-1] == 16, names
                assert picked.reason, names
            else:
                assert len(dense) == 3, names
                assert dense[-1] != "half", names  # two of the target's size, of which the first does not come first


@pytest.mark.parametrize("key", OUTPUT_KEYS)
def test_usual_keys_come_before_others(key):
    assert pick_prediction({"x": OTHER, key: FULL}).prediction is FULL
    assert torch.equal(pick_prediction({"x": OTHER, key: FULL.numpy().astype(np.float32)}).prediction, FULL)
