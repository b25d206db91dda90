"""Entries by key, place, field and attribute, and the ways that lead to them."""

from __future__ import annotations

from collections import OrderedDict, UserDict
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mia_lightning.functional.descriptions import describe
from mia_lightning.functional.entries import entries_of, entry_at, field_names, tensors_in, way_to

X = torch.zeros(2, 3, 4, 4)


class Pair(NamedTuple):
    photo: Tensor
    drawing: Any


@dataclass
class Record:
    photo: Tensor
    note: str = "a"


class Slotted:
    __slots__ = ("_hidden", "photo", "unset")

    def __init__(self) -> None:
        self.photo, self._hidden = X, X


class Keyed:
    """Has keys, and is no Mapping, as some libraries' batches are."""

    def keys(self) -> list[str]:
        return ["photo"]

    def __getitem__(self, key: str) -> Tensor:
        return {"photo": X}[key]


@pytest.mark.parametrize(
    "value",
    [
        {"photo": X},
        OrderedDict(photo=X),
        UserDict(photo=X),
        Pair(X, 1),
        Record(X),
        SimpleNamespace(photo=X),
        Slotted(),
        Keyed(),
    ],
)
def test_all_forms_have_entries_by_name(value):
    assert entries_of(value)["photo"] is X
    assert entry_at(value, "photo") is X
    assert dict(tensors_in(value)) == {"photo": X}
    assert entry_at({"data": [value]}, "data.0.photo") is X
    assert eval(way_to({"data": [value]}, "data.0.photo", "batch"), {"batch": {"data": [value]}}) is X
    assert "'photo': float32 tensor (2, 3, 4, 4)" in describe(value)


@pytest.mark.parametrize("value", [None, 3, 2.5, "text", b"x", X, np.zeros(3), nn.Linear(1, 1), int, object()])
def test_what_holds_nothing(value):
    assert entries_of(value) == {}
    assert list(tensors_in(value)) == []
    with pytest.raises(KeyError):
        entry_at(value, "photo")


def test_a_plain_key_with_dots_comes_before_nested_ones():
    batch = {"a.b": 1, "a": {"b": 2, "b.c": 3, "c": {"d": 4}}, "a.c": {"d": 5}}
    assert [entry_at(batch, key) for key in ("a.b", "a.b.c", "a.c.d")] == [1, 3, 5]


@pytest.mark.parametrize("key", ["a.x", "a.0.y", "a.", ".a", "b", 3, "a.5", ""])
def test_a_key_that_leads_to_nothing(key):
    with pytest.raises(KeyError):
        entry_at({"a": [{"x": 1}]}, key)


def test_places_count_from_the_end_too_and_may_be_written_as_text():
    assert entry_at((1, 2, (3, 4)), -1) == (3, 4)
    assert entry_at((1, 2, (3, 4)), "2.1") == 4
    assert entry_at({7: (1,)}, "7.0") == 1
    assert field_names((1, 2)) == ()


def test_tensors_are_named_once_and_nested_ones_come_last():
    batch = {"data": {"image": X, "more": {"deep": {"deeper": X}}}, "mask": X, "pairs": [Pair(X, (X, "b"))]}
    assert [key for key, _ in tensors_in(batch)] == ["mask", "data.image", "pairs.0.photo"]
    assert [key for key, _ in tensors_in((X, [X]))] == [0, "1.0"]
