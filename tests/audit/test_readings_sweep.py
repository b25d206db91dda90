"""Every type, range, shape and task: the number is right, or the error names the setting that answers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from sweeps import latin
from torch import Tensor, nn

from mia_lightning.audit.auditor import Auditor
from mia_lightning.result.audit_result import AuditResult

SIDE, COUNT = 16, 3
FLOATS = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
INTEGERS = [torch.uint8, torch.int16, torch.uint16, torch.int32, torch.uint32, torch.int64]
DTYPES = [torch.bool, *INTEGERS, *FLOATS]
G = torch.Generator().manual_seed(0)
UNIT = torch.rand(2 * COUNT, 3, SIDE, SIDE, generator=G)
BLOCKS = torch.arange(16).view(4, 4).repeat_interleave(4, 0).repeat_interleave(4, 1)
LABELS = torch.stack([(BLOCKS + i) % 3 for i in range(2 * COUNT)])  # (2N, H, W)


class Recorder:
    """A scorer that keeps the inputs which a feature extractor would get."""

    def __init__(self) -> None:
        self.inputs: list[Tensor] = []

    def __call__(self, input: Tensor, target: Tensor, task: Any, **settings: Any) -> Tensor:
        self.inputs.append(input)
        return torch.ones(len(input), dtype=torch.float64)

    def fingerprint(self) -> str:
        return "recorder"


def audit(answer: Any, input: Tensor, target: Tensor, **options: Any) -> tuple[AuditResult | None, Recorder | str]:
    """Audit samples, half of them members; the result and what features would be taken of, or None and the error."""
    recorder, pairs = Recorder(), list(zip(input, target, strict=True))
    auditor = Auditor(scorer=recorder, batch_size=2, scores=("reconstruction", "membership"), **options)
    try:
        return auditor.run(answer, pairs[:COUNT], pairs[COUNT:]), recorder
    except ValueError as error:
        return None, str(error)


# ---- inputs

INPUT_RANGES = {
    "0 or 1": (LABELS > 1).double(),
    "labels to 2": LABELS.double(),
    "labels to 15": BLOCKS.expand(2 * COUNT, -1, -1).double(),
    "0 to 1": UNIT[:, 0].double(),
    "-1 to 1": 2 * UNIT[:, 0].double() - 1,
    "levels to 15": (15 * UNIT[:, 0]).round().double(),
    "0 to 255": (255 * UNIT[:, 0]).round().double(),
    "0 to 4095": (4095 * UNIT[:, 0]).round().double(),
    "0 to 65535": (65535 * UNIT[:, 0]).round().double(),
    "Hounsfield": (4000 * UNIT[:, 0] - 1000).round().double(),
}
PICTURES = ("0 to 1", "-1 to 1", "levels to 15", "0 to 255", "0 to 4095", "0 to 65535", "Hounsfield")


def shown(name: str, x: Tensor) -> Tensor:
    """What a feature extractor should see of an input."""
    if x.is_floating_point():
        return x.float() if x.ndim == 4 else x.float().unsqueeze(1)
    y = x.double()
    if name not in PICTURES:
        return y.float() if x.ndim == 4 and x.shape[1] > 1 else y
    y = y if x.ndim == 4 else y.unsqueeze(1)
    if x.dtype == torch.uint8:
        return (y / 255).float()
    low, high = y.amin((1, 2, 3), keepdim=True), y.amax((1, 2, 3), keepdim=True)
    return ((y - low) / (high - low)).float()


def fits(values: Tensor, dtype: torch.dtype) -> bool:
    """Whether a type holds such values."""
    if dtype.is_floating_point:
        return dtype not in (torch.float16, torch.bfloat16) or float(values.abs().max()) <= 255
    if dtype == torch.bool:
        return set(values.unique().tolist()) <= {0.0, 1.0}
    info = torch.iinfo(dtype)
    whole = bool((values == values.round()).all())
    return whole and info.min <= float(values.min()) and float(values.max()) <= info.max


@pytest.mark.parametrize(
    ("dtype", "shape", "task"), latin(3, DTYPES, ["BHW", "B1HW", "B3HW"], ["segmentation", "translation"])
)
def test_inputs(dtype, shape, task):
    target = (3 * UNIT[:, 0]).long().clamp_max(2) if task == "segmentation" else UNIT
    scale = 1.0 if task == "translation" else 9.0

    def answer(batch: Tensor) -> Tensor:
        return scale * (UNIT[: len(batch)] - 0.5)

    for name, values in INPUT_RANGES.items():
        if not fits(values, dtype):
            continue
        x = values if shape == "BHW" else values.unsqueeze(1).expand(-1, int(shape[1]), -1, -1)
        x = x.to(dtype).contiguous()

        result, seen = audit(answer, x, target, task=task)
        if isinstance(seen, str):
            assert "input_kind=" in seen, (name, dtype, shape, seen)
            continue
        assert result is not None
        torch.testing.assert_close(
            torch.cat(seen.inputs).double(), shown(name, x).double(), msg=f"{name} {dtype} {shape}"
        )
        stated = result.meta["interpretation"]["input"]
        outside = dtype.is_floating_point and (float(x.min()) < -0.05 or float(x.max()) > 1.05)
        assert ("mean and std, or white" in stated) == outside, (name, stated)


# ---- targets

SOFT = F.interpolate(F.one_hot(LABELS, 3).movedim(3, 1).double(), scale_factor=0.9, mode="bilinear")
SOFT = F.interpolate(SOFT, size=(SIDE, SIDE), mode="bilinear")
TARGETS = {
    "labels": LABELS.double(),
    "labels with 255": torch.where(UNIT[:, 0] > 0.9, 255, LABELS).double(),
    "mask": (LABELS > 1).double(),
    "one-hot": F.one_hot(LABELS, 3).movedim(3, 1).double(),
    "nested": torch.stack([LABELS > 0, LABELS > 1, LABELS > 1], 1).double(),
    "soft one-hot": SOFT,
    "empty": torch.zeros(2 * COUNT, 3, SIDE, SIDE).double(),
    "picture": UNIT.double(),
    "picture, -1 to 1": 2 * UNIT.double() - 1,
    "picture, 0 to 255": (255 * UNIT).round().double(),
    "picture, 16 bits": (65535 * UNIT).round().double(),
    "grey picture": UNIT[:, :1].double(),
}
SHAPES = {"labels": ("BHW", "B1HW"), "labels with 255": ("BHW", "B1HW"), "mask": ("BHW", "B1HW")}
SETTINGS = ("task=", "target_range", "ignore_index", "num_classes")
IS = {"labels": "segmentation", "labels with 255": "segmentation", "mask": "segmentation"}


def reference(name: str, task: str, output: Tensor, y: Tensor) -> Tensor | None:
    """The error by torch, (N,); None where the task has none for such a target."""
    values = y.double()
    if task == "translation":
        values = values if values.ndim == 4 else values.unsqueeze(1)
        low, high = float(values.min()), float(values.max())
        span = 1.0 if low >= 0 and high <= 1 else high - low  # other ranges are the unit of the errors
        return (output.double() - values).abs().flatten(1).mean(1) / span if values.shape == output.shape else None
    if task == "multilabel":
        values = values if values.ndim == 4 else values.unsqueeze(1)
        if values.shape != output.shape:
            return None
        loss = F.binary_cross_entropy_with_logits(output.double(), values, reduction="none")
        return torch.where(values == 255, torch.nan, loss).flatten(1).nanmean(1)
    if values.ndim == 4 and values.shape[1] == 1:
        values = values[:, 0]
    labels = values.argmax(1) if values.ndim == 4 else values.long()
    return F.cross_entropy(output.double(), labels, ignore_index=255, reduction="none").flatten(1).sum(1) / (
        labels != 255
    ).flatten(1).sum(1)


def right(name: str, task: str, low: float, high: float) -> bool:
    """Whether a target may be read for a task, when the setting or nothing says so."""
    inside = low >= 0 and high <= 1
    return {
        "translation": name != "picture, -1 to 1",
        "multilabel": inside or name == "labels with 255",
        "segmentation": name in ("labels", "labels with 255", "mask", "one-hot"),
    }[task]


@pytest.mark.parametrize(
    ("name", "task", "dtype"), latin(3, TARGETS, ["auto", "translation", "segmentation", "multilabel"], DTYPES)
)
def test_targets(name, task, dtype):
    values = TARGETS[name]
    if not fits(values, dtype):
        return
    for shape in SHAPES.get(name, ("BCHW",)):
        y = (values.unsqueeze(1) if shape == "B1HW" else values).to(dtype)
        single = task in ("multilabel", "translation") or name in ("grey picture",)
        channels = (y.shape[1] if y.ndim == 4 else 1) if single else 3
        torch.manual_seed(1)
        model = nn.Conv2d(3, channels, 1)
        result, failure = audit(model, UNIT, y, task=task)
        if result is None:
            assert any(setting in str(failure) for setting in SETTINGS), (shape, failure)
            continue
        found = result.meta["task"]
        assert found == (task if task != "auto" else IS.get(name, "translation")), shape
        assert right(name, found, float(y.double().min()), float(y.double().max())), (shape, found)
        with torch.no_grad():
            expected = reference(name, found, model(UNIT), y)
        assert expected is not None, (shape, found)
        kept = [int(i.rsplit("-", 1)[1]) + COUNT * i.startswith("nonmember") for i in result.ids]
        torch.testing.assert_close(
            torch.from_numpy(result.errors["reconstruction"]),
            expected[kept],
            rtol=1e-4,
            atol=1e-6,
            msg=f"{shape} {found}",
        )
