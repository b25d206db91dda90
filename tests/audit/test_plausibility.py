"""Whether an audit says that it may be fed wrongly."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss
from torch import nn

from mia_lightning import Auditor, AuditResult, PredictabilityScorer
from mia_lightning.audit.plausibility import class_constant

SCORER = PredictabilityScorer(nn.AvgPool2d(4), grid=8)


def pairs(count: int, first: int, *, swapped: bool = False) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Dark pictures, and their negatives, darkened, in other colours."""
    made = []
    for number in range(first, first + count):
        generator = torch.Generator().manual_seed(number)
        image = torch.rand(3, 32, 32, generator=generator) ** 3
        target = (1 - image.roll(1, 0)) ** 4
        made.append((target, image) if swapped else (image, target))
    return made


def good(x: torch.Tensor) -> torch.Tensor:
    return (1 - x.roll(1, 1)) ** 4


def audit(model, members, nonmembers, **settings) -> tuple[AuditResult, list[str]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = Auditor(scorer=SCORER, **settings).run(model, members, nonmembers)
    return result, [str(w.message) for w in caught if "does no better" in str(w.message)]


def test_a_good_model_is_plausible():
    result, warned = audit(good, pairs(8, 0), pairs(8, 100))
    assert result.meta["plausibility"]["above_constant"] == result.meta["plausibility"]["above_input"] == 0
    assert not warned
    assert not [line for line in result.verdict if "does no better" in line]


@pytest.mark.parametrize(
    ("model", "swapped", "words"),
    [
        (good, True, "than a constant prediction on 100 %"),  # input and target in the wrong order
        (lambda x: 2 * good(x) - 1, False, "than a constant prediction on"),  # [-1, 1] against [0, 1]
        (lambda x: 255 * good(x), False, "than a constant prediction on 100 %"),
        (lambda x: good(x).flip(1), False, None),  # the order of the channels: another error, but no certain sign
        (lambda x: x, False, "than the input itself on 100 %"),
    ],
)
def test_a_model_that_is_fed_wrongly_is_pointed_out(model, swapped, words):
    result, warned = audit(model, pairs(8, 0, swapped=swapped), pairs(8, 100, swapped=swapped))
    assert len(warned) == (words is not None)
    if words is not None:
        assert words in warned[0]
        for setting in ("input_key", "target_range", "adapter"):
            assert setting in warned[0]
        assert warned[0] in list(result.verdict)


def test_it_is_said_once_and_kept_in_the_file(tmp_path):
    auditor = Auditor(scorer=SCORER)
    with pytest.warns(UserWarning, match="does no better"):
        result = auditor.run(lambda x: x, pairs(8, 0), pairs(8, 100))
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*does no better.*")
        auditor.run(lambda x: x, pairs(8, 0), pairs(8, 100))
    stored = AuditResult.from_json(result.to_json(tmp_path / "result.json"))
    assert stored.meta["plausibility"] == result.meta["plausibility"]


def test_a_grey_input_is_compared_in_every_channel():
    grey = [(x.mean(0, keepdim=True), x) for x, _ in pairs(16, 0)]
    result, _ = audit(lambda x: x.expand(-1, 3, -1, -1), grey[:8], grey[8:])
    assert result.meta["plausibility"]["above_input"] == 1


def test_an_input_of_another_shape_is_not_compared():
    wide = [(torch.cat([x, x]), y) for x, y in pairs(16, 0)]
    result, _ = audit(lambda x: good(x[:, :3]), wide[:8], wide[8:])
    assert "above_input" not in result.meta["plausibility"]


def masks(count: int, first: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return [(x, (3 * x[0]).long().clamp(0, 2)) for x, _ in pairs(count, first)]


@pytest.mark.parametrize(("sign", "pointed_out"), [(1, False), (-1, True)])
def test_a_segmenter_is_compared_with_the_frequencies_of_the_classes(sign, pointed_out):
    def model(x: torch.Tensor) -> torch.Tensor:
        centres = torch.tensor([1 / 6, 0.5, 5 / 6]).view(1, 3, 1, 1)
        return -sign * 20 * (x[:, :1] - centres) ** 2

    result, warned = audit(model, masks(8, 0), masks(8, 100))
    assert result.meta["plausibility"]["above_constant"] == float(pointed_out)
    assert bool(warned) == pointed_out


def test_the_constant_is_the_cross_entropy_of_the_frequencies():
    labels = [mask.numpy().ravel() for _, mask in masks(5, 0)]
    shares = {f"target_class_{c:02d}": np.array([np.mean(mask == c) for mask in labels]) for c in range(16)}
    frequencies = np.array([np.mean(np.concatenate(labels) == c) for c in range(3)])
    expected = [log_loss(mask, np.tile(frequencies, (mask.size, 1)), labels=[0, 1, 2]) for mask in labels]
    assert class_constant(shares) == pytest.approx(expected)
    assert class_constant({}) is None


def test_few_samples_say_nothing():
    result, warned = audit(lambda x: x, pairs(8, 0), pairs(7, 100))
    assert result.meta["plausibility"] == {}
    assert not warned
