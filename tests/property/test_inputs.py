"""Inputs of every kind, type and range: the features are computed of the right picture, or an error names a setting."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import logsumexp
from torch import Tensor

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
WIDE = (torch.int16, torch.uint16, torch.int32, torch.uint32, torch.int64, torch.uint64)
KINDS = ("floats", "normalised", "range", "floats with white", "bytes", "integers", "integers with white", "signed")
LABELS = ("label maps", "many labels", "booleans", "planes")


class Drawn(NamedTuple):
    kind: str
    inputs: Tensor
    expected: np.ndarray
    said: bool
    members: int
    settings: dict[str, Any]


@st.composite
def inputs(draw: st.DrawFn) -> Drawn:
    kind, members = draw(st.sampled_from((*KINDS, *LABELS))), draw(st.integers(1, 3))
    count, height, width = members + draw(st.integers(1, 3)), draw(st.integers(2, 7)), draw(st.integers(2, 7))
    channels = draw(st.sampled_from((1, 3, 4, 13)))
    if kind in LABELS:
        channels = max(2, channels) if kind == "planes" else 1
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    size = (count, channels, height, width)
    options: dict[str, Any] = {"task": "segmentation"}
    values, truth, dtype = (labels if kind in LABELS else pictures)(kind, size, options, draw, rng)
    said = draw(st.booleans())
    if said and kind != "planes":
        options["input_kind"] = "labels" if kind in LABELS else "image"
    tensor = torch.from_numpy(values).to(dtype)
    if kind == "floats" and draw(st.booleans()):
        tensor[0, 0, 0, 0] = draw(st.sampled_from((torch.nan, torch.inf)))
    if channels == 1 and draw(st.booleans()):
        tensor = tensor[:, 0]
    return Drawn(kind, tensor, truth, said, members, options)


def pictures(
    kind: str, size: tuple[int, ...], options: dict[str, Any], draw: st.DrawFn, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, torch.dtype]:
    """Values, what they are in [0, 1], and their type."""
    grey = rng.integers(0, 256, size)
    grey[..., 0, 0] = 64 + grey[..., 0, 0] // 2  # no picture is as dark as numbers of classes
    grey[:, 0, 0, 1] = np.arange(size[0]) * 10  # no two are the same
    unit, floats = grey / 255, draw(st.sampled_from(FLOATS))
    if kind == "bytes":
        return grey, unit, torch.uint8
    if kind == "floats":
        return unit, unit, floats
    if kind == "normalised":
        options["mean"], options["std"] = (0.5,), (0.25,)
        return (unit - 0.5) / 0.25, unit, floats
    if kind == "range":
        options |= {"task": "translation", "target_range": (-1, 1)}
        return 2 * unit - 1, unit, floats
    white = draw(st.sampled_from((1023, 4095, 20_000)))
    wide = (unit * white).round()
    if kind.endswith("with white"):
        options["white"] = white
        exact = floats if floats.itemsize > 2 else torch.float32
        return wide, wide / white, exact if kind.startswith("floats") else draw(st.sampled_from(WIDE))
    signed = kind == "signed"
    wide = wide - 1000 if signed else wide
    low, high = wide.min((1, 2, 3), keepdims=True), wide.max((1, 2, 3), keepdims=True)
    types = [t for t in WIDE if not signed or torch.iinfo(t).min < 0]
    return wide, (wide - low) / (high - low), draw(st.sampled_from(types))


def labels(
    kind: str, size: tuple[int, ...], options: dict[str, Any], draw: st.DrawFn, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, torch.dtype]:
    """Values, the same, and their type."""
    most = {"label maps": 7, "many labels": 60}.get(kind, 2)
    values = rng.integers(0, most, size)
    code = np.array([list(np.binary_repr(i, 3)) for i in range(size[0])]).astype(int)  # no two are the same
    values[:, 0, 0, 0], values[:, 0, 0, 1], values[:, 0, 1, 0] = code.T
    if kind == "booleans":
        return values, values, torch.bool
    integers = (torch.uint8, torch.int8, *WIDE)
    return values, values, draw(st.sampled_from((*integers, torch.bool) if kind == "planes" else integers))


@given(drawn=inputs())
def test_inputs(drawn: Drawn, audited, agrees, recorder) -> None:
    kind, tensor, expected, said, members, settings = drawn
    rng, scorer = np.random.default_rng(0), recorder()
    size = (len(tensor), 3, *tensor.shape[-2:])
    if settings["task"] == "translation":
        targets, outputs = 2 * rng.random(size) - 1, 2 * rng.random(size) - 1
        errors = np.abs(targets - outputs).mean((1, 2, 3)) / 2
        truth = torch.from_numpy(targets).float()
    else:
        ids, outputs = rng.integers(0, 3, (size[0], *size[2:])), rng.normal(0, 3, size)
        losses = logsumexp(outputs, 1) - np.take_along_axis(outputs, ids[:, None], 1)[:, 0]
        errors, truth, settings = losses.mean((1, 2)), torch.from_numpy(ids), {**settings, "output": "logits"}
    result = audited(tensor, truth, torch.from_numpy(outputs).float(), members, scorer=scorer, **settings)
    if isinstance(result, str):
        assert not said, result
        assert kind in ("label maps", "many labels", "planes", "integers", "signed", "bytes"), result
        return
    finite = tensor.double().flatten(1).isfinite().all(1).numpy()
    agrees(result, np.where(finite, errors, np.nan), members)
    shown = [x.double().numpy() for x in scorer.inputs if bool(x.double().isfinite().all())]
    assert len(shown) == finite.sum()
    assert all(x.is_floating_point() == (kind not in LABELS or kind == "planes") for x in scorer.inputs)
    slack = {torch.bfloat16: 0.01, torch.float16: 1e-3}.get(tensor.dtype, 1e-5)
    for found, right in zip(shown, expected[finite], strict=True):
        np.testing.assert_allclose(found, right.reshape(found.shape), atol=slack)
