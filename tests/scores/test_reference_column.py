from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chisquare

from mia_lightning import registry
from mia_lightning.functional.combination import REFERENCE_WEIGHT
from mia_lightning.functional.intervals import delong_interval
from mia_lightning.functional.p_values import permutation_p_value
from mia_lightning.functional.roc import roc_auc
from mia_lightning.registry import ScoreInputs
from mia_lightning.scores.building import score_column
from mia_lightning.scores.difficulty import difficulty_calibrated
from mia_lightning.scores.reference_column import (
    MOST_WEIGHT,
    NATS_OF_SHIFT,
    PRIOR_SAMPLES,
    error_beside_references,
    reference_weight,
)
from mia_lightning.scores.reference_statistics import References, ReferenceStatistics


def draw(
    seed: int, count: int = 4, sides: tuple[int, int] = (60, 60), *, known: float = 1.0, target: float = 0.0
) -> tuple[ReferenceStatistics, np.ndarray]:
    """Models that lower the log error of what they were trained on, by much on some samples and little on others."""
    rng = np.random.default_rng(seed)
    member = rng.permutation(np.arange(sum(sides)) < sides[0])
    included = rng.random((count, len(member))) < 0.5
    trained = np.vstack([target * member, known * included]) * rng.gamma(2.0, 0.5, len(member))
    statistic = rng.normal(0.0, 2.0, len(member)) + trained + rng.normal(size=trained.shape)
    return ReferenceStatistics(statistic[0], statistic[1:], included), member


def score(
    stats: ReferenceStatistics, member: np.ndarray, seed: int = 0, *, name: str = "combined_references"
) -> np.ndarray:
    """The score beside columns of an audit that tell nothing, or little."""
    rng = np.random.default_rng(seed + 1000)
    names = ("membership", "weighted_neighbour", "easiest_neighbour", "neighbour")
    errors = {key: rng.standard_t(4, size=len(member)) for key in names}
    errors |= {"reconstruction": np.exp(-stats.target), "predictability": np.exp(rng.normal(size=len(member)))}
    inputs = ScoreInputs(errors, member, seed, references=References(stats, "inverse_error"))
    return score_column(registry.scores.get(name), inputs)


def test_the_middle_by_hand():
    references = [[1.0, 5.0, 2.0], [3.0, 1.0, 0.0], [4.0, 3.0, 1.0]]
    included = [[True, True, False], [False, False, False], [True, False, False]]
    # Means with and without: (2.5, 3), (5, 2), and 1 with a gap of (-0.5 + 3) / 2 for the third.
    expected = np.array([2.75, 3.5, 1.0 + 1.25 / 2]) - [1.0, 2.0, 3.0]
    found = error_beside_references(ReferenceStatistics([1.0, 2.0, 3.0], references, included), np.ones(3, bool))
    np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("every", [False, True])
def test_without_models_on_a_side_it_is_the_plain_difference(every):
    stats, member = draw(0)
    alike = ReferenceStatistics(stats.target, stats.references, np.full_like(stats.included, every))
    expected = difficulty_calibrated(-stats.target, -stats.references, alike.included)
    np.testing.assert_allclose(error_beside_references(alike, member), -expected, atol=1e-12)
    assert reference_weight(alike, member) == REFERENCE_WEIGHT


@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize("on_members", [False, True])
def test_models_of_one_side_move_neither(on_members, count):
    """Reference models have memorised samples of one side alone, and the audited model none."""
    areas = []
    for seed in range(40):
        stats, member = draw(seed, count, known=0.0)
        included = stats.included & (member == on_members)
        one_side = ReferenceStatistics(stats.target, stats.references + 2.0 * included, included)
        error = error_beside_references(one_side, member)
        expected = difficulty_calibrated(-stats.target, -one_side.references, included)
        np.testing.assert_allclose(error, -expected, atol=1e-12)
        areas.append(roc_auc(-error, member))
    assert np.mean(areas) == pytest.approx(0.5, abs=0.03)


def test_models_that_know_a_whole_side_are_compared_by_what_they_know():
    stats, member = draw(0, known=0.0)
    included = stats.included | member
    error = error_beside_references(ReferenceStatistics(stats.target, stats.references, included), member)
    some = included.any(axis=0)
    inside = np.where(included, stats.references, 0.0).sum(axis=0)[some] / included.sum(axis=0)[some]
    np.testing.assert_allclose(error[some], inside - stats.target[some], atol=1e-12)


def test_one_model_moves_the_two_halves_by_a_common_gap():
    stats, member = draw(1, 1)
    included = stats.included[0]
    error = error_beside_references(stats, member) - (stats.references[0] - stats.target)
    assert np.ptp(error[included]) < 1e-9
    gap = stats.references[0, included].mean() - stats.references[0, ~included].mean()
    assert error[~included].mean() - error[included].mean() == pytest.approx(gap)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_the_weight_grows_with_what_training_moves(count):
    weights = [
        np.mean([reference_weight(*draw(seed, count, (200, 200), known=known)) for seed in range(8)])
        for known in (0.0, 0.5, 1.0, 1.5)
    ]
    assert weights[0] < 0.06
    assert (np.diff(weights) > 0.08).all()
    # The shift of a model of the same kind on its own coins, by the other models' and nobody's nonmembers.
    stats, member = draw(0, count, (4000, 4000), known=1.0, target=1.0)
    error = error_beside_references(stats, member)
    shift = (error[~member].mean() - error[member].mean()) / error[~member].std()
    expected = NATS_OF_SHIFT * shift * count / (count + 1)
    assert reference_weight(stats, member) == pytest.approx(expected, rel=0.2)


def test_no_members_number_moves_the_weight():
    stats, member = draw(2)
    changed = ReferenceStatistics(np.where(member, 50.0, stats.target), stats.references, stats.included)
    assert reference_weight(changed, member) == reference_weight(stats, member)
    assert reference_weight(changed, ~member) != reference_weight(stats, ~member)


def test_few_samples_stay_near_the_prior_and_far_shifts_below_the_most():
    stats, member = draw(3, 1, (30, 2), known=9.0)
    included = np.isin(np.arange(32), np.flatnonzero(~member)[:1])[None]
    few = ReferenceStatistics(stats.target, stats.references, included)
    assert abs(reference_weight(few, member) - REFERENCE_WEIGHT) <= NATS_OF_SHIFT * 8.0 / (PRIOR_SAMPLES + 1.0)
    assert reference_weight(*draw(3, 4, known=20.0)) == MOST_WEIGHT


def test_more_models_find_more():
    found = {}
    for count in (0, 1, 4):
        rows = [draw(seed, max(count, 1), (100, 100), known=1.5, target=1.5) for seed in range(12)]
        name = "combined_references" if count else "combined"
        found[count] = np.mean([roc_auc(score(*row, name=name), row[1]) for row in rows])
    assert found[0] + 0.08 < found[1] < found[4] - 0.03


@pytest.mark.parametrize(("sides", "count"), [((20, 20), 1), ((20, 20), 4), ((48, 48), 2)])
def test_nothing_is_found_where_nothing_is(sides, count):
    """The reference models have memorised their samples; the audited model has not."""
    covered, p_values = 0, []
    for seed in range(100):
        stats, member = draw(seed, count, sides, known=1.5)
        found = score(stats, member, seed)
        _, low, high = delong_interval(found, member)
        covered += low < 0.5 < high
        p_values.append(permutation_p_value(found, member, permutations=99, seed=seed))
    assert 0.9 <= covered / 100 <= 0.99
    assert chisquare(np.histogram(p_values, bins=np.linspace(0, 1, 6))[0]).pvalue > 0.005
