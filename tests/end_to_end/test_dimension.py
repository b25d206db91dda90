"""The dimension experiment: what its cells ask of the network, a training of the smallest, and the test of a trend."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from benchmark_scripts import benchmark_script
from scipy import stats


@pytest.fixture(scope="module")
def dimension():
    with benchmark_script("dimension") as script:
        yield script


@pytest.fixture(scope="module")
def frames(dimension):
    generator = torch.Generator().manual_seed(0)
    photo = torch.rand(24, 3, 16, 16, generator=generator)
    return dimension.Pool(photo, torch.randint(0, 12, (24, 16, 16), generator=generator))


def test_page_test_agrees_with_all_orders_of_the_levels(dimension) -> None:
    """The exact p-value is the share of orders, one a seed, whose L is no smaller."""
    areas = np.array([[0.5, 0.6, 0.55, 0.8], [0.52, 0.51, 0.7, 0.75], [0.6, 0.5, 0.65, 0.7]])
    one = dimension.trend((1, 4, 16, 64), areas)
    weights = np.arange(1, 5)
    of_order = [int(np.dot(weights, order)) for order in itertools.permutations(weights)]
    observed = sum(int(weights @ stats.rankdata(row)) for row in areas)
    sums = np.array([sum(combination) for combination in itertools.product(of_order, repeat=3)])
    assert one.statistic == observed
    assert one.rises == pytest.approx(np.mean(sums >= observed), rel=1e-9)
    turned = sum(int(weights[::-1] @ stats.rankdata(row)) for row in areas)
    assert one.falls == pytest.approx(np.mean(sums >= turned), rel=1e-9)


def test_slope_is_a_gain_of_each_doubling_with_an_interval_over_seeds(dimension) -> None:
    levels, slopes = (1, 4, 16, 64), np.array([0.02, 0.03, 0.07])
    one = dimension.trend(levels, 0.5 + slopes[:, None] * np.log2(levels))
    assert one.slope == pytest.approx(0.04)
    expected = stats.ttest_1samp(slopes, 0.0).confidence_interval(0.95)
    assert (one.low, one.high) == pytest.approx((expected.low, expected.high))


def test_equal_fit_is_that_of_the_least_fitted_level(dimension) -> None:
    slow = (np.array([0.9, 0.6, 0.4]), np.array([0.5, 0.55, 0.6]))
    fast = (np.array([0.6, 0.2, 0.1]), np.array([0.55, 0.75, 0.9]))
    assert dimension.at_equal_fit([[fast], [slow]]) == pytest.approx(np.array([[0.65, 0.6]]))  # halfway, and its end
    at_once = (np.array([0.2, 0.1, 0.1]), np.array([0.7, 0.8, 0.8]))
    assert dimension.at_equal_fit([[at_once], [slow]])[0, 0] == pytest.approx(0.5 + 0.2 * 0.6 / 0.8)  # from a constant


def test_the_two_rarest_classes_are_joined(dimension) -> None:
    counts = [50, 5, 30, 4, 11]
    assert dimension.merged_classes(counts, 5) == [[0], [1], [2], [3], [4]]
    assert dimension.merged_classes(counts, 3) == [[0], [1, 3, 4], [2]]
    assert dimension.merged_classes(counts, 2) == [[0], [1, 2, 3, 4]]


def test_targets_of_each_resolution_and_of_joined_classes(dimension, frames) -> None:
    counts = torch.bincount(frames.mask.flatten(), minlength=12)[:11].tolist()
    mean = dimension.Problem(dimension.Cell("translation", output=1), counts).pair(frames)[1]
    torch.testing.assert_close(mean[:, :, 0, 0], frames.photo.mean((2, 3)))
    most = dimension.Problem(dimension.Cell("segmentation", output=1), counts).pair(frames)[1]
    for number, mask in zip(most.flatten().tolist(), frames.mask, strict=True):
        assert number == int(torch.bincount(mask.flatten(), minlength=12)[:11].argmax())
    problem = dimension.Problem(dimension.Cell("segmentation", output=16, classes=2), counts)
    joined = problem.pair(frames)[1]
    assert (joined == dimension.IGNORED).equal(frames.mask == dimension.VOID)
    for number, group in enumerate(problem.groups):
        assert (joined == number).equal(torch.isin(frames.mask, torch.tensor(group)))
    coarse = dimension.Problem(dimension.Cell("segmentation", output=16, input=1), counts).pair(frames)[0]
    torch.testing.assert_close(coarse, frames.photo.mean((2, 3), keepdim=True).expand_as(coarse))


def test_joined_classes_have_the_sum_of_the_probabilities(dimension, frames) -> None:
    problem = dimension.Problem(dimension.Cell("segmentation", output=16, classes=2), [1] * 11)
    returned = torch.randn(24, 11, 16, 16, generator=torch.Generator().manual_seed(1))
    x, y = problem.pair(frames)
    error = problem.error(lambda _: returned, x, y)
    share = returned.softmax(1)
    chance = torch.stack([share[:, group].sum(1) for group in problem.groups], 1)
    valid = y != dimension.IGNORED
    picked = chance.gather(1, y.where(valid, 0)[:, None])[:, 0].log()
    torch.testing.assert_close(error, -(picked * valid).sum((1, 2)) / valid.sum((1, 2)))


def test_the_smallest_cell_is_trained_audited_and_read(dimension, frames, tmp_path: Path) -> None:
    cell = dimension.Cell("translation", output=1)
    kept = dimension.train(dimension.Problem(cell, [1] * 11), frames, seed=3, steps=8, base_channels=2)
    assert kept["looks"].shape == (3, 24)
    assert kept["member"].sum() == 12
    assert np.array_equal(kept["member"], dimension.draw_members(24, 3))
    assert kept["looks"][-1].mean() < kept["looks"][0].mean()  # it learns the mean colour
    (tmp_path / "runs").mkdir()
    np.savez(tmp_path / "runs" / f"{cell.name}-3.npz", **kept)
    one = dimension.read_audit(cell, 3, tmp_path)
    assert list(one.scores) == ["reconstruction", "neighbour"]  # a single value has no predictability error
    assert np.array_equal(one.scores["reconstruction"], -kept["looks"][-1])
    area, low, high = one.auc("reconstruction")
    assert low < area < high
    assert one.members == pytest.approx(kept["looks"][-1][kept["member"]].mean())


def test_tiles_have_a_part_in_the_combined_score_and_are_asked_for(dimension, frames, tmp_path: Path) -> None:
    cell, file = dimension.Cell("translation", output=16), tmp_path / "runs"
    kept = dimension.train(dimension.Problem(cell, [1] * 11), frames, seed=3, steps=4, base_channels=2)
    dimension.keep(tmp_path, f"{cell.name}-p", lambda: {"p": np.linspace(0.1, 0.2, 24)})
    dimension.keep(tmp_path, f"{cell.name}-3", lambda: {n: c for n, c in kept.items() if not n.startswith("t/")})
    with pytest.raises(SystemExit, match="before tiles were measured: `train` makes it again"):
        dimension.read_audit(cell, 3, tmp_path)
    dimension.keep(tmp_path, f"{cell.name}-3", lambda: kept, "t/identity")
    dimension.keep(tmp_path, f"{cell.name}-3", dict, "t/identity")  # not again
    combined = dimension.read_audit(cell, 3, tmp_path).scores["combined"]
    np.savez(file / f"{cell.name}-3.npz", **kept | {"t/identity": kept["t/identity"][::-1]})
    assert not np.allclose(dimension.read_audit(cell, 3, tmp_path).scores["combined"], combined)


def test_tiles_of_copies_are_in_the_place_of_the_pair(dimension, frames) -> None:
    x = frames.photo[:1]
    errors = torch.zeros(1, 1, 16, 16)
    errors[..., 5:7, 6:8] = 1.0  # in the second tile of four each way
    moved = errors.roll(1, -1)  # as a shift by one pixel moves it, into the third as well

    def tiles(prediction: torch.Tensor, copy: str | None = None) -> torch.Tensor:
        cell = dimension.Cell("translation", output=prediction.shape[-1])
        return dimension.Problem(cell, [1] * 11).tiles_of(prediction, x, torch.zeros_like(prediction), copy).view(4, 4)

    own = tiles(errors)
    assert own.argmax() == 5
    torch.testing.assert_close(tiles(errors.flip(-1), "hflip"), own)
    torch.testing.assert_close(tiles(moved, "shift_right"), own)
    coarse = torch.nn.functional.avg_pool2d(moved, 2)  # half a pixel of such an output
    assert tiles(coarse)[1, 1] == tiles(coarse)[1, 2]
    assert tiles(coarse, "shift_right")[1, 1] > tiles(coarse, "shift_right")[1, 2]


def test_all_cells_have_the_same_number_of_parameters(dimension) -> None:
    for task in ("translation", "segmentation"):
        cells = [cell for sweep in dimension.sweeps() for cell in sweep.cells if cell.task == task]
        counts = {
            sum(p.numel() for p in dimension.Problem(cell, [1] * 11).network(2).parameters()) for cell in set(cells)
        }
        assert len(counts) == 1


def test_a_folder_of_other_settings_is_refused(dimension, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    dimension.require_settings(tmp_path)
    dimension.require_settings(tmp_path)
    monkeypatch.setattr(dimension, "STEPS", dimension.STEPS + 1)
    with pytest.raises(SystemExit, match="delete it, or name another --work"):
        dimension.require_settings(tmp_path)


def test_table_and_figure_have_each_sweep_with_its_test(dimension, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    member = np.arange(40) < 20
    generator = np.random.default_rng(0)

    def audit(cell, seed: int):
        shift = np.log2(cell.output) / 3.0 if cell.task == "translation" else 0.0
        noise = np.random.default_rng(seed).normal(size=40)  # alike at all levels: more shift is a larger AUC
        names = dimension.SCORES if cell.predicted else ("reconstruction", "neighbour")
        scores = dict.fromkeys(names, noise + shift * member)
        return dimension.Audit(scores, generator.normal(size=(3, 40)), member, 0.5, 0.75, 1.0)

    found = {cell: [audit(cell, seed) for seed in (1, 2, 3)] for cell in dimension.all_cells()}
    dimension.table(found, tmp_path / "figures" / "dimension.png")
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("**") for line in lines) == len(dimension.sweeps()) == 5
    row = next(line for line in lines if line.startswith("| translation, output resolution | reconstruction |"))
    assert row.split(" | ")[2:5] == ["90", "7.2e-05", "0.00036"]  # all three seeds in order: 1 / 24 ** 3, Holm 5 times
    assert next(line for line in lines if line.startswith("| 1 |")).split(" | ")[4] == "0.50"  # of the constant's loss
    assert (tmp_path / "figures" / "dimension.png").read_bytes().startswith(b"\x89PNG")
