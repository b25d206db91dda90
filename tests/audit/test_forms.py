"""Forms of batches and outputs, end to end: each kind of batch with each kind of output gives the same numbers.

The references are ten lines of torch: cross-entropies of upsampled logits, and neighbours made by hand.
"""

from __future__ import annotations

import textwrap
import warnings
from collections import OrderedDict, UserDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sweeps import latin
from torch import Tensor, nn
from torch.utils.data import DataLoader, default_collate

from mia_lightning import Auditor, PredictabilityScorer
from mia_lightning.audit.adapters import AutoAdapter
from mia_lightning.functional.batches import BatchReader
from mia_lightning.functional.neighbours import AUTO, SHIFTS
from mia_lightning.result.audit_result import AuditResult

G = torch.Generator().manual_seed(0)
COUNT, SIDE = 5, 16
PICTURES = torch.rand(2 * COUNT, 3, SIDE, SIDE, generator=G)
MASKS = torch.randint(0, 4, (2 * COUNT, SIDE, SIDE), generator=G)
MASKS[:, :2] = 255
TARGETS = torch.rand(2 * COUNT, 1, SIDE, SIDE, generator=G)
torch.manual_seed(0)
LOGITS, LOW, TRANSLATE = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 4, 4), nn.Sequential(nn.Conv2d(3, 1, 1), nn.Sigmoid())


class Sample(NamedTuple):
    image: Tensor
    target: Tensor
    fname: str
    slice_num: int


class Turned(NamedTuple):
    labels: Tensor
    weights: float
    pixel_values: Tensor


@dataclass
class Record:
    source: Tensor
    target: Tensor
    weight: float = 1.0


@dataclass
class ModelOutput:
    logits: Tensor
    loss: Tensor | None = None


class Item:
    def __init__(self, input: Tensor, label: Tensor) -> None:
        self.input, self.label, self.note = input, label, "note"


BATCHES: dict[str, tuple[Callable[[Tensor, Tensor], Any], dict[str, Any]]] = {
    "tuple": (lambda x, y: (x, y), {}),
    "swapped": (lambda x, y: (y, x), {"input_key": 1, "target_key": 0}),
    "pixel_values": (lambda x, y: {"pixel_values": x, "labels": y}, {}),
    "source": (lambda x, y: {"source": x, "target": y}, {}),
    "output": (lambda x, y: {"input": x, "output": y}, {}),
    "class beside it": (lambda x, y: {"image": x, "mask": y, "labels": 3}, {}),
    "user dict": (lambda x, y: UserDict(pixel_values=x, labels=y), {}),
    "named tuple": (lambda x, y: Sample(x, y, "a.h5", 3), {}),
    "fields in another order": (lambda x, y: Turned(y, 1.0, x), {}),
    "dataclass": (Record, {}),
    "object": (Item, {}),
    "nested": (
        lambda x, y: {"data": {"image": x}, "truth": [{"mask": y}]},
        {"input_key": "data.image", "target_key": "truth.0.mask"},
    ),
    "dots": (lambda x, y: {"a.x": x, "a": {"x": y, "y": y}}, {"input_key": "a.x", "target_key": "a.y"}),
}
OUTPUTS: dict[str, tuple[Callable[[Tensor], Any], dict[str, Any]]] = {
    "tensor": (lambda t: t, {}),
    "array": (lambda t: t.numpy(), {}),
    "out and aux": (lambda t: OrderedDict(out=t, aux=t + 1), {}),
    "dataclass": (ModelOutput, {}),
    "object": (lambda t: SimpleNamespace(logits=t, hidden_states=(t + 1, t)), {}),
    "loss and logits": (lambda t: (t.mean(), t), {}),
    "deep supervision": (lambda t: [t, F.avg_pool2d(t + 1, 2), F.avg_pool2d(t, 4)], {}),
    "coarse to fine": (lambda t: (F.avg_pool2d(t + 1, 2), t), {}),
    "equal sizes": (lambda t: [t, t + 1], {}),
    "nested": (lambda t: {"main": {"seg": t, "edge": t + 1}, "aux": t - 1}, {"output_key": "main.seg"}),
}


class Model(nn.Module):
    def __init__(self, network: nn.Module, form: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.network, self.form = network, form

    def forward(self, x: Tensor) -> Any:
        return self.form(self.network(x))


def audit(
    model: Any, items: list[Any], scores: tuple[str, ...] = ("reconstruction", "membership"), **options: Any
) -> AuditResult:
    scorer = PredictabilityScorer(nn.AvgPool2d(4), grid=8)
    half = len(items) // 2
    auditor = Auditor(scorer=scorer, scores=scores, primary=scores[-1], batch_size=3, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        auditor.check(model, items[:half], items[half:])
        return auditor.run(model, items[:half], items[half:])


def cross_entropy(network: nn.Module) -> Tensor:
    """Upsampled as transformers does before its loss."""
    with torch.no_grad():
        logits = F.interpolate(network(PICTURES), MASKS.shape[-2:], mode="bilinear", align_corners=False)
    loss = F.cross_entropy(logits, MASKS, ignore_index=255, reduction="none").flatten(1)
    return loss.sum(1) / (MASKS != 255).flatten(1).sum(1)


@pytest.mark.parametrize(
    ("kind", "batch", "output"),
    latin(3, ["segmentation", "quarter", "translation"], ["tuple", "pixel_values", "dataclass"], OUTPUTS),
)
def test_outputs(kind: str, batch: str, output: str) -> None:
    check(kind, batch, output)


@pytest.mark.parametrize(("kind", "batch"), latin(3, ["segmentation", "quarter", "translation"], BATCHES))
def test_batches(kind: str, batch: str) -> None:
    check(kind, batch, "tensor")


@pytest.mark.slow
@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("kind", ["segmentation", "quarter", "translation"])
def test_every_batch_with_every_output(kind: str, batch: str, output: str) -> None:
    check(kind, batch, output)


def check(kind: str, batch: str, output: str) -> None:
    (pack, keys), (form, key) = BATCHES[batch], OUTPUTS[output]
    network = {"segmentation": LOGITS, "quarter": LOW, "translation": TRANSLATE}[kind]
    targets = TARGETS if kind == "translation" else MASKS
    if kind == "quarter" and output in ("deep supervision", "coarse to fine"):
        return  # of 4 x 4, 2 x 2 and 1 x 1 pixels
    items = [pack(x, y) for x, y in zip(PICTURES, targets, strict=True)]
    result = audit(Model(network, form), items, **keys, **key)
    if kind == "translation":
        with torch.no_grad():
            expected = (network(PICTURES) - TARGETS).abs().flatten(1).mean(1)
    else:
        expected = cross_entropy(network)
    torch.testing.assert_close(torch.from_numpy(result.errors["reconstruction"]).float(), expected.float())
    reading = result.meta["interpretation"]
    assert reading["task"].startswith("translation" if kind == "translation" else "segmentation")
    assert ("upsampled bilinearly (align_corners=False) from 4 x 4 to the target's 16 x 16" in reading["output"]) == (
        kind == "quarter"
    )
    assert ("prediction" in reading) == (output not in ("tensor", "array", "dataclass", "object", "nested"))
    # Training reads the same tensors.
    first = pack(PICTURES, targets)
    assert BatchReader(**keys).pair(first)[0] is AutoAdapter(**keys).unpack(first).input is PICTURES


def test_ids_of_slices_are_those_of_file_and_slice() -> None:
    items = [Sample(x, y, f"{i // 4}.h5", i % 4) for i, (x, y) in enumerate(zip(PICTURES, TARGETS, strict=True))]
    result = audit(Model(TRANSLATE, lambda t: t), items)
    assert result.ids == [f"{i // 4}.h5:{i % 4}" for i in range(2 * COUNT)]


def test_a_loader_brings_objects_of_its_own() -> None:
    """What collations of projects make: an object a batch, not a sample."""

    def collate(items: list[tuple[Tensor, Tensor]]) -> Item:
        return Item(*default_collate(items))

    items = list(zip(PICTURES, MASKS, strict=True))
    sides = [DataLoader(part, 4, collate_fn=collate) for part in (items[:COUNT], items[COUNT:])]
    auditor = Auditor(scorer=PredictabilityScorer(nn.AvgPool2d(4), grid=8))
    result = auditor.run(LOGITS, *sides)
    torch.testing.assert_close(torch.from_numpy(result.errors["reconstruction"]).float(), cross_entropy(LOGITS))


# ---- resolutions


def test_what_a_model_returns_is_upsampled_before_anything_is_made_of_it() -> None:
    """Probabilities as probabilities, class numbers by the nearest pixel."""
    items = list(zip(PICTURES, MASKS, strict=True))
    with torch.no_grad():
        soft = LOW(PICTURES).softmax(1)
    large = F.interpolate(soft, (SIDE, SIDE), mode="bilinear", align_corners=False)
    expected = F.nll_loss(large.log(), MASKS, ignore_index=255, reduction="none").flatten(1).sum(1)
    expected = expected / (MASKS != 255).flatten(1).sum(1)
    result = audit(Model(LOW, lambda t: t.softmax(1)), items)
    assert result.meta["interpretation"]["output"].startswith("probabilities: the model ends in softmax; upsampled bil")
    torch.testing.assert_close(torch.from_numpy(result.errors["reconstruction"]).float(), expected)

    result = audit(Model(LOW, lambda t: t.argmax(1)), items, num_classes=4)
    assert (
        "upsampled by the nearest pixel from 4 x 4 to the target's 16 x 16" in result.meta["interpretation"]["output"]
    )
    nearest = soft.argmax(1).repeat_interleave(4, 1).repeat_interleave(4, 2)
    wrong = ((nearest != MASKS) & (MASKS != 255)).flatten(1).sum(1) / (MASKS != 255).flatten(1).sum(1)
    torch.testing.assert_close(torch.from_numpy(result.errors["reconstruction"]).float(), wrong)


def test_independent_channels_are_upsampled_likewise() -> None:
    masks = (torch.rand(2 * COUNT, 4, SIDE, SIDE, generator=torch.Generator().manual_seed(1)) > 0.5).float()
    result = audit(LOW, list(zip(PICTURES, masks, strict=True)), task="multilabel")
    with torch.no_grad():
        logits = F.interpolate(LOW(PICTURES), (SIDE, SIDE), mode="bilinear", align_corners=False)
    expected = F.binary_cross_entropy_with_logits(logits, masks, reduction="none").flatten(1).mean(1)
    torch.testing.assert_close(torch.from_numpy(result.errors["reconstruction"]).float(), expected)


def test_neighbours_are_upsampled_likewise() -> None:
    result = audit(
        LOW, list(zip(PICTURES, MASKS, strict=True)), scores=("membership", "neighbour"), neighbours=("vflip",)
    )
    with torch.no_grad():
        logits = F.interpolate(LOW(PICTURES.flip(-2)), (SIDE, SIDE), mode="bilinear", align_corners=False)
    flipped = F.cross_entropy(logits, MASKS.flip(-2), ignore_index=255, reduction="none").flatten(1).sum(1)
    flipped = flipped / (MASKS != 255).flatten(1).sum(1)
    expected = cross_entropy(LOW).log() - flipped.log()
    torch.testing.assert_close(torch.from_numpy(result.errors["neighbour"]).float(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (lambda t: F.interpolate(t, scale_factor=2), r"larger than the target.*adapter=.*size=\(16, 16\)"),
        (
            lambda t: t[..., :8],
            "expected logits .*lower resolution is upsampled where it is that of the target in prop",
        ),
        (lambda t: t.mean((2, 3), keepdim=True), "expected logits"),
    ],
)
def test_other_sizes_are_refused(output: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"(?s){message}"):
        audit(Model(LOGITS, output), list(zip(PICTURES, MASKS, strict=True)))


def test_pictures_are_not_resized() -> None:
    with pytest.raises(ValueError, match=r"smaller than the target, and pictures are compared pixel by pixel"):
        audit(Model(TRANSLATE, lambda t: F.avg_pool2d(t, 2)), list(zip(PICTURES, TARGETS, strict=True)))


VOLUMES = torch.rand(2 * COUNT, 1, 8, 8, 8, generator=G)
LABELLED = (VOLUMES[:, 0] > 0.5).long()
OTHER_SIZES: dict[str, tuple[Callable[[Tensor], Any], Tensor, Tensor, dict[str, Any]]] = {
    "larger logits": (lambda x: F.interpolate(LOGITS(x), scale_factor=2), PICTURES, MASKS, {}),
    "of several outputs": (lambda x: {"out": F.interpolate(LOGITS(x), scale_factor=2), "aux": x}, PICTURES, MASKS, {}),
    "of a key": (
        lambda x: {"a": F.interpolate(LOGITS(x), scale_factor=2), "b": LOGITS(x)},
        PICTURES,
        MASKS,
        {"output_key": "a"},
    ),
    "larger class numbers": (
        lambda x: F.interpolate(LOGITS(x), scale_factor=2).argmax(1),
        PICTURES,
        MASKS,
        {"num_classes": 4},
    ),
    "smaller pictures": (lambda x: F.avg_pool2d(TRANSLATE(x), 2), PICTURES, TARGETS, {}),
    "smaller pictures without channels": (
        lambda x: F.avg_pool2d(TRANSLATE(x), 2).squeeze(1),
        PICTURES,
        TARGETS.squeeze(1),
        {},
    ),
    "smaller volumes": (lambda x: F.avg_pool3d(x, 2), VOLUMES, VOLUMES, {}),
    "larger logits of volumes": (
        lambda x: F.interpolate(torch.cat([-x, x], 1), scale_factor=2),
        VOLUMES,
        LABELLED,
        {"output": "logits"},
    ),
}


@pytest.mark.parametrize("name", OTHER_SIZES)
def test_the_lines_that_bring_a_prediction_to_the_size_work_as_they_are(name: str) -> None:
    model, inputs, targets, options = OTHER_SIZES[name]
    items = list(zip(inputs, targets, strict=True))
    with torch.no_grad(), pytest.raises(ValueError, match=r"(larger|smaller) than the target.*adapter=Mine") as refused:
        audit(model, items, **options)
    names: dict[str, Any] = {"AutoAdapter": AutoAdapter, "torch": torch}
    exec(textwrap.dedent(str(refused.value).split("\n\n", 1)[1]), names)
    result = audit(model, items, adapter=names["Mine"](), **options)
    assert np.isfinite(result.errors["reconstruction"]).all()
    if name == "smaller volumes":
        made = F.interpolate(F.avg_pool3d(inputs, 2), (8, 8, 8), mode="trilinear")
        expected = (made - targets).abs().flatten(1).mean(1)
        torch.testing.assert_close(torch.from_numpy(result.errors["reconstruction"]).float(), expected)


# ---- changes of size


class Enlarge(nn.Module):
    """Super-resolution of a kind: pixels are repeated, and a network changes them."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor, self.network = factor, nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(self.network(x).sigmoid(), scale_factor=self.factor, mode="nearest")


@pytest.mark.parametrize(("size", "shift"), [(32, (1, 2)), (64, (1, 4)), (8, (2, 1)), (24, (2, 3))])
def test_neighbours_in_proportion(size: int, shift: tuple[int, int]) -> None:
    """A flip flips both; what moves the input by some pixels moves its target by as many of its own."""
    torch.manual_seed(1)
    model = Enlarge(size / SIDE)
    targets = torch.rand(2 * COUNT, 3, size, size, generator=torch.Generator().manual_seed(2))

    def moved(x: Tensor, pixels: int) -> Tensor:
        return torch.cat([x[..., pixels:], x[..., -pixels:].flip(-1)], -1)

    def log_error(x: Tensor, y: Tensor) -> Tensor:
        with torch.no_grad():
            return (model(x) - y).abs().flatten(1).mean(1).log()

    own = log_error(PICTURES, targets)
    flipped = log_error(PICTURES.flip(-1), targets.flip(-1))
    left = log_error(moved(PICTURES, shift[0]), moved(targets, shift[1]))
    for name, copy in (("hflip", flipped), ("shift_left", left)):
        result = audit(
            model, list(zip(PICTURES, targets, strict=True)), scores=("membership", "neighbour"), neighbours=(name,)
        )
        torch.testing.assert_close(
            torch.from_numpy(result.errors["neighbour"]).float(), own - copy, rtol=1e-4, atol=1e-5
        )
    assert f"{size} x {size} beside inputs of 16 x 16" in result.meta["interpretation"]["task"]
    assert "above_input" not in result.meta["plausibility"]


def test_neighbours_that_do_not_fit_are_left_out_and_said() -> None:
    model, targets = Enlarge(31 / SIDE), torch.rand(2 * COUNT, 3, 31, 31, generator=torch.Generator().manual_seed(2))
    items = list(zip(PICTURES, targets, strict=True))
    result = audit(model, items, scores=("membership", "combined"))
    assert result.meta["neighbours"]["used"] == [name for name in AUTO if name not in SHIFTS]
    said = result.meta["interpretation"]["neighbours"]
    assert said.startswith("hflip, vflip, rotate180; not shift_left, shift_right, shift_up, shift_down: 16 x 16 pixels")
    assert np.isfinite(result.errors["neighbour"]).all()
    with pytest.raises(
        ValueError, match="shift_up would move inputs of 16 x 16 and targets of 31 x 31 pixels by parts"
    ):
        audit(model, items, scores=("membership", "neighbour"), neighbours=("hflip", "shift_up"))


# ---- pictures without channels


class Reconstruct(nn.Module):
    """As fastMRI's: the dimension of channels is the model's own."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        assert image.ndim == 3
        return self.network(image.unsqueeze(1)).squeeze(1)


@pytest.mark.parametrize("batch_size", [1, 4])
@pytest.mark.parametrize("scores", [("membership",), ("membership", "combined")])
def test_pictures_without_channels(batch_size: int, scores: tuple[str, ...]) -> None:
    grey, target = PICTURES[:, 0], TARGETS[:, 0]
    torch.manual_seed(2)
    with_own, without = Reconstruct(), nn.Conv2d(1, 1, 3, padding=1)
    without.load_state_dict(with_own.network.state_dict())
    with torch.no_grad():
        expected = (with_own(grey) - target).abs().flatten(1).mean(1)
    results = []
    for model, said in ((with_own, "gets as they are"), (without, "gets a channel added, (B, 1, H, W)")):
        items = [Sample(x, y, "a", i) for i, (x, y) in enumerate(zip(grey, target, strict=True))]
        scorer = PredictabilityScorer(nn.AvgPool2d(4), grid=8)
        auditor = Auditor(scorer=scorer, batch_size=batch_size, scores=scores, primary=scores[-1])
        auditor.check(model, items[:COUNT], items[COUNT:])
        results.append(auditor.run(model, items[:COUNT], items[COUNT:]))
        assert said in results[-1].meta["interpretation"]["shape"]
        torch.testing.assert_close(torch.from_numpy(results[-1].errors["reconstruction"]).float(), expected)
        (shown,) = auditor.exhibit(model, items[:COUNT], "member", [1])
        assert shown.prediction.shape == shown.target.shape == shown.input.shape == (1, 1, SIDE, SIDE)
    for name, error in results[0].errors.items():
        np.testing.assert_allclose(error, results[1].errors[name], rtol=1e-4, err_msg=name)


def test_label_maps_beside_pictures_without_channels() -> None:
    model, grey = nn.Conv2d(1, 4, 1), PICTURES[:, 0]
    result = audit(model, list(zip(grey, MASKS, strict=True)))
    with torch.no_grad():
        loss = F.cross_entropy(model(grey.unsqueeze(1)), MASKS, ignore_index=255, reduction="none").flatten(1).sum(1)
    expected = loss / (MASKS != 255).flatten(1).sum(1)
    torch.testing.assert_close(torch.from_numpy(result.errors["reconstruction"]).float(), expected)


# ---- how models are called


class WithLabels(nn.Module):
    """As many tutorials have it: the forward pass takes the labels, and the loss comes first where there are some."""

    def forward(self, images: Tensor, masks: Tensor) -> Any:
        logits = LOW(images)
        return logits if masks is None else (logits.mean(), logits)


def test_targets_that_a_model_asks_for_are_none() -> None:
    result = audit(WithLabels(), list(zip(PICTURES, MASKS, strict=True)))
    assert result.meta["interpretation"]["call"] == "forward of the inputs and masks=None"
    torch.testing.assert_close(torch.from_numpy(result.errors["reconstruction"]).float(), cross_entropy(LOW))


def test_decisions_are_made_anew_for_each_model() -> None:
    items = list(zip(PICTURES, MASKS, strict=True))
    auditor = Auditor(scorer=PredictabilityScorer(nn.AvgPool2d(4), grid=8))
    for form in (
        lambda t: [t, t + 1],
        lambda t: (F.avg_pool2d(t, 2), t),
        lambda t: {"out": t, "aux": t + 1},
        lambda t: t,
    ):
        result = auditor.run(Model(LOGITS, form), items[:COUNT], items[COUNT:])
        torch.testing.assert_close(torch.from_numpy(result.errors["reconstruction"]).float(), cross_entropy(LOGITS))
    assert "prediction" not in result.meta["interpretation"]


def test_swapped_pairs_are_noticed_and_the_setting_that_mends_them_is_named() -> None:
    """Batches of (real, condition): the audit feeds the model with what it should return."""
    torch.manual_seed(3)
    condition, count = torch.rand(24, 3, SIDE, SIDE), 12
    real = condition.flip(1) * 0.2 + 0.7

    class Generator(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flip(1) * 0.2 + 0.7 + 0.01 * x

    items = list(zip(real, condition, strict=True))
    scorer = PredictabilityScorer(nn.AvgPool2d(4), grid=8)
    with pytest.warns(UserWarning, match=r"does no better .*input_key=1, target_key=0") as seen:
        swapped = Auditor(scorer=scorer).run(Generator(), items[:count], items[count:])
    assert len(seen) == 1
    assert swapped.meta["plausibility"]["above_constant"] > 0.5
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mended = Auditor(scorer=scorer, input_key=1, target_key=0).run(Generator(), items[:count], items[count:])
    assert mended.errors["reconstruction"].max() < 0.02
    assert "caution" not in mended.meta["plausibility"]


def test_a_mapping_of_another_library_is_one_too() -> None:
    class Keyed(Mapping[str, Tensor]):
        def __init__(self, entries: dict[str, Tensor]) -> None:
            self.entries = entries

        def __getitem__(self, key: str) -> Tensor:
            return self.entries[key]

        def __iter__(self) -> Any:
            return iter(self.entries)

        def __len__(self) -> int:
            return len(self.entries)

    sample = AutoAdapter().unpack(Keyed({"pixel_values": PICTURES, "labels": MASKS}))
    assert (sample.input is PICTURES, sample.target is MASKS) == (True, True)
