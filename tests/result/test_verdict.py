"""The verdict looks at the fairness of the comparison before it claims anything."""

import re
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm

from mia_lightning.functional.intervals import delong_interval
from mia_lightning.functional.p_values import exposed_p_value, permutation_p_value
from mia_lightning.result.audit_result import AuditResult
from mia_lightning.result.remarks import flags_begin, not_estimable
from mia_lightning.result.verdict import BY_CHANCE, ENOUGH, MARGIN, REVERSED, STRONG_AUC, STRONG_TPR, headline, judge
from mia_lightning.scores.analysis import Plan, analyse
from mia_lightning.scores.fairness import Fairness
from mia_lightning.scores.summary import summarise


def made(shift: float, blind_shift: float = 0.0, number: int = 100, assignment: str = "coin") -> AuditResult:
    rng = np.random.default_rng(0)
    member = np.arange(2 * number) < number
    bright = rng.normal(0.5, 0.1, 2 * number) + blind_shift * member
    p = rng.normal(0.2, 0.05, 2 * number).clip(0.01)
    r = p + rng.normal(0.1, 0.02, 2 * number) - shift * member
    raw, blind = {"reconstruction": r, "predictability": p}, {"input_mean": bright}
    told = analyse(raw, blind, member, Plan(("membership",)))
    meta = {"membership": {"assignment": assignment}, "notes": told.notes}
    meta["epsilon"] = told.epsilon | {"valid": False, "standing": "indicative: made up"}
    ids = [str(i) for i in range(2 * number)]
    return AuditResult(told.metrics, ids, member, told.errors, told.scores, meta, blind=blind)


def judged(scores: np.ndarray, member: np.ndarray, groups: list[str] | None = None, looks: int = 1) -> AuditResult:
    """A result with what its grade rests on."""
    codes = None if groups is None else np.unique(groups, return_inverse=True)[1]
    auc, low, high = delong_interval(scores, member, group=codes)
    p_value = permutation_p_value(scores, member, permutations=999, group=codes)
    exposed = exposed_p_value(scores, member, permutations=999, group=codes)
    values = {"auc": auc, "auc_low/membership": low, "auc_high/membership": high, "blind_p_value": 1.0}
    values |= {"p_value": p_value, "p_value_corrected": min(1.0, looks * p_value)}
    values |= {"p_value/most_exposed": exposed, "p_value_corrected/most_exposed": min(1.0, looks * exposed)}
    columns = {"membership": scores}
    metrics = {f"audit/{key}": value for key, value in values.items()}
    meta = {"membership": {"assignment": "coin"}, "looks": looks}
    names = [str(i) for i in range(len(member))]
    return AuditResult(metrics, names, member, {"predictability": scores**2}, columns, meta, groups=groups)


def grades(draws: int, number: int, auc: float = 0.5, exposed: float = 0.0) -> dict[str, float]:
    """Shares of the grades where members' scores are shifted, or some of them far."""
    member, found = np.arange(2 * number) < number, list[str]()
    shift = np.sqrt(2.0) * norm.ppf(auc)
    for seed in range(draws):
        scores = np.random.default_rng(seed).normal(size=2 * number) + shift * member
        scores[: round(exposed * number)] += 6.0
        found.append(judged(scores, member).grade)
    return {grade: found.count(grade) / draws for grade in ("strong", "weak", "none", "inconclusive", "unfair")}


def test_leaks_are_graded_as_such_and_none_is_said_only_where_one_would_have_shown():
    large, small = grades(60, 150, auc=0.7), grades(60, 48, auc=0.7)
    assert large["weak"] + large["strong"] >= 0.95
    assert small["weak"] + small["strong"] >= 0.8
    assert grades(40, 30, auc=0.6)["none"] == 0.0
    assert grades(40, 60)["none"] == 0.0  # the bound is above the margin even at 0.5
    fair = grades(100, 150)
    assert fair["weak"] + fair["strong"] <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 100)
    assert fair["none"] > 0.4
    hidden = grades(20, 500, exposed=0.05)
    assert hidden["none"] == 0.0
    assert hidden["weak"] + hidden["strong"] >= 0.95


def test_members_that_stand_out_are_found_beside_an_area_of_one_half():
    member = np.arange(1000) < 500
    scores = np.random.default_rng(4).normal(size=1000)
    scores[:25] += 6.0
    result = judged(scores, member)
    assert result.metric("p_value") > 0.025
    assert result.grade == "weak"
    assert "gives away a few of the samples it was trained on" in result.verdict.found
    assert "and so many members at the top 0.001" in result.verdict.certainty


def test_many_looks_ask_for_more_and_say_how_many_samples_would_settle_it():
    member = np.arange(200) < 100
    rng = np.random.default_rng(7)
    scores = rng.normal(size=200) + 0.4 * member
    assert judged(scores, member).grade == "weak"
    told = judged(scores, member, looks=50).verdict
    assert (told.grade, told.reason) == ("inconclusive", BY_CHANCE)
    assert "one of so many looks and tests may show that by chance" in told.limitation
    few = judged(rng.normal(size=60), np.arange(60) < 30).verdict
    assert few.summary == "inconclusive (too few samples)"
    number = int(few.limitation.split("about ")[1].split(" samples a side would settle it")[0])
    assert 63 <= number <= 400
    member = np.arange(2 * number) < number
    width = np.diff(delong_interval(rng.normal(size=2 * number), member)[1:])[0]
    assert width < 2 * (MARGIN - 0.5) + 0.005


def test_one_group_that_outweighs_the_others_is_refused_in_words():
    member, sizes = np.arange(160) < 80, [61, *[1] * 19]
    groups = [str(name) for name in np.repeat(np.arange(40), sizes * 2)]
    verdict = judged(np.random.default_rng(0).normal(size=160) + 3.0 * member, member, groups).verdict
    assert (verdict.grade, verdict.reason) == ("inconclusive", "too few samples")
    assert "one group has so large a part of a side" in verdict.limitation


def test_groups_are_the_units_of_what_would_settle_it():
    rng = np.random.default_rng(0)
    groups = [str(i // 4) for i in range(160)]
    scores = rng.normal(size=40).repeat(4) + 0.3 * rng.normal(size=160)
    told = judged(scores, np.arange(160) < 80, groups).verdict
    assert told.summary == "inconclusive (too few samples)"
    assert "groups a side would settle it" in told.limitation


def test_results_of_before_are_judged_by_what_they_have(tmp_path):
    result = made(0.05)
    for key in ("p_value/most_exposed", "p_value_corrected/most_exposed"):
        del result.metrics[f"audit/{key}"]
    assert judge(result).grade == "strong"
    del result.metrics["audit/p_value_corrected"]
    again = AuditResult.from_json(result.to_json(tmp_path / "result.json"))
    assert (again.grade, again.verdict.certainty.count("most"), again.verdict.found) == (
        "strong",
        0,
        judge(result).found,
    )


def test_a_shift_that_the_blind_attack_misses_is_no_claim():
    """A score that follows brightness, of which members have a little more; nothing is memorised."""
    before, after = 0, 0
    member = np.arange(96) < 48
    for seed in range(40):
        rng = np.random.default_rng(seed)
        bright = rng.normal(size=96) + 0.4 * member
        raw = {"reconstruction": np.exp(0.1 * rng.normal(size=96) - bright), "predictability": np.ones(96)}
        blind = Fairness(0.5, 0.5, None)  # as if it found nothing
        told = analyse(raw, {"input_mean": bright}, member, Plan(("reconstruction",), "reconstruction"), fairness=blind)
        result = AuditResult(told.metrics, [str(i) for i in range(96)], member, told.errors, told.scores)
        after += result.grade in ("weak", "strong")
        result.meta["membership"] = {"assignment": "coin"}
        before += judge(result).grade in ("weak", "strong")
    assert before >= 10
    assert after <= 2
    assert judge(made(0.05, assignment="split")).grade == "strong"


def test_a_difference_between_sides_that_coins_made_is_a_remark():
    result = made(0.05, blind_shift=0.4)
    assert judge(result).grade == "strong"
    assert any("although coins assigned membership" in line for line in judge(result).remarks)
    assert judge(made(0.05, blind_shift=0.4, assignment="split")).grade == "unfair"


def test_a_fair_comparison_with_a_gap_is_memorization():
    told = judge(made(0.05))
    assert told.grade == "strong"
    assert told.found.startswith("The model clearly gives away which samples it was trained on: a member scores")
    assert "from 100 members and 100 nonmembers" in told.certainty
    assert "without the model no difference was found (blind AUC" in told.certainty
    assert (
        "would have been found with 80 %; allowing for what the images show by themselves, the share is"
        in told.certainty
    )
    assert told.limitation == "This is a lower bound: other attacks, or reference models, may find more."
    assert tuple(told)[:3] == told.sentences


def test_a_small_gap_is_weak():
    result = made(0.008, number=200)
    low, high = result.interval()
    assert 0.5 < low < STRONG_AUC
    assert result.metric("tpr_low_at_fpr_0.01/membership") < STRONG_TPR
    told = judge(result)
    assert told.grade == "weak"
    assert "gives away a little of which samples it was trained on: a member scores" in told.found
    assert f"the share lies between {100 * low:.0f} and {100 * high:.0f} %" in told.certainty


def test_few_true_positives_without_false_ones_are_strong_whatever_the_area():
    result = made(0.008, number=200)
    result.metrics["audit/tpr_low_at_fpr_0.01/membership"] = STRONG_TPR
    assert judge(result).grade == "strong"


def test_what_cannot_be_estimated_makes_nothing_strong_and_stands_in_no_headline():
    result = made(0.008, number=200)
    result.metrics["audit/tpr_low_at_fpr_0.01/membership"] = STRONG_TPR
    result.metrics["audit/tpr_at_fpr_0.01/estimable"] = 0.0
    assert judge(result).grade == "weak"
    assert "TPR" not in headline(result)
    few = made(0.03, number=60)
    assert few.metric("tpr_at_fpr_0.01/estimable") == 0.0
    assert "TPR" not in headline(few)
    del few.metrics["audit/tpr_at_fpr_0.01/estimable"]  # as in results of before
    assert not_estimable(few, 0.01) == "not estimable with 60 nonmembers: at least 99"
    groups = replace(few, groups=[str(i // 5) for i in range(120)])
    assert not_estimable(groups, 0.01) == "not estimable with 12 groups of nonmembers: at least 99"
    assert not_estimable(result, 0.001) == "not estimable with 200 nonmembers: at least 999"


@pytest.mark.parametrize("number", [10, 22])
def test_too_few_samples_say_nothing_either_way(number):
    result = made(0.005, number=number)
    told = judge(result)
    assert (told.grade, told.reason) == ("inconclusive", "too few samples")
    assert "inconclusive" in told.found
    assert told.limitation.endswith("audit more samples.")
    assert ("they are too few to test whether" in told.certainty) == (number < ENOUGH)


@pytest.mark.parametrize("shift", [0.0, 0.008, 0.05, -0.05])
@pytest.mark.parametrize("blind_shift", [0.0, 0.05, 9.0])
@pytest.mark.parametrize("number", [5, 40, 200])
def test_three_sentences_whatever_the_result(shift, blind_shift, number):
    for line in judge(made(shift, blind_shift, number)).sentences:
        assert line.endswith(".")
        assert "nan" not in line
        assert line[0].isupper()
        assert "  " not in line


def test_the_headline_is_one_line():
    result = made(0.05)
    result.meta["epoch"] = 9
    low, high = result.interval()
    assert headline(result) == (
        f"epoch 10 | membership AUC {result.auc:.3f} [{low:.2f}, {high:.2f}] | TPR at 1 % FPR "
        f"{result.metric('tpr_at_fpr_0.01'):.2f} | blind {result.metric('blind_auc'):.2f} | strong"
    )
    del result.meta["epoch"]
    assert headline(result).startswith("membership AUC")


@pytest.mark.parametrize("assignment", ["split", "given"])
def test_without_randomised_assignment_the_splits_may_differ_undetected(assignment):
    text = " ".join(judge(made(0.05, assignment=assignment)))
    assert "gives away" not in text
    assert "Membership was not assigned at random" in text


def test_no_gap_claims_nothing():
    told = judge(made(0.0))
    text = " ".join(told)
    assert told.grade == "none"
    assert "does not show memorization, nor does it rule all of it out" in text


def test_sides_that_differ_by_themselves_are_said_first_and_nothing_is_claimed():
    result = made(0.05, blind_shift=0.4, assignment="split")
    first, *others = judge(result)
    assert first.startswith("The splits are distinguishable without the model")
    share = min(1.0, (result.metric("blind_auc") - 0.5) / (result.auc - 0.5))
    assert first.endswith(f"; that could explain {100 * share:.0f} % of the AUC above 0.5.")
    assert "gives away" not in " ".join(others)
    assert "cannot say whether the model memorises" in " ".join(others)


def test_sides_that_differ_a_little_are_judged_where_they_are_alike():
    result = made(0.05, blind_shift=0.05, assignment="split")
    text = " ".join(judge(result))
    each = int(result.metric("samples/matched")) // 2
    assert 20 <= each < 100
    left = result.metric("matched_imbalance")
    assert 0.0 < left < 0.3
    assert (
        f"on {each} members and {each} nonmembers matched without the model, which still differ by up to {left:.2f}"
        in text
    )
    assert "cannot say whether the model memorises" in text


def test_sides_without_anything_in_common():
    text = " ".join(judge(made(0.05, blind_shift=9.0, assignment="split")))
    assert "fewer than 20 pairs" in text or "no member has a matching nonmember" in text
    assert "cannot say whether the model memorises" in text


def test_single_samples_and_epsilon_are_told_with_their_standing():
    result = made(0.2)
    text = " ".join(judge(result))
    assert f"{int(result.flagged().sum())} of 100 members are flagged individually" in text
    low = result.metric("epsilon_low")
    assert low > 1
    assert f"An epsilon of {low:.2f} or more (delta 1e-05) is indicative: made up." in text
    result.meta["epsilon"] |= {"valid": True, "standing": "valid: made up"}
    text = " ".join(judge(result))
    assert f"epsilon below {low:.2f} (delta 1e-05) is ruled out with 95 % confidence; valid: made up." in text
    result.meta["epsilon"] |= {"unit": "group"}
    assert f"Differential privacy of whole groups with epsilon below {low:.2f}" in " ".join(judge(result))
    result.meta["epsilon"] |= {"valid": False, "standing": "indicative: made up"}
    assert f"An epsilon of {low:.2f} or more for whole groups (delta 1e-05) is" in " ".join(judge(result))


def test_where_nobody_is_flagged_the_verdict_says_how_many_would_have_to_stand_out():
    result = made(0.0, number=40)
    assert not result.flagged().any()
    text = " ".join(judge(result).remarks)
    assert (
        "No member is flagged individually: at a false discovery rate of 10 % against 40 nonmembers, at least 10 of 40"
        in text
    )
    assert "(10 above all nonmembers, or 20 above all but one)" in text
    result.meta["settings"] = {"fdr": 0.02}
    assert "No member can be flagged individually at a false discovery rate of 2 %" in " ".join(judge(result).remarks)
    groups = replace(made(0.0, number=40), groups=[str(i // 4) for i in range(80)])
    text = " ".join(judge(groups).remarks)
    assert "against 10 groups of nonmembers, at least 10 of 10 groups of members" in text
    assert "(10 above all nonmembers)" in text


@pytest.mark.parametrize(("members", "nonmembers"), [(15, 15), (20, 58), (3, 120)])
def test_so_many_members_above_all_but_one_nonmember_are_flagged_and_no_fewer(members, nonmembers):
    member = np.arange(members + nonmembers) < members
    (text,) = flags_begin(judged(np.zeros(member.size), member), 0.1)
    found = re.search(r"\((\d+) above all nonmembers(?:, or (\d+) above all but one)?\)", text)
    for above, needed in enumerate(found.groups()):
        for count in () if needed is None else (int(needed) - 1, int(needed)):
            scores = np.concatenate([2.0 * (np.arange(members) < count), [3.0] * above, [1.0] * (nonmembers - above)])
            assert judged(scores, member).flagged().sum() == (count if count == int(needed) else 0)
    assert found[2] is not None or members == nonmembers


def test_the_plan_of_looks_is_said_where_the_length_of_a_training_is_open():
    result = made(0.0)
    look = {"number": 3, "planned": 20, "spent": 0.075, "open": True, "shuffles": 1999, "seed": 0}
    result.meta["look"] = look
    assert "This is look 3 of 20 planned, 7.5 % of the error spent." in " ".join(judge(result).remarks)
    result.meta["look"] = look | {"open": False}
    assert "planned" not in " ".join(judge(result).remarks)


@pytest.mark.parametrize(
    ("number", "primary", "low"), [(40, "calibrated", True), (40, "membership", False), (100, "calibrated", False)]
)
def test_a_score_that_is_fitted_on_few_nonmembers_is_said_to_come_out_low(number, primary, low):
    result = made(0.05, number=number)
    result.meta["settings"] = {"primary": primary}
    result.scores[primary] = result.scores["membership"]
    text = " ".join(judge(result).remarks)
    assert (
        f"The {primary} score is fitted on nonmembers. With {number} nonmembers its AUC comes out a little low" in text
    ) == low


def test_limits_are_told():
    result = made(0.0, number=15)
    result.meta["neighbours"] = {"used": ["vflip"], "weak": ["vflip"], "dropped": ["hflip"]}
    result.meta["notes"] = ["Only a few."]
    result.excluded.append({"id": "a", "side": "member", "reason": "dark"})
    text = " ".join(judge(result))
    assert "Only a few." in text
    assert "from 15 members and 15 nonmembers" in text
    assert "The training augments with the transforms of vflip: these neighbours hide memorization." in text
    assert "Left out as neighbours, since the training augments with them: hflip." in text
    assert "1 sample was left out; the result says which" in text


def test_a_result_without_the_blind_test_is_judged_by_predictability():
    result = made(0.05)
    del result.metrics["audit/blind_p_value"]
    assert "without the model no difference was found (blind AUC" in judge(result).certainty
    result.meta["membership"]["assignment"] = "split"
    result.errors["predictability"] = result.errors["predictability"] - 1.0 * result.member
    assert judge(result).grade == "unfair"


def test_a_gap_the_wrong_way_is_no_memorization():
    told = judge(made(-0.05))
    assert (told.grade, told.reason) == ("inconclusive", REVERSED)
    assert headline(made(-0.05)).endswith(" | inconclusive (reversed: sides swapped?)")
    assert "opposite to memorization" in told.found
    assert "check that the sides were not swapped" in told.limitation


@pytest.mark.parametrize("side", [True, False])
def test_an_empty_side_has_no_verdict(side):
    result = made(0.05)
    keep = result.member == side
    errors = {k: v[keep] for k, v in result.errors.items()}
    scores = {k: v[keep] for k, v in result.scores.items()}
    metrics = summarise(errors, scores, result.member[keep], primary="membership")
    ids = [i for i, k in zip(result.ids, keep, strict=True) if k]
    told = AuditResult(metrics, ids, result.member[keep], errors, scores).verdict
    assert (told.grade, told.reason) == ("inconclusive", "no result")
    assert told.found == "No AUC could be computed: a side has no sample left."
