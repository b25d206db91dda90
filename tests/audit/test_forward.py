"""The audit's tensors are its own: whatever a model does to its input or output, the numbers are the same."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mia_lightning import Auditor, AutoAdapter, PredictabilityScorer

SCORES = ("reconstruction", "membership", "neighbour", "combined")


def brighter(x: Tensor) -> Tensor:
    return (x - 0.5) / 0.25


class Plain(nn.Module):
    """Normalises its input and answers with a picture or with logits, without touching anything."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.network = nn.Conv2d(3, channels, 3, padding=1)
        self.kept: list[Tensor] = []

    def forward(self, x: Tensor) -> Any:
        return self.network(brighter(x))


class InPlace(Plain):
    def forward(self, x: Tensor) -> Any:
        return self.network(x.sub_(0.5).div_(0.25))


class Relu(Plain):
    """The first layer works in place, as torchvision's networks do."""

    def forward(self, x: Tensor) -> Any:
        answer = self.network(brighter(x))
        nn.functional.relu_(x.sub_(0.4))
        return answer


class Keeps(Plain):
    """Keeps its inputs, and writes into them in later calls."""

    def forward(self, x: Tensor) -> Any:
        for earlier in self.kept:
            earlier.fill_(0.123)
        self.kept.append(x)
        return self.network(brighter(x))


class OneBuffer(Plain):
    """Answers in the same memory each time, as captured graphs do."""

    def forward(self, x: Tensor) -> Any:
        answer = self.network(brighter(x))
        if self.kept and self.kept[0].shape == answer.shape:
            return self.kept[0].copy_(answer)
        self.kept = [answer.clone()]
        return self.kept[0]


class Dict(Plain):
    """Writes into what it has answered before, and answers with a dict."""

    def forward(self, x: Tensor) -> Any:
        for earlier in self.kept:
            earlier.zero_()
        answer = self.network(x.sub_(0.5).div_(0.25))
        self.kept.append(answer)
        return {"out": answer, "input": x.zero_()}


class View(nn.Module):
    """Answers with a view of its input; the plain one with a copy."""

    def __init__(self, plain: bool) -> None:
        super().__init__()
        self.plain = plain

    def forward(self, x: Tensor) -> Tensor:
        return brighter(x).mul(0.1).add(0.5) if self.plain else x.sub_(0.5).div_(0.25).mul_(0.1).add_(0.5)[:]


def pairs(count: int, seed: int, task: str) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(count, 3, 16, 16, generator=generator)
    if task == "translation":
        targets = torch.rand(count, 3, 16, 16, generator=generator)
    else:
        targets = torch.randint(0, 3, (count, 16, 16), generator=generator)
    return list(zip(images, targets, strict=True))


def audited(model: nn.Module, task: str, collate: Callable[[Any], Any] | None = None) -> Any:
    sides = [pairs(7, 0, task), pairs(6, 1, task)]
    if collate is not None:
        sides = [torch.utils.data.DataLoader(side, 1, collate_fn=collate) for side in sides]
    auditor = Auditor(
        task=task, scores=SCORES, scorer=PredictabilityScorer(nn.AvgPool2d(4), grid=8), batch_size=4, output_key=None
    )
    auditor.check(model, *sides)
    result = auditor.run(model, *sides)
    for side in (0, 1):
        for place in (0, 3):
            auditor.exhibit(model, sides[side], ("member", "nonmember")[side], [place])
    return result


def assert_equal(result: Any, other: Any) -> None:
    assert result.metrics.keys() == other.metrics.keys()
    np.testing.assert_array_equal([*result.metrics.values()], [*other.metrics.values()])
    for name, error in result.errors.items():
        np.testing.assert_array_equal(error, other.errors[name], name)
    for name, statistic in result.blind.items():
        np.testing.assert_array_equal(statistic, other.blind[name], name)
    assert result.excluded == other.excluded


@pytest.mark.parametrize("task", ["translation", "segmentation"])
@pytest.mark.parametrize("kind", [InPlace, Relu, Keeps, OneBuffer, Dict])
def test_what_a_model_does_to_its_tensors_changes_no_number(kind: type[Plain], task: str) -> None:
    plain, expected = of_plain(task)
    model = kind()
    model.load_state_dict(plain.state_dict())
    assert_equal(audited(model, task), expected)


@cache
def of_plain(task: str) -> tuple[nn.Module, Any]:
    """A model that leaves its tensors alone, and its audit."""
    torch.manual_seed(0)
    plain = Plain()
    return plain, audited(plain, task)


def own(items: list[Any]) -> Any:
    """The data set's own tensors, without a copy."""
    return items[0][0][None], items[0][1][None]


@pytest.mark.parametrize("collate", [None, own])
def test_a_view_of_the_input_changes_no_number(collate: Any) -> None:
    assert_equal(audited(View(plain=False), "translation", collate), audited(View(plain=True), "translation", collate))


def test_the_tensors_of_the_data_set_are_left_alone() -> None:
    sides = [pairs(3, seed, "translation") for seed in (0, 1)]
    before = [image.clone() for side in sides for image, _ in side]
    auditor = Auditor(task="translation", scorer=PredictabilityScorer(nn.AvgPool2d(4), grid=8))
    auditor.run(InPlace(), *(torch.utils.data.DataLoader(side, 1, collate_fn=own) for side in sides))
    assert all(torch.equal(a, b[0]) for a, b in zip(before, [p for side in sides for p in side], strict=True))


def test_the_same_tensor_on_both_ends_of_a_pair() -> None:
    """An autoencoder's data: the model writes into its input, which is the target."""

    def same(items: list[Any]) -> Any:
        images = torch.stack([item[0] for item in items])
        return images, images

    torch.manual_seed(0)
    plain, model = Plain(), InPlace()
    model.load_state_dict(plain.state_dict())
    assert_equal(audited(model, "translation", same), audited(plain, "translation", same))


class Pooled(nn.Module):
    """Normalises an average over the picture by the statistics of the batch, at evaluation as well."""

    def __init__(self) -> None:
        super().__init__()
        self.network, self.norm = nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2, track_running_stats=False)

    def forward(self, x: Tensor) -> Tensor:
        logits = self.network(x)
        return logits + self.norm(logits.mean((2, 3), keepdim=True))


class Twice(AutoAdapter):
    def predict(self, module: Any, input: Tensor) -> Tensor:
        return module(torch.cat([input, input]))[: len(input)]


def test_a_norm_without_statistics_of_a_single_sample_is_said_with_the_lines_that_help() -> None:
    pairs = [(x, (x[0] > 0.5).long()) for x in torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))]
    scorer = PredictabilityScorer(nn.AvgPool2d(2), grid=4)
    with pytest.raises(
        ValueError, match=r"(?s)more than 1 value per channel.*track_running_stats=True.*\[: len\(input\)\]"
    ):
        Auditor(scorer=scorer).check(Pooled(), pairs[:3], pairs[3:])
    result = Auditor(scorer=scorer, adapter=Twice(), verdict="primary", batch_size=2).run(
        Pooled(), pairs[:3], pairs[3:]
    )
    assert np.isfinite(result.errors["reconstruction"]).all()
