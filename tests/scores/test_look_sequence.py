"""The looks at a training, one after the other: kept or not, resumed, joined, and with several scores."""

import io
from dataclasses import replace

import numpy as np
import pytest
import torch

from mia_lightning.functional.error_spending import Spending
from mia_lightning.functional.intervals import delong_interval
from mia_lightning.functional.look_shuffles import unit_keys
from mia_lightning.scores.look_sequence import LookSequence, LookState

EACH = 40
MEMBER = np.arange(2 * EACH) < EACH
KEYS = unit_keys(MEMBER, np.arange(2 * EACH) % EACH)


def scores_at(number, shift=0.0, names=("membership",)):
    rng = np.random.default_rng([number, 7])
    base = np.random.default_rng(99).normal(size=2 * EACH)
    return {name: base + 0.5 * rng.normal(size=2 * EACH) + shift * MEMBER for name in names}


def take(sequence, number, planned=6, keep=True, shift=0.0, names=("membership",), family=("membership",)):
    sequence.plan(planned - number, number)
    look = sequence.look(scores_at(number, shift, names), family, MEMBER, None, keys=KEYS)
    if keep:
        sequence.keep()
    return look


def saved(state):
    file = io.BytesIO()
    torch.save(state.to_plain(), file)
    size = file.tell()
    file.seek(0)
    return LookState.from_plain(torch.load(file, weights_only=True)), size


def test_a_resumed_sequence_gives_the_same_numbers():
    whole = LookSequence()
    expected = [take(whole, number) for number in range(6)]
    first = LookSequence()
    for number in range(3):
        take(first, number)
    resumed = LookSequence()
    resumed.state, size = saved(first.state)
    assert [take(resumed, number) for number in range(3, 6)] == expected[3:]
    assert size < 30_000


def test_what_is_kept_does_not_grow_with_the_looks():
    sequence = LookSequence()
    sizes = []
    for number in range(12):
        take(sequence, number, planned=12)
        sizes.append(saved(sequence.state)[1])
    assert max(sizes) - min(sizes) < 100


def test_a_look_that_is_not_kept_costs_nothing():
    failing, plain = LookSequence(), LookSequence()
    take(failing, 0), take(plain, 0)
    take(failing, 1, keep=False, shift=2.0)
    assert take(failing, 1) == take(plain, 1)


def test_looks_of_which_only_the_number_is_known_share_the_error():
    """As after the checkpoint of an earlier version: what they have spent is gone."""
    known, unknown = LookSequence(), LookSequence()
    for number in range(3):
        take(known, number)
    later, other = take(known, 3, shift=0.6), take(unknown, 3, shift=0.6)
    assert other.number == 4
    assert other.spent == pytest.approx(later.spent)
    assert other.p_values["membership"] >= later.p_values["membership"]
    assert other.levels["membership"] >= later.levels["membership"]


def test_a_state_of_other_shuffles_keeps_what_was_spent():
    sequence = LookSequence()
    for number in range(3):
        take(sequence, number)
    plain = sequence.state.to_plain() | {"levels": {"area": torch.ones(5)}}
    state = LookState.from_plain(plain)
    assert state.lost == state.spending.spent == sequence.state.spending.spent
    assert all((levels == 1.0).all() for levels in state.levels.values())
    assert state.outside == {}


def test_scores_that_claims_rest_on_share_one_error():
    names = ("membership", "reconstruction")
    alone, both = LookSequence(), LookSequence()
    rng = np.random.default_rng(0)
    one = scores_at(0, 0.55)["membership"]
    table = {"membership": one, "reconstruction": rng.normal(size=2 * EACH)}
    found = []
    for sequence, family in ((alone, names[:1]), (both, names)):
        sequence.plan(1)
        found.append(sequence.look(table, family, MEMBER, None, keys=KEYS).p_values)
        assert set(found[-1]) == set(family)
    assert found[0]["membership"] < found[1]["membership"] < found[1]["reconstruction"]


def test_nan_and_few_samples_leave_a_look_without_numbers():
    sequence = LookSequence()
    sequence.plan(3)
    score = scores_at(0)["membership"]
    score[4] = np.nan
    look = sequence.look({"membership": score}, ["membership"], MEMBER, None, keys=KEYS)
    assert look.p_values == {}
    assert look.levels == {}
    few = np.arange(2 * EACH) < 5
    look = sequence.look(scores_at(0), ["membership"], few, None, keys=KEYS)
    assert set(look.p_values) == {"membership"}
    assert look.levels == {}, "five samples on a side have no band"
    one_sided = np.zeros(2 * EACH, dtype=bool)
    assert sequence.look(scores_at(0), ["membership"], one_sided, None, keys=KEYS).p_values == {}


def test_random_generators_are_left_alone():
    np.random.seed(0)
    torch.manual_seed(0)
    before = np.random.get_state()[1].tobytes(), torch.get_rng_state().numpy().tobytes()
    take(LookSequence(), 0)
    assert (np.random.get_state()[1].tobytes(), torch.get_rng_state().numpy().tobytes()) == before


@pytest.mark.parametrize(("before", "left"), [(0, 1), (2000, None)])
def test_looks_beyond_any_plan_still_have_their_numbers(before, left):
    """However little of the error is left: such as after 900 looks at a training without an end."""
    sequence = LookSequence()
    sequence.plan(left, before)
    for number in range(18):
        sequence.plan(left)
        look = sequence.look(scores_at(number), ["membership"], MEMBER, None, keys=KEYS)
        sequence.keep()
        level = look.levels["membership"]
        assert 0.9 < level < 1.0
        assert 0.0 < look.p_values["membership"] <= 1.0
        assert 0.0 < look.exposed["membership"] <= 1.0
        low, high = delong_interval(scores_at(number)["membership"], MEMBER, level)[1:]
        assert 0.0 < low < high < 1.0
    assert look.spent == 1.0 or left is None


def test_a_state_that_has_lost_all_of_the_error_finds_nothing():
    sequence = LookSequence()
    sequence.state = replace(sequence.state, number=20, spending=Spending(1.0), lost=1.0)
    look = take(sequence, 20, planned=21, shift=9.0)
    assert look.p_values["membership"] == look.exposed["membership"] == 1.0


def test_no_band_where_one_group_outweighs_the_others():
    group = np.repeat(np.arange(20), [31, *[1] * 9, 31, *[1] * 9])
    keys = unit_keys(MEMBER, np.arange(80), group.astype(str).tolist())
    assert LookSequence().look(scores_at(0), ["membership"], MEMBER, group, keys=keys).levels == {}
