"""Outputs of every kind, type and last layer, by every route: the right number, or an error that names a setting."""

from __future__ import annotations

import math
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn

from mia_lightning import Auditor, AuditResult, audit_outputs
from mia_lightning.exported import load_exported

FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
TOLERANCE = {torch.float32: 2e-4, torch.float64: 2e-4, torch.float16: 2e-2, torch.bfloat16: 8e-2}
"""By the format in which a model computes: sums of its probabilities are that far from one."""

HALF = (torch.float16, torch.bfloat16)


# ---- the reference: losses in float64


def log_probabilities(form: str, z: Tensor, alone: bool, floor: float) -> tuple[Tensor, Tensor]:
    """Logarithms of the probabilities that a class is right and that it is not; these where channels stand alone."""
    if form == "logits":
        return (F.logsigmoid(z), F.logsigmoid(-z)) if alone else (z.log_softmax(1), z)
    if form == "log-probabilities":
        return z, (-z.expm1()).log().clamp_min(floor)
    p = z.clamp(0, 1)
    return p.log().clamp_min(floor), (1 - p).log().clamp_min(floor)


def reference(task: str, form: str, answer: Tensor, y: Tensor) -> np.ndarray:
    """Errors (N,): cross-entropy or, of labels, the share of wrong ones; y is -1 where ignored, and so is the mean.

    Logarithms end at -100, as torch's do; of probabilities of 16 bits at that of 1e-6.
    """
    z, alone = answer.double(), task == "multilabel" or (form != "labels" and answer.shape[1] == 1)
    y = y[:, None] if alone and y.ndim == 3 else y
    if form == "labels":
        losses = ((z[:, 0] if z.ndim > y.ndim else z) != (y > 0.5 if task == "multilabel" else y)).double()
    else:
        half = form == "probabilities" and answer.dtype in HALF
        yes, no = log_probabilities(form, z, alone, math.log(1e-6) if half else -100.0)
        losses = -(y * yes + (1 - y) * no) if alone else -yes.gather(1, y.clamp(0).long()[:, None])[:, 0]
    finite = z.flatten(1).isfinite().all(1)
    means = [v[m].mean() if m.any() and f else torch.nan for v, m, f in zip(losses, y >= 0, finite, strict=True)]
    return np.array([float(v) for v in means])


# ---- what is drawn


class Drawn(NamedTuple):
    form: str
    opaque: bool
    end: Callable[[Tensor], Tensor]
    inputs: Tensor
    targets: Tensor
    y: Tensor
    stored: Tensor
    members: int
    settings: dict[str, Any]


ENDS: dict[str, dict[str, Callable[[Tensor], Tensor]]] = {
    "logits": {
        "convolution": lambda z: F.conv2d(z, torch.eye(z.shape[1], dtype=z.dtype)[..., None, None]),
        "matmul": lambda z: (z.movedim(1, 3) @ torch.eye(z.shape[1], dtype=z.dtype)).movedim(3, 1),
    },
    "probabilities": {"softmax": lambda z: z.softmax(1), "exp": lambda z: z.log_softmax(1).exp()},
    "log-probabilities": {"log_softmax": lambda z: z.log_softmax(1), "log": lambda z: z.softmax(1).log()},
    "labels": {"argmax": lambda z: z.argmax(1), "argmax, kept": lambda z: z.argmax(1, keepdim=True)},
}
ALONE: dict[str, dict[str, Callable[[Tensor], Tensor]]] = {
    "logits": ENDS["logits"],
    "probabilities": {"sigmoid": lambda z: z.sigmoid(), "exp": lambda z: F.logsigmoid(z).exp()},
    "log-probabilities": {"logsigmoid": lambda z: F.logsigmoid(z), "log": lambda z: z.sigmoid().log()},
    "labels": {"greater": lambda z: z > 0, "round": lambda z: z.sigmoid().round()},
}
PASSES: dict[str, Callable[[Tensor], Tensor]] = {
    "nothing": lambda z: z,
    "flips": lambda z: z.flip(-1).flip(-1),
    "view": lambda z: z.reshape(len(z), -1).reshape(z.shape),
    "parts": lambda z: torch.cat([z[:1], z[1:]]),
    "mean of two": lambda z: torch.stack([z, z]).mean(0) if z.is_floating_point() else z,
    "format": lambda z: z.contiguous(memory_format=torch.channels_last) if z.ndim == 4 else z,
    "wider": lambda z: z.double() if z.is_floating_point() else z.long(),
}


@st.composite
def outputs(draw: st.DrawFn) -> Drawn:
    task, form = draw(st.sampled_from(("segmentation", "multilabel"))), draw(st.sampled_from(tuple(ENDS)))
    members, nonmembers = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    count, height, width = members + nonmembers, draw(st.integers(1, 7)), draw(st.integers(1, 7))
    size = (count, draw(st.sampled_from((1, 2, 3, 5, 21))), height, width)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    dtype = draw(st.sampled_from(FLOATS))
    scale, shift = draw(st.sampled_from((0.05, 1.0, 8.0, 60.0))), draw(st.sampled_from((0.0, 0.5, -3.0)))
    stored = torch.from_numpy(rng.normal(shift, scale, size)).to(dtype)
    alone = task == "multilabel" or size[1] == 1
    lasts = (ALONE if alone else ENDS)[form]
    last, passing = lasts[draw(st.sampled_from(tuple(lasts)))], PASSES[draw(st.sampled_from(tuple(PASSES)))]
    opaque = draw(st.booleans())  # whether the model's operations are out of sight
    if opaque:
        stored = last(stored)
        if form == "labels":
            stored = stored.to(draw(st.sampled_from((*INTEGERS, torch.bool) if alone else INTEGERS)))
        elif broken := draw(st.sampled_from((0.0, 0.0, 0.0, np.nan, np.inf, -np.inf))):
            stored[0, 0, 0, 0] = broken
    targets, y = truth(rng, task, size, draw(st.sampled_from((0.0, 0.2, 1.0))))
    options: dict[str, Any] = {"task": task}
    if form != "log-probabilities" and draw(st.booleans()):
        options["output"] = form
    if (form == "labels" and task == "segmentation") or draw(st.booleans()):
        options["num_classes"] = max(2, size[1]) if form == "labels" else size[1]
    inputs = torch.from_numpy(rng.random((count, 3, height, width))).float()
    return Drawn(
        form, opaque, (lambda z: passing(z if opaque else last(z))), inputs, targets, y, stored, members, options
    )


def truth(rng: np.random.Generator, task: str, size: tuple[int, ...], ignored: float) -> tuple[Tensor, Tensor]:
    """Targets, and the same with -1 where they are ignored."""
    if task == "segmentation":
        y = rng.integers(0, max(2, size[1]), (size[0], *size[2:]))
        y[0][rng.random(size[2:]) < ignored] = -1
        return torch.from_numpy(y), torch.from_numpy(y)
    y = rng.integers(0, 2, size).astype(float)
    y[rng.random(size) < 0.1] = 0.25
    y[0][rng.random(size[1:]) < ignored] = -1
    return torch.from_numpy(np.where(y < 0, np.nan, y)).float(), torch.from_numpy(y)


# ---- the properties


@given(drawn=outputs())
def test_outputs(drawn: Drawn, audited, agrees) -> None:
    task, form = drawn.settings["task"], drawn.form
    result = audited(drawn.inputs, drawn.targets, drawn.stored, drawn.members, drawn.end, **drawn.settings)
    answer = drawn.end(drawn.stored)
    expected = reference(task, form, answer, drawn.y)
    if isinstance(result, str):
        empty = not all(np.isfinite(e).any() for e in np.split(expected, [drawn.members]))
        assert "output" not in drawn.settings or empty, result
        return
    agrees(result, expected, drawn.members, TOLERANCE[drawn.stored.dtype] if answer.is_floating_point() else 1e-6)


class Network(nn.Module):
    """Outputs of one convolution, as the form and the format ask for them."""

    def __init__(self, weight: Tensor, bias: Tensor, end: str) -> None:
        super().__init__()
        self.weight, self.bias, self.end = nn.Parameter(weight), nn.Parameter(bias), end

    def forward(self, x: Tensor) -> Tensor:
        z = F.conv2d(x, self.weight, self.bias)
        if self.end == "softmax":
            return z.softmax(1)
        if self.end == "log_softmax":
            return z.log_softmax(1)
        if self.end == "sigmoid":
            return z.sigmoid()
        if self.end == "argmax":
            return z.argmax(1)
        if self.end == "greater":
            return (z > 0)[:, 0].long()
        return z


FORMS = {"softmax": "probabilities", "sigmoid": "probabilities", "argmax": "labels", "greater": "labels"}


class Stored(NamedTuple):
    network: Network
    form: str
    pixels: np.ndarray
    labels: np.ndarray
    members: int
    half: bool


@st.composite
def networks(draw: st.DrawFn) -> Stored:
    classes = draw(st.sampled_from((1, 2, 3, 6)))
    ends = ("none", "sigmoid", "greater") if classes == 1 else ("none", "softmax", "argmax", "log_softmax")
    size, end = (draw(st.integers(1, 9)), draw(st.integers(1, 9))), draw(st.sampled_from(ends))
    members, count = draw(st.integers(1, 2)), draw(st.integers(3, 4))
    ignored, half = draw(st.sampled_from((0.0, 0.2))), draw(st.booleans())
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    weight, bias = rng.normal(0, 5, (classes, 3, 1, 1)), rng.normal(0, 1, classes)
    network = Network(torch.from_numpy(weight).float(), torch.from_numpy(bias).float(), end).eval()
    pixels = rng.integers(0, 256, (count, *size, 3), dtype=np.uint8)
    pixels[:, 0, 0, 0] = np.arange(count) * 20  # no two are the same
    labels = rng.integers(0, max(2, classes), (count, *size), dtype=np.uint8)
    labels[rng.random(labels.shape) < ignored] = 255
    labels[:, 0, 0] = 1
    return Stored(network, FORMS.get(end, "logits"), pixels, labels, members, half)


@pytest.mark.slow
@given(drawn=networks(), said=st.booleans())
@settings(max_examples=settings.default.max_examples // 2)
def test_routes(drawn: Stored, said: bool, number_or_setting) -> None:
    """A network, its TorchScript file and a folder of what it returned have the same numbers, and the right ones."""
    network, form, pixels, labels, members, _ = drawn
    images, y = torch.from_numpy(pixels).movedim(3, 1).float() / 255, torch.from_numpy(labels).long()
    with torch.no_grad():
        answers = network(images)
    options: dict[str, Any] = {"task": "segmentation", "scores": ("reconstruction",), "primary": "reconstruction"}
    options |= {"num_classes": max(2, len(network.bias)) if form == "labels" else len(network.bias)}
    options |= {"scorer": Constant()} | ({"output": form} if said else {})
    pairs = list(zip(images, y, strict=True))

    def live(module: Callable[[Tensor], Tensor]) -> AuditResult | str:
        return number_or_setting(lambda: Auditor(**options).run(module, pairs[:members], pairs[members:]))

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch would rather have another format
        torch.jit.save(torch.jit.script(network), f"{folder}/model.pt")
        found = {"live": live(network), "TorchScript": live(load_exported(f"{folder}/model.pt"))}
        store(Path(folder), drawn, answers.numpy())
        found["stored"] = number_or_setting(lambda: audit_outputs(folder, **options))
    for route, result in found.items():
        if isinstance(result, str):
            assert not said, f"{route}: {result}"
            continue
        kept = torch.float16 if route == "stored" and drawn.half else torch.float32
        answer = answers if form == "labels" else answers.to(kept)
        expected = reference("segmentation", form, answer, torch.where(y == 255, -1, y))
        found_here = result.errors["reconstruction"]
        np.testing.assert_allclose(found_here, expected, TOLERANCE[kept], TOLERANCE[kept], err_msg=route)


def store(root: Path, drawn: Stored, answers: np.ndarray) -> None:
    """Write pictures, masks and outputs: class numbers as pictures or arrays, others as arrays of 16 or 32 bits."""
    for i, (picture, mask, answer) in enumerate(zip(drawn.pixels, drawn.labels, answers, strict=True)):
        side = root / ("members" if i < drawn.members else "nonmembers")
        images = {"inputs": picture, "targets": mask}
        if drawn.form == "labels" and drawn.half:
            images["outputs"] = answer.astype(np.uint8)
        for name in ("inputs", "targets", "outputs"):
            (side / name).mkdir(parents=True, exist_ok=True)
            if name in images:
                Image.fromarray(images[name]).save(side / name / f"{i}.png")
            else:
                np.save(side / name / f"{i}.npy", answer.astype(np.float16) if drawn.half else answer)


class Constant:
    """A scorer that costs nothing."""

    def __call__(self, input: Tensor, target: Tensor, task: object, **settings: object) -> Tensor:
        return torch.linspace(0.1, 0.2, len(input), dtype=torch.float64)

    def fingerprint(self) -> str:
        return "constant"
