"""What a model returns: for every kind and format of output the error is the right one, or the setting is asked for."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sweeps import latin
from torch import Tensor, nn

from mia_lightning import Auditor, AuditResult, PredictabilityScorer
from mia_lightning.audit.config import AuditConfig
from mia_lightning.audit.output_meaning import LABELS_NOTE, decide_output
from mia_lightning.functional.last_operation import Operation

FORMATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
SIZE = 12
Pairs = list[tuple[Tensor, Tensor]]


class Segmenter(nn.Module):
    """A small network, its logits scaled, and what is made of them."""

    def __init__(self, channels: int, ending: Callable[[Tensor], Tensor], scale: float = 3.0) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, channels, 1))
        generator = torch.Generator().manual_seed(channels)
        for weights in self.body.parameters():
            weights.data = scale ** (weights.ndim > 1) * (torch.rand(weights.shape, generator=generator) - 0.5)
        self.ending = ending

    def forward(self, x: Tensor) -> Tensor:
        return self.ending(self.body(x))


def pairs(count: int, classes: int, seed: int) -> Pairs:
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(count, 3, SIZE, SIZE, generator=generator)
    labels = torch.randint(0, classes, (count, SIZE, SIZE), generator=generator)
    labels[:, 0] = 255
    return list(zip(images, labels, strict=True))


def audit(
    model: Callable[[Tensor], Tensor], classes: int, **options
) -> tuple[AuditResult, list[tuple[Tensor, Tensor]]]:
    members, nonmembers = pairs(3, classes, 0), pairs(2, classes, 1)
    scorer = PredictabilityScorer(nn.AvgPool2d(3), grid=4)
    result = Auditor(scorer=scorer, batch_size=2, **options).run(model, members, nonmembers)
    return result, members + nonmembers


def expected(p: Tensor, labels: Tensor) -> float:
    """Cross-entropy of probabilities (K, H, W), or (1, H, W) of class 1, as torch has it."""
    valid = labels != 255
    if len(p) == 1:
        return F.binary_cross_entropy(p[0][valid], labels[valid].to(p.dtype)).item()
    truth = p.gather(0, labels.where(valid, 0).unsqueeze(0))[0][valid]
    return -truth.log().clamp_min(-100).mean().item()


def two(z: Tensor) -> Tensor:
    p = z.sigmoid()
    return torch.cat([1 - p, p], 1)


def halves(z: Tensor) -> Tensor:
    """What a window that slides over the image gives."""
    whole, count = torch.zeros_like(z), torch.zeros_like(z)
    for rows in (slice(0, 8), slice(4, SIZE)):
        whole[:, :, rows] += 0.3 * z.softmax(1)[:, :, rows]
        count[:, :, rows] += 0.3
    whole /= count
    return whole


# How many channels the network has, what is done with them, and what it is.
ENDINGS: dict[str, tuple[int, Callable[[Tensor], Tensor], str]] = {
    "logits": (3, lambda z: z, "logits"),
    "one logit": (1, lambda z: z, "logits"),
    "temperature": (3, lambda z: z / 1.5, "logits"),
    "resized logits": (3, lambda z: F.interpolate(z[..., ::2, ::2], scale_factor=2.0), "logits"),
    "log-softmax": (3, lambda z: z.log_softmax(1), "logits"),
    "log of softmax": (3, lambda z: (z.softmax(1) + 1e-6).log(), "logits"),
    "log-odds": (1, lambda z: (z.sigmoid() / (1 - z.sigmoid())).log(), "logits"),
    "log-sigmoid": (1, F.logsigmoid, "log-probabilities"),
    "sigmoid": (1, torch.sigmoid, "probabilities"),
    "hard sigmoid": (1, F.hardsigmoid, "probabilities"),
    "softmax": (3, lambda z: z.softmax(1), "probabilities"),
    "softmax by hand": (3, lambda z: z.exp() / z.exp().sum(1, keepdim=True), "probabilities"),
    "channels last": (3, lambda z: z.movedim(1, 3).softmax(-1).movedim(3, 1), "probabilities"),
    "1 - p and p": (1, two, "probabilities"),
    "a part of softmax": (2, lambda z: z.softmax(1)[:, 1:], "probabilities"),
    "resized sigmoid": (
        1,
        lambda z: F.interpolate(z.sigmoid()[..., ::2, ::2], scale_factor=2.0, mode="bilinear"),
        "probabilities",
    ),
    "bicubic softmax": (
        3,
        lambda z: F.interpolate((9 * z).softmax(1)[..., ::2, ::2].float(), scale_factor=2.0, mode="bicubic"),
        "probabilities",
    ),
    "clamped": (3, lambda z: z.softmax(1).clamp(1e-4, 1 - 1e-4), "probabilities"),
    "saturated": (1, lambda z: (400 * z).sigmoid(), "probabilities"),
    "saturated softmax": (3, lambda z: (400 * z).softmax(1), "probabilities"),
    "flips": (3, lambda z: (z.softmax(1) + z.flip(3).softmax(1).flip(3)) / 2, "probabilities"),
    "flips stacked": (1, lambda z: torch.stack([z.sigmoid(), (2 * z).sigmoid()]).mean(0), "probabilities"),
    "sliding window": (3, halves, "probabilities"),
    "masked": (3, lambda z: z.masked_fill(z > 4, 4.0), "logits"),
}
# Endings that no rule can tell: an error asks.
OPEN: dict[str, tuple[int, Callable[[Tensor], Tensor]]] = {
    "several sigmoids": (3, torch.sigmoid),
    "tanh": (1, torch.tanh),
    "half of tanh": (1, lambda z: (z.tanh() + 1) / 2),
    "clamped logits": (1, lambda z: z.clamp(0, 1)),
    "scaled to [0, 1]": (1, lambda z: (z - z.amin()) / (z.amax() - z.amin())),
    "percent": (1, lambda z: 100 * z.sigmoid()),
    "doubled sigmoid": (1, lambda z: 2 * (z + 2).sigmoid()),
    "from -1 to 1": (1, lambda z: 2 * (z + 9).sigmoid() - 1),
    "log-odds that are negative": (1, lambda z: ((z - 5).sigmoid() / (1 - (z - 5).sigmoid())).log()),
    "a threshold taken off": (1, lambda z: z.sigmoid() - 0.4),
    "sigmoid by hand": (1, lambda z: 1 / (1 + torch.exp(-z))),
    "softmax over rows": (3, lambda z: z.softmax(2)),
    "a constant": (3, lambda z: torch.zeros_like(z)),
}


@pytest.mark.parametrize(("name", "dtype"), latin(2, ENDINGS, FORMATS))
def test_the_error_is_that_of_the_probabilities(name, dtype):
    channels, ending, kind = ENDINGS[name]
    model = Segmenter(channels, lambda z: ending(z.to(dtype)))
    result, samples = audit(model, max(channels, 2))
    assert result.meta["interpretation"]["output"].startswith(f"{kind}: ")
    half, cubic = dtype in (torch.float16, torch.bfloat16), "bicubic" in name
    for error, (image, labels) in zip(result.errors["reconstruction"], samples, strict=True):
        with torch.no_grad():
            output = model(image[None])[0].double().clamp_min(-1e9)
        if kind == "probabilities":
            floor = 1e-6 if half and not cubic else 0.0
            p = output.clamp(floor, 1 - floor if len(output) == 1 else 1.0)
            p = p / p.sum(0) if cubic else p  # which leaves [0, 1]
        elif kind == "log-probabilities":
            p = output.exp()
        else:
            p = output.softmax(0) if len(output) > 1 else output.sigmoid()
        # 16 bits: probabilities of a pixel sum to one but for their rounding.
        assert error == pytest.approx(
            expected(p, labels), rel=2e-2 if half or cubic else 2e-5, abs=1e-2 if half else 1e-6
        )


@pytest.mark.parametrize("dtype", FORMATS, ids=str)
@pytest.mark.parametrize("name", OPEN)
def test_what_nothing_tells_is_asked_for(name, dtype):
    channels, ending = OPEN[name]
    with pytest.raises(ValueError, match="output='logits'"):
        audit(Segmenter(channels, lambda z: ending(z.to(dtype))), max(channels, 2))


@pytest.mark.parametrize("output", ["logits", "probabilities"])
def test_the_setting_comes_before_all_else(output):
    model = Segmenter(1, lambda z: (z.tanh() + 1) / 2)
    result, samples = audit(model, 2, output=output)
    assert result.meta["interpretation"]["output"] == f"{output}: output='{output}'"
    with torch.no_grad():
        answer = model(samples[0][0][None])[0]
    p = answer if output == "probabilities" else answer.sigmoid()
    assert result.errors["reconstruction"][0] == pytest.approx(expected(p, samples[0][1]), rel=1e-5)


# ---- labels

LABELS: dict[str, Callable[[Tensor], Tensor]] = {
    "class numbers": lambda z: z.argmax(1),
    "with a channel": lambda z: z.argmax(1, keepdim=True),
    "small integers": lambda z: z.argmax(1).to(torch.uint8),
    "as numbers": lambda z: z.argmax(1, keepdim=True).float(),
    "planes": lambda z: F.one_hot(z.argmax(1), 3).movedim(3, 1),
    "float planes": lambda z: F.one_hot(z.argmax(1), 3).movedim(3, 1).float(),
}


@pytest.mark.parametrize("output", ["logits", "probabilities"])
def test_a_number_a_pixel_without_a_channel_is_what_the_setting_says(output):
    def ending(z: Tensor) -> Tensor:
        return z.squeeze(1) if output == "logits" else z.sigmoid().squeeze(1)

    model, plain = Segmenter(1, ending), Segmenter(1, torch.sigmoid)
    result, samples = audit(model, 2, output=output)
    with torch.no_grad():
        errors = [expected(plain(x[None])[0].double(), y) for x, y in samples]
    np.testing.assert_allclose(result.errors["reconstruction"], errors, rtol=1e-5)
    with pytest.raises(
        ValueError, match="or with output='logits' or output='probabilities' a number a pixel, that of class 1"
    ):
        audit(model, 2)


@pytest.mark.parametrize("name", LABELS)
def test_label_maps_have_a_0_1_error_and_a_boundary_distance(name):
    model = Segmenter(3, LABELS[name])
    result, samples = audit(model, 3, num_classes=3)
    assert result.meta["interpretation"]["output"].startswith("labels: ")
    assert LABELS_NOTE in result.meta["notes"]
    assert LABELS_NOTE in result.verdict.remarks
    plain = Segmenter(3, lambda z: z.argmax(1))
    for row, (image, labels) in enumerate(samples):
        valid = labels != 255
        wrong = (plain(image[None])[0] != labels)[valid].float().mean().item()
        assert result.errors["reconstruction"][row] == pytest.approx(wrong, rel=1e-6)
        assert result.errors["soft_error"][row] == pytest.approx(wrong, rel=1e-6)
    assert np.isfinite(result.errors["boundary_distance"]).all()
    assert ((result.errors["predictability"] > 0) & (result.errors["predictability"] < 1)).all()


@pytest.mark.parametrize("ending", [lambda z: z > 0, lambda z: (z > 0).float(), lambda z: torch.where(z > 0, 1.0, 0.0)])
def test_a_threshold_gives_labels(ending):
    result, _ = audit(Segmenter(1, ending), 2, num_classes=2)
    truth, _ = audit(Segmenter(1, lambda z: (z > 0).long()), 2, num_classes=2)
    assert result.errors["reconstruction"].tolist() == truth.errors["reconstruction"].tolist()


def test_labels_may_be_asked_for():
    result, _ = audit(Segmenter(3, torch.sigmoid), 3, output="labels")
    truth, _ = audit(Segmenter(3, lambda z: z.argmax(1)), 3, num_classes=3)
    assert result.errors["reconstruction"].tolist() == truth.errors["reconstruction"].tolist()


@pytest.mark.parametrize(
    ("ending", "options", "message"),
    [
        (lambda z: z.argmax(1), {}, "do not tell how many classes there are. Pass num_classes"),
        (lambda z: z.argmax(1), {"num_classes": 2}, "class numbers up to 2, but num_classes=2"),
        (lambda z: z.argmax(1), {"output": "probabilities"}, "no probabilities; .* Pass output='labels'"),
        (lambda z: (255 * z.softmax(1)).byte(), {}, "no planes of classes .* Pass output='logits' or"),
        (lambda z: z[:, :1], {"output": "labels", "num_classes": 3}, "but hold fractions"),
        (lambda z: z.argmax(1).float(), {"num_classes": 3}, r"or with output='labels' \(and num_classes\)"),
        (lambda z: 255 * (z[:, 0] > 0).long(), {"num_classes": 2}, "hold 255 and no 1, .*make it 1 .*--foreground 255"),
        (lambda z: 255 * (z[:, :1] > 0).float(), {"output": "labels", "num_classes": 2}, "hold 255 and no 1"),
    ],
)
def test_label_maps_that_are_none_are_refused(ending, options, message):
    with pytest.raises(ValueError, match=message):
        audit(Segmenter(3, ending), 3, **options)


# ---- later batches, and what cannot be watched


def test_a_batch_that_contradicts_is_refused():
    def model(x: Tensor) -> Tensor:
        logits = torch.cat([x[:, :1], 1 - x[:, :1]], 1)
        dark = x.flatten(1).mean(1).view(-1, 1, 1, 1) < 0.1
        return torch.from_numpy(torch.where(dark, logits - 5, logits.softmax(1)).numpy().copy())

    members, nonmembers = pairs(12, 2, 0), pairs(4, 2, 1)
    members[2] = (0.1 * members[2][0], members[2][1])  # not among the first samples, which lie evenly over a side
    scorer = PredictabilityScorer(nn.AvgPool2d(3), grid=4)
    with pytest.raises(ValueError, match=r"taken for probabilities .*by their values.* Pass output='logits'"):
        Auditor(scorer=scorer, batch_size=2).run(model, members, nonmembers)


def test_logarithms_of_probabilities_hold_in_later_batches():
    def model(x: Tensor) -> Tensor:
        z = F.conv2d(x, torch.ones(1, 3, 1, 1))
        return F.logsigmoid(z) if x.mean() > 0.1 else z

    members, nonmembers = pairs(12, 2, 0), pairs(4, 2, 1)
    members[2:4] = [(0.1 * image, labels) for image, labels in members[2:4]]  # a batch of their own
    scorer = PredictabilityScorer(nn.AvgPool2d(3), grid=4)
    with pytest.raises(ValueError, match=r"taken for logarithms of probabilities .* Pass output='logits'"):
        Auditor(scorer=scorer, batch_size=2).run(model, members, nonmembers)


@pytest.mark.parametrize(("ending", "kind"), [(torch.nn.Softmax(1), "probabilities"), (nn.Identity(), "logits")])
def test_values_decide_where_nothing_can_be_watched(ending, kind):
    inner = Segmenter(3, ending)
    result, _ = audit(lambda x: torch.from_numpy(inner(x).numpy().copy()), 3)
    watched, _ = audit(inner, 3)
    assert result.meta["interpretation"]["output"].startswith(f"{kind}: by their values, 3 channels of values from ")
    assert result.errors["reconstruction"].tolist() == watched.errors["reconstruction"].tolist()


def test_the_first_pass_is_not_made_twice():
    seen: list[int] = []

    def model(x: Tensor) -> Tensor:
        seen.append(len(x))
        return torch.cat([x, -x], 1).sigmoid()[:, :1]

    audit(model, 2, verdict="primary")
    assert sum(seen) == 5


def test_compiled_models_answer_as_compiled():
    inner = Segmenter(1, torch.sigmoid)
    result, _ = audit(torch.compile(inner, backend="eager"), 2)
    plain, _ = audit(inner, 2)
    assert result.meta["interpretation"] == plain.meta["interpretation"]
    assert result.errors["reconstruction"].tolist() == plain.errors["reconstruction"].tolist()


def test_neighbours_and_pictures_are_read_alike():
    found = {}
    for name, ending in (("logits", nn.Identity()), ("probabilities", nn.Sigmoid())):
        members, nonmembers = pairs(3, 2, 0), pairs(2, 2, 1)
        auditor = Auditor(scorer=PredictabilityScorer(nn.AvgPool2d(3), grid=4), scores=("membership", "neighbour"))
        model = Segmenter(1, ending)
        result = auditor.run(model, members, nonmembers)
        (exhibit,) = auditor.exhibit(model, members, "member", [1])
        (alone,) = Auditor(scorer=PredictabilityScorer(nn.AvgPool2d(3), grid=4)).exhibit(model, members, "member", [1])
        torch.testing.assert_close(exhibit.prediction, alone.prediction)
        found[name] = result.errors["neighbour"], exhibit.prediction
    np.testing.assert_allclose(found["logits"][0], found["probabilities"][0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found["logits"][1], found["probabilities"][1], rtol=1e-4, atol=1e-4)


def test_tanh_beside_a_range_of_0_to_1_is_noted():
    def run(**options) -> list[str]:
        generator = torch.Generator().manual_seed(0)
        images = [(torch.rand(3, SIZE, SIZE, generator=generator),) * 2 for _ in range(4)]
        auditor = Auditor(scorer=PredictabilityScorer(nn.AvgPool2d(3), grid=4), **options)
        return auditor.run(lambda x: torch.tanh(x), images[:2], images[2:]).meta["notes"]

    assert any("ends in tanh" in note and "target_range=(-1, 1)" in note for note in run())
    assert not any("tanh" in note for note in run(target_range=(-1, 1)))


# ---- every value there is


@pytest.mark.parametrize("seed", range(300))
def test_no_output_is_read_as_something_else(seed):
    rng = np.random.default_rng(seed)
    mean, deviation = rng.uniform(-3, 3), 10 ** rng.uniform(-2, 1.3)
    channels, dtype = int(rng.choice([1, 2, 3, 7, 21])), FORMATS[rng.integers(4)]
    ending, watch = str(rng.choice(["logits", "sigmoid", "softmax", "log_softmax"])), bool(rng.integers(2))
    logits = mean + deviation * torch.randn(4, channels, 6, 6, generator=torch.Generator().manual_seed(seed))
    logits = logits.to(dtype)
    made = {"logits": logits, "sigmoid": logits.sigmoid(), "softmax": logits.softmax(1)}
    output = made.get(ending, logits.log_softmax(1))
    role = {"logits": "linear"}.get(ending, ending)
    operation = Operation(role, role) if watch else None
    try:
        meaning = decide_output(AuditConfig(), "segmentation", output, operation)
    except ValueError as error:
        assert "output=" in str(error)  # noqa: PT017 - an error is one of the two outcomes that are right
        return
    single = channels == 1 and ending in ("softmax", "log_softmax")
    right = {"sigmoid": "probabilities", "softmax": "probabilities"}.get(ending, "logits")
    if single and ending == "log_softmax":
        right = "log-probabilities" if watch else meaning.kind  # zero everywhere
    assert meaning.kind == right
    assert torch.isfinite(meaning.read(output)).all()
