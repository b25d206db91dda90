from __future__ import annotations

import numpy as np
import pytest

from mia_lightning.functional.folds import assign_folds


@pytest.mark.parametrize(("members", "nonmembers"), [(10, 10), (13, 8), (3, 17), (101, 50), (1, 1), (0, 7)])
@pytest.mark.parametrize("folds", [2, 3, 5])
def test_each_side_and_the_whole_are_spread_evenly(members, nonmembers, folds):
    member = np.random.default_rng(0).permutation(np.arange(members + nonmembers) < members)
    fold = assign_folds(member, folds)
    assert fold.shape == member.shape
    for part in (fold[member], fold[~member], fold):
        counts = np.bincount(part, minlength=folds)
        assert counts.size == folds
        assert counts.max() - counts.min() <= 1


def test_the_deal_depends_on_the_seed_alone_and_leaves_the_global_generator_be():
    member = np.arange(40) < 20
    before = np.random.get_state()[1].copy()
    assert (assign_folds(member, seed=3) == assign_folds(member, seed=3)).all()
    assert (assign_folds(member, seed=3) != assign_folds(member, seed=4)).any()
    assert (np.random.get_state()[1] == before).all()


def test_every_sample_falls_in_every_fold_equally_often():
    member = np.arange(10) < 5
    counts = np.zeros((10, 5))
    for seed in range(1000):
        counts[np.arange(10), assign_folds(member, seed=seed)] += 1
    # 200 expected in each of 50 cells, binomial standard deviation 12.6.
    assert np.abs(counts - 200).max() < 4 * 12.7


def test_neighbours_in_the_list_share_a_fold_no_more_than_chance():
    # Frames of a video stand next to each other; a deal by position would always part or always join them.
    member = np.arange(10) < 5
    shared = np.mean([fold[0] == fold[1] for fold in (assign_folds(member, 2, seed) for seed in range(1000))])
    assert shared == pytest.approx(0.4, abs=0.05)  # folds of 3 and 2: (3 + 1) pairs of 10


def test_zeros_and_ones_are_flags():
    member = [1, 0, 1, 0, 1, 1]
    assert (assign_folds(member, 2) == assign_folds(np.array(member, dtype=bool), 2)).all()


def test_impossible_requests_are_refused():
    with pytest.raises(ValueError, match="at least 2 folds, but got 1"):
        assign_folds([True, False], folds=1)
    with pytest.raises(ValueError, match=r"flags of shape \(N,\), but got \(2, 1\)"):
        assign_folds([[True], [False]])
