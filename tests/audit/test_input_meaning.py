from __future__ import annotations

import re

import pytest
import torch

from mia_lightning.audit.config import AuditConfig
from mia_lightning.audit.input_meaning import InputMeaning, read_inputs
from mia_lightning.audit.interpretation import Interpretation
from mia_lightning.functional.batches import Batch

G = torch.Generator().manual_seed(0)
NOISE = torch.rand(4, 1, 16, 16, generator=G)
REGIONS = (torch.arange(16).view(4, 4) % 12).repeat_interleave(4, 0).repeat_interleave(4, 1).expand(4, 1, 16, 16)


def read(*inputs: torch.Tensor, task="segmentation", **options) -> InputMeaning:
    labels = torch.zeros(len(inputs[0]), 16, 16, dtype=torch.int64)
    return read_inputs(AuditConfig(**options), task, [Batch(None, x, labels) for x in inputs])


def image(input: torch.Tensor, **options) -> torch.Tensor:
    labels = torch.zeros(len(input), 16, 16, dtype=torch.int64)
    return Interpretation.of(AuditConfig(**options), [Batch(None, input, labels)]).as_image(input)


@pytest.mark.parametrize(
    ("input", "kind", "words"),
    [
        ((NOISE * 255).byte(), "image", "uint8, .* values from .* white is 255"),
        ((NOISE * 255).byte()[:, 0], "image", "white is 255"),
        ((NOISE * 65535).to(torch.uint16), "image", "uint16, .*each scaled by its own smallest and largest.*white="),
        ((NOISE * 4000 - 1000).to(torch.int16), "image", "int16, .* values from -"),
        ((NOISE * 4095).int().expand(4, 3, 16, 16), "image", "int32"),
        (REGIONS, "labels", r"label maps \(int64, 12 values from 0 to 11"),
        (REGIONS.byte(), "labels", r"label maps \(uint8"),
        (NOISE > 0.5, "labels", r"label maps \(bool"),
        ((NOISE > 0.5).expand(4, 3, 16, 16), "planes", "booleans"),
        ((NOISE > 0.5).long().expand(4, 3, 16, 16), "planes", "zeros and ones"),
        (torch.zeros(4, 1, 16, 16, dtype=torch.uint8), "image", "pictures"),
        (255 * (NOISE > 0.5).byte(), "image", "pictures"),
        (torch.zeros(4, 16, 16, dtype=torch.int64), "labels", "label maps"),
        (NOISE, None, r"pictures in floating point, in \[0, 1\]"),
        (5 * NOISE - 2, None, r"spanning \[-2, 5?3?.*taken as they are: mean and std, or white"),
        (torch.zeros(4, 7), None, "neither pictures nor label maps"),
    ],
)
def test_what_inputs_are_read_as(input, kind, words):
    meaning = read(input)
    assert meaning.kind == kind
    assert re.search(words, meaning.decision), meaning.decision


@pytest.mark.parametrize(
    "input",
    [
        (NOISE * 40).to(torch.int16),
        1000 * REGIONS,
        12 * REGIONS.byte(),
        255 * (NOISE > 0.5).long(),
        torch.full((4, 16, 16), 300),
        REGIONS.expand(4, 2, 16, 16),
    ],
)
def test_what_could_be_either_is_asked_about(input):
    with pytest.raises(ValueError, match=r"Cannot tell .* inputs .* Pass input_kind='image', and with white="):
        read(input)
    assert read(input, input_kind="image").kind == "image"
    assert read(input, white=40000).kind == "image"
    assert read(input, input_kind="labels").kind == "labels"


def test_later_batches_do_not_contradict_label_maps_or_planes():
    labels = read(REGIONS)
    assert labels.labels(REGIONS + 20) is not None
    assert labels.labels(torch.where(NOISE > 0.5, 255, REGIONS)) is not None
    with pytest.raises(ValueError, match=r"read as label maps .* the value 3000. Pass input_kind='labels'"):
        labels.labels(REGIONS + 2989)
    planes = read((NOISE > 0.5).byte().expand(4, 3, 16, 16))
    with pytest.raises(ValueError, match=r"channels of zeros and ones .*Pass input_kind='image', and with white="):
        planes.picture((NOISE * 255).byte())


def test_pictures_are_scaled_as_stated():
    wide = (NOISE * 60000 + 1000).to(torch.uint16)
    values = wide.double()
    low, high = values.amin((1, 2, 3), keepdim=True), values.amax((1, 2, 3), keepdim=True)
    torch.testing.assert_close(image(wide), ((values - low) / (high - low)).float())
    torch.testing.assert_close(image(wide, white=65535), (values / 65535).float())
    assert image(wide[:, 0]).shape == (4, 1, 16, 16)
    assert (image(torch.full((4, 1, 16, 16), 7, dtype=torch.int32), input_kind="image") == 0).all()
    assert torch.equal(image((NOISE * 255).byte()), (NOISE * 255).byte().float() / 255)
    torch.testing.assert_close(image(255 * NOISE, white=255), NOISE)
    torch.testing.assert_close(image(NOISE[:, 0]), NOISE)


def test_black_and_white_that_the_model_sees():
    def bounds(input: torch.Tensor, **options):
        labels = torch.zeros(len(input), 16, 16, dtype=torch.int64)
        return Interpretation.of(AuditConfig(**options), [Batch(None, input, labels)]).input_range(input)

    wide = (NOISE * 60000 + 1000).to(torch.uint16)
    low, high = bounds(wide)
    assert low.flatten().tolist() == wide.int().flatten(1).amin(1).tolist()
    assert high.flatten().tolist() == wide.int().flatten(1).amax(1).tolist()
    assert bounds(wide, white=65535) == (0.0, 65535)
    assert bounds((NOISE * 255).byte()) == (0.0, 255.0)
    assert bounds(255 * NOISE, white=255) == (0.0, 255)
    assert bounds((NOISE > 0.5).expand(4, 2, 16, 16)) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("input", "options", "message"),
    [
        ((NOISE * 65535).to(torch.uint16), {"white": 4095}, "values up to 65.*white=4095"),
        (255 * NOISE, {"white": 1}, "values up to 25.*white=1"),
    ],
)
def test_values_beyond_white_are_refused(input, options, message):
    with pytest.raises(ValueError, match=message):
        read(input, **options)


def test_declared_label_maps_in_floats():
    assert torch.equal(image(REGIONS.float(), input_kind="labels"), REGIONS)
    with pytest.raises(ValueError, match=r"input_kind='labels', but .* pass input_kind='image'"):
        image(NOISE, input_kind="labels")
    with pytest.raises(ValueError, match=r"\(4, 2, 16, 16\): pass input_kind='image'"):
        image(REGIONS.expand(4, 2, 16, 16), input_kind="labels")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"input_kind": "picture"}, "'auto', 'image', 'labels' as input_kind, but got 'picture'"),
        ({"white": 0}, "white > 0"),
        ({"white": float("nan")}, "white > 0"),
        ({"white": 255, "input_kind": "labels"}, "input_kind='labels' or white"),
        ({"white": 255, "mean": 0.5, "std": 0.5}, "white, or mean and std"),
    ],
)
def test_settings_that_contradict_each_other(options, message):
    with pytest.raises(ValueError, match=message):
        AuditConfig(**options)


def test_numbers_of_before_are_found_in_the_cache():
    """Nothing further is in the key where inputs are what their type says."""
    assert read(NOISE).key(NOISE) == read((NOISE * 255).byte()).key((NOISE * 255).byte()) == ()
    assert read(REGIONS).key(REGIONS) == ()
    assert read(REGIONS.byte()).key(REGIONS.byte()) == ("labels", None)
    assert read(NOISE, white=2).key(NOISE) == ("image", 2)
