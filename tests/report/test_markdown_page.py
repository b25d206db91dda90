"""Markdown: complete, and text of users does nothing in it."""

import re
from dataclasses import replace

import numpy as np
import pytest

from mia_lightning.report.html_page import html
from mia_lightning.report.markdown_page import markdown, model_card
from mia_lightning.report.run import Run
from mia_lightning.report.statements import LIMITS
from mia_lightning.result.markdown_text import for_pull_request, table
from mia_lightning.result.verdict import headline


def test_a_pull_request_gets_verdict_curve_and_names(run_of_three):
    text, result = markdown(run_of_three), run_of_three.result
    assert text.startswith("## Membership audit of demo/version\\_0: strong\n")
    assert f"**{for_pull_request(headline(result))}**" in text
    for sentence in result.verdict.sentences:
        assert f"\n{for_pull_request(sentence)}\n" in text
    assert text.count("\n| 1 |") == text.count("\n| 2 |") == text.count("\n| 3 |") == 1
    assert f"\n| {result.top(1)[0]} | " in text
    assert "Utility at the last audit: val/l1 0.1, val/psnr 12." in text
    assert (
        "\n- Randomised assignment: a fair coin for every sample decided whether it was trained on (seed 7).\n" in text
    )


def test_only_the_last_of_many_audits_are_listed(tmp_path, made):
    history = [made(0.01, number=20, epoch=n) for n in range(25)]
    text = markdown(Run("run", tmp_path, history))
    assert "The last 20 of 25:" in text
    assert "\n| 5 |" not in text
    assert "\n| 6 |" in text


def test_left_out_samples_are_told(tmp_path, made):
    result = made()
    result.excluded.append({"id": "x", "side": "member", "reason": "not finite"})
    assert "### Left out\n\n- 1: not finite\n" in markdown(Run("run", tmp_path, [result]))


def test_a_model_card_has_numbers_data_and_limits(run_of_three):
    text, result = model_card(run_of_three), run_of_three.result
    assert text.startswith("## Privacy: membership audit\n")
    assert "tested after epoch 3 on 60 members and 60 nonmembers. **Verdict: strong.**" in text
    low, high = result.interval()
    assert (
        f"| AUC, membership score | {result.auc:.3f} | 95 % interval {low:.3f} to {high:.3f}; 0.5 is chance |" in text
    )
    for limit in LIMITS:
        assert f"- {for_pull_request(limit)}" in text
    assert "Audited with mia\\_lightning 0.1.0, torch 2.9; seed 3." in text


@pytest.mark.parametrize("write", [markdown, model_card])
def test_what_users_wrote_is_text(hostile_run, write):
    text = write(hostile_run)
    assert not re.search(r"<(?!/?sub>)", text)
    assert not re.search(r"@(?!&#8203;)", text)
    assert not re.search(r"(?<!\\)`", text)
    columns = {line.count("|") - line.count("\\|") for line in text.splitlines() if line.startswith("|")}
    assert columns <= {4, 7, 8, 9}  # a pipe in an id makes no column
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("# title", "\\# title"),
        ("- item", "\\- item"),
        ("--- ", "\\---"),
        ("12. item", "12\\. item"),
        ("0.5 of - it", "0.5 of - it"),
        ("a\n\n## b", "a ## b"),
        ("![x](javascript:alert)", "!\\[x\\](javascript:alert)"),
        ("<!-- x -->", "&lt;!-- x --&gt;"),
        ("org/repo#12", "org/repo#&#8203;12"),
        ("https://evil", "https:&#8203;//evil"),
        ("$x$", "\\$x\\$"),
        ("\\`", "\\\\\\`"),
    ],
)
def test_marks_are_escaped_where_they_would_mean_something(text, escaped):
    assert for_pull_request(text) == escaped


def test_cells_stay_in_their_columns():
    lines = table(["a", "b"], [["x|y", "1"], ["new\nline", "2"]]).splitlines()
    assert lines == ["| a | b |", "| :-- | --: |", "| x\\|y | 1 |", "| new line | 2 |"]


def test_numbers_that_are_not_there_are_left_out(tmp_path, made):
    result = made(number=30, epoch=1)
    empty = type(result)({}, result.ids, np.ones(60, dtype=bool), result.errors, result.scores, result.meta)
    text = markdown(Run("run", tmp_path, [empty]))
    assert "\n**epoch 2 \\| inconclusive (no result)**\n" in text
    assert "nan" not in text


def test_the_correction_of_the_p_value_is_told(tmp_path, made):
    text = markdown(Run("run", tmp_path, [made(epoch=2, looks=12)]))
    assert "chance of such an AUC if membership were shuffled, corrected for 12 looks" in text
    assert "corrected for" not in markdown(Run("run", tmp_path, [made(epoch=2, looks=1)]))


@pytest.mark.parametrize("write", [model_card, html])
def test_what_the_grade_rests_on_is_told(tmp_path, made, write):
    result = made(0.01, number=40, epoch=2, look={"number": 3, "planned": 12, "spent": 0.25, "open": False})
    text = write(Run("run", tmp_path, [replace(result, groups=[str(i // 4) for i in range(80)])]))
    assert "40 members and 40 nonmembers in 10 and 10 groups" in text
    assert "of so many members at the top, " in text
    assert write is model_card or "3 of 12 planned, 25 % of the error spent" in text


@pytest.mark.parametrize("write", [markdown, html])
def test_flags_are_not_promised_where_the_sides_differ(tmp_path, made, write):
    history = [made(0.09, blind_shift, epoch=n) for n, blind_shift in enumerate((0.0, 0.3))]
    assert history[-1].flagged().any()
    text = write(Run("run", tmp_path, history))
    assert "No member is flagged, since the comparison is unfair" in text
    assert "false discovery rate" not in text
    assert not re.search(r"\byes\b|flagged since|stand out", text)


@pytest.mark.parametrize("write", [markdown, html])
def test_a_report_is_on_the_training_and_mentions_a_later_audit(tmp_path, made, write):
    history = [made(0.05, epoch=0), made(0.05, epoch=1), made(0.0, seed=5, stage="validate", step=0)]
    run = Run("run", tmp_path, history)
    assert (run.result, list(run.course)) == (history[1], history[:2])
    text = write(run)
    assert "strong" in text
    later = f"{history[2].auc:.3f}"
    assert text.count(later) == 1
    told = "Outside of the training there was 1 audit, which this report is not about: it found an AUC of"
    assert f"{told} {later} (membership score, 95 % interval " in text
    alone = Run("run", tmp_path, history[2:])
    assert alone.result is history[2]
    assert "Outside of the training" not in write(alone)
