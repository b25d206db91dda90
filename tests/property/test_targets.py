"""Targets of every kind, type, shape and range under every task: the number is right, or the error names a setting."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import logsumexp
from torch import Tensor

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
UNSIGNED = (torch.uint8, torch.uint16, torch.uint32, torch.uint64)
SIGNED = (torch.int8, torch.int16, torch.int32, torch.int64)
RANGES = ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0), (0.0, 65535.0))
KINDS = ("labels", "one-hot", "channels", "soft", "picture", "bytes", "mask of 255", "vector", "volume")
NATURAL = {"labels": "segmentation", "picture": "translation"}


# ---- the reference: what numbers mean under a task, in float64


def as_labels(y: np.ndarray, ignore: int) -> np.ndarray | None:
    """Classes (N, H, W), -1 where they are ignored; None where there are none."""
    if y.ndim == 4 and y.shape[1] > 1:
        void = ((y == ignore) | np.isnan(y)).all(1)
        hot = ((y == 0) | (y == 1)).all(1) & (y.sum(1) == 1)
        y = np.where(void, -1, (y == 1).argmax(1)) if (void | hot).all() else np.array(np.nan)
    y = y[:, 0] if y.ndim == 4 else y
    if y.ndim != 3 or not (np.isfinite(y) & (y == y.round())).all():
        return None
    return np.where((y < 0) | (y == ignore), -1, y).astype(int)


def as_masks(y: np.ndarray, ignore: int) -> np.ndarray | None:
    """Masks (N, K, H, W) in [0, 1], NaN where they are ignored; None where there are none."""
    y = y[:, None] if y.ndim == 3 else y
    y = np.where(y == ignore, np.nan, y)
    return y if y.ndim == 4 and not ((y < 0) | (y > 1)).any() and ignore not in (0, 1) else None


def as_pictures(y: np.ndarray, low: float, high: float) -> np.ndarray | None:
    """Pictures (N, C, H, W) in [0, 1], but for what resizing may add, NaN where void; None where there are none."""
    x = (y - low) / (high - low)
    x = x[:, None] if y.ndim == 3 else x
    return x if x.ndim == 4 and (np.abs(x - 0.5) <= 0.501)[np.isfinite(x)].all() else None


def range_of(y: np.ndarray) -> tuple[float, float] | None:
    """What target_range="auto" is for pictures; None where it asks."""
    finite = [values for sample in y if (values := sample[np.isfinite(sample)]).size]
    lows, highs = np.array([v.min() for v in finite]), np.array([v.max() for v in finite])
    unit = (lows >= -1e-3) & (highs <= 1.001)
    if unit.all() or (unit & (highs >= 0.5)).mean() >= 0.75:
        return 0.0, 1.0
    low, high = lows.min(), highs.max()
    return None if low == high or (-1.1 <= low <= -0.5 and 0.5 <= high <= 1.1) else (low, high)


def reference(task: str, y: np.ndarray, z: np.ndarray, ignore: int, low: float, high: float) -> np.ndarray | None:
    """Errors (N,) of outputs z, logits or pictures; None where targets cannot be read."""
    with np.errstate(all="ignore"):
        if task == "translation":
            x = as_pictures(y, low, high)
            return None if x is None or x.shape != z.shape else mean(np.abs(x - (z - low) / (high - low)), ~np.isnan(x))
        if task == "multilabel":
            x = as_masks(y, ignore)
            return None if x is None or x.shape != z.shape else mean(np.logaddexp(0, z) - x * z, ~np.isnan(x))
        x, z = as_labels(y, ignore), np.concatenate([0 * z, z], 1) if z.shape[1] == 1 else z
        if x is None or x.max(initial=-1) >= z.shape[1]:
            return None
        return mean(logsumexp(z, 1) - np.take_along_axis(z, x.clip(0)[:, None], 1)[:, 0], x >= 0)


def mean(loss: np.ndarray, valid: np.ndarray) -> np.ndarray:
    return np.array([v[m].mean() if m.any() else np.nan for v, m in zip(loss, valid, strict=True)])


# ---- what is drawn


class Drawn(NamedTuple):
    kind: str
    inputs: Tensor
    targets: Tensor
    outputs: Tensor
    members: int
    settings: dict[str, Any]


@st.composite
def batches(draw: st.DrawFn) -> Drawn:
    kind = draw(st.sampled_from(KINDS))
    task = draw(st.sampled_from(("auto", "segmentation", "multilabel", "translation")))
    members, nonmembers = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    count, height, width = members + nonmembers, draw(st.integers(1, 7)), draw(st.integers(1, 7))
    channels, ignore = draw(st.sampled_from((1, 2, 3, 5, 17))), draw(st.sampled_from((255, -1, -100, 254, 4)))
    low, high = draw(st.sampled_from(RANGES))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    values = VALUES[kind](rng, (count, channels, height, width), low, high)
    if values.ndim == 4 and values.shape[1] == 1 and draw(st.booleans()):
        values = values[:, 0]
    values = with_marks(values, draw(st.sampled_from(("none", "none", "ignored", "nan", "inf", "all"))), ignore, rng)
    types = [t for t in (*FLOATS, *UNSIGNED, *SIGNED, torch.bool) if holds(t, values)]
    targets = torch.from_numpy(values).to(draw(st.sampled_from(types)))
    reading = task if task != "auto" else NATURAL.get(kind, "translation")
    shape = values.shape if values.ndim == 4 else (count, 1, height, width)
    size = (count, channels, height, width) if reading == "segmentation" else shape
    outputs = rng.normal(0, draw(st.sampled_from((0.1, 3.0, 40.0))), size)
    if reading == "translation":
        outputs = low + (high - low) * rng.random(size)
    options = {"task": task, "ignore_index": ignore, "target_range": draw(st.sampled_from(((low, high), "auto")))}
    if reading != "translation":  # what outputs are is not the question here
        options["output"] = "logits"
    if reading == "segmentation" and draw(st.booleans()):
        options["num_classes"] = channels
    inputs = torch.from_numpy(rng.random((count, 3, height, width)))
    outputs = torch.from_numpy(outputs).to(draw(st.sampled_from((torch.float32, torch.float64))))
    return Drawn(kind, inputs.float(), targets, outputs, members, options)


def pictures(rng: np.random.Generator, size: tuple[int, ...], low: float, high: float) -> np.ndarray:
    values = low + (high - low) * rng.random(size)
    return values.round() if high > 1 and rng.random() < 0.5 else values


def picture_of_bytes(rng: np.random.Generator, size: tuple[int, ...], low: float, high: float) -> np.ndarray:
    values = rng.integers(0, 256, size).astype(float)
    values[..., 0, 0] = 64 + values[..., 0, 0] // 2  # no picture is as dark as numbers of classes
    return values


def one_hot(rng: np.random.Generator, size: tuple[int, ...], low: float, high: float) -> np.ndarray:
    classes = max(2, size[1])  # one channel is no one-hot encoding
    labels = rng.integers(0, classes, (size[0], *size[2:]))
    return np.moveaxis(np.eye(classes)[labels], 3, 1)


VALUES = {
    "labels": lambda rng, size, low, high: rng.integers(0, max(2, size[1]), (size[0], 1, *size[2:])).astype(float),
    "one-hot": one_hot,
    "channels": lambda rng, size, low, high: rng.integers(0, 2, size).astype(float),
    "soft": lambda rng, size, low, high: np.where(rng.random(size) < 0.1, 0.5, rng.integers(0, 2, size)),
    "picture": pictures,
    "bytes": picture_of_bytes,
    "mask of 255": lambda rng, size, low, high: 255.0 * rng.integers(0, 2, size),
    "vector": lambda rng, size, low, high: rng.integers(0, 2, size[:2]).astype(float),
    "volume": lambda rng, size, low, high: rng.random((*size, 2)),
}


def with_marks(values: np.ndarray, mark: str, ignore: int, rng: np.random.Generator) -> np.ndarray:
    """Mark some pixels as ignored, in all channels or in some, or break some; or ignore a whole sample."""
    if mark == "none":
        return values
    shape = (len(values), 1, *values.shape[2:]) if values.ndim == 4 and rng.random() < 0.5 else values.shape
    chosen = np.broadcast_to(rng.random(shape) < 0.2, values.shape)
    if mark == "all":
        chosen = np.zeros_like(values, dtype=bool)
        chosen[0] = True
    return np.where(chosen, {"nan": np.nan, "inf": np.inf}.get(mark, ignore), values)


def holds(dtype: torch.dtype, values: np.ndarray) -> bool:
    if dtype.is_floating_point:
        return bool(dtype != torch.float16 or np.abs(values[np.isfinite(values)]).max(initial=0) < 6e4)
    whole = bool(np.isfinite(values).all() and (values == values.round()).all())
    info = (0, 1) if dtype == torch.bool else (torch.iinfo(dtype).min, torch.iinfo(dtype).max)
    return whole and info[0] <= values.min() and values.max() <= info[1]


# ---- the property


@given(drawn=batches())
def test_targets(drawn: Drawn, audited, agrees) -> None:
    kind, inputs, targets, outputs, members, settings = drawn
    result = audited(inputs, targets, outputs, members, **settings)
    task, ignore, y = settings["task"], settings["ignore_index"], targets.double().numpy()
    stated = settings["target_range"] != "auto"
    bounds = settings["target_range"] if stated else range_of(y)
    low, high = bounds or (0.0, 1.0)
    reading = NATURAL.get(kind) if task == "auto" else task
    if task == "auto" and stated and (low, high) != (0.0, 1.0) and targets.is_floating_point():
        reading = "translation"  # a range is that of pictures
    if task == "auto" and not targets.is_floating_point() and (y.ndim == 3 or (y.ndim == 4 and y.shape[1] == 1)):
        reading = "segmentation"  # one plane of whole numbers, which have to be classes
    values = y[np.isfinite(y) & (y != ignore)]
    if kind == "soft" and targets.is_floating_point() and task == "auto" and np.isin(values, (0, 1)).mean() < 0.9:
        reading = "translation"  # of few pixels, fractions are no edges
    expected = reference(reading, y, outputs.double().numpy(), ignore, low, high) if reading else None
    plane = y.ndim == 3 and not targets.is_floating_point() and targets.dtype != torch.uint8  # a label map
    if reading == "translation" and (bounds is None or plane):
        expected = None
    if isinstance(result, str):
        # All settings are there: only a target that is none may be refused, or one without any foreground.
        background = task != "translation" and (y == ignore).any() and not ((y > 0) & (y != ignore)).any()
        empty = expected is not None and not all(np.isfinite(e).any() for e in np.split(expected, [members]))
        assert task == "auto" or expected is None or background or empty, result
        return
    assert reading is not None, "what could be several things was not asked about"
    assert result.meta["task"] == reading
    assert expected is not None, "what has no meaning under this task has a number"
    agrees(result, expected, members)
