"""Runs against each other: paired on the samples that are the same, and said so where they are not."""

from dataclasses import replace

import numpy as np
import pytest

from mia_lightning.functional.intervals import Interval, delong_difference, delong_interval, independent_difference
from mia_lightning.report.compare import common_rows, compare
from mia_lightning.report.comparison_page import comparison_html, comparison_markdown, in_words
from mia_lightning.report.run import Run
from mia_lightning.scores.building import TILES


@pytest.fixture
def runs(tmp_path, made):
    """Two models, one set of samples: what is known of the pairs alone is the same."""
    a, b = made(0.06, epoch=4), made(0.06, epoch=4)
    noise = np.random.default_rng(9).normal(0.0, 0.05, len(b.ids))
    b.scores["membership"] = b.scores["membership"] + noise
    b.metrics["audit/auc/membership"], low, high = delong_interval(b.scores["membership"], b.member)
    b.metrics.update({"audit/auc_low/membership": low, "audit/auc_high/membership": high})
    return Run("first", tmp_path / "a", [a]), Run("second", tmp_path / "b", [b])


def test_the_same_samples_are_compared_in_pairs(runs):
    (pair,) = compare(runs).pairs
    a, b = (run.result for run in runs)
    assert pair.paired
    assert (pair.members, pair.nonmembers) == (60, 60)
    assert pair.difference == delong_difference(a.scores["membership"], b.scores["membership"], a.member)
    assert pair.corrected == pair.difference.p_value
    assert in_words(pair).startswith("first gives away more than second: the AUC of first minus that of second is +")
    assert in_words(pair).endswith("paired, on 60 members and 60 nonmembers that both audits have).")


@pytest.mark.parametrize("why", ["reversed", "unfair"])
def test_a_higher_auc_does_not_always_give_away_more(tmp_path, made, why):
    """Reversed, the higher AUC may be guessing; on unlike sides it may be their difference."""
    first = made(-0.05) if why == "reversed" else made(0.005, 0.3)
    second = made(0.0) if why == "reversed" else made(0.06, 0.3)
    comparison = compare([Run("A", tmp_path, [first]), Run("B", tmp_path, [second])])
    assert in_words(comparison.pairs[0]).startswith("B has the higher AUC: the AUC of A minus that of B is -")
    told = "Where an AUC lies below 0.5, the higher of two need not be of the model that gives away more."
    assert (told in comparison_html(comparison)) == (why == "reversed")


def test_order_of_the_samples_does_not_matter(runs):
    b = runs[1].result
    order = np.random.default_rng(1).permutation(len(b.ids))
    shuffled = type(b)(
        b.metrics,
        [b.ids[i] for i in order],
        b.member[order],
        {k: v[order] for k, v in b.errors.items()},
        {k: v[order] for k, v in b.scores.items()},
        b.meta,
        blind={k: v[order] for k, v in b.blind.items()},
    )
    mixed = compare([runs[0], Run("second", runs[1].folder, [shuffled])])
    assert mixed.pairs[0].difference == pytest.approx(compare(runs).pairs[0].difference)


def test_names_alone_do_not_make_samples_the_same(runs, made):
    other = Run("other", runs[0].folder, [made(0.0, seed=5)])
    (pair,) = compare([runs[0], other]).pairs
    assert not pair.paired
    assert pair.reason == "no sample is in both (120 have the same id and side, but other pixels)"
    assert "not paired, since no sample is in both" in in_words(pair)
    a, b = (r.scores["membership"] for r in (runs[0].result, other.result))
    ours, theirs = (delong_interval(s, r.member) for s, r in ((a, runs[0].result), (b, other.result)))
    assert pair.difference[:3] == pytest.approx(independent_difference(ours, theirs))
    assert 0.0 <= pair.difference.p_value < 0.001


def test_other_extractors_and_devices_see_the_same_samples(runs):
    """Features are the extractor's; of a statistic that hardly varies, devices differ by more than of its spread."""
    rng = np.random.default_rng(3)
    for run in runs:
        blind = run.result.blind
        blind["feature_00"] = rng.normal(size=120)
        blind["input_flat"] = 0.5 + 1e-5 * rng.random(120)
    (pair,) = compare(runs).pairs
    assert pair.paired
    assert (pair.members, pair.nonmembers) == (60, 60)


def test_samples_that_changed_sides_are_no_pair(runs):
    b = runs[1].result
    b.member[[0, 60]] = b.member[[60, 0]]
    rows_a, rows_b, apart = common_rows(runs[0].result, b)
    assert len(rows_a) == len(rows_b) == 118
    assert apart == "2 are a member in one run and a nonmember in the other"


def test_ids_that_occur_twice_are_not_common(runs):
    for run in runs:
        run.result.ids[1] = run.result.ids[0]
    assert len(common_rows(runs[0].result, runs[1].result)[0]) == 118


@pytest.mark.parametrize(
    "shift", [pytest.param(0.0, marks=pytest.mark.slow), 0.004, pytest.param(0.02, marks=pytest.mark.slow)]
)
def test_interval_and_p_value_agree(tmp_path, made, shift):
    for seed in range(5):
        results = made(shift, seed=seed), made(0.0, seed=seed + 50)
        (pair,) = compare([Run("a", tmp_path, [results[0]]), Run("b", tmp_path, [results[1]])]).pairs
        _, low, high, p_value = pair.difference
        assert (low <= 0.0 <= high) == (p_value >= 0.05)


def test_the_interval_of_independent_runs_covers():
    rng, hits = np.random.default_rng(0), 0
    member = np.arange(80) < 40
    for _ in range(400):
        a, b = (delong_interval(rng.normal(size=80) + member, member) for _ in range(2))
        _, low, high = independent_difference(a, b)
        hits += low <= 0.0 <= high
    assert 0.92 <= hits / 400 <= 0.98


def test_a_perfect_attack_does_not_make_a_point():
    difference, low, high = independent_difference(Interval(1.0, 0.93, 1.0), Interval(0.5, 0.4, 0.6))
    assert difference == 0.5
    assert low < 0.5 < high


def test_the_page_has_curves_differences_and_numbers(tmp_path, made, runs):
    third = Run("second", tmp_path, [made(0.0, seed=3, epoch=n, utility={"val/l1": 0.25}) for n in range(3)])
    comparison = compare([*runs, third])
    assert [run.name for run in comparison.runs] == ["first", "second (1)", "second (2)"]
    page, text = comparison_html(comparison), comparison_markdown(comparison)
    assert page.count('class="band"') == 3
    for pair in comparison.pairs:
        assert in_words(pair) in page.replace("&lt;", "<")
    assert "corrected p-values allow for all 3 pairs (Holm)" in page
    assert "corrected p-values allow for all 3 pairs (Holm)" in text
    assert "| val/l1 | - | - | 0.25 |" in text
    assert "<script" not in page


def test_settings_that_differ_are_listed(runs):
    runs[1].result.meta["settings"]["scorer"] = {"grid": 28}
    text = comparison_markdown(compare(runs))
    assert text.endswith(
        "| setting | first | second |\n| :-- | --: | --: |\n| scorer.grid | 56 | 28 |\n\n"
        "<sub>mia_lightning 0.1.0</sub>\n"
    )


def test_a_score_made_of_other_errors_is_noted(tmp_path, made):
    copies = {"neighbour/hflip": np.random.default_rng(0).normal(size=120)}
    a, b = (made(0.06, scores=("combined", "membership"), errors=e) for e in (copies | {TILES: np.zeros(120)}, copies))
    comparison = compare([Run("new", tmp_path, [a]), Run("old", tmp_path, [b])])
    assert comparison.score == "combined"
    sentence = "The combined score of old is made without the error tile_neighbour, which others have"
    for written in (comparison_html(comparison), comparison_markdown(comparison).replace("\\", "")):
        assert sentence in written
        assert "easiest_neighbour" not in written
    b.errors["tile_neighbour"] = np.zeros(len(b.ids))
    assert sentence not in comparison_html(comparison)


def test_names_of_runs_are_text(runs):
    hostile = [Run("<script>alert(1)</script>", run.folder, run.history) for run in runs]
    assert "<script" not in comparison_html(compare(hostile))
    assert "<script" not in comparison_markdown(compare(hostile))


def test_what_cannot_be_compared_is_refused(runs, made):
    with pytest.raises(ValueError, match="Expected at least two runs to compare, but got 1"):
        compare(runs[:1])
    other = Run("other", runs[0].folder, [made(scores=("reconstruction",))])
    with pytest.raises(ValueError, match=r"No score is in all runs, .* \(first: membership; other: reconstruction\)"):
        compare([runs[0], other])
    result = made()
    empty = type(result)({}, result.ids, np.ones(120, dtype=bool), result.errors, result.scores, result.meta)
    with pytest.raises(ValueError, match="The run 'empty' has no sample left on one side"):
        compare([runs[0], Run("empty", runs[0].folder, [empty])])


@pytest.mark.parametrize("paired", [True, False])
def test_runs_are_compared_by_groups(tmp_path, made, paired):
    first, second = made(0.05, seed=0), made(0.05, seed=0 if paired else 1)
    if not paired:
        second = replace(second, ids=[f"other {id}" for id in second.ids])

    def pair_of(count):
        groups = [f"{'m' if m else 'n'}{i % count}" for i, m in enumerate(first.member)]
        grouped = [replace(first, groups=groups), second if paired else replace(second, groups=groups)]
        (pair,) = compare([Run(str(i), tmp_path, [one]) for i, one in enumerate(grouped)]).pairs
        return pair, groups

    pair, groups = pair_of(12)
    assert pair.paired == paired
    scores = first.scores["membership"], second.scores["membership"]
    if paired:
        assert pair.difference == delong_difference(*scores, first.member, group=groups)
    else:
        intervals = [delong_interval(score, first.member, group=groups) for score in scores]
        assert pair.difference[:3] == pytest.approx(independent_difference(*intervals))
    few, _ = pair_of(4)
    assert np.isnan([few.difference.low, few.difference.p_value, few.corrected]).all()
    assert "too few groups of samples for a comparison" in in_words(few)
    assert "nan" not in in_words(few)
