"""Samples are read into memory of their own, in whatever form they come."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch import Tensor

from mia_lightning.audit.sample_memory import own


@dataclass(frozen=True)
class Shown:
    """A sample as an object."""

    image: Tensor
    meta: OrderedDict[str, Tensor]


def test_samples_of_further_forms_are_in_memory_of_their_own():
    buffer = torch.zeros(2)
    sample = Shown(buffer, OrderedDict(image=buffer))
    kept = own(sample)
    buffer += 1
    assert type(kept) is Shown
    assert type(kept.meta) is OrderedDict
    assert kept.image.tolist() == kept.meta["image"].tolist() == [0, 0]
    assert sample.image is buffer
