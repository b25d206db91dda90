"""The rule on values, and the logits of probabilities, logarithms and labels, against torch's own losses."""

import math

import pytest
import torch
import torch.nn.functional as F

from mia_lightning.functional.output_values import (
    certain_logits,
    kind_by_values,
    labels_of,
    logits_of,
    undecided,
    values_of,
)

Z = 4 * torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
LABELS = torch.randint(0, 3, (2, 6, 6), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_softmax_is_told_in_every_format(dtype):
    assert kind_by_values([values_of(Z.to(dtype).softmax(1))]) == "probabilities"
    assert kind_by_values([values_of(Z.to(dtype))]) == "logits"
    assert kind_by_values([values_of(Z.to(dtype).log_softmax(1))]) == "logits"
    assert kind_by_values([values_of(Z.to(dtype).sigmoid())]) is None
    assert kind_by_values([values_of(Z[:, :1].to(dtype).sigmoid())]) is None


def test_one_sample_that_says_otherwise_counts():
    p = values_of(Z.softmax(1))
    assert kind_by_values([p, values_of(Z)]) is None  # probabilities beside something else
    assert kind_by_values([values_of(Z.sigmoid()), values_of(Z)]) == "logits"
    assert kind_by_values([p, p], independent=True) is None
    certain = F.one_hot(LABELS).movedim(3, 1).double()
    assert kind_by_values([values_of(certain)]) is None  # planes of labels, or certain probabilities
    assert kind_by_values([values_of(certain), p]) == "probabilities"


def test_what_is_nowhere_above_zero_may_be_logarithms_of_single_channels():
    below = -Z.abs()
    assert kind_by_values([values_of(below[:, :1])]) is None
    assert kind_by_values([values_of(below)], independent=True) is None
    assert kind_by_values([values_of(below)]) == "logits"  # whose softmax is the same either way
    assert kind_by_values([values_of(below[:, :1]), values_of(Z[:, :1])]) == "logits"


def test_pixels_that_are_not_finite_are_passed_over():
    p = Z.softmax(1)
    p[0, 1, 2, 3] = torch.nan
    values = values_of(p)
    assert values.pixels == 2 * 36 - 1
    assert kind_by_values([values]) == "probabilities"
    nothing = values_of(torch.full((1, 2, 3, 3), torch.inf))
    assert str(nothing) == "no finite value"
    assert kind_by_values([nothing]) == "logits"


def test_the_question_says_what_was_found_and_what_answers():
    message = undecided(values_of(Z[:, :1].sigmoid()), "the model ends in something")
    assert "the model ends in something; they hold 1 channel of values from " in message
    assert "output='logits' or output='probabilities'" in message


@pytest.mark.parametrize(("base", "factor"), [("2", 1 / math.log(2)), ("10", 1 / math.log(10)), ("1/e", -1.0)])
def test_logarithms_of_another_base_or_sign_are_asked_about(base, factor):
    values = values_of(factor * Z.log_softmax(1).float())
    nothing = values_of(torch.full_like(Z, math.nan))
    assert kind_by_values([values, values]) is kind_by_values([nothing, values]) is None
    assert f"of which the powers of {base} sum to one" in str(values)
    assert f"to the base {base} are neither: take natural ones (multiply by {1 / factor:.6g})" in undecided(values)
    assert kind_by_values([values_of(-F.logsigmoid(3 * Z[:, :1]))]) is None  # or logits of what is everywhere


@pytest.mark.parametrize("scale", [1.0, 30.0, 1000.0])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_cross_entropy_is_that_of_the_probabilities(dtype, scale):
    z = (scale * Z).to(dtype)
    truth, tolerance = (LABELS == 1).to(dtype), {"rtol": 1e-5, "atol": 1e-6}
    for p in (z[:, :1].sigmoid(), z.sigmoid()):
        target = truth.unsqueeze(1).expand_as(p)
        found = F.binary_cross_entropy_with_logits(logits_of(p, "probabilities", independent=True), target)
        torch.testing.assert_close(found, F.binary_cross_entropy(p, target), **tolerance)
    p = z.softmax(1)
    found = F.cross_entropy(logits_of(p, "probabilities"), LABELS)
    torch.testing.assert_close(found, F.nll_loss(p.log().clamp_min(-100), LABELS), **tolerance)


def test_logarithms_of_probabilities_become_logits():
    z = torch.cat([Z[:, :1], torch.full_like(Z[:, :1], 1e-3), torch.full_like(Z[:, :1], -90.0)])
    torch.testing.assert_close(logits_of(F.logsigmoid(z), "log-probabilities"), z, rtol=1e-8, atol=1e-8)
    assert torch.equal(logits_of(Z.log_softmax(1), "log-probabilities"), Z.log_softmax(1))


def test_half_precision_has_a_higher_floor_and_nan_stays():
    p = torch.tensor([[[[0.0, torch.nan]]], [[[1.0, 0.5]]]])
    half = logits_of(p.half(), "probabilities").flatten()
    assert half[[0, 2]].tolist() == pytest.approx([-13.8155, 13.8155])
    assert half[1].isnan()
    assert half[3] == 0.0
    assert logits_of(p, "probabilities").flatten()[[0, 2]].tolist() == [-100.0, 100.0]
    assert logits_of(p, "logits") is p


def test_labels_come_as_maps_or_planes():
    planes = F.one_hot(LABELS).movedim(3, 1)
    for form in (LABELS, LABELS.unsqueeze(1), LABELS.float(), LABELS.to(torch.uint8), planes, planes.half()):
        assert torch.equal(labels_of(form), LABELS)
    with pytest.raises(ValueError, match="3 channels are no planes of classes"):
        labels_of(planes + planes.roll(1, 1))
    with pytest.raises(ValueError, match="hold fractions"):
        labels_of(LABELS + 0.5)


def test_certain_logits_leave_no_chance_to_other_classes():
    labels = LABELS.clone()
    labels[0, 0], labels[0, 1] = 255, -1
    p = certain_logits(labels, 3).softmax(1)
    assert torch.equal(p[1], F.one_hot(LABELS[1], 3).movedim(2, 0).float())
    torch.testing.assert_close(p[0, :, :2], torch.full((3, 2, 6), 1 / 3))
    with pytest.raises(ValueError, match="up to 2, but num_classes=2"):
        certain_logits(LABELS, 2)
