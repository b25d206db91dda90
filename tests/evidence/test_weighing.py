"""What evidence concludes, when it refuses to, and that it says so in words and in JSON."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from mia_lightning.evidence.decision import conclude, statements
from mia_lightning.evidence.evidence_record import Evidence, printable
from mia_lightning.evidence.weighing import weigh
from mia_lightning.functional.p_values import conformal_p_values
from mia_lightning.result.audit_result import AuditResult
from mia_lightning.scores.analysis import Plan, analyse


def made(
    suspects: int = 40,
    references: int = 40,
    *,
    seed: int = 0,
    gain: float = 0.0,
    brighter: float = 0.0,
    slope: float = 0.0,
    primary: str = "membership",
) -> AuditResult:
    """An audit of suspects.

    gain: by how many deviations memorization lowers their log error. brighter: by how many deviations they are
    brighter. slope: how much brightness alone lowers the error.
    """
    rng = np.random.default_rng(seed)
    total, member = suspects + references, np.arange(suspects + references) < suspects
    bright = rng.normal(size=total) + brighter * member
    difficulty = np.exp(-1.5 + 0.3 * rng.normal(size=total))
    noise = math.sqrt(1.0 - slope**2) * rng.normal(size=total)
    error = difficulty * np.exp(0.3 * (noise - slope * bright - gain * member))
    neighbour = 0.2 * (rng.normal(size=total) - gain * member)
    blind = {f"statistic_{i}": rng.normal(size=total) for i in range(4)} | {"input_mean": bright}
    raw = {"reconstruction": error, "predictability": difficulty, "neighbour": neighbour}
    analysis = analyse(raw, blind, member, Plan((primary,), primary))
    meta = {"task": "translation", "settings": {"primary": primary, "prefix": "audit", "seed": 0}, "notes": []}
    ids = [f"{i:03d}" for i in range(total)]
    return AuditResult(analysis.metrics, ids, member, analysis.errors, analysis.scores, meta, [], None, blind)


@pytest.mark.parametrize("primary", ["membership", "calibrated", "combined"])
def test_memorised_suspects_are_supported_and_innocent_ones_are_not(primary):
    guilty = weigh(made(60, 60, gain=2.5, primary=primary))
    assert guilty.conclusion == "supported"
    assert guilty.matched is None
    assert max(guilty.whole.p_value, guilty.whole.adjusted_p_value) < 1e-3
    assert guilty.whole.auc_low > 0.5
    assert "The claim that some of the 60 suspects were trained on is supported" in guilty.may_conclude[0]
    innocent = weigh(made(primary=primary))
    assert innocent.conclusion == "not supported"
    assert innocent.whole.p_value > 0.05
    assert "no sign that any of the suspects were trained on" in innocent.may_conclude[0]
    assert any("Absence of evidence is not evidence of absence" in line for line in innocent.may_not_conclude)


@pytest.mark.parametrize(("p_value", "near"), [(0.0104, True), (0.05, True), (0.051, False)])
def test_an_outcome_near_the_level_is_not_called_the_absence_of_a_sign(p_value, near):
    whole = replace(weigh(made()).whole, p_value=p_value)
    conclusion, reason = conclude(whole, None, 0.5, 0.5, 0.01)
    assert conclusion == "not supported"
    assert f"p = {p_value:.3g}, which is above the level of 0.01" in reason
    assert ("in a way that is unusual" in reason) != near
    assert ("near it" in reason) == near
    may, _ = statements(conclusion, whole, None, [], 0.1, 0.01)
    assert ("no sign that any" in may[0]) != near
    assert (f"near it (p = {p_value:.3g})" in may[0]) == near


def test_p_values_are_those_of_the_scores():
    result = made(suspects=5, references=30, gain=1.0)
    evidence = weigh(result)
    score = result.scores["membership"]
    expected = dict(
        zip(result.ids[:5], conformal_p_values(score[result.member], score[~result.member]).tolist(), strict=True)
    )
    assert {s.id: s.p_value for s in evidence.suspects} == expected
    assert [s.p_value for s in evidence.suspects] == sorted(expected.values())
    assert evidence.smallest_p_value == 1 / 31
    assert evidence.whole.simes_p_value >= evidence.smallest_p_value
    assert {s.id: s.score for s in evidence.reference} == dict(zip(result.ids[5:], score[5:].tolist(), strict=True))


def test_single_suspects_are_flagged_at_the_rate_asked_for():
    result = made(60, 60, gain=2.5, primary="combined")
    flagged = {rate: {s.id for s in weigh(result, fdr=rate).suspects if s.flagged} for rate in (0.02, 0.2)}
    assert flagged[0.02] < flagged[0.2]
    member_flags = result.flagged(0.2)
    assert flagged[0.2] == {id for id, flag in zip(result.ids, member_flags, strict=True) if flag}
    said = weigh(result, fdr=0.2).may_conclude[1]
    assert said.startswith(f"{len(flagged[0.2])} of the suspects stand out one by one")


def test_innocent_suspects_are_rarely_supported():
    # Exact tests at level 0.05, both of which have to pass: 2 of 40 are expected at the most, 8 have chance 0.001.
    found = [weigh(made(24, 24, seed=seed), level=0.05) for seed in range(40)]
    assert sum(e.conclusion == "supported" for e in found) <= 7
    assert 0.25 < np.mean([e.whole.p_value for e in found]) < 0.75


# ---- sets that differ by themselves


def test_suspects_that_are_only_brighter_allow_no_conclusion():
    evidence = weigh(made(60, 60, brighter=3.0, slope=0.9))
    assert evidence.whole.p_value < 1e-3, "without the check this would convict"
    assert evidence.conclusion == "cannot conclude"
    assert "differ by themselves: they are distinguishable without the model" in evidence.reason
    assert "have a like image in the reference, and fewer than 20 are not tested" in evidence.reason
    assert not any(s.flagged for s in evidence.suspects)
    assert evidence.may_conclude == ["Nothing about whether the suspects were trained on, in either direction."]


def test_slightly_brighter_suspects_are_not_convicted_by_a_check_that_misses_it():
    found = [weigh(made(60, 60, seed=seed, brighter=0.5, slope=0.9)) for seed in range(30)]
    missed = [e for e in found if e.blind_p_value >= 0.05 and e.whole.p_value <= 0.01]
    assert len(missed) >= 4, "the blind check alone lets some of them through"
    assert sum(e.conclusion == "supported" for e in found) <= 1
    unsure = [e for e in missed if "what sets the images apart by themselves may be the cause: allowing" in e.reason]
    assert unsure
    assert not any(s.flagged for e in unsure for s in e.suspects)


def test_matched_suspects_may_support_but_not_acquit():
    evidence = weigh(made(80, 80, brighter=0.8, gain=1.5))
    assert evidence.blind_p_value < 0.05
    assert evidence.matched is not None
    assert evidence.matched.suspects == evidence.matched.references >= 20
    assert evidence.conclusion == "supported"
    assert f"On the {evidence.matched.suspects} suspects that have a like image in the reference" in evidence.reason
    assert f"some of the {evidence.matched.suspects} suspects were trained on" in evidence.may_conclude[0]
    assert not any(s.flagged for s in evidence.suspects)
    assert "None is marked: single p-values mean little where sets differ" in evidence.to_text()
    other = weigh(made(80, 80, brighter=0.8))
    assert other.matched is not None
    assert other.conclusion == "cannot conclude"
    assert "not enough to support the claim, and after such a choice not enough to speak against it" in other.reason


# ---- too little


def test_suspects_that_fare_worse_are_not_acquitted():
    evidence = weigh(made(40, 40, gain=-2.0))
    assert evidence.whole.auc_high < 0.5
    assert evidence.conclusion == "cannot conclude"
    assert "The model does worse on the suspects than on the reference" in evidence.reason


def test_too_few_references():
    evidence = weigh(made(40, 19, gain=3.0))
    assert evidence.conclusion == "cannot conclude"
    assert evidence.reason == "The reference has 19 images with a score; fewer than 20 allow no conclusion."
    assert not any(s.flagged for s in evidence.suspects)


def test_one_suspect_cannot_reach_the_level():
    evidence = weigh(made(1, 50, gain=9.0, primary="reconstruction"))
    assert evidence.suspects[0].p_value == pytest.approx(1 / 51)
    assert evidence.reason == (
        "With 1 suspect(s) and 50 references even the strongest outcome would have a p-value of 0.02, above the level "
        "of 0.01. Add references."
    )


def test_the_strongest_outcome_is_one_among_all_choices():
    ways = len(list(combinations(range(22), 2)))
    assert "a p-value of 0.0043" in weigh(made(2, 20), level=0.004).reason
    assert 1 / ways == pytest.approx(0.00433, abs=1e-5)
    assert "strongest outcome" not in weigh(made(2, 20), level=0.0044).reason


def test_too_few_suspects_for_the_blind_check():
    evidence = weigh(made(3, 60, gain=3.0))
    assert math.isnan(evidence.blind_p_value)
    assert evidence.conclusion == "cannot conclude"
    assert "the blind check needs 4 or more images on either side, and there are 3 suspects" in evidence.reason


@pytest.mark.parametrize("side", [True, False])
def test_an_empty_side(side, tmp_path):
    result = made()
    keep = result.member == side
    part = AuditResult(
        {},
        [i for i, k in zip(result.ids, keep, strict=True) if k],
        result.member[keep],
        {k: v[keep] for k, v in result.errors.items()},
        {k: v[keep] for k, v in result.scores.items()},
        {},
        [{"id": "lost", "side": "nonmember" if side else "member", "reason": "the prediction holds NaN"}],
    )
    evidence = weigh(part)
    assert evidence.conclusion == "cannot conclude"
    assert evidence.reason.startswith("The reference has 0 images" if side else "There is no suspect with a score")
    assert math.isnan(evidence.whole.p_value)
    assert f"lost ({'reference' if side else 'suspect'}): the prediction holds NaN" in evidence.to_text()
    again = Evidence.from_json(evidence.to_json(tmp_path / "e.json"))
    assert math.isnan(again.whole.p_value)


def test_settings_out_of_range():
    with pytest.raises(
        ValueError, match=r"Expected a level in \[0\.001, 0\.1\], which shuffles can resolve, but got 0"
    ):
        weigh(made(), level=0.0)
    with pytest.raises(ValueError, match=r"Expected a false discovery rate fdr in \(0, 1\), but got 1\.0"):
        weigh(made(), fdr=1.0)


# ---- words and files


def test_json_keeps_everything(tmp_path):
    for result in (made(gain=1.5), made(80, 80, brighter=0.8), made(3, 30)):
        evidence = weigh(result, level=0.02, fdr=0.2, seed=3)
        path = evidence.to_json(tmp_path / "deep" / "evidence.json")
        again = Evidence.from_json(path)
        np.testing.assert_equal(again.__dict__, evidence.__dict__)
        assert again.to_text() == evidence.to_text()
        plain = json.loads(path.read_text())
        assert plain["smallest_p_value"] == evidence.smallest_p_value
        assert len(plain["suspects"]) == evidence.whole.suspects
        assert (plain["level"], plain["fdr"], plain["seed"]) == (0.02, 0.2, 3)


@pytest.mark.parametrize("text", ["", "[]", '{"format": 2}', '{"format": 1}', '{"format": 1, "whole": 3}'])
def test_a_file_without_evidence_is_named(tmp_path, text):
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"other\.json does not hold evidence: "):
        Evidence.from_json(path)


def test_the_text_answers_the_question_first_and_lists_fifty_suspects():
    evidence = weigh(made(60, 40, gain=1.5))
    text = evidence.to_text()
    lines = text.splitlines()
    titles = [line for line in lines if line.isupper() and not line.startswith(" ")]
    assert titles[:6] == [
        "QUESTION",
        "ANSWER",
        "NUMBERS",
        "WHAT MAY BE CONCLUDED",
        "WHAT MAY NOT BE CONCLUDED",
        "HOW IT WAS DONE",
    ]
    assert lines[1] == "  Was the model trained on some of these 60 images (the suspects)?"
    assert "  Supported." in lines
    assert max(map(len, lines)) <= 100
    assert "SUSPECTS, LOWEST P-VALUE FIRST (50 OF 60)" in text
    shown = [s.id for s in evidence.suspects if f"  {s.id}\n" in text]
    assert shown == [s.id for s in evidence.suspects[:50]]
    for part in (
        "A p-value is not the probability that the images were not trained on",
        "Nothing is proven about a single image beyond its own p-value, which cannot fall below 0.024",
        "that none of it was trained on",
        "Its usual chi-squared table would be wrong",
        "Simes' combination would be valid as well, but cannot fall below",
        "does not say how many of the suspects were trained on",
    ):
        assert part in " ".join(text.split())


def test_names_cannot_disturb_the_text():
    assert printable("a\x1b[31mred") == "'a\\x1b[31mred'"
    result = made(30, 30)
    result.ids[0] = "two\nlines"
    result.ids[1] = "[bold]markup[/bold]"
    text = weigh(result).to_text()
    assert "'two\\nlines'" in text
    assert "[bold]markup[/bold]" in text


def test_no_order_of_the_samples_matters():
    result = made(30, 30, gain=0.5, primary="membership")
    turned = np.r_[np.arange(30)[::-1], 30 + np.arange(30)[::-1]]
    other = AuditResult(
        result.metrics,
        [result.ids[i] for i in turned],
        result.member[turned],
        {k: v[turned] for k, v in result.errors.items()},
        {k: v[turned] for k, v in result.scores.items()},
        result.meta,
        [],
        None,
        {k: v[turned] for k, v in result.blind.items()},
    )
    assert weigh(other).suspects == weigh(result).suspects


def in_groups(groups: int, size: int, shift: float, seed: int) -> AuditResult:
    """Suspects against a reference, both in groups whose images score alike."""
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(2 * groups), size)
    suspect = group < groups
    error = 2.0 + 0.3 * rng.normal(size=2 * groups)[group] + 0.05 * rng.normal(size=group.size) - shift * suspect
    errors = {"reconstruction": error, "predictability": np.ones(group.size)}
    metrics = {"audit/blind_auc": 0.5, "audit/blind_p_value": 1.0}
    ids, names = [f"{i:03d}" for i in range(group.size)], [f"patient {g}" for g in group]
    return AuditResult(metrics, ids, suspect, errors, {"reconstruction": -error}, groups=names)


def test_groups_count_as_observations():
    evidence = weigh(in_groups(10, 8, 1.0, seed=0))
    assert evidence.conclusion == "supported"
    assert evidence.whole.units == (10, 10)
    assert evidence.smallest_p_value == 1 / 11
    assert min(s.p_value for s in evidence.suspects) >= 1 / 11
    text = " ".join(evidence.to_text().split())
    assert "groups of suspects, of references 10, 10" in text
    assert "Each group of images counts as one observation" in text
    found = sum(weigh(in_groups(10, 8, 0.0, seed)).whole.p_value <= 0.05 for seed in range(40))
    assert found <= 6


def test_few_groups_allow_no_conclusion(tmp_path):
    evidence = weigh(in_groups(4, 10, 1.0, seed=0))
    assert evidence.conclusion == "cannot conclude"
    assert "The reference comes in 4 group(s)" in evidence.reason
    assert np.isnan(evidence.whole.auc_low)
    assert Evidence.from_json(evidence.to_json(tmp_path / "e.json")).whole.units == (4, 4)
    assert "nan" not in evidence.to_text()
