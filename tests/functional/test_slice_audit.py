"""Slices of an audit: their numbers, their correction, and what they cost."""

import math
import time

import numpy as np
import pytest

from mia_lightning.functional.intervals import delong_interval
from mia_lightning.functional.p_values import permutation_p_value
from mia_lightning.functional.slice_audit import FEWEST, audit_slices, slice_key


def columns_of(rng, count):
    """A column of four sites, and one of five classes of which each sample shows some."""
    shown = rng.random((count, 5)) < 0.5
    classes = [tuple(str(c) for c in range(5) if row[c]) for row in shown]
    return {"site": [str(v) for v in rng.integers(4, size=count)], "class": classes}


def test_the_family_wise_error_of_tests_and_intervals_is_below_five_percent():
    rng, draws = np.random.default_rng(0), 150
    rejected = missed = 0
    for _ in range(draws):
        member = rng.permutation(1800) < 900
        slices = audit_slices(columns_of(rng, 1800), rng.normal(size=1800), member)
        assert len(slices) == 9
        rejected += min(one.p_value for one in slices) <= 0.05
        missed += any(not one.auc.low <= 0.5 <= one.auc.high for one in slices)
    assert rejected / draws <= 0.05
    assert missed / draws <= 0.05


def test_it_is_with_groups_too_where_samples_taken_for_independent_would_exceed_it():
    rng, draws = np.random.default_rng(1), 80
    wrong = {True: 0, False: 0}
    for _ in range(draws):
        group = np.repeat(np.arange(900), 4)
        member = (rng.permutation(900) < 450)[group]
        site = [str(v) for v in (np.arange(900) % 2)[group]]
        score = rng.normal(size=900)[group] + 0.3 * rng.normal(size=3600)
        for grouped in wrong:
            slices = audit_slices({"site": site}, score, member, group=group if grouped else None)
            wrong[grouped] += min(one.p_value for one in slices) <= 0.05
    assert wrong[True] / draws <= 0.05
    assert wrong[False] / draws > 0.1


def test_numbers_are_those_of_the_samples_of_the_slice_at_the_corrected_level():
    rng = np.random.default_rng(2)
    member, score, blind = np.arange(300) < 150, rng.normal(size=300), rng.normal(size=300)
    site = np.array(["a", "b", ""])[np.arange(300) % 3]
    first, second = audit_slices({"site": site.tolist()}, score, member, blind=blind, seed=3)
    rows = site == "a"
    assert (first.value, first.members, first.nonmembers) == ("a", 50, 50)
    assert first.auc == delong_interval(score[rows], member[rows], 1 - 0.05 / 2)
    assert first.blind == delong_interval(blind[rows], member[rows], 1 - 0.05 / 2)
    assert first.p_value == min(1.0, 2 * permutation_p_value(score[rows], member[rows], seed=3))
    assert second.value == "b"
    assert math.isnan(first.tpr.estimate)  # 50 nonmembers say nothing of 1 %
    one_of_two_looks = audit_slices({"site": site.tolist()}, score, member, share=0.5)[0]
    assert one_of_two_looks.auc.low < first.auc.low
    assert math.isnan(audit_slices({"site": site.tolist()}, score, member, share=0.0)[0].auc.low)


def test_the_normal_limit_is_that_of_the_shuffles():
    rng = np.random.default_rng(4)
    member, group = np.arange(900) < 450, np.arange(900) // 2
    score = np.round(rng.normal(size=900) + 0.12 * member, 1)
    for groups in (None, group):
        (one,) = audit_slices({"all": ["x"] * 900}, score, member, group=groups)
        assert one.p_value == pytest.approx(permutation_p_value(score, member, group=groups), abs=0.01)
    assert audit_slices({"all": ["x"] * 900}, np.ones(900), member)[0].p_value == 1.0


@pytest.mark.parametrize(("size", "groups"), [(FEWEST - 1, False), (5 * FEWEST, True)])
def test_too_small_a_slice_has_no_numbers_and_costs_the_others_nothing(size, groups):
    rng = np.random.default_rng(5)
    rare = np.arange(600) % 300 < size
    member, score = np.arange(600) < 300, rng.normal(size=600)
    group = np.where(rare, np.arange(600) // 300 * 10 + np.arange(600) % 10, 1000 + np.arange(600)) if groups else None
    slices = audit_slices({"site": ["rare" if r else "usual" for r in rare]}, score, member, group=group)
    few, many = slices
    assert not few.large_enough
    assert all(math.isnan(number) for number in (*few.auc, few.p_value, *few.blind))
    alone = delong_interval(score[~rare], member[~rare], 0.95, None if group is None else group[~rare])
    assert many.auc == alone


def test_a_few_groups_that_outweigh_the_others_are_too_few():
    """Twenty-four groups a side, of which one has nearly all samples: no interval, and no p-value either."""
    rng = np.random.default_rng(7)
    group = np.concatenate([np.minimum(np.arange(200), 23), 100 + np.arange(200) // 5])
    group = np.concatenate([group, 1000 + group])
    member, site = np.arange(800) < 400, ["uneven" if i % 400 < 200 else "even" for i in range(800)]
    score = rng.normal(size=2000)[group] + 2.0 * member
    even, uneven = audit_slices({"site": site}, score, member, group=group)
    assert uneven.units == (24, 24)
    assert not uneven.large_enough
    assert math.isnan(uneven.p_value)
    assert even.p_value == permutation_p_value(
        score[200:400].tolist() + score[600:].tolist(),
        np.arange(400) < 200,
        group=np.concatenate([group[200:400], group[600:]]),
    )


def test_values_are_in_their_order_and_missing_ones_are_none():
    entries = [("10", "9"), ("9",), (), "", "b", "10"]
    values = [one.value for one in audit_slices({"class": entries}, np.arange(6.0), np.arange(6) < 3)]
    assert values == ["9", "10", "b"]
    with pytest.raises(ValueError, match="one value of 'class' a sample, 6, but got 5"):
        audit_slices({"class": entries[:5]}, np.arange(6.0), np.arange(6) < 3)


def test_keys_are_taken_by_every_logger_and_are_unique():
    values = ["a b", "a_b", "a/b", "..", ".", "_x20_", "ä", "x" * 300, "x" * 299 + "y", "=1", "%", "\n"]
    keys = [slice_key("site", value) for value in values]
    assert len(set(keys)) == len(values)
    assert all(key.isascii() and key.count("/") == 2 and len(key) < 80 for key in keys)
    assert not any(c in key for key in keys for c in " %=\n:")
    assert not {"..", "."} & {key.rpartition("/")[2] for key in keys}


def test_two_columns_of_two_hundred_thousand_samples_take_less_than_a_second():
    rng = np.random.default_rng(6)
    member, score = np.arange(200_000) < 100_000, rng.normal(size=200_000)
    columns = {name: [f"{name}{v}" for v in rng.integers(5, size=200_000)] for name in ("site", "sex")}
    start = time.process_time()
    assert len(audit_slices(columns, score, member, blind=-score)) == 10
    assert time.process_time() - start < 1.5  # half of it on an idle machine
