"""torchgeo's samplers: data sets that are read by bounding boxes, of which an audit draws a fixed list."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from mia_lightning import Auditor

pytest.importorskip("torchgeo", reason="needs torchgeo")
pytest.importorskip("rasterio", reason="needs rasterio, which torchgeo brings")

import rasterio
from rasterio.transform import from_origin
from torchgeo.datasets import RasterDataset, stack_samples
from torchgeo.samplers import (
    GridGeoSampler,
    PreChippedGeoSampler,
    RandomBatchGeoSampler,
    RandomGeoSampler,
)


class Images(RasterDataset):
    filename_glob = "image.tif"


class Masks(RasterDataset):
    filename_glob = "mask.tif"
    is_image = False


@pytest.fixture
def scene(tmp_path: Path) -> Callable[[str], Any]:
    """A scene of 64 x 64 pixels a side, and its mask of three classes."""
    for side, seed in (("in", 0), ("out", 1)):
        rng = np.random.default_rng(seed)
        arrays = {
            "image": rng.random((3, 64, 64), dtype=np.float32),
            "mask": rng.integers(0, 3, (1, 64, 64), dtype=np.uint8),
        }
        (tmp_path / side).mkdir()
        for name, array in arrays.items():
            form = {"driver": "GTiff", "height": 64, "width": 64, "count": len(array), "dtype": array.dtype}
            place = {"crs": "EPSG:32633", "transform": from_origin(0, 64, 1, 1)}
            with rasterio.open(tmp_path / side / f"{name}.tif", "w", **form, **place) as file:
                file.write(array)
    return lambda side: Images(tmp_path / side) & Masks(tmp_path / side)


def loader(data: Any, sampler: Any, **options: Any) -> DataLoader[Any]:
    return DataLoader(data, sampler=sampler, batch_size=3, collate_fn=stack_samples, **options)


FORMS: dict[str, tuple[int, Callable[[Any], Any]]] = {
    "grid": (16, lambda data: loader(data, GridGeoSampler(data, 16, 16))),
    "random": (7, lambda data: loader(data, RandomGeoSampler(data, 16, 7))),
    "random with a generator": (
        7,
        lambda data: loader(data, RandomGeoSampler(data, 16, 7, generator=torch.Generator().manual_seed(3))),
    ),
    "random batches": (
        8,
        lambda data: DataLoader(data, batch_sampler=RandomBatchGeoSampler(data, 16, 4, 8), collate_fn=stack_samples),
    ),
    "whole files": (1, lambda data: loader(data, PreChippedGeoSampler(data))),
}


USUAL = ("random", "whole files")  # of each kind one; the others are for -m slow


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n in USUAL else pytest.mark.slow) for n in FORMS])
def test_the_same_boxes_are_read_at_each_audit_and_nothing_is_drawn_from_the_training(
    name: str, scene: Any, quick: Any
) -> None:
    count, make = FORMS[name]
    sides = make(scene("in")), make(scene("out"))
    auditor, network = Auditor(scorer=quick, output="logits"), nn.Conv2d(3, 3, 1)
    results, boxes = [], []
    for _ in range(2):
        torch.manual_seed(5)
        auditor.check(network, *sides)
        results.append(auditor.run(network, *sides))
        boxes.append(list(sides[0].sampler if name != "random batches" else sides[0].batch_sampler))
    first, second = results
    assert first.ids == second.ids == [f"{s}member-{i:06d}" for s in ("", "non") for i in range(count)]
    np.testing.assert_array_equal(first.errors["predictability"], second.errors["predictability"])
    notes = [note for note in first.meta["notes"] if "draws other pieces" in note]
    assert len(notes) == (2 if "random" in name else 0)
    torch.manual_seed(5)
    if name == "random":
        assert boxes[0] == list(make(scene("in")).sampler)  # as without an audit
    other = Auditor(scorer=quick, output="logits", seed=1).run(network, *sides)
    assert (other.errors["predictability"].tolist() == first.errors["predictability"].tolist()) is bool(not notes)


def test_a_data_set_without_its_sampler_says_what_to_give(scene: Any, quick: Any) -> None:
    with pytest.raises(TypeError) as refused:
        Auditor(scorer=quick).run(nn.Conv2d(3, 3, 1), scene("in"), scene("out"))
    assert any("loader whose sampler gives these" in note for note in refused.value.__notes__)
