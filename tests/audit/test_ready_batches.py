"""Batches that come ready, in whatever form, are taken apart into the samples that they were made of."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mia_lightning import Auditor
from mia_lightning.audit.ready_batches import BatchFormError, Unbatched, rows_of_batch
from mia_lightning.audit.unreadable import read_stream

IMAGES, MASKS = torch.rand(3, 3, 8, 8), torch.randint(0, 2, (3, 8, 8))


class Pair(NamedTuple):
    target: Tensor
    input: Tensor


@dataclass
class Fields:
    target: Tensor
    input: Tensor


class Rows:
    """An object with entries by key, and no Mapping."""

    def __init__(self, **entries: Any) -> None:
        self._entries = entries

    def keys(self) -> Any:
        return self._entries.keys()

    def __getitem__(self, key: str) -> Any:
        return self._entries[key]


@pytest.mark.parametrize("make", [dict, OrderedDict, Fields, Rows, Pair])
def test_names_of_entries_stay(make: Any) -> None:
    rows = rows_of_batch(make(target=MASKS, input=IMAGES))
    assert len(rows) == 3
    for i, row in enumerate(rows):
        entries = row._asdict() if make is Pair else row
        assert torch.equal(entries["input"], IMAGES[i])
        assert torch.equal(entries["target"], MASKS[i])


class Scorer:
    def fingerprint(self) -> str:
        return "mean"

    def __call__(self, input: Tensor, target: Tensor, task: str, **options: Any) -> Tensor:
        return target.flatten(1).mean(1)


@pytest.mark.parametrize("make", [Pair, Fields, Rows])
@pytest.mark.filterwarnings("ignore:The model does no better")
def test_a_target_that_comes_first_is_the_target(make: Any) -> None:
    def side(seed: int) -> Unbatched:
        values = 0.5 + 0.5 * torch.rand(2, 4, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
        return Unbatched([make(target=x, input=x / 2) for x in values], "sample")

    result = Auditor(scorer=Scorer(), task="translation").run(nn.Identity(), side(0), side(1))
    np.testing.assert_allclose(result.errors["reconstruction"], result.errors["predictability"] / 2, rtol=1e-6)


@pytest.mark.parametrize("kind", [tuple, list])
def test_columns_are_taken_apart_and_lists_of_samples_are_taken(kind: Any) -> None:
    columns = rows_of_batch(kind([IMAGES, MASKS, ("a", "b", "c")]))
    assert [row[2] for row in columns] == ["a", "b", "c"]
    samples = [kind(one) for one in zip(IMAGES, MASKS, strict=True)]
    for rows in (columns, rows_of_batch(samples)):
        assert all(torch.equal(row[1], mask) for row, mask in zip(rows, MASKS, strict=True))
    assert len(rows_of_batch([{"image": image} for image in IMAGES])) == 3
    with pytest.raises(ValueError, match="samples or its columns"):
        rows_of_batch(list(zip(IMAGES, IMAGES, strict=True)))


def test_arrays_and_tensors_alone_have_rows() -> None:
    assert [row.shape for row in rows_of_batch(IMAGES)] == [(3, 8, 8)] * 3
    assert [row.shape for row in rows_of_batch(IMAGES.numpy())] == [(3, 8, 8)] * 3


def test_their_form_is_no_failure_of_a_sample() -> None:
    good, ragged = ({"image": IMAGES, "mask": masks} for masks in (MASKS, MASKS[:2]))
    with pytest.raises(BatchFormError, match="batch of members cannot be taken apart"):
        list(read_stream(Unbatched([good] * 20 + [ragged, good], "member")))


@pytest.mark.parametrize("batch", [3, {"image": IMAGES, "scale": 2.0}, (IMAGES, MASKS[:2])])
def test_what_cannot_be_taken_apart_says_what_it_is(batch: Any) -> None:
    with pytest.raises(
        ValueError, match=r"batch of members cannot be taken apart.* but got (a int|\{.* rows)\. Pass a"
    ):
        rows_of_batch(batch, "member")
