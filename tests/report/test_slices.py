"""Slices on pages and screens."""

from dataclasses import replace
from io import StringIO

import numpy as np
from rich.console import Console

from mia_lightning.functional.intervals import Interval
from mia_lightning.functional.slice_audit import Slice, audit_slices
from mia_lightning.report.html_page import html
from mia_lightning.report.impact_assessment import impact_assessment
from mia_lightning.report.markdown_page import markdown
from mia_lightning.report.run import Run
from mia_lightning.report.slices import slice_rows, slices_in_words
from mia_lightning.report.terminal_tables import slices_table
from mia_lightning.result.slice_table import Sliced


def sliced(made, name="site {}", blind=None, share=1.0, **meta):
    """The made-up result of 120 samples with two sites and a small one."""
    result = made(shift=0.1)
    place = np.arange(len(result.ids)) % 5
    site = [
        name.format({0: "A", 1: "A", 4: "small"}.get(p, "B")) if p < 4 or i < 10 else "" for i, p in enumerate(place)
    ]
    score = result.scores[result.primary]
    found = audit_slices({"place": site}, score, result.member, blind=blind, share=share)
    return replace(result, meta=result.meta | Sliced.of(found, 0.95, share, "sample").to_meta() | meta)


def test_the_report_has_a_row_a_slice(made, tmp_path):
    result = sliced(made)
    (first, *_, last) = slice_rows(result)
    assert first[:4] == ["place", "site A", "24", "24"]
    assert last[1:5] == ["site small", "2", "0", "fewer than 20 a side"]
    words = " ".join(slices_in_words(result))
    assert words.startswith("2 slices by the membership score: the 95 % intervals of each kind of number hold for")
    assert "Members stand out where place is site A" in words
    assert "1 slice has fewer than 20 samples a side" in words
    run = Run("run", tmp_path, [result])
    for page in (html(run), impact_assessment(run)):
        assert "<td>site A</td>" in page
        assert "Members stand out where" in page
    assert '<td class="why" colspan="5">fewer than 20 a side</td>' in html(run)
    assert "| place | site A | 24 | 24 |" in markdown(run)


def test_what_difficulty_tells_is_no_exposure(made):
    blind = np.where(np.arange(120) < 60, 5.0, 0.0) + np.arange(120) / 1000
    result = sliced(made, blind=blind)
    assert "Difficulty alone, without the model, tells the sides apart where place is site A" in " ".join(
        slices_in_words(result)
    )
    assert "Members stand out" not in " ".join(slices_in_words(result))
    assert slice_rows(result)[0][-1] == "1.000 (unfair)"
    unfair = sliced(made, on_both_sides=0.8)
    assert unfair.grade == "unfair"
    assert "is not said, since the comparison is unfair" in " ".join(slices_in_words(unfair))


def test_without_coins_less_is_claimed(made):
    words = " ".join(slices_in_words(sliced(made, membership={"assignment": "split"})))
    assert "Members score higher where place is site A" in words
    assert "only difficulty was compared there" in words
    assert "stand out" not in words


def test_a_few_groups_that_outweigh_the_others_are_said(made):
    one = Slice("site", "A", 200, 200, (24, 24), uneven=True)
    result = replace(made(), meta=made().meta | Sliced([one], unit="group").to_meta())
    assert slice_rows(result)[0][4] == "too unequal groups"
    assert "fewer than 20 groups a side (or a few that outweigh the others)" in " ".join(slices_in_words(result))
    assert result.sliced.too_small(result.sliced.rows[0]).startswith("a few groups outweigh the others")


def test_a_look_without_error_left_says_so(made):
    words = " ".join(slices_in_words(sliced(made, share=0.0)))
    assert words.startswith("Earlier looks at the training have spent the error of the slices")
    assert "stand out" not in words


def test_an_audit_that_is_not_sliced_speaks_of_no_slices(made, tmp_path):
    run = Run("run", tmp_path, [made()])
    assert slices_in_words(made()) == []
    assert slices_table(made()) is None
    assert "Slices" not in html(run)
    assert "Slices" not in markdown(run)


def test_values_are_text_and_fit_a_terminal(made, tmp_path):
    result = sliced(made, name="<script>[red]{}\x1b[2J")
    assert "<script" not in html(Run("run", tmp_path, [result]))
    out = StringIO()
    Console(file=out, width=80).print(slices_table(result))
    assert "\x1b[2J" not in out.getvalue()
    assert "[red]" in out.getvalue()
    assert "fewer than 20 a side" in out.getvalue()
    assert max(map(len, out.getvalue().splitlines())) <= 80


def of_classes(made, shift=1.0, **meta):
    """The made-up result with the errors of three classes: the members' error of one is lower by a shift."""
    result = made(shift=0.1)
    error = np.random.default_rng(3).normal(size=(3, len(result.ids)))
    error[1] -= shift * result.member
    error[2, 10:] = np.nan
    names = ["background", "nucleus", "rare"]
    errors = {("class", name): column for name, column in zip(names, error, strict=True)}
    score = result.scores[result.primary]
    shown = [("0", "1") if i % 2 else ("0",) for i in range(len(score))]
    found = Sliced.of(audit_slices({"class": shown}, score, result.member, of_classes=errors), 0.95, 1.0, "sample")
    own = {f"class/{name}": column for (_, name), column in errors.items()}
    means = {f"audit/error/class/{name}/{side}": 0.25 for name in names[:2] for side in ("members", "nonmembers")}
    meta = result.meta | found.to_meta() | {"class_names": names} | meta
    return replace(result, meta=meta, errors=result.errors | own, metrics=result.metrics | means)


def test_errors_of_single_classes_are_rows_of_their_own(made, tmp_path):
    result = of_classes(made)
    rows = {tuple(row[:2]): row for row in slice_rows(result)}
    assert rows["class error", "rare"][4] == "fewer than 20 a side"
    assert ("class", "1 (nucleus)") in rows
    words = " ".join(slices_in_words(result))
    assert words.startswith("2 slices by the membership score and 2 classes by the errors of their pixels alone")
    assert "pixels of nucleus alone count (AUC 0.7" in words
    assert "The AUC is highest on pixels of nucleus (0.7" in words
    page = html(Run("run", tmp_path, [result]))
    assert "<td>class error, nucleus</td>" in page
    assert "<td>class error</td>" in page


def test_whether_a_class_is_memorised_more_is_said_where_the_intervals_tell(made):
    assert "the intervals overlap, so that the audit does not tell" in " ".join(slices_in_words(of_classes(made, 0.0)))
    assert "the intervals do not overlap" in " ".join(slices_in_words(of_classes(made, 2.0)))
    assert "so that this is more than chance" in " ".join(slices_in_words(of_classes(made, 2.0)))
    split = " ".join(slices_in_words(of_classes(made, 2.0, membership={"assignment": "split"})))
    assert "do not overlap, but without randomised assignment this may come from the data" in split
    assert "more than chance" not in split
    easy = of_classes(made, 2.0)
    rows = [one._replace(blind=Interval(0.9, 0.8, 1.0)) if one.value == "nucleus" else one for one in easy.sliced.rows]
    easy = replace(easy, meta=easy.meta | replace(easy.sliced, rows=rows).to_meta())
    words = " ".join(slices_in_words(easy))
    assert "tells the sides apart where pixels of nucleus alone count" in words
    assert "more than chance" not in words
    unfair = of_classes(made, 2.0, on_both_sides=0.8)
    assert "pixels of nucleus" not in " ".join(slices_in_words(unfair))


def test_of_many_small_slices_the_largest_are_listed(made):
    result = made(shift=0.1)
    place = [f"ward {i % 13 if i % 3 else 13 + i % 7}" for i in range(len(result.ids))]
    found = audit_slices(
        {"place": ["" if i < 60 else "A" for i in range(120)], "ward": place},
        -result.errors["membership"],
        result.member,
    )
    result = replace(result, meta=result.meta | Sliced.of(found, 0.95, 1.0, "sample").to_meta())
    listed = slice_rows(result, small=3)
    sizes = sorted((int(row[2]) + int(row[3]) for row in slice_rows(result)), reverse=True)
    assert sorted((int(row[2]) + int(row[3]) for row in listed), reverse=True) == sizes[:3]
    console = Console(file=StringIO(), width=80)
    console.print(slices_table(result))
    assert console.file.getvalue().count("fewer than 20 a side") == 5
    assert "21 slices have fewer than 20 samples a side" in " ".join(slices_in_words(result))
