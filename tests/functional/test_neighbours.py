from __future__ import annotations

import math
import warnings
from itertools import combinations, product

import numpy as np
import pytest
import torch

from mia_lightning.data.transforms import AUGMENTATIONS
from mia_lightning.functional.neighbours import (
    AUTO,
    FLIPS,
    NEIGHBOURS,
    SHIFTS,
    VOLUME_AUTO,
    VOLUME_SHIFTS,
    choose_neighbours,
    moved_back,
    neighbour_error,
    transform_pair,
)

TURNS = {
    "hflip": np.fliplr,
    "vflip": np.flipud,
    "rotate180": lambda a: np.rot90(a, 2),
    "transpose": np.transpose,
    "antitranspose": lambda a: np.rot90(np.transpose(a), 2),
    "rotate90": np.rot90,
    "rotate270": lambda a: np.rot90(a, 3),
}

OF_PICTURES = [name for name, neighbour in NEIGHBOURS.items() if not neighbour.volumes_only]


def codes(height: int, width: int) -> torch.Tensor:
    """A picture without any symmetry: every pixel has a number of its own."""
    return torch.arange(height * width).view(1, height, width)


@pytest.mark.parametrize("name", TURNS)
@pytest.mark.parametrize(("height", "width"), [(5, 5), (3, 4), (1, 6)])
def test_turns_are_those_of_numpy(name, height, width):
    labels = codes(height, width)
    image = torch.stack([labels, labels + 100], 1).double()
    turned_image, turned_labels = transform_pair(name, image, labels)
    expected = TURNS[name](labels[0].numpy())
    assert turned_labels.dtype == torch.int64
    np.testing.assert_array_equal(turned_labels[0].numpy(), expected)
    np.testing.assert_array_equal(turned_image[0, 0].numpy(), expected)
    np.testing.assert_array_equal(turned_image[0, 1].numpy(), expected + 100)


def test_only_transforms_that_swap_height_and_width_need_a_square():
    needy = {name for name, n in NEIGHBOURS.items() if n.square_only}
    assert needy == {name for name, n in NEIGHBOURS.items() if n.apply(torch.zeros(1, 3, 4)).shape[-2:] == (4, 3)}
    assert needy == {"transpose", "antitranspose", "rotate90", "rotate270"}


@pytest.mark.parametrize("side", [1, 2, 5, 16, 32, 64, 100, 256])
@pytest.mark.parametrize("name", SHIFTS)
def test_shifts_mirror_what_comes_in(name, side):
    labels = torch.randint(0, 9, (2, side, side), generator=torch.Generator().manual_seed(0))
    step = {1: 1, 2: 1, 5: 1, 16: 1, 32: 1, 64: 2, 100: 3, 256: 9}[side]
    low, high = step, step + side
    rows, columns = {
        "shift_down": (slice(0, side), slice(low, high)),
        "shift_up": (slice(2 * step, 2 * step + side), slice(low, high)),
        "shift_right": (slice(low, high), slice(0, side)),
        "shift_left": (slice(low, high), slice(2 * step, 2 * step + side)),
    }[name]
    padded = np.pad(labels.numpy(), ((0, 0), (step, step), (step, step)), mode="symmetric")
    moved = NEIGHBOURS[name].apply(labels)
    assert moved.dtype == labels.dtype
    np.testing.assert_array_equal(moved.numpy(), padded[:, rows, columns])


def test_a_shift_to_the_right_by_hand():
    assert NEIGHBOURS["shift_right"].apply(torch.tensor([[[1, 2, 3, 4]]])).tolist() == [[[1, 1, 2, 3]]]
    assert NEIGHBOURS["shift_down"].apply(torch.tensor([[[1], [2], [3]]])).tolist() == [[[1], [1], [2]]]


@pytest.mark.parametrize("name", [name for name in OF_PICTURES if name not in ("brighter", "darker")])
def test_input_and_target_stay_aligned_and_nothing_is_changed_in_place(name):
    labels = codes(32, 32)
    image = labels.unsqueeze(1).float()
    moved_image, moved_labels = transform_pair(name, image, labels)
    assert torch.equal(moved_image[:, 0].long(), moved_labels)
    assert not torch.equal(moved_labels, labels)
    assert torch.equal(labels, codes(32, 32))
    assert set(moved_labels.unique().tolist()) <= set(labels.unique().tolist())


def test_shifts_by_parts_of_pixels_are_refused():
    with pytest.raises(
        ValueError, match=r"whole pixels, but the input is \(8, 8\) and the target \(15, 15\) pixels; ch"
    ):
        transform_pair("shift_up", torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 15, 15))
    assert transform_pair("hflip", torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 15, 15))[1].shape == (1, 3, 15, 15)


@pytest.mark.parametrize("name", [*TURNS, *SHIFTS])
@pytest.mark.parametrize(("side", "target"), [(16, 32), (16, 64), (32, 16), (64, 16), (24, 36), (36, 24), (96, 192)])
def test_neighbours_act_in_the_proportion_of_sizes(name, side, target):
    """What a neighbour does to pixels, it does to their blocks: an enlarged copy of the input remains one."""
    divisor = math.gcd(side, target)
    picture = torch.rand(2, 3, divisor, divisor, generator=torch.Generator().manual_seed(0))
    at = {
        size: picture.repeat_interleave(size // divisor, 2).repeat_interleave(size // divisor, 3)
        for size in (side, target)
    }
    small, large = transform_pair(name, at[side], at[target])
    corner = small[..., :: side // divisor, :: side // divisor]
    assert torch.equal(corner, large[..., :: target // divisor, :: target // divisor])
    assert torch.equal(large, corner.repeat_interleave(target // divisor, 2).repeat_interleave(target // divisor, 3))
    assert not torch.equal(small, at[side])


@pytest.mark.parametrize("name", [*TURNS, "dflip"])
def test_what_is_turned_comes_back(name):
    x = torch.arange(2 * 3 * 4 * 4.0).view(1, 2, 3, 4, 4)
    assert torch.equal(moved_back(name, transform_pair(name, x, x)[1]), x)


@pytest.mark.parametrize("name", SHIFTS)
@pytest.mark.parametrize("side", [32, 64])
def test_what_is_shifted_comes_back_but_for_what_left_the_picture(name, side):
    image, x = torch.rand(1, 1, 32, 32), torch.rand(1, 1, side, side)
    found = moved_back(name, transform_pair(name, image, x)[1], (32, 32))
    step = side // 32  # one pixel of the input
    away = {"shift_left": (3, 0), "shift_right": (3, -1), "shift_up": (2, 0), "shift_down": (2, -1)}[name]
    lost = torch.zeros(1, 1, side, side, dtype=torch.bool)
    axis, first = away
    lost.narrow(axis, 0 if first == 0 else side - step, step).fill_(True)
    assert torch.equal(found[~lost], x[~lost])
    assert (found[lost] != x[lost]).all()


def test_brightness_moves_nothing_and_parts_of_pixels_are_refused():
    x = torch.rand(1, 1, 33, 33)
    assert moved_back("darker", x) is x
    with pytest.raises(ValueError, match="the input is \\(32, 32\\) and the maps \\(33, 33\\) pixels; choose flips"):
        moved_back("shift_left", x, (32, 32))
    with pytest.raises(ValueError, match="Unknown neighbour"):
        moved_back("sideways", x)


def test_a_neighbour_says_whether_it_fits():
    assert all(neighbour.fits((8, 16, 16), (32, 64, 64)) for neighbour in NEIGHBOURS.values())
    assert [name for name in SHIFTS if not NEIGHBOURS[name].fits((33, 64), (65, 126))] == list(SHIFTS)
    assert not NEIGHBOURS["transpose"].fits((16, 16), (32, 48))


def test_targets_without_the_border_of_their_inputs_are_not_shifted():
    """In proportion they would be, but the middle of a picture moves as far as the picture does."""
    for size, target in (((48, 48), (44, 44)), ((572, 572), (484, 484)), ((36, 40, 40), (32, 36, 36))):
        assert [name for name in SHIFTS if NEIGHBOURS[name].fits(size, target)] == []
        assert NEIGHBOURS["hflip"].fits(size, target)
    assert all(NEIGHBOURS[name].fits((48, 48), (64, 64)) for name in SHIFTS)


@pytest.mark.parametrize(("name", "expected"), [("brighter", [0.0, 0.525, 1.0]), ("darker", [0.0, 0.475, 0.95])])
def test_brightness_changes_both_pictures_of_a_pair(name, expected):
    image = torch.tensor([0.0, 0.5, 1.0]).view(1, 1, 1, 3)
    for changed in transform_pair(name, image, image):
        assert changed.flatten().tolist() == pytest.approx(expected)


def test_brightness_leaves_label_maps_alone():
    image, labels = torch.full((1, 3, 4, 4), 0.5), codes(4, 4)
    for target in (labels, labels.unsqueeze(1).to(torch.uint8)):
        changed, kept = transform_pair("brighter", image, target)
        assert changed.flatten().tolist() == pytest.approx([0.525] * 48)
        assert torch.equal(kept, target)
    with pytest.raises(
        ValueError, match="darker changes pictures, but the input is a label map; choose flips, turns or"
    ):
        transform_pair("darker", labels, image)


def test_brightness_knows_normalised_and_byte_images():
    plain = torch.rand(2, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    mean, std = torch.tensor([0.4, 0.5, 0.6]).view(3, 1, 1), torch.tensor([0.2, 0.3, 0.1]).view(3, 1, 1)
    changed, target = transform_pair(
        "brighter",
        (plain - mean) / std,
        plain * 2 - 1,
        input_range=((0 - mean) / std, (1 - mean) / std),
        target_range=(-1.0, 1.0),
    )
    expected = (plain * 1.05).clamp(0, 1)
    torch.testing.assert_close(changed * std + mean, expected)
    torch.testing.assert_close((target + 1) / 2, expected)
    bytes_ = torch.tensor([0, 100, 255], dtype=torch.uint8).view(1, 1, 1, 3)
    assert transform_pair("brighter", bytes_, codes(1, 3))[0].flatten().tolist() == [0, 105, 255]


def test_brightness_says_when_the_range_is_wrong():
    image = torch.tensor([-1.0, 1.0]).view(1, 1, 1, 2)
    with pytest.raises(
        ValueError, match="taken as 0 to 1, but they span -1 to 1 of it; pass the values of black and wh"
    ):
        transform_pair("darker", image, image)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
@pytest.mark.parametrize("name", NEIGHBOURS)
def test_types_are_kept(name, dtype):
    image = torch.full((1, 3, 8, 8, 8)[: 4 + NEIGHBOURS[name].volumes_only], 0.5, dtype=dtype)
    assert [x.dtype for x in transform_pair(name, image, image)] == [dtype, dtype]


def test_what_augmentations_produce_is_what_chains_of_them_yield():
    """Brute force: every picture that up to six augmentations in any order make of one without symmetry."""
    steps = {
        "hflip": [np.fliplr],
        "vflip": [np.flipud],
        "transpose": [np.transpose],
        "rotate90": [lambda a, k=k: np.rot90(a, k) for k in range(4)],
    }
    start = codes(3, 3)[0].numpy()
    for size in range(5):
        for names in combinations(steps, size):
            seen = {start.tobytes(): start}
            for _ in range(6):
                chains = product(list(seen.values()), [f for name in names for f in steps[name]])
                seen |= {(made := np.ascontiguousarray(f(a))).tobytes(): made for a, f in chains}
            expected = {name for name, f in TURNS.items() if np.ascontiguousarray(f(start)).tobytes() in seen}
            assert set(choose_neighbours(list(TURNS), square=True, augmentations=names).weak) == expected, names


def test_automatic_choice_leaves_out_what_the_training_produced():
    for square in (True, False):
        assert choose_neighbours("auto", square=square) == (AUTO, (), ())
    hflip = choose_neighbours("auto", square=False, augmentations="hflip")
    assert hflip == (("vflip", "rotate180", *SHIFTS), (), ("hflip",))


def test_automatic_choice_turns_where_the_training_shifts():
    turned = choose_neighbours("auto", square=True, augmentations=["jitter", "hflip"])
    assert set(turned.used) == set(TURNS) - {"hflip"}
    assert turned.dropped == ("hflip", *SHIFTS)
    assert choose_neighbours("auto", square=False, augmentations=["jitter", "hflip"]).used == ("vflip", "rotate180")


def test_automatic_choice_falls_back_on_shifts_and_then_on_weak_neighbours():
    everything = ["transpose", "hflip"]
    assert choose_neighbours("auto", square=True, augmentations=everything) == (SHIFTS, (), FLIPS)
    assert choose_neighbours("auto", square=True, augmentations=[*everything, "jitter"]) == (AUTO, AUTO, ())
    assert choose_neighbours("auto", square=False, augmentations=["hflip", "vflip", "jitter"]) == (AUTO, AUTO, ())


def test_an_explicit_choice_is_respected_and_weak_ones_are_reported():
    names = ["shift_left", "hflip", "brighter", "shift_left", "vflip"]
    choice = choose_neighbours(names, square=False, augmentations=["jitter", "hflip"])
    assert choice == (("shift_left", "hflip", "brighter", "vflip"), ("shift_left", "hflip"), ())
    assert choose_neighbours("darker", square=True, augmentations=["brightness"]) == (("darker",), ("darker",), ())


def test_wrong_choices_say_what_to_use():
    with pytest.raises(
        ValueError, match=r"not square, but transpose, rotate90 would swap .* use some of hflip, vflip, ro"
    ):
        choose_neighbours(["hflip", "transpose", "rotate90"], square=False)
    with pytest.raises(ValueError, match=r"Unknown neighbour\(s\) flop; choose from hflip, .*, darker\."):
        choose_neighbours(["hflip", "flop"], square=True)
    with pytest.raises(ValueError, match=r"Unknown neighbour\(s\) flop; choose from hflip, .*, darker\."):
        transform_pair("flop", torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2))
    with pytest.raises(ValueError, match='at least one neighbour, but got none; use "auto" or some of hflip, vflip'):
        choose_neighbours([], square=True)
    with pytest.raises(
        ValueError, match=r"Unknown augmentation\(s\) blur; known are hflip, vflip, transpose, rotate90, j"
    ):
        choose_neighbours("auto", square=True, augmentations=["hflip", "blur"])


def test_every_augmentation_of_the_data_modules_is_known_and_weakens_something():
    for name in AUGMENTATIONS:
        assert choose_neighbours(OF_PICTURES, square=True, augmentations=[name]).weak, name


@pytest.mark.parametrize("make", [np.array, torch.tensor])
def test_error_is_the_mean_log_ratio(make):
    error = neighbour_error(make([0.1, 0.4]), make([[0.2, 0.8], [0.1, 0.4]]))
    assert error.tolist() == pytest.approx([np.log(0.1 / 0.4), np.log(0.4 / 0.2)], rel=1e-6)


def test_error_does_not_depend_on_the_unit_and_is_low_where_the_pair_is_known():
    rng = np.random.default_rng(0)
    own, others = rng.lognormal(size=9), rng.lognormal(size=(9, 7))
    error = neighbour_error(own, others)
    np.testing.assert_allclose(neighbour_error(3 * own, 3 * others), error, atol=1e-12)
    np.testing.assert_allclose(neighbour_error(own / 2, others), error - np.log(2), atol=1e-12)
    np.testing.assert_allclose(neighbour_error(torch.tensor(own), torch.tensor(others)).numpy(), error, atol=1e-12)


@pytest.mark.parametrize("make", [np.array, torch.tensor])
def test_missing_neighbours_are_left_out(make):
    nan, inf = float("nan"), float("inf")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        error = neighbour_error(make([0.1, 0.1, 0.1, nan]), make([[0.2, nan], [inf, 0.4], [nan, nan], [0.1, 0.1]]))
    assert error.tolist() == pytest.approx([np.log(0.5), np.log(0.25), nan, nan], rel=1e-6, nan_ok=True)


def test_a_perfect_prediction_has_a_finite_error():
    error = neighbour_error(np.array([0.0, 0.0, 1e-3]), np.array([[0.1], [0.0], [0.0]]))
    assert error.tolist() == pytest.approx([np.log(1e-7), 0.0, np.log(1e5)])
    assert neighbour_error(torch.zeros(1).half(), torch.ones(1, 1).half()).item() == pytest.approx(np.log(1e-8))


@pytest.mark.parametrize("shape", [(3,), (4, 2), (3, 0), (3, 2, 1)])
def test_errors_of_other_samples_are_refused(shape):
    with pytest.raises(
        ValueError, match=r"shape \(N,\) and those of their neighbours of shape \(N, k\), but got \(3,\)"
    ):
        neighbour_error(np.ones(3), np.ones(shape))


# ---- volumes

ALONG = {"dflip": 1, "vflip": 2, "hflip": 3}
MOVED = {
    **{"shift_front": (1, -1), "shift_back": (1, 1), "shift_up": (2, -1), "shift_down": (2, 1)},
    **{"shift_left": (3, -1), "shift_right": (3, 1)},
}


@pytest.mark.parametrize("name", VOLUME_AUTO)
def test_volumes_are_mirrored_and_moved_along_three_axes(name):
    labels = torch.arange(4 * 5 * 6).view(1, 4, 5, 6)
    volume = torch.stack([labels, labels + 1000], 1).double()
    if name in ALONG:
        expected = np.flip(labels.numpy(), ALONG[name])
    else:
        axis, step = MOVED[name]
        places = np.arange(labels.shape[axis]) - step  # what comes in is the mirrored border
        expected = labels.numpy().take(np.clip(places, 0, labels.shape[axis] - 1), axis)
    for target in (labels, labels.unsqueeze(1)):
        changed, changed_target = transform_pair(name, volume, target)
        np.testing.assert_array_equal(changed_target.reshape(labels.shape).numpy(), expected)
        np.testing.assert_array_equal(changed[:, 1].numpy(), expected + 1000)


def test_the_choice_of_volumes():
    assert choose_neighbours("auto", square=False, volumes=True) == (VOLUME_AUTO, (), ())
    flips = choose_neighbours("auto", square=False, volumes=True, augmentations=["dflip", "hflip"])
    assert flips == (("vflip", *VOLUME_SHIFTS), (), ("hflip", "dflip"))
    crops = choose_neighbours("auto", square=False, volumes=True, augmentations=["jitter", "vflip"])
    assert crops == (("hflip", "dflip"), (), ("vflip", *VOLUME_SHIFTS))
    turned = choose_neighbours(["dflip", "rotate90", "shift_back"], square=True, volumes=True, augmentations="dflip")
    assert turned.weak == ("dflip",)


def test_pictures_have_no_third_axis():
    with pytest.raises(
        ValueError, match=r"dflip acts along D of volumes .* but the inputs are pictures; use some of h"
    ):
        choose_neighbours(["hflip", "dflip"], square=True)
    with pytest.raises(ValueError, match=r"shift_back acts along D .* but the input is \(1, 3, 8, 8\)"):
        transform_pair("shift_back", torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 8))
    with pytest.raises(ValueError, match=r"whole pixels, but the input is \(4, 8, 8\) and the target \(2, 8, 8\)"):
        transform_pair("shift_up", torch.zeros(1, 1, 4, 8, 8), torch.zeros(1, 2, 8, 8))
