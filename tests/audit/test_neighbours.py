"""The audit asks the model about flipped, turned and shifted copies, where a score needs them."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mia_lightning.audit.auditor import Auditor
from mia_lightning.functional.calibration import calibrated_error
from mia_lightning.functional.combination import surprise_score
from mia_lightning.functional.neighbours import AUTO
from mia_lightning.functional.pixel_errors import pixel_errors
from mia_lightning.functional.reconstruction import segmentation_error, translation_error
from mia_lightning.functional.tiles import tile_log_errors, tile_ratio


class Flat:
    """A scorer that finds every pair equally hard."""

    def __call__(self, input: Tensor, target: Tensor, task: Any, **settings: Any) -> Tensor:
        return torch.full((len(input),), 0.5, dtype=torch.float64)

    def fingerprint(self) -> str:
        return "flat"


class Tilted(nn.Module):
    """Adds a fixed picture to its input, so that a flipped copy is answered differently; counts the samples."""

    def __init__(self, height: int = 8, width: int = 8, classes: int | None = None) -> None:
        super().__init__()
        seeded = torch.Generator().manual_seed(0)
        self.tilt = nn.Parameter(torch.rand(1, classes or 3, height, width, generator=seeded))
        self.classes, self.seen = classes, []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x)
        if self.classes is None:
            return x + self.tilt
        return 3.0 * x[:, :1] * self.tilt + self.tilt


def images(count: int, seed: int, height: int = 8, width: int = 8) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    return [(torch.rand(3, height, width, generator=generator), torch.rand(3, height, width, generator=generator))
            for _ in range(count)]  # fmt: skip


def masks(count: int, seed: int) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    return [(torch.rand(3, 8, 8, generator=generator), torch.randint(0, 3, (8, 8), generator=generator))
            for _ in range(count)]  # fmt: skip


def auditor(**settings: Any) -> Auditor:
    return Auditor(scorer=Flat(), **{"scores": ("neighbour", "combined"), "primary": "combined", **settings})


FLIPS = {"hflip": (-1,), "vflip": (-2,), "rotate180": (-2, -1)}


@pytest.mark.parametrize("task", ["translation", "segmentation"])
def test_the_neighbour_error_by_hand(task: str) -> None:
    translation = task == "translation"
    pairs = (images if translation else masks)(5, 0)
    model = Tilted(classes=None if translation else 3)
    result = auditor(neighbours=list(FLIPS)).run(model, pairs, (images if translation else masks)(4, 1))
    error = translation_error if translation else segmentation_error
    for row, (x, y) in enumerate(pairs):
        own, *others = (
            float(error(model(x[None].flip(axes)), y[None].flip(axes)).detach().double().log())
            for axes in ((), *FLIPS.values())
        )
        assert result.errors["neighbour"][row] == pytest.approx(own - np.mean(others), abs=1e-5)
    np.testing.assert_array_equal(result.scores["neighbour"], -result.errors["neighbour"])
    assert result.meta["neighbours"] == {"used": list(FLIPS), "weak": [], "dropped": []}


def test_one_pass_a_sample_and_neighbour_and_none_for_nothing() -> None:
    for scores, passes in ((("reconstruction",), 1), (("combined",), 1 + len(AUTO)), (("calibrated",), 1)):
        model = Tilted()
        auditor(scores=scores, primary=scores[0]).run(model, images(5, 0), images(4, 1))
        assert sum(len(x) for x in model.seen) == 9 * passes


def test_what_the_training_augments_with_is_no_neighbour() -> None:
    audit = auditor()
    audit.augmentations = ("hflip",)
    model = Tilted()
    result = audit.run(model, images(2, 0), images(2, 1))
    told = result.meta["neighbours"]
    assert told["dropped"] == ["hflip"]
    assert told["used"] == [n for n in AUTO if n != "hflip"]
    assert audit.neighbours(images(1, 0)).dropped == ("hflip",)
    chosen = auditor(neighbours=["hflip", "vflip"])
    chosen.augmentations = ("hflip",)
    assert chosen.run(Tilted(), images(2, 0), images(2, 1)).meta["neighbours"]["weak"] == ["hflip"]


def test_pictures_that_are_not_square_are_not_turned() -> None:
    result = auditor().run(Tilted(8, 12), images(2, 0, 8, 12), images(2, 1, 8, 12))
    assert result.meta["neighbours"]["used"] == list(AUTO)
    with pytest.raises(ValueError, match=r"The images are not square, but transpose would swap their height and width"):
        auditor(neighbours=["transpose"]).run(Tilted(8, 12), images(2, 0, 8, 12), images(2, 1, 8, 12))


def test_pictures_of_several_sizes() -> None:
    def model(x: Tensor) -> Tensor:
        return 0.9 * x

    mixed = [*images(2, 0), *images(2, 1, 8, 12)]
    for neighbours in ("auto", ["hflip", "transpose"]):
        result = auditor(batch_size=1, neighbours=neighbours).run(model, mixed, images(2, 2, 12, 8))
        assert np.isfinite(result.errors["neighbour"]).all()
        assert result.excluded == []
    shifting = auditor(batch_size=1)
    shifting.augmentations = ("jitter", "hflip", "vflip")
    assert shifting.run(model, images(2, 2, 12, 8), mixed).excluded == []


def test_label_maps_as_inputs() -> None:
    def model(labels: Tensor) -> Tensor:
        return labels.unsqueeze(1).expand(-1, 3, -1, -1) / 4.0

    pairs = [[(torch.randint(0, 4, (8, 8)), torch.rand(3, 8, 8)) for _ in range(3)] for _ in range(2)]
    result = auditor().run(model, *pairs)
    assert np.isfinite(result.errors["neighbour"]).all()
    assert any(name.startswith("input_class") for name in result.blind)
    flat = [[(x.unsqueeze(0), y) for x, y in side] for side in pairs]
    same = auditor().run(lambda labels: model(labels.squeeze(1)), *flat)
    assert {k: v.tolist() for k, v in same.blind.items()} == {k: v.tolist() for k, v in result.blind.items()}


def test_normalised_inputs_are_brightened_as_pictures() -> None:
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
    m, s = (torch.tensor(v).view(3, 1, 1) for v in (mean, std))
    pairs = [[((x - m) / s, y) for x, y in images(3, seed)] for seed in range(2)]
    model = Tilted()
    auditor(neighbours=["brighter"], mean=mean, std=std).run(model, *pairs)
    plain, brighter = model.seen[:2]
    torch.testing.assert_close(brighter * s + m, ((plain * s + m) * 1.05).clamp(0, 1))


def test_a_copy_without_an_answer_leaves_the_sample_out() -> None:
    pairs = images(4, 0)

    def model(x: Tensor) -> Tensor:
        broken = (x == pairs[2][0].flip(-1)).flatten(1).all(1)
        return torch.where(broken.view(-1, 1, 1, 1), torch.nan, 0.9 * x)

    result = auditor(neighbours=["hflip"]).run(model, pairs, images(4, 1))
    assert result.excluded == [
        {
            "id": "member-000002",
            "side": "member",
            "reason": "none of its flipped or shifted copies has a finite prediction",
        }
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        both = auditor(neighbours=["hflip", "vflip"]).run(model, pairs, images(4, 1))
    assert both.excluded == []


def test_inputs_without_height_and_width_have_no_neighbours() -> None:
    pairs = [[(torch.rand(4), torch.rand(3, 8, 8)) for _ in range(3)] for _ in range(2)]

    def model(x: Tensor) -> Tensor:
        return x.mean(1).view(-1, 1, 1, 1).expand(-1, 3, 8, 8)

    with pytest.raises(ValueError, match=r"flips and shifts of images, but the inputs are float32 tensor \(1, 4\)"):
        auditor(task="translation").run(model, *pairs)
    plain = auditor(task="translation", scores=("reconstruction",), primary="reconstruction").run(model, *pairs)
    assert not any(name.startswith("input") for name in plain.blind)


@pytest.mark.parametrize("task", ["translation", "segmentation"])
def test_tiles_of_copies_are_compared_with_those_of_the_pair(task: Any) -> None:
    pairs = (images if task == "translation" else masks)(5, 0)
    model = Tilted(classes=None if task == "translation" else 3)
    result = auditor(neighbours=list(FLIPS)).run(model, pairs, (images if task == "translation" else masks)(4, 1))
    for row, (x, y) in enumerate(pairs):
        own, *others = (
            tile_log_errors(pixel_errors(model(x[None].flip(axes)), y[None].flip(axes), task).flip(axes))
            for axes in ((), *FLIPS.values())
        )
        expected = tile_ratio(own, torch.stack(others, 1)).item()
        assert result.errors["tile_neighbour"][row] == pytest.approx(expected, abs=1e-5)
    assert "tiles" not in result.meta["interpretation"]
    errors = result.errors
    calibrated = calibrated_error(errors["reconstruction"], errors["predictability"], result.member)
    by = [errors[name] for name in ("weighted_neighbour", "easiest_neighbour", "tile_neighbour")]
    np.testing.assert_array_equal(
        result.scores["combined"], surprise_score(by, [errors["membership"], calibrated], result.member)
    )
    alone = auditor(scores=("neighbour",), primary="neighbour").run(model, pairs[:2], pairs[2:])
    assert "tile_neighbour" not in alone.errors


def small(model: Any, height: int, width: int, **settings: Any) -> Any:
    return auditor(**settings).run(model, images(3, 0, height, width), images(3, 1, height, width))


def test_outputs_too_small_for_tiles_are_compared_whole() -> None:
    for side in (7, 1):
        result = small(Tilted(side, side), side, side, neighbours=["hflip", "shift_left"])
        assert result.meta["interpretation"]["tiles"] == (
            f"none, and combined compares whole pictures: targets of {side} x {side} pixels are too small to be cut "
            "into them"
        )
        assert "tile_neighbour" not in result.errors
        assert np.isfinite(result.scores["combined"]).all()
    with pytest.raises(ValueError, match=r"tile by tile, but targets of 4 x 4 pixels .* combined does without"):
        small(Tilted(4, 4), 4, 4, errors=["tile_neighbour"])


def test_the_order_of_samples_does_not_decide_for_tiles() -> None:
    def model(x: Tensor) -> Tensor:
        return x.cumsum(-1) / x.shape[-1]

    little, large = images(1, 0, 7, 7), images(3, 1)
    results = [
        auditor(neighbours=["hflip"], batch_size=1).run(model, members, images(3, 2))
        for members in (little + large, large + little)
    ]
    first, last = (result.errors["tile_neighbour"][result.member] for result in results)
    np.testing.assert_allclose(np.roll(first, -1), last, rtol=1e-5)
    assert np.isfinite(first).all()


def test_predictions_that_are_class_numbers_are_compared_whole() -> None:
    classes = Tilted(classes=3)
    result = auditor(output="labels", num_classes=3).run(lambda x: classes(x).argmax(1), masks(4, 0), masks(4, 1))
    assert "predictions are class numbers" in result.meta["interpretation"]["tiles"]
    assert "tile_neighbour" not in result.errors
    assert "combined" in result.scores


def test_tiles_that_hold_no_class_and_copies_without_an_answer_are_left_out() -> None:
    pairs = masks(4, 0)
    for _, y in pairs[:2]:
        y[:4, :4] = 255
    pairs[3][1][...] = 255
    pairs[3][1][0, 0] = 1  # one pixel
    model = Tilted(classes=3)

    def failing(x: Tensor) -> Tensor:
        copy = (x == pairs[2][0].flip(-1)).flatten(1).all(1)
        return torch.where(copy.view(-1, 1, 1, 1), torch.nan, model(x))

    result = auditor(neighbours=["hflip", "vflip"], output="logits").run(failing, pairs, masks(3, 1))
    alone = auditor(neighbours=["vflip"], output="logits").run(model, pairs, masks(3, 1))
    assert result.excluded == alone.excluded == []
    found, by_one = result.errors["tile_neighbour"], alone.errors["tile_neighbour"]
    assert np.isfinite(found).all()
    assert found[2] == by_one[2]
    assert (found[[0, 1]] != by_one[[0, 1]]).all()
