"""Errors of tiles, and what they tell of a pair beside its copies."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mia_lightning.functional.multilabel import multilabel_error
from mia_lightning.functional.neighbours import moved_back, transform_pair
from mia_lightning.functional.pixel_errors import pixel_errors
from mia_lightning.functional.reconstruction import segmentation_error, translation_error
from mia_lightning.functional.tiles import FLOOR, has_tiles, tile_grid, tile_log_errors, tile_ratio
from mia_lightning.functional.weighting import easiest_neighbour_error


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def test_small_outputs_have_fewer_tiles_or_none():
    assert tile_grid((15, 16)) == (3, 4)
    assert tile_grid((1000, 9)) == (4, 2)
    assert [has_tiles(size) for size in ((1, 1), (7, 7), (1, 8), (3, 3, 8))] == [False, False, True, True]


@pytest.mark.parametrize("size", [(16, 16), (17, 30), (21, 9), (13, 5), (8, 18, 3)])
def test_tiles_are_cut_as_by_hand(size):
    errors = drawn(2, 3, *size)
    errors[drawn(2, 3, *size, seed=1) < 0.2] = torch.nan
    cuts = [torch.arange(n).split(-(-n // parts)) for n, parts in zip(size, tile_grid(size), strict=True)]
    assert [len(cut) for cut in cuts] == list(tile_grid(size))
    if size == (17, 30):  # the last tile is what is left
        assert [len(part) for part in cuts[0]] == [5, 5, 5, 2]
    tiles = [errors]
    for axis, cut in enumerate(cuts):
        tiles = [tile.index_select(2 + axis, part) for tile in tiles for part in cut]
    means = torch.stack([tile.flatten(1).nanmean(1) for tile in tiles], 1)
    expected = (means + FLOOR * errors.flatten(1).nanmean(1, keepdim=True)).log()
    torch.testing.assert_close(tile_log_errors(errors), expected)


def test_tiles_without_a_pixel_have_no_number():
    errors = drawn(2, 1, 16, 16)
    errors[0, :, :4, :8] = torch.nan
    errors[1] = torch.nan
    found = tile_log_errors(errors)
    assert torch.isnan(found[0]).nonzero().flatten().tolist() == [0, 1]
    assert torch.isnan(found[1]).all()
    assert torch.isfinite(tile_log_errors(torch.zeros(1, 1, 8, 8))).all()  # a perfect prediction


def test_errors_of_pixels_are_those_that_the_error_of_a_picture_is_the_mean_of():
    images = drawn(2, 3, 8, 8, seed=1)
    images[0, 1, :4] = torch.nan
    labels = torch.randint(0, 3, (2, 8, 8), generator=torch.Generator().manual_seed(0))
    labels[0, :3], labels[1, 5] = 255, -1
    masks = (drawn(2, 3, 8, 8, seed=2) > 0.5).float()
    masks[1, 0] = torch.nan
    logits = 4 * drawn(2, 3, 8, 8) - 2
    for found, expected in (
        (pixel_errors(drawn(2, 3, 8, 8), images, "translation"), translation_error(drawn(2, 3, 8, 8), images)),
        (pixel_errors(logits, labels, "segmentation"), segmentation_error(logits, labels)),
        (pixel_errors(logits[:, :1], labels.clamp_max(1), "segmentation", 0),
         segmentation_error(logits[:, :1], labels.clamp_max(1), ignore_index=0)),
        (pixel_errors(logits, masks, "multilabel"), multilabel_error(logits, masks)),
    ):  # fmt: skip
        torch.testing.assert_close(found.flatten(1).nanmean(1), expected)


@pytest.mark.parametrize("copy", ["hflip", "rotate180", "transpose", "rotate90", "shift_left", "shift_down", "dflip"])
def test_errors_of_a_copy_are_compared_in_the_place_of_the_pair(copy):
    """A model that errs alike wherever things are has the tiles of the pair on a copy; ignored pixels move with it."""
    size = (8, 16, 16) if copy == "dflip" else (16, 16)
    logits, labels = drawn(2, 3, *size), (2.9 * drawn(2, *size, seed=1)).long()
    labels[:, :5] = 255
    moved, target = transform_pair(copy, logits, labels)
    found = tile_log_errors(moved_back(copy, pixel_errors(moved, target, "segmentation")))
    own = tile_log_errors(pixel_errors(logits, labels, "segmentation"))
    if "shift" not in copy:
        assert torch.equal(torch.isnan(found), torch.isnan(own))
        torch.testing.assert_close(found, own, equal_nan=True)
    else:  # what it pushed out of the picture is mirrored
        inner = F.pad(torch.ones(2, 2), (1, 1, 1, 1)).bool().flatten() & torch.isfinite(own)
        torch.testing.assert_close(found[inner], own[inner], rtol=0, atol=1e-3)  # the whole differs a little


def test_the_ratio_is_a_trimmed_mean_of_soft_minima():
    own, copies = drawn(3, 20).log(), drawn(3, 5, 20, seed=1).log()
    own[0, 3:9], copies[1, 2], copies[2, :, 4] = torch.nan, torch.inf, torch.nan
    found = tile_ratio(own, copies)
    for row in range(3):
        table = (own[row] - copies[row]).T.double()
        kept = table[torch.isfinite(table).any(1)]
        of_tiles = np.sort(easiest_neighbour_error(torch.where(kept == -torch.inf, torch.nan, kept)))
        cut = len(of_tiles) // 10
        assert cut == (1 if row != 1 else 2)
        assert found[row].item() == pytest.approx(of_tiles[cut : len(of_tiles) - cut].mean(), abs=1e-5)


def test_a_picture_of_one_tile_has_the_ratio_to_the_easiest_neighbour():
    ratios = drawn(6, 3) - 0.5
    ratios[0, 1], ratios[1] = torch.nan, torch.nan
    found = tile_ratio(torch.zeros(6, 1), -ratios.unsqueeze(2))
    np.testing.assert_allclose(found, easiest_neighbour_error(ratios), atol=1e-6)


def test_one_hard_place_does_not_hide_a_pair_that_was_learned():
    """All tiles but one are better than on every copy; the one rules the error of the picture."""
    pair, copies = torch.full((1, 1, 16, 16), 0.02), torch.full((3, 1, 16, 16), 0.1)
    pair[..., :4, :4], copies[..., :4, :4] = 9.0, 7.0
    whole = easiest_neighbour_error((pair.mean() / copies.mean((1, 2, 3))).log().unsqueeze(0))
    assert whole.item() > 0
    assert tile_ratio(tile_log_errors(pair), tile_log_errors(copies).unsqueeze(0)) < -0.1
