"""Exposed groups on pages and screens."""

from dataclasses import replace
from io import StringIO

import numpy as np
import pytest
from rich.console import Console

from mia_lightning.cli.printing import print_exposed
from mia_lightning.report.exposed_groups import groups_in_words, most_exposed_groups
from mia_lightning.report.html_page import html
from mia_lightning.report.impact_assessment import impact_assessment
from mia_lightning.report.run import Run
from mia_lightning.result.audit_result import AuditResult
from mia_lightning.result.picture_files import Picture

PIXEL = b"\x89PNG\r\n\x1a\n"


def grouped(made, size=4, name="patient {}", **options):
    """The made-up result with groups of so many samples, its statistics those of groups."""
    result = made(**options)
    groups = [name.format(row // size) for row in range(len(result.ids))]
    metrics = result.metrics | {"audit/group/auc": 0.9, "audit/group/auc_low": 0.8, "audit/group/auc_high": 0.96}
    return AuditResult(metrics, result.ids, result.member, result.errors, result.scores, result.meta, groups=groups)


def test_the_report_names_the_most_exposed_groups_with_pictures(made, tmp_path):
    result = grouped(made, shift=0.1)
    top = result.group_table().names[result.group_table().most_exposed(1)[0]]
    row = result.groups.index(top)
    run = Run("run", tmp_path, [result], [Picture(row, "most exposed", {"input": PIXEL, "target": PIXEL})])
    (first, *_) = most_exposed_groups(run)
    assert (first.name, first.samples, first.mark) == (top, "4", "yes")
    assert [id for id, _ in first.images] == [result.ids[row]]
    page = html(run)
    assert page.index("Exposed groups") < page.index("Exposed samples")
    assert f"<td>{top}</td>" in page
    assert "with probability 0.900 (95 % interval 0.800 to 0.960" in page
    assert f"<td>{top}</td>" in impact_assessment(run)


def test_too_few_groups_are_said_and_none_are_not_spoken_of(made, tmp_path):
    few = Run("run", tmp_path, [grouped(made, size=30)])
    assert groups_in_words(few).startswith("Which groups are exposed cannot be told: with fewer than 6 groups")
    assert most_exposed_groups(few) == []
    assert "cannot be told" in html(few)
    none = Run("run", tmp_path, [made()])
    assert groups_in_words(none) == ""
    assert "Exposed groups" not in html(none)


def test_an_unfair_comparison_flags_no_group(made, tmp_path):
    run = Run("run", tmp_path, [replace(grouped(made, shift=0.1), meta={"on_both_sides": 0.8})])
    assert run.result.grade == "unfair"
    assert "No group is flagged, since the comparison is unfair." in groups_in_words(run)
    assert {group.mark for group in most_exposed_groups(run)} == {"-"}


def test_names_are_text(made, tmp_path):
    page = html(Run("run", tmp_path, [grouped(made, name="<script>{}</script>")]))
    assert "<script" not in page


@pytest.mark.parametrize(("size", "text"), [(4, "patient "), (30, "too few groups a side")])
def test_the_terminal_lists_groups(made, size, text):
    out = StringIO()
    print_exposed(Console(file=out, width=80), grouped(made, size=size), top=3, by="group")
    assert text in out.getvalue()
    assert ("Most exposed groups" in out.getvalue()) is (size == 4)


def test_the_terminal_asks_for_groups(made):
    out = StringIO()
    print_exposed(Console(file=out, width=80), made(), top=3, by="group")
    assert "name them (groups)" in out.getvalue()
    assert np.isfinite(made().p_values()).all()
