"""The settings slices and slice_by: a number of a volume's slices, or columns."""

from pathlib import Path

import pytest
from jsonargparse import ArgumentParser

from mia_lightning.audit.config import AuditConfig
from mia_lightning.audit.slice_columns import resolved
from mia_lightning.cli.audit_settings import add_settings


def group_of(id):
    return id[0]


@pytest.mark.parametrize(
    ("slices", "slice_by", "expected"),
    [
        (None, None, (None, None)),
        (8, None, (8, None)),
        ("site", None, (None, {"site": None})),
        (["site", "sex"], None, (None, {"site": None, "sex": None})),
        (8, ["site"], (8, {"site": None})),
        (None, {"site": "p.csv", "class": None}, (None, {"site": "p.csv", "class": None})),
        (["site", "class"], "p.csv", (None, {"site": "p.csv", "class": None})),
        (["site"], Path("p.csv"), (None, {"site": Path("p.csv")})),
        (["site"], "package.site_of", (None, {"site": "package.site_of"})),
        (["site"], group_of, (None, {"site": group_of})),
        ([], None, (None, None)),
    ],
)
def test_a_number_stays_one_and_names_are_columns(slices, slice_by, expected):
    assert resolved(slices, slice_by) == expected
    config = AuditConfig(slices=slices, slice_by=slice_by)
    assert (config.slices, dict(config.columns)) == (expected[0], expected[1] or {})
    assert AuditConfig.of(config, fdr=0.2).columns == config.columns


def test_a_file_alone_is_all_its_columns(tmp_path):
    path = tmp_path / "patients.csv"
    path.write_text("\ufeffid, site ,sex\na,1,f\n", encoding="utf-8")
    assert resolved(None, str(path)) == (None, {"site": str(path), "sex": str(path)})
    path.write_text("site,sex\n1,f\n")
    with pytest.raises(ValueError, match="expected a comma-separated file with the column id"):
        resolved(None, path)


@pytest.mark.parametrize(
    ("slices", "slice_by", "error", "message"),
    [
        (0, None, ValueError, "slices >= 1, the number of a volume's slices, or names of columns"),
        (True, None, TypeError, "a whole number .* or names of columns"),
        (2.5, None, TypeError, "a whole number .* or names of columns"),
        (["site", 3], None, TypeError, "a whole number .* or names of columns"),
        (["site"], ["sex"], ValueError, "name them in one"),
        (["site"], {"site": "p.csv"}, ValueError, "name them in one"),
        ("id", None, ValueError, "names of columns, such as"),
        (["site", " "], None, ValueError, "names of columns, such as"),
        (None, 3, TypeError, "Expected slice_by to be names of columns"),
        (None, "absent.csv", ValueError, "cannot read absent.csv"),
    ],
)
def test_what_is_neither_is_refused_in_words_that_say_both(slices, slice_by, error, message):
    with pytest.raises(error, match=message):
        AuditConfig(slices=slices, slice_by=slice_by)


def test_settings_are_replaced_and_recorded():
    config = AuditConfig(slices=["site"], slice_by=group_of)
    assert config.to_meta()["slice_by"] == {"site": "group_of"}
    assert AuditConfig.of(config, slices=["sex"]).columns == {"sex": None}
    assert AuditConfig.of(config, slices=4).columns == {"site": group_of}
    assert AuditConfig.of(config, slices=None).columns == AuditConfig.of(config, slice_by=None).columns == {}
    assert AuditConfig.of(config, slices=None, slice_by=["sex"]).columns == {"sex": None}
    assert AuditConfig.of(config, alpha=0.5).columns == {"site": group_of}
    assert AuditConfig().to_meta()["slice_by"] is None


def test_the_command_line_takes_and_explains_them(capsys):
    parser = ArgumentParser()
    add_settings(parser, ["slices", "slice_by"])
    assert parser.parse_args(["--slices", "4"]).slices == 4
    assert parser.parse_args(["--slices", "[site, sex]"]).slices == ["site", "sex"]
    assert parser.parse_args(["--slice_by", '{"site": "a.csv"}']).slice_by == {"site": "a.csv"}
    with pytest.raises(SystemExit):
        parser.parse_args(["--help"])
    assert "Columns of which each value" in (text := capsys.readouterr().out)
    assert "typehint" not in text  # a per cent sign of the docstring would be read as a format
