"""Groups of an audit as a table and as a file: who is in it, who is flagged, and since when."""

import csv

import numpy as np
import pytest

from mia_lightning.functional.group_scores import group_scores
from mia_lightning.result.audit_result import AuditResult
from mia_lightning.result.history import groups_flagged_since, write_groups
from mia_lightning.result.picture_files import write_result


def audit(epoch=None, exposed=12, groups=40, size=3, seed=0, prefix="audit", fdr=0.1):
    """`exposed` of the members' groups have high scores; groups of members are m0, m1, ..., others n0, n1, ..."""
    rng, code = np.random.default_rng(seed), np.repeat(np.arange(2 * groups), size)
    member = code < groups
    score = rng.normal(size=code.size) + 8.0 * (code < exposed)
    names = [f"{'m' if c < groups else 'n'}{c % groups}" for c in code]
    ids = [f"{name}-{row}" for row, name in enumerate(names)]
    settings = {"settings": {"prefix": prefix, "primary": "membership", "fdr": fdr}}
    meta = settings | ({} if epoch is None else {"epoch": epoch, "step": 10 * (epoch + 1)})
    return AuditResult({}, ids, member, {}, {"membership": score}, meta, groups=names)


def rows_of(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_table_has_a_row_a_group_and_side():
    result = audit()
    table = result.group_table()
    found = group_scores(result.scores["membership"], result.member, result.groups)
    assert table.names == [f"m{n}" for n in range(40)] + [f"n{n}" for n in range(40)]
    assert table.member.tolist() == [True] * 40 + [False] * 40
    assert np.array_equal(table.p_value, found.p_value)
    assert set(table.size.tolist()) == {3}
    assert {table.names[row] for row in np.flatnonzero(table.flagged)} == {f"m{n}" for n in range(12)}
    assert {table.names[row] for row in table.most_exposed(12)} == {f"m{n}" for n in range(12)}
    assert not result.group_table(rate=0.01).flagged.any()


def test_samples_without_a_group_are_named_by_themselves():
    result = audit(size=1)
    alone = AuditResult({}, result.ids, result.member, {}, result.scores, result.meta, groups=[""] * 80)
    assert alone.group_table().names == alone.ids


@pytest.mark.parametrize("groups", [1, 4, 5])
def test_too_few_groups_make_no_table(groups, tmp_path):
    result = audit(groups=groups, exposed=1)
    assert result.group_table() is None
    assert write_groups([result], tmp_path) is None
    assert not (tmp_path / "groups.csv").exists()


def test_nor_does_an_audit_without_groups_without_a_side_or_without_scores():
    result = audit()
    assert AuditResult({}, result.ids, result.member, {}, result.scores).group_table() is None
    one_side = AuditResult({}, result.ids, np.ones(240, bool), {}, result.scores, groups=result.groups)
    assert one_side.group_table() is None
    broken = {"membership": np.where(np.arange(240) == 3, np.nan, result.scores["membership"])}
    assert AuditResult({}, result.ids, result.member, {}, broken, groups=result.groups).group_table() is None


def test_the_file_has_every_group_and_audit(tmp_path):
    history = [audit(0, exposed=0), audit(1, exposed=12, seed=1), audit(2, exposed=16, seed=2)]
    rows = rows_of(write_groups(history, tmp_path))
    assert len(rows) == 3 * 80
    assert list(rows[0]) == [
        *("epoch", "step", "group", "side", "samples", "score_mean", "score_extreme", "p_value", "flagged"),
        "flagged_since",
    ]
    last = {row["group"]: row for row in rows[-80:]}
    table = history[-1].group_table()
    assert [float(row["p_value"]) for row in rows[-80:]] == table.p_value.tolist()
    assert last["m0"] | {"p_value": ""} == last["m0"] | {"p_value": "", "flagged": "True", "flagged_since": "1"}
    assert last["m14"]["flagged_since"] == "2"
    assert last["m30"]["flagged_since"] == ""
    assert {row["flagged_since"] for row in rows if row["side"] == "nonmember"} == {""}


def test_since_when_a_group_is_flagged():
    history = [
        audit(0, exposed=12),
        audit(1, exposed=0, seed=1),
        audit(2, exposed=12, seed=2),
        audit(3, exposed=16, seed=3),
    ]
    since = groups_flagged_since(history)
    assert [since[f"m{n}"] for n in (0, 14, 20)] == [2, 3, None]
    assert groups_flagged_since([audit()]) == {}


def test_names_that_look_like_formulas_run_in_no_spreadsheet(tmp_path):
    result = audit()
    result.groups[:] = [f"={name}" for name in result.groups]
    assert {row["group"][:2] for row in rows_of(write_groups([result], tmp_path))} == {"'="}


def test_an_audit_that_stands_alone_has_the_file_beside_it(tmp_path):
    write_result(audit(), tmp_path)
    assert len(rows_of(tmp_path / "groups.csv")) == 80
    write_result(audit(prefix="left/audit"), tmp_path)
    assert (tmp_path / "left_audit-groups.csv").is_file()
